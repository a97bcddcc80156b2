//! (c) Publishing and delivering at once, as fast as it goes, and the latency at a steady pace.

use super::{at_once, bare, rounds, stop};
use crate::calibrate::Tuning;
use crate::measure::{Span, deliveries};
use crate::rows::{Goal, Row, Run};
use crate::stage::{Load, On, PUBLISH_MAX, Stage};

/// The steady pace, in events a second.
const PACE: f64 = 1000.0;
/// How long it is kept up, in events at most.
const PACED_MAX: u64 = 10_000;
/// What the embedded queue should deliver.
const EMBEDDED_PER_SECOND: f64 = 5000.0;

#[derive(Clone, Copy)]
enum Way {
    Amqp,
    Http,
}

/// All rounds.
pub async fn run(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let count = stage.options.events;
    let mut rows = at_full_speed(stage, tuning, count).await?;
    rows.extend(at_a_pace(stage, tuning, count.min(PACED_MAX)).await?);
    Ok(rows)
}

async fn at_full_speed(stage: &Stage<'_>, tuning: &Tuning, count: u64) -> anyhow::Result<Vec<Row>> {
    let (mut bare, mut amqp, mut http) = (Vec::new(), Vec::new(), Vec::new());
    for _ in rounds(stage) {
        bare.push(bare::both(stage, tuning, count, None).await?);
        if let On::RabbitMq { .. } = stage.on {
            amqp.push(ours(stage, tuning, Way::Amqp, count, None).await?);
        }
        http.push(ours(stage, tuning, Way::Http, count, None).await?);
    }
    let what = "publishing and delivering at once, as fast as it goes";
    let row = |who: &str, runs: &[Run]| Row::new('c', what, who, "deliveries", runs);
    let bare = row("bare loop", &bare);
    let beside = "of the bare loop";
    let http = row("hooklane: HTTP in", &http).beside(&bare, beside, None);
    Ok(match stage.on {
        On::RabbitMq { .. } => {
            let amqp = row("hooklane: AMQP in", &amqp).beside(&bare, beside, Some(Goal::AtLeast(0.85)));
            vec![bare, amqp, http]
        }
        On::Embedded => {
            let rate = http.rate.median;
            let goal = Some(Goal::AtLeast(EMBEDDED_PER_SECOND));
            vec![bare, http.judge("deliveries/s", rate, goal)]
        }
    })
}

async fn at_a_pace(stage: &Stage<'_>, tuning: &Tuning, count: u64) -> anyhow::Result<Vec<Row>> {
    let (mut bare, mut paced) = (Vec::new(), Vec::new());
    let (way, who) = match stage.on {
        On::RabbitMq { .. } => (Way::Amqp, "hooklane: AMQP in"),
        On::Embedded => (Way::Http, "hooklane: HTTP in"),
    };
    for _ in rounds(stage) {
        bare.push(bare::both(stage, tuning, count, Some(PACE)).await?);
        paced.push(ours(stage, tuning, way, count, Some(PACE)).await?);
    }
    let what = "from publish to arrival at 1,000 events a second";
    let row = |who: &str, runs: &[Run]| Row::new('c', what, who, "deliveries", runs);
    Ok(vec![row("bare loop", &bare), row(who, &paced)])
}

async fn ours(
    stage: &Stage<'_>,
    tuning: &Tuning,
    way: Way,
    count: u64,
    per_second: Option<f64>,
) -> anyhow::Result<Run> {
    stage.renew().await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = stage
        .settings()
        .endpoint(address, "/ok", &at_once(tuning.concurrency));
    let (deliverer, serve) = stage.deliverer(&settings).await?;
    let load = Load {
        window: tuning.window_both,
        per_second,
        ..Load::of(count)
    };
    let mut ingest = None;
    let mut publisher = match (way, &stage.on) {
        (Way::Amqp, _) => stage.amqp(load).await?,
        (Way::Http, On::Embedded) => stage.over_http(serve, load).await?,
        (Way::Http, On::RabbitMq { .. }) => {
            let (process, address) = stage.ingest(&settings).await?;
            ingest = Some(process);
            stage.over_http(address, load).await?
        }
    };
    let mut watched = vec![&deliverer, &receiver, &publisher];
    watched.extend(&ingest);
    let watched = stage.watched(&watched);
    publisher.go().await?;
    let run = deliveries(&mut receiver, &watched, count, Span::Whole).await?;
    publisher.done(PUBLISH_MAX).await?;
    stop([publisher, deliverer, receiver].into_iter().chain(ingest)).await?;
    stage.nothing_left().await?;
    Ok(run)
}
