//! What is taken together: messages of all queues into the history, so that an event and what became of it are written in one go. Written one by one they cost the
//! store twice as much: an outcome whose event is not there yet makes a stub, which its content then replaces.

use std::time::Duration;

use hooklane_broker::{Broker, ConsumeOptions, Consumption, Incoming, Queue};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Messages in hand from each queue.
const PREFETCH: u16 = 64;
/// Bytes of them.
const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A step ends with the message that makes it so many bytes.
const STEP_BYTES_MAX: usize = 1024 * 1024;
/// How long a step waits for more: nothing to whoever reads, much to whoever writes one by one.
const GATHER: Duration = Duration::from_millis(5);
/// How long a queue rests after a message of a newer version came from it.
const NEWER_REST: Duration = Duration::from_secs(5);
/// How long what is in hand is waited for when a queue is closed.
const GRACE: Duration = Duration::from_secs(5);

/// A message, and where it came from.
pub(super) struct Taken {
    pub(super) queue: Queue,
    pub(super) incoming: Incoming,
}

/// The queues.
pub(super) struct Sources {
    contents: Source,
    outcomes: Source,
    deaths: Source,
}

struct Source {
    queue: Queue,
    consumption: Box<dyn Consumption>,
    rests_until: Option<Instant>,
}

impl Sources {
    /// Subscribes to all.
    pub(super) fn of(broker: &dyn Broker) -> Sources {
        Sources {
            contents: Source::of(broker, Queue::Contents),
            outcomes: Source::of(broker, Queue::Records),
            deaths: Source::of(broker, Queue::Deaths),
        }
    }

    /// A message, and what comes with it; none once the broker has ended.
    pub(super) async fn step(&mut self) -> Option<Vec<Taken>> {
        let first = self.next().await?;
        let until = Instant::now() + GATHER;
        let (mut bytes, mut step) = (first.incoming.message.body.len(), vec![first]);
        while step.len() < 2 * usize::from(PREFETCH) && bytes < STEP_BYTES_MAX {
            match timeout_at(until, self.next()).await {
                Ok(Some(taken)) => {
                    bytes += taken.incoming.message.body.len();
                    step.push(taken);
                }
                Ok(None) | Err(_) => break,
            }
        }
        Some(step)
    }

    /// Takes nothing from this queue for a while. What was not acked is given back.
    pub(super) async fn rest(&mut self, queue: Queue) {
        for source in [&mut self.contents, &mut self.outcomes, &mut self.deaths] {
            if source.queue == queue {
                source.consumption.pause(GRACE).await;
                source.rests_until = Some(Instant::now() + NEWER_REST);
            }
        }
    }

    async fn next(&mut self) -> Option<Taken> {
        tokio::select! {
            taken = self.contents.next() => taken,
            taken = self.outcomes.next() => taken,
            taken = self.deaths.next() => taken,
        }
    }
}

impl Source {
    fn of(broker: &dyn Broker, queue: Queue) -> Source {
        let options = ConsumeOptions {
            prefetch: PREFETCH,
            bytes_max: BYTES_MAX,
        };
        Source {
            queue,
            consumption: broker.consume(queue, options),
            rests_until: None,
        }
    }

    /// Cancel safe, as both of its waits are.
    async fn next(&mut self) -> Option<Taken> {
        if let Some(until) = self.rests_until {
            sleep_until(until).await;
            self.consumption.resume().await;
            self.rests_until = None;
        }
        let incoming = self.consumption.next().await?;
        Some(Taken {
            queue: self.queue,
            incoming,
        })
    }
}
