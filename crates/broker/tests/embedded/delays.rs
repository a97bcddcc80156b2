//! Delays over restarts and under load.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::{Broker, Destination, Queue};
use hooklane_policy::ladder::LEVELS_MS;

use crate::suite::{PATIENCE, internal, next, options, publish_at_once};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_goes_on_while_the_file_is_closed() -> Result<()> {
    // Goal: published, closed, opened: never early, and the time in between counts.
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    let begun = Instant::now();
    for level in [3, 4, 29] {
        let body = LEVELS_MS[level].to_string();
        broker
            .publish(Destination::Delay { level }, internal(body), PATIENCE)
            .await?;
    }
    drop(broker);
    let broker = EmbeddedBroker::open(settings)?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    for delay_ms in [1_000, 2_000] {
        let incoming = next(&mut consumption).await?;
        let took = incoming.received_at.duration_since(begun);
        ensure!(incoming.message.body == delay_ms.to_string());
        ensure!(
            incoming.message.exchange == "hooklane.lanes" && incoming.message.routing_key == "deliveries"
        );
        ensure!(
            took >= Duration::from_millis(delay_ms),
            "{delay_ms} ms took {took:?}"
        );
        // Promised: a second. Three times that, for a busy machine.
        ensure!(
            took <= Duration::from_millis(delay_ms + 3_000),
            "{delay_ms} ms took {took:?}"
        );
        incoming.ack.ack().await?;
    }
    let waiting = broker.delay_depths().await?;
    ensure!(waiting[29].messages == 1 && waiting.iter().map(|depth| depth.messages).sum::<u64>() == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_that_are_due_at_once_come_once_and_in_time() -> Result<()> {
    // Goal: 6,000 on three levels, published at once, with other publishes in between.
    const COUNT: usize = 2_000;
    let directory = tempfile::tempdir()?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    let begun = Instant::now();
    for level in [4, 5, 6] {
        publish_at_once(&broker.shared(), Destination::Delay { level }, COUNT).await?;
    }
    let published = begun.elapsed();
    let shared = broker.shared();
    let others =
        tokio::spawn(async move { publish_at_once(&shared, Destination::IngestedEvents, COUNT).await });
    let mut consumption = broker.consume(Queue::Deliveries, options(500));
    let mut seen: HashMap<String, usize> = HashMap::new();
    for number in 0..3 * COUNT {
        let incoming = next(&mut consumption).await?;
        let level = number / COUNT + 4;
        let delay = Duration::from_millis(LEVELS_MS[level]);
        let took = incoming.received_at.duration_since(begun);
        ensure!(took >= delay, "{delay:?} took {took:?}");
        ensure!(
            took <= delay + published + Duration::from_secs(3),
            "{delay:?} took {took:?}"
        );
        *seen
            .entry(String::from_utf8(incoming.message.body.to_vec())?)
            .or_default() += 1;
        incoming.ack.ack().await?;
    }
    others.await??;
    ensure!(seen.len() == COUNT && seen.values().all(|times| *times == 3));
    ensure!(broker.depth(Queue::Deliveries).await?.messages == 0);
    ensure!(broker.depth(Queue::Events).await?.messages == COUNT as u64);
    Ok(())
}
