//! (e) 20 of 25 endpoints hang: how the other five fare.

use std::net::SocketAddr;

use super::{rounds, stop};
use crate::measure::watch;
use crate::rows::{Goal, Row, Run};
use crate::settings::Settings;
use crate::stage::{Load, PUBLISH_MAX, Stage};

const ENDPOINTS: u64 = 25;
const WELL: u64 = 5;
/// Events a second, for all endpoints in turn: far from what the machine can do, so that only the hanging ones can be in the way.
const PACE: f64 = 1000.0;
/// How long it is kept up, in events at most.
const EVENTS_MAX: u64 = 30_000;

/// All rounds.
pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let (mut well, mut hanging) = (Vec::new(), Vec::new());
    for _ in rounds(stage) {
        well.push(five(stage, "/rest").await?);
        hanging.push(five(stage, "/hang").await?);
    }
    let what = "five of 25 endpoints, each given 40 events a second";
    let row = |who: &str, runs: &[Run]| Row::new('e', what, who, "deliveries", runs);
    let well = row("the other 20 answer", &well);
    let hanging = row("the other 20 hang", &hanging).beside(&well, "of that", Some(Goal::AtLeast(0.8)));
    Ok(vec![well, hanging])
}

/// Publishes at the pace; the rate is that of the five, from the first event to the last delivery.
async fn five(stage: &Stage<'_>, others: &str) -> anyhow::Result<Run> {
    stage.renew().await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = endpoints(stage.settings().dispatcher("grace = \"1s\""), address, others);
    let (deliverer, serve) = stage.deliverer(&settings).await?;
    let count = stage.options.events.clamp(ENDPOINTS, EVENTS_MAX) / ENDPOINTS * ENDPOINTS;
    let load = Load {
        types: ENDPOINTS,
        per_second: Some(PACE),
        ..Load::of(count)
    };
    let mut publisher = stage.publisher(serve, load).await?;
    let watched = stage.watched(&[&deliverer, &receiver]);
    publisher.go().await?;
    let wanted = count / ENDPOINTS * WELL;
    let counts = watch(&mut receiver, |counts| counts.ok, wanted, async |_| Ok(())).await?;
    let done = publisher.done(PUBLISH_MAX).await?;
    let took_us = counts.last_ok_us.saturating_sub(done.begun_us).max(1);
    let run = Run {
        rate: counts.ok as f64 * 1e6 / took_us as f64,
        peak_mib: watched.peak_mib()?,
        latency: counts.latency,
        ..Run::default()
    };
    stop([publisher, deliverer, receiver]).await?;
    Ok(run)
}

fn endpoints(settings: Settings, receiver: SocketAddr, others: &str) -> Settings {
    (0..ENDPOINTS).fold(settings, |settings, number| {
        let kind = if number < WELL { "/ok" } else { others };
        let types = format!("event_types = [\"bench.t{number}\"]");
        settings.endpoint(receiver, &format!("{kind}/{number}"), &types)
    })
}
