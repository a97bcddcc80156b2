//! How fast the history is, on SQLite or on a PostgreSQL of its own: batches written, then lists read.
//!
//! `cargo run --release -p hooklane-store --example history_rate -- [directory] [attempts] [days] [apart]`; the directory is made anew. For
//! PostgreSQL write `postgres` instead of a directory. With `apart` events and attempts are written as a recorder does that reads them from two
//! queues: at once, an event's attempt not with it.

mod lists;
mod made;
mod usage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use hooklane_store::history::{History, Record};
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::history::PostgresHistory;
use hooklane_store::sqlite::history::{SqliteHistory, inspect};
use hooklane_testkit::postgres::{Options, Server};

use crate::made::{Made, PAYLOAD_BYTES};
use crate::usage::Watched;

const BATCH: usize = 500;
const CALL_MAX: Duration = Duration::from_secs(60);
/// How often the rate is told meanwhile: whether it falls with what is there.
const TOLD: usize = 8;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments
        .next()
        .unwrap_or_else(|| "target/history-rate".to_owned());
    let count = arguments.next().map_or(Ok(200_000), |count| count.parse())?;
    let days = arguments.next().map_or(Ok(30), |days| days.parse())?;
    let is_apart = arguments.next().is_some_and(|how| how == "apart");
    let made = Made { count, days };
    if place == "postgres" {
        // As a small server is set up, not a test's.
        let options = Options::default()
            .conf("shared_buffers = 256MB")
            .conf("max_wal_size = 2GB");
        let server = Server::start_with(options).await?;
        let database = server.database().await?;
        let mut settings = PostgresSettings::parse(database.url())?;
        // A recorder would try again.
        settings.call_max = CALL_MAX;
        let history = PostgresHistory::open(&settings).await?;
        let watched = Watched::server_of(&database).await?;
        write(&history, made, is_apart, &watched).await?;
        database.psql("VACUUM ANALYZE").await?;
        lists::measure(&history, made).await?;
        let size = "SELECT pg_size_pretty(pg_database_size(current_database()))";
        println!("database: {}", database.psql(size).await?);
        return Ok(());
    }
    let directory = PathBuf::from(place);
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    let history = SqliteHistory::open(&directory)?;
    write(&history, made, is_apart, &Watched::this_process()).await?;
    lists::measure(&history, made).await?;
    drop(history);
    let bytes = inspect(&directory)?.map_or(0, |found| found.bytes());
    println!("file: {} MiB", bytes / 1024 / 1024);
    Ok(())
}

async fn write(history: &dyn History, made: Made, is_apart: bool, watched: &Watched) -> Result<()> {
    println!(
        "{} events with {PAYLOAD_BYTES} bytes and as many attempts in {} days",
        made.count, made.days
    );
    let step = made.count.div_ceil(TOLD);
    for first in (0..made.count).step_by(step) {
        let part = first..made.count.min(first + step);
        let before = watched.cpu_us()?;
        let begun = Instant::now();
        match is_apart {
            true => {
                let events = batches(history, made, part.clone(), Written::Events);
                let attempts = batches(history, made, part.clone(), Written::Attempts);
                tokio::try_join!(events, attempts)?;
            }
            false => batches(history, made, part.clone(), Written::Both).await?,
        }
        let (seconds, after) = (begun.elapsed().as_secs_f64(), watched.cpu_us()?);
        let events = part.len() as f64;
        println!(
            "to {}: {:.0} events/s with their attempts; CPU for both: {:.0} us of this process, {:.0} us of PostgreSQL",
            part.end,
            events / seconds,
            (after.0 - before.0) as f64 / events,
            (after.1 - before.1) as f64 / events
        );
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Written {
    Both,
    Events,
    Attempts,
}

async fn batches(
    history: &dyn History,
    made: Made,
    part: std::ops::Range<usize>,
    what: Written,
) -> Result<()> {
    let mut batch: Vec<Record> = Vec::with_capacity(BATCH);
    for n in part.clone() {
        if what != Written::Attempts {
            batch.push(made.event(n)?);
        }
        if what != Written::Events {
            batch.push(made.attempt(n)?);
        }
        if batch.len() >= BATCH || n + 1 == part.end {
            history
                .record(Arc::from(std::mem::take(&mut batch)), made.accepted_at(n))
                .await?;
        }
    }
    Ok(())
}
