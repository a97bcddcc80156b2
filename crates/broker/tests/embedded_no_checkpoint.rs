//! A log that cannot be written back into its file. Alone in its process, because the limit is the process's.

#[allow(dead_code)]
mod suite;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hooklane_broker::embedded::{Drain, EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::{Broker, Destination, Queue};
use hooklane_testkit::limit_files;
use suite::{PATIENCE, internal};

const MESSAGES: usize = 1_500;
const BODY_BYTES: usize = 20_000;
/// The log may grow to its usual length, and the file, of 30 MB, may not be written behind this.
const LIMIT_BYTES: u64 = 12 * 1024 * 1024;
/// At this length the log is written back.
const LOG_BYTES: u64 = 2_048 * 4_096;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_cannot_write_its_log_back_tells_that_what_is_removed_is_removed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    for _ in 0..MESSAGES / 100 {
        let publish = |_| {
            let to = Destination::Internal(Queue::Dead);
            broker.publish(to, internal(vec![b'x'; BODY_BYTES]), PATIENCE)
        };
        try_join_all((0..100).map(publish)).await?;
    }
    broker.shut_down().await;
    drop(broker);
    let mut drain = Drain::open(&settings)?;
    // Those at the beginning of the file, which may be written.
    for _ in 0..2 {
        let taken = take(&mut drain)?;
        drain.remove(&taken)?;
    }
    let mut left = drain.messages();
    limit_files(Some(LIMIT_BYTES))?;
    let log = directory.path().join("queue.sqlite-wal");
    'grows: loop {
        let taken = take(&mut drain)?;
        ensure!(!taken.is_empty(), "the log never grew beyond its usual length");
        for one in taken {
            drain
                .remove(&[one])
                .context("it was removed, and an error is told")?;
            left -= 1;
            ensure!(drain.messages() == left);
            if std::fs::metadata(&log)?.len() > LOG_BYTES + 500_000 {
                break 'grows;
            }
        }
    }
    limit_files(None)?;
    drop(drain);
    let drain = Drain::open(&settings)?;
    ensure!(
        drain.messages() == left,
        "{left} were left, not {}",
        drain.messages()
    );
    Ok(())
}

fn take(drain: &mut Drain) -> Result<Vec<hooklane_broker::embedded::Taken>> {
    let waiting = drain.take(|| "fresh".to_owned())?;
    Ok(waiting.into_iter().map(|waiting| waiting.taken).collect())
}
