//! A producer that speaks HTTP: keep-alive connections, one request at a time on each, as lean as hyper goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::pace::Pace;
use crate::clock::now_us;
use crate::histogram::Histogram;
use crate::part::{Done, Orders, Said, say};
use crate::payload;

/// After a 503, which a full queue or a busy broker gives.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// So often; then something is wrong.
const TRIES_MAX: u32 = 600;

/// What to publish.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Where ingest listens.
    pub address: SocketAddr,
    /// Whose the events are.
    pub application: String,
    /// How many events.
    pub count: u64,
    /// Connections, and so requests at once.
    pub connections: u64,
    /// Of how many types, each in its turn.
    pub types: u64,
    /// Events a second; without it, as fast as it goes.
    pub per_second: Option<f64>,
    /// Whether each event bears an `eventId`.
    pub is_named: bool,
}

type Sender = SendRequest<Full<Bytes>>;

/// Publishes when it is told to go; says what it has done.
pub async fn run(spec: Spec, mut orders: Orders) -> anyhow::Result<()> {
    let mut driving = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..spec.connections.clamp(1, spec.count.max(1)) {
        let stream = TcpStream::connect(spec.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        driving.spawn(connection);
        senders.push(sender);
    }
    say(&Said::Ready { address: None })?;
    if !orders.go().await? {
        return Ok(());
    }
    let begun_us = now_us();
    let (spec, next) = (Arc::new(spec), Arc::new(AtomicU64::new(0)));
    let pace = Arc::new(Pace::new(spec.per_second));
    let mut publishers = JoinSet::new();
    for sender in senders {
        let run = Run {
            spec: spec.clone(),
            pace: pace.clone(),
            next: next.clone(),
            begun_us,
        };
        publishers.spawn(publish(sender, run));
    }
    let mut latency = Histogram::new();
    while let Some(ended) = publishers.join_next().await {
        ended??.into_iter().for_each(|us| latency.add(us));
    }
    say(&Said::Done(Done {
        begun_us,
        ended_us: now_us(),
        confirmed: spec.count,
        latency: latency.quantiles(),
    }))?;
    orders.end().await
}

/// What all connections share.
struct Run {
    spec: Arc<Spec>,
    pace: Arc<Pace>,
    next: Arc<AtomicU64>,
    begun_us: u64,
}

/// Takes numbers until there are no more; gives how long each event took, in microseconds.
async fn publish(mut sender: Sender, run: Run) -> anyhow::Result<Vec<u64>> {
    let mut took = Vec::new();
    loop {
        let number = run.next.fetch_add(1, Ordering::Relaxed);
        if number >= run.spec.count {
            return Ok(took);
        }
        run.pace.wait(number).await;
        let begun = now_us();
        publish_one(&mut sender, &run, number).await?;
        took.push(now_us().saturating_sub(begun));
    }
}

async fn publish_one(sender: &mut Sender, run: &Run, number: u64) -> anyhow::Result<()> {
    let spec = &run.spec;
    let event_type = payload::event_type(number, spec.types);
    let id = match spec.is_named {
        true => format!(r#""eventId":"{}","#, payload::id(run.begun_us, number)),
        false => String::new(),
    };
    let body = format!(
        r#"{{"eventType":"{event_type}",{id}"payload":{}}}"#,
        payload::now()
    );
    let body = Bytes::from(body);
    for _ in 0..TRIES_MAX {
        let request = Request::post(format!("/api/v1/app/{}/msg", spec.application))
            .header("host", "bench")
            .header("content-type", "application/json")
            .body(Full::new(body.clone()))?;
        let answer = sender
            .send_request(request)
            .await
            .context("ingest closed a connection")?;
        let status = answer.status();
        let text = answer.into_body().collect().await?.to_bytes();
        match status {
            StatusCode::ACCEPTED => return Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(AGAIN_AFTER).await,
            other => bail!("ingest answered {other}: {}", String::from_utf8_lossy(&text)),
        }
    }
    bail!("ingest answered 503 {TRIES_MAX} times in a row")
}
