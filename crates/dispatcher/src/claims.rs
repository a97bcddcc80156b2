//! Claims, within a deadline. What answers late or not at all holds up no delivery: it goes out unclaimed, and is counted.

use std::sync::Arc;
use std::time::Duration;

use hooklane_store::{ClaimWindow, Claims, Patience, Unanswered, Verdict};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{ApplicationId, EventId};

/// Longest wait for a claim: the delivery waits behind it.
const DEADLINE: Duration = Duration::from_millis(20);

/// The port, with its deadline and its breaker.
pub(crate) struct Guard {
    port: Arc<dyn Claims>,
    metrics: Arc<Metrics>,
    patience: Patience,
}

/// An event in work that may be claimed: released when dropped, unless it was settled.
pub(crate) struct Held<'a> {
    port: &'a dyn Claims,
    of: (&'a ApplicationId, &'a EventId),
    is_settled: bool,
}

impl Guard {
    pub(crate) fn new(port: Arc<dyn Claims>, metrics: Arc<Metrics>) -> Guard {
        Guard {
            port,
            metrics,
            patience: Patience::of(DEADLINE),
        }
    }

    /// Claims an event; `None` for a repeat. A claim that nobody answered for is held too: it may have been taken.
    pub(crate) async fn claim<'a>(
        &'a self,
        (application, event): (&'a ApplicationId, &'a EventId),
        redelivered: bool,
        now_ms: u64,
    ) -> Option<Held<'a>> {
        let held = Held {
            port: &*self.port,
            of: (application, event),
            is_settled: false,
        };
        let asked = self.port.claim(application, event, redelivered, now_ms);
        match self.patience.ask(now_ms, asked).await {
            Ok(Verdict::Ours) => Some(held),
            Ok(Verdict::Duplicate) => {
                held.leave();
                None
            }
            Err(why) => {
                self.metrics.count(Metric::ClaimsUnanswered, &[why.reason()]);
                if let Unanswered::Away(error) = why {
                    tracing::debug!(error, "an event goes out unclaimed");
                }
                Some(held)
            }
        }
    }

    pub(crate) fn window(&self, now_ms: u64) -> ClaimWindow {
        self.port.window(now_ms)
    }
}

impl Held<'_> {
    /// Waits until that is kept, but not for long: were the process killed before, a repeat would go out under the same id.
    pub(crate) async fn settle(mut self) {
        self.is_settled = true;
        let (application, event) = self.of;
        let settled = self.port.settle(application, event);
        if tokio::time::timeout(DEADLINE, settled).await.is_err() {
            tracing::debug!(event.id = %event, "its settlement is not kept yet");
        }
    }

    /// It is somebody else's.
    fn leave(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            let (application, event) = self.of;
            self.port.release(application, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use async_trait::async_trait;
    use hooklane_store::{ClaimError, ProcessClaims};
    use hooklane_types::ProducerId;

    use super::*;

    fn ids() -> (ApplicationId, EventId) {
        let application = ApplicationId::parse("app_a").unwrap();
        let event = EventId::derived(&application, None, &ProducerId::parse("1").unwrap());
        (application, event)
    }

    /// A store that is away, or never answers.
    #[derive(Default)]
    struct Away {
        hangs: bool,
        asked: AtomicU32,
        released: AtomicBool,
        settled: AtomicBool,
    }

    #[async_trait]
    impl Claims for Away {
        async fn claim(
            &self,
            _: &ApplicationId,
            _: &EventId,
            _: bool,
            _: u64,
        ) -> Result<Verdict, ClaimError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            Err(ClaimError("away".to_owned()))
        }

        async fn settle(&self, _: &ApplicationId, _: &EventId) {
            self.settled.store(true, Ordering::Relaxed);
            if self.hangs {
                std::future::pending::<()>().await;
            }
        }

        fn release(&self, _: &ApplicationId, _: &EventId) {
            self.released.store(true, Ordering::Relaxed);
        }

        fn window(&self, _: u64) -> ClaimWindow {
            ClaimWindow {
                entries: 0,
                seconds: 0.0,
            }
        }
    }

    fn unanswered(metrics: &Metrics, why: &str) -> f64 {
        metrics.value(Metric::ClaimsUnanswered, &[why])
    }

    #[tokio::test]
    async fn an_event_is_delivered_when_its_claim_is_late_or_away_and_that_is_counted() {
        // Goal: neither holds up a delivery beyond the deadline; a settled outcome is told all the same, a given back one too.
        for (hangs, why) in [(true, "late"), (false, "away")] {
            let metrics = Arc::new(Metrics::new());
            let away = Arc::new(Away {
                hangs,
                ..Away::default()
            });
            let guard = Guard::new(away.clone(), metrics.clone());
            let (application, event) = ids();
            let held = guard.claim((&application, &event), false, 0).await.unwrap();
            held.settle().await;
            assert!(away.settled.load(Ordering::Relaxed) && !away.released.load(Ordering::Relaxed));
            drop(guard.claim((&application, &event), false, 0).await.unwrap());
            assert!(away.released.load(Ordering::Relaxed));
            assert_eq!(unanswered(&metrics, why), 2.0);
        }
    }

    #[tokio::test]
    async fn after_failures_in_a_row_nobody_is_asked_for_a_second() {
        // Goal: the sixth event is not held up; a second later the port is asked again.
        let metrics = Arc::new(Metrics::new());
        let away = Arc::new(Away::default());
        let guard = Guard::new(away.clone(), metrics.clone());
        let (application, event) = ids();
        for _ in 0..8 {
            assert!(guard.claim((&application, &event), false, 100).await.is_some());
        }
        assert_eq!(away.asked.load(Ordering::Relaxed), 5);
        assert_eq!(unanswered(&metrics, "breaker"), 3.0);
        assert!(guard.claim((&application, &event), false, 1_100).await.is_some());
        assert_eq!(away.asked.load(Ordering::Relaxed), 6);
    }

    #[tokio::test]
    async fn a_repeat_is_told_and_leaves_the_first_ones_claim() {
        // Goal: the duplicate that is dropped does not release the claim of the event in work.
        let guard = Guard::new(Arc::new(ProcessClaims::new(10)), Arc::new(Metrics::new()));
        let (application, event) = ids();
        let first = guard.claim((&application, &event), false, 0).await.unwrap();
        assert!(guard.claim((&application, &event), false, 0).await.is_none());
        assert!(guard.claim((&application, &event), false, 0).await.is_none());
        drop(first);
        assert!(guard.claim((&application, &event), false, 0).await.is_some());
    }
}
