//! Publishing and consuming at once while something breaks: what was confirmed must arrive.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use hooklane_broker::{Destination, Queue, SharedBroker};
use hooklane_testkit::eventually;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, internal, options};

/// Callers that publish one after the other, each again until it is confirmed.
const PUBLISHERS: u64 = 8;

/// Load on queue `deliveries`.
pub struct Load {
    stop: CancellationToken,
    confirmed: Arc<Mutex<HashSet<String>>>,
    received: Arc<Mutex<HashSet<String>>>,
    publishers: Vec<JoinHandle<()>>,
    consumer: JoinHandle<()>,
}

fn count(set: &Mutex<HashSet<String>>) -> usize {
    set.lock().unwrap_or_else(PoisonError::into_inner).len()
}

impl Load {
    pub fn start(broker: &SharedBroker) -> Load {
        let stop = CancellationToken::new();
        let (confirmed, received) = <(Arc<Mutex<HashSet<String>>>, Arc<Mutex<HashSet<String>>>)>::default();
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (broker, stop, confirmed) = (broker.clone(), stop.clone(), confirmed.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let id = format!("{publisher}-{number}");
                    let to = Destination::Internal(Queue::Deliveries);
                    // What was not confirmed within the deadline is published again, as every caller does.
                    while broker
                        .publish(to.clone(), internal(id.clone()), Duration::from_secs(2))
                        .await
                        .is_err()
                    {
                        if stop.is_cancelled() {
                            return;
                        }
                    }
                    confirmed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(id);
                    if stop.is_cancelled() {
                        return;
                    }
                }
            })
        });
        let publishers = publishers.collect();
        let mut consumption = broker.consume(Queue::Deliveries, options(50));
        let consumer = {
            let received = received.clone();
            tokio::spawn(async move {
                while let Some(incoming) = consumption.next().await {
                    let id = String::from_utf8_lossy(&incoming.message.body).into_owned();
                    received.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                    // A failed ack means that it comes again.
                    let _ = incoming.ack.ack().await;
                }
            })
        };
        Load {
            stop,
            confirmed,
            received,
            publishers,
            consumer,
        }
    }

    /// Waits until this many more were confirmed and this many more were received.
    pub async fn flows(&self, more: usize) -> Result<()> {
        let (confirmed, received) = (count(&self.confirmed) + more, count(&self.received) + more);
        eventually("publishing and consuming to go on", PATIENCE, || async {
            ensure!(
                count(&self.confirmed) >= confirmed,
                "{} of {confirmed} confirmed",
                count(&self.confirmed)
            );
            ensure!(
                count(&self.received) >= received,
                "{} of {received} received",
                count(&self.received)
            );
            Ok(())
        })
        .await
    }

    /// Ends publishing, and waits for everything that was confirmed.
    pub async fn end(self) -> Result<()> {
        self.stop.cancel();
        for publisher in self.publishers {
            publisher.await?;
        }
        eventually("all that was confirmed to arrive", PATIENCE, || async {
            let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
            let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            let missing: Vec<_> = confirmed.difference(&received).take(5).collect();
            ensure!(missing.is_empty(), "missing: {missing:?} …");
            Ok(())
        })
        .await?;
        self.consumer.abort();
        Ok(())
    }
}
