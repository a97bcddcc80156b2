//! No attempt starts while its outcome could not be published.

use hooklane_broker::BrokerState;
use tokio::sync::watch;

/// Open while the broker takes publishes: it is connected, not blocked, and no publish of ours is stuck.
pub(crate) struct Gate {
    state: watch::Receiver<BrokerState>,
    stuck: watch::Sender<usize>,
}

/// One publish that is stuck; dropped once it went through or was given up.
pub(crate) struct Stuck<'a>(&'a watch::Sender<usize>);

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Gate {
    pub(crate) fn new(state: watch::Receiver<BrokerState>) -> Gate {
        Gate {
            state,
            stuck: watch::Sender::new(0),
        }
    }

    /// Waits until it is open.
    pub(crate) async fn open(&self) {
        while !self.is_open() {
            let (mut state, mut stuck) = (self.state.clone(), self.stuck.subscribe());
            // A closed channel means that the broker is gone for good; whoever consumes ends then.
            let _ = state.wait_for(|state| *state == BrokerState::Connected).await;
            let _ = stuck.wait_for(|count| *count == 0).await;
            if state.has_changed().is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether it is open now.
    pub(crate) fn is_open(&self) -> bool {
        *self.stuck.borrow() == 0 && *self.state.borrow() == BrokerState::Connected
    }

    /// A publish is stuck: nothing new starts until it is no more. Says also whether it is the first: what holds one up holds
    /// up all, and need be told once.
    pub(crate) fn stuck(&self) -> (Stuck<'_>, bool) {
        let mut is_first = false;
        self.stuck.send_modify(|count| {
            is_first = *count == 0;
            *count += 1;
        });
        (Stuck(&self.stuck), is_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_shut_while_the_broker_takes_nothing_or_a_publish_is_stuck() {
        // Goal: each of the two alone shuts it, and it opens by itself.
        let (broker, state) = watch::channel(BrokerState::Disconnected {
            last_error: "down".to_owned(),
        });
        let gate = Gate::new(state);
        assert!(!gate.is_open());
        broker.send_replace(BrokerState::Blocked {
            reason: "memory".to_owned(),
        });
        assert!(!gate.is_open());
        let opened = async { gate.open().await };
        tokio::pin!(opened);
        assert!(futures_util::poll!(&mut opened).is_pending());
        let (stuck, is_first) = gate.stuck();
        assert!(is_first && !gate.stuck().1);
        broker.send_replace(BrokerState::Connected);
        assert!(futures_util::poll!(&mut opened).is_pending());
        drop(stuck);
        opened.await;
    }
}
