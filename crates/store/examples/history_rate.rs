//! How fast the history is, on SQLite or on a PostgreSQL of its own: batches written, then lists read by a page of 50, the newest first.
//!
//! `cargo run -p hooklane-store --example history_rate -- [directory] [attempts]`; the directory is made anew. For PostgreSQL write `postgres`
//! instead of a directory; events are spread over days then.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{
    Attempt, AttemptFilter, AttemptsOf, Decision, DeliveryKey, EndpointEventFilter, EventFilter, EventRef,
    History, Page, Range, Record, Status, Trigger,
};
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::history::PostgresHistory;
use hooklane_store::sqlite::history::{SqliteHistory, inspect};
use hooklane_testkit::postgres::Server;
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, EndpointId, Event, EventId, EventType, UnixMillis,
};

const PAYLOAD_BYTES: usize = 1024;
const BATCH: usize = 500;
const ENDPOINTS: usize = 20;
const ASKED: usize = 200;
const NOW_MS: i64 = 1_700_000_000_000;

/// Between two events: 200,000 are 23 days.
const STEP_MS: i64 = 10_000;

/// When the n-th event was accepted.
fn accepted_at(n: usize) -> UnixMillis {
    UnixMillis(NOW_MS + n as i64 * STEP_MS)
}

/// The n-th event and its attempt, ten seconds after the one before; every tenth at an endpoint failed.
fn event_and_attempt(n: usize) -> Result<[Record; 2]> {
    let at = accepted_at(n);
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let (application, id) = (ApplicationId::parse("app_2rYmL0pT4")?, EventId::fresh(at, random));
    let failed = n / ENDPOINTS % 10 == 9;
    let event = Event {
        id: id.clone(),
        producer_id: None,
        application: application.clone(),
        event_type: EventType::parse(["invoice.paid", "user.made"][n % 2])?,
        channels: Vec::new(),
        accepted_at: at,
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::from(vec![b'x'; PAYLOAD_BYTES]),
    };
    let attempt = Attempt {
        id: AttemptId::fresh(at, random),
        delivery: DeliveryKey {
            event: EventRef {
                application,
                id,
                accepted_at: at,
            },
            endpoint: EndpointId::parse(&format!("ep_{:022}", n % ENDPOINTS))?,
            target: 0,
            run: 0,
        },
        at,
        duration_ms: 20,
        outcome: AttemptOutcome::Status {
            code: if failed { 503 } else { 200 },
            retry_after_ms: None,
        },
        url: "https://hooks.example.com/in/17".to_owned(),
        answer: Bytes::from_static(b"ok"),
        trigger: Trigger::Schedule,
        decision: match failed {
            true => Decision::Again(at.plus(Duration::from_secs(5))),
            false => Decision::Delivered,
        },
    };
    Ok([Record::Event(event), Record::Attempt(attempt)])
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments
        .next()
        .unwrap_or_else(|| "target/history-rate".to_owned());
    let count: usize = arguments.next().map_or(Ok(200_000), |count| count.parse())?;
    if place == "postgres" {
        let server = Server::start().await?;
        let database = server.database().await?;
        let settings = PostgresSettings::parse(database.url())?;
        measure(&PostgresHistory::open(&settings).await?, count).await?;
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
    measure(&history, count).await?;
    drop(history);
    println!(
        "file: {} MiB",
        inspect(&directory)?.map_or(0, |found| found.bytes()) / 1024 / 1024
    );
    Ok(())
}

async fn measure(history: &dyn History, count: usize) -> Result<()> {
    let mut writing = Duration::ZERO;
    for first in (0..count).step_by(BATCH / 2) {
        let end = count.min(first + BATCH / 2);
        let mut batch = Vec::with_capacity(BATCH);
        for n in first..end {
            batch.extend(event_and_attempt(n)?);
        }
        let begun = Instant::now();
        history.record(Arc::from(batch), accepted_at(end)).await?;
        writing += begun.elapsed();
    }
    let rate = (2 * count) as f64 / writing.as_secs_f64();
    println!(
        "{count} events with {PAYLOAD_BYTES} bytes and {count} attempts in batches of {BATCH}: {rate:.0} records/s"
    );
    lists(history, count).await
}

async fn lists(history: &dyn History, count: usize) -> Result<()> {
    let application = ApplicationId::parse("app_2rYmL0pT4")?;
    let mut times: [(&str, Vec<Duration>); 8] = [
        ("events", Vec::new()),
        ("events of a type", Vec::new()),
        ("attempts at an endpoint", Vec::new()),
        ("failed attempts at an endpoint", Vec::new()),
        ("attempts of an event", Vec::new()),
        ("events of an endpoint", Vec::new()),
        ("pending events of an endpoint", Vec::new()),
        ("statistics of an endpoint", Vec::new()),
    ];
    for asked in 0..ASKED {
        // Anywhere in time.
        let n = asked * count / ASKED;
        let before = Some(accepted_at(n));
        let range = Range { after: None, before };
        let page = Page {
            behind: None,
            direction: Direction::Descending,
            limit: 50,
        };
        let endpoint = EndpointId::parse(&format!("ep_{:022}", asked % ENDPOINTS))?;
        let [event, _] = event_and_attempt(n)?;
        let of_endpoint = AttemptsOf::Endpoint(endpoint.clone());
        let of_event = AttemptsOf::Event(event.event().1.clone(), None);
        let any = EventFilter {
            range,
            ..EventFilter::default()
        };
        let typed = EventFilter {
            event_types: vec![EventType::parse("user.made")?],
            ..any.clone()
        };
        let attempts = AttemptFilter {
            range,
            ..AttemptFilter::default()
        };
        let failed = AttemptFilter {
            delivered: Some(false),
            ..attempts.clone()
        };
        let there = EndpointEventFilter {
            status: None,
            event: any.clone(),
        };
        let pending = EndpointEventFilter {
            status: Some(Status::Pending),
            ..there.clone()
        };
        for (n, (_, times)) in times.iter_mut().enumerate() {
            let begun = Instant::now();
            match n {
                0 => drop(history.events(&application, &any, &page).await?),
                1 => drop(history.events(&application, &typed, &page).await?),
                2 => drop(
                    history
                        .attempts(&application, &of_endpoint, &attempts, &page)
                        .await?,
                ),
                3 => drop(
                    history
                        .attempts(&application, &of_endpoint, &failed, &page)
                        .await?,
                ),
                4 => drop(
                    history
                        .attempts(&application, &of_event, &AttemptFilter::default(), &page)
                        .await?,
                ),
                5 => drop(
                    history
                        .endpoint_events(&application, &endpoint, &there, &page)
                        .await?,
                ),
                6 => drop(
                    history
                        .endpoint_events(&application, &endpoint, &pending, &page)
                        .await?,
                ),
                _ => {
                    history.stats(&application, &endpoint, Range::default()).await?;
                }
            }
            times.push(begun.elapsed());
        }
    }
    for (what, mut times) in times {
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
        println!("{what}: p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
    }
    Ok(())
}
