//! How fast the embedded broker is: publish, consume and ack at once, then a backlog written and read; each beside a bare
//! SQLite loop on the same disk in the same run.
//!
//! `cargo run --release -p hooklane-broker --example embedded_rate -- [directory] [messages]`; the directory is made anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings, Synchronous};
use hooklane_broker::{ConsumeOptions, Destination, Outgoing, Queue, SharedBroker};
use rusqlite::Connection;

const BODY_BYTES: usize = 1024;
const PUBLISHERS: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(
        arguments
            .next()
            .unwrap_or_else(|| "target/embedded-rate".to_owned()),
    );
    let count = arguments.next().map_or(Ok(100_000), |count| count.parse())?;
    let fresh = |name: &str| -> Result<PathBuf> {
        let path = directory.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)?;
        Ok(path)
    };
    println!("{count} messages of {BODY_BYTES} bytes, {PUBLISHERS} publishers; rates per second");
    fsyncs(&fresh("fsync")?)?;
    for batch in [1, PUBLISHERS] {
        bare(
            &fresh("bare")?,
            if batch == 1 { count / 20 } else { count },
            batch,
        )?;
    }
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        let mut settings = EmbeddedSettings::new(fresh("embedded")?);
        settings.synchronous = synchronous;
        let broker = EmbeddedBroker::open(settings.clone())?;
        at_once(&broker.shared(), count, &format!("{synchronous:?}")).await?;
        backlog(broker, settings, count, &format!("{synchronous:?}")).await?;
    }
    Ok(())
}

fn report(what: &str, count: usize, took: Duration) {
    println!(
        "{what:<58} {:>9.0}   {:>6} MiB resident",
        count as f64 / took.as_secs_f64(),
        resident_mib()
    );
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// What the disk makes of it.
fn fsyncs(directory: &Path) -> Result<()> {
    use std::io::Write;
    const COUNT: usize = 500;
    let mut file = std::fs::File::create(directory.join("file"))?;
    let begun = Instant::now();
    for _ in 0..COUNT {
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
    }
    report("bare: write 4 KiB and fsync", COUNT, begun.elapsed());
    Ok(())
}

/// Insert, read and delete the batch before, commit with fsync: what a queue on SQLite cannot be faster than.
fn bare(directory: &Path, count: usize, batch: usize) -> Result<()> {
    let connection = Connection::open(directory.join("bare.sqlite"))?;
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
        CREATE TABLE messages (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);",
    )?;
    let body = vec![b'x'; BODY_BYTES];
    let begun = Instant::now();
    let mut done = 0;
    while done < count {
        connection.execute_batch("BEGIN")?;
        for seq in done..done + batch {
            connection
                .prepare_cached("INSERT INTO messages VALUES (?1, ?2)")?
                .execute((seq as i64, &body))?;
        }
        for seq in done.saturating_sub(batch)..done {
            let read: Vec<u8> = connection
                .prepare_cached("SELECT body FROM messages WHERE seq = ?1")?
                .query_row([seq as i64], |row| row.get(0))?;
            ensure!(read.len() == BODY_BYTES);
            connection
                .prepare_cached("DELETE FROM messages WHERE seq = ?1")?
                .execute([seq as i64])?;
        }
        connection.execute_batch("COMMIT")?;
        done += batch;
    }
    report(
        &format!("bare SQLite, FULL, insert + read + delete, {batch} per commit"),
        done,
        begun.elapsed(),
    );
    Ok(())
}

async fn publish(broker: &SharedBroker, count: usize) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let (broker, next) = (broker.clone(), next.clone());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
                    broker
                        .publish(Destination::IngestedEvents, Outgoing::internal(body), PATIENCE)
                        .await?;
                }
                Ok::<_, anyhow::Error>(())
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await??;
    }
    Ok(())
}

/// Acks are awaited by tasks of their own, as the dispatcher's are.
async fn consume(broker: &SharedBroker, count: usize) -> Result<()> {
    let options = ConsumeOptions {
        prefetch: 512,
        bytes_max: 64 * 1024 * 1024,
    };
    let mut consumption = broker.consume(Queue::Events, options);
    let mut acks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let incoming = consumption.next().await.context("the broker ended")?;
        acks.spawn(incoming.ack.ack());
        while let Some(acked) = acks.try_join_next() {
            acked??;
        }
    }
    while let Some(acked) = acks.join_next().await {
        acked??;
    }
    Ok(())
}

async fn at_once(broker: &SharedBroker, count: usize, level: &str) -> Result<()> {
    let begun = Instant::now();
    let (publishing, consuming) = (broker.clone(), broker.clone());
    let publishing = tokio::spawn(async move { publish(&publishing, count).await });
    let consuming = tokio::spawn(async move { consume(&consuming, count).await });
    publishing.await??;
    consuming.await??;
    report(
        &format!("embedded, {level}, publish + consume + ack at once"),
        count,
        begun.elapsed(),
    );
    Ok(())
}

async fn backlog(
    broker: EmbeddedBroker,
    settings: EmbeddedSettings,
    count: usize,
    level: &str,
) -> Result<()> {
    let begun = Instant::now();
    publish(&broker.shared(), count).await?;
    report(
        &format!("embedded, {level}, publish alone"),
        count,
        begun.elapsed(),
    );
    let one = Instant::now();
    broker
        .shared()
        .publish(
            Destination::IngestedEvents,
            Outgoing::internal(Bytes::from_static(b"x")),
            PATIENCE,
        )
        .await?;
    println!("  one publish alone takes {:?}", one.elapsed());
    drop(broker);
    let begun = Instant::now();
    let broker = EmbeddedBroker::open(settings)?;
    println!("  opening with {count} messages takes {:?}", begun.elapsed());
    let begun = Instant::now();
    consume(&broker.shared(), count + 1).await?;
    report(
        &format!("embedded, {level}, consume + ack alone"),
        count,
        begun.elapsed(),
    );
    Ok(())
}
