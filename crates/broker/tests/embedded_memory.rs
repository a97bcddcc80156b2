//! What waits is on disk. Alone in its process, because it measures it.

#[allow(dead_code)]
mod suite;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::{Broker, Destination, Queue};
use suite::{PATIENCE, internal, next, options};
use tokio::task::JoinSet;

const MESSAGES: usize = 200_000;
const PUBLISHERS: usize = 64;
const BODY_BYTES: usize = 1_024;
/// SQLite's cache has 16 MiB; messages in hand and on their way a few. The backlog itself would be 200.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn peak_resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(kib.parse::<u64>()? * 1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_two_hundred_thousand_is_not_in_memory() -> Result<()> {
    // Goal: written, opened again, and read to the end, the process grows by a fraction of it.
    let before = peak_resident_bytes()?;
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let broker = broker.clone();
        publishers.spawn(async move {
            for _ in (publisher..MESSAGES).step_by(PUBLISHERS) {
                let body = internal(Bytes::from(vec![b'x'; BODY_BYTES]));
                broker
                    .publish(Destination::IngestedEvents, body, PATIENCE)
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(published) = publishers.join_next().await {
        published??;
    }
    drop(broker);
    let broker = EmbeddedBroker::open(settings)?;
    ensure!(broker.depth(Queue::Events).await?.messages == MESSAGES as u64);
    let mut consumption = broker.consume(Queue::Events, options(500));
    let mut acks = JoinSet::new();
    for _ in 0..MESSAGES {
        acks.spawn(next(&mut consumption).await?.ack.ack());
        while let Some(acked) = acks.try_join_next() {
            acked??;
        }
    }
    while let Some(acked) = acks.join_next().await {
        acked??;
    }
    ensure!(
        tokio::time::timeout(Duration::from_millis(200), consumption.next())
            .await
            .is_err()
    );
    let growth = peak_resident_bytes()?.saturating_sub(before);
    ensure!(
        growth <= GROWTH_BYTES_MAX,
        "grown by {} MiB",
        growth / 1024 / 1024
    );
    Ok(())
}
