//! (h) With a store beside without: what recording every event and attempt costs.

use anyhow::Context;

use super::{at_once, rounds, stop};
use crate::calibrate::Tuning;
use crate::measure::{Span, deliveries, published};
use crate::process::Process;
use crate::rows::{Goal, Row, Run};
use crate::settings::Settings;
use crate::stage::{Load, On, PUBLISH_MAX, Stage};

/// What the embedded queue should deliver with its store.
const EMBEDDED_PER_SECOND: f64 = 3000.0;

/// What the store is there for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// Every event and attempt.
    History,
    /// The producers' ids of events, too: claims of dispatchers, and `eventId`s of ingest.
    Ids,
}

/// All rounds.
pub async fn run(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    // The embedded queue keeps ids beside itself, store or no store.
    let kept: &[Kept] = match &stage.on {
        On::RabbitMq { .. } => &[Kept::Nothing, Kept::History, Kept::Ids],
        On::Embedded => &[Kept::Nothing, Kept::History],
    };
    let mut drained = vec![Vec::new(); kept.len()];
    let mut taken = vec![Vec::new(); kept.len()];
    for _ in rounds(stage) {
        for (at, kept) in kept.iter().enumerate() {
            drained[at].push(drain(stage, tuning, *kept).await?);
            taken[at].push(take(stage, tuning, *kept).await?);
        }
    }
    if matches!(stage.on, On::RabbitMq { .. }) {
        let mut found = rows(
            "draining a backlog",
            "deliveries",
            &drained,
            Some(Goal::AtLeast(0.75)),
        );
        found.extend(rows(
            "publishing over HTTP",
            "events",
            &taken,
            Some(Goal::AtLeast(0.85)),
        ));
        return Ok(found);
    }
    let mut found = rows("draining a backlog", "deliveries", &drained, None);
    let what = "publishing over HTTP and delivering at once";
    found.extend(rows(what, "deliveries", &taken, None));
    if let Some(row) = found.pop() {
        let rate = row.rate.median;
        found.push(row.judge("deliveries/s", rate, Some(Goal::AtLeast(EMBEDDED_PER_SECOND))));
    }
    Ok(found)
}

/// The goal is one for the history alone.
fn rows(what: &str, unit: &'static str, runs: &[Vec<Run>], goal: Option<Goal>) -> Vec<Row> {
    const WHO: [(&str, bool); 3] = [
        ("hooklane without a store", false),
        ("hooklane with its history in a store", true),
        (
            "hooklane with its history and the producers' ids in a store",
            false,
        ),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (runs, (who, is_judged)) in runs.iter().zip(WHO) {
        let row = Row::new('h', what, who, unit, runs);
        let row = match rows.first() {
            Some(without) => row.beside(without, "of without", goal.filter(|_| is_judged)),
            None => row,
        };
        rows.push(row);
    }
    rows
}

fn settings(stage: &Stage<'_>, kept: Kept) -> anyhow::Result<Settings> {
    if kept == Kept::Nothing {
        return Ok(stage.settings());
    }
    let found = stage.settings_with_history(kept == Kept::Ids);
    found.context("(h) needs --store postgres://user:password@127.0.0.1:5432/database, a database of its own")
}

/// Drains a backlog that came without a service, so that what delivers records events too.
async fn drain(stage: &Stage<'_>, tuning: &Tuning, kept: Kept) -> anyhow::Result<Run> {
    stage.renew().await?;
    let count = stage.options.events;
    stage.fill(Load::of(count)).await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = settings(stage, kept)?.endpoint(address, "/ok", &at_once(tuning.concurrency));
    let recorder = recorder(stage, &settings, kept).await?;
    let (deliverer, _) = stage.deliverer(&settings).await?;
    let mut watched = vec![&deliverer, &receiver];
    watched.extend(&recorder);
    let watched = stage.watched_with_store(&watched);
    let run = deliveries(&mut receiver, &watched, count, Span::Middle).await?;
    stop([deliverer, receiver].into_iter().chain(recorder)).await?;
    stage.nothing_left().await?;
    Ok(run)
}

async fn recorder(stage: &Stage<'_>, settings: &Settings, kept: Kept) -> anyhow::Result<Option<Process>> {
    match kept {
        Kept::Nothing => Ok(None),
        Kept::History | Kept::Ids => stage.recorder(settings).await,
    }
}

/// Publishes over HTTP: to ingest alone on a broker, to all of `serve` on the embedded queue.
async fn take(stage: &Stage<'_>, tuning: &Tuning, kept: Kept) -> anyhow::Result<Run> {
    stage.renew().await?;
    let count = stage.options.events;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = settings(stage, kept)?.endpoint(address, "/ok", &at_once(tuning.concurrency));
    let recorder = recorder(stage, &settings, kept).await?;
    let (service, at) = match stage.on {
        On::RabbitMq { .. } => stage.ingest(&settings).await?,
        On::Embedded => stage.deliverer(&settings).await?,
    };
    let load = Load {
        is_named: kept == Kept::Ids,
        ..Load::of(count)
    };
    let mut publisher = stage.over_http(at, load).await?;
    let mut watched = vec![&publisher, &service, &receiver];
    watched.extend(&recorder);
    let watched = stage.watched_with_store(&watched);
    let before = watched.cpu()?;
    publisher.go().await?;
    let run = match stage.on {
        On::RabbitMq { .. } => published(&watched, &before, &publisher.done(PUBLISH_MAX).await?)?,
        On::Embedded => {
            let run = deliveries(&mut receiver, &watched, count, Span::Whole).await?;
            publisher.done(PUBLISH_MAX).await?;
            run
        }
    };
    stop([publisher, service, receiver].into_iter().chain(recorder)).await?;
    Ok(run)
}
