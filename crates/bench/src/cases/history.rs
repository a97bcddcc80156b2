//! (h) With a store beside without: what recording every event and attempt costs.

use anyhow::Context;

use super::{at_once, rounds, stop};
use crate::calibrate::Tuning;
use crate::measure::{Span, deliveries, published};
use crate::rows::{Goal, Row, Run};
use crate::settings::Settings;
use crate::stage::{Load, On, PUBLISH_MAX, Stage};

/// What the embedded queue should deliver with its store.
const EMBEDDED_PER_SECOND: f64 = 3000.0;

/// All rounds.
pub async fn run(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let with = || {
        let found = stage.settings_with_history();
        found.context(
            "(h) needs --store postgres://user:password@127.0.0.1:5432/database, a database of its own",
        )
    };
    let mut drained = [Vec::new(), Vec::new()];
    let mut taken = [Vec::new(), Vec::new()];
    for _ in rounds(stage) {
        for kept in [false, true] {
            let settings = || match kept {
                true => with(),
                false => Ok(stage.settings()),
            };
            drained[usize::from(kept)].push(drain(stage, tuning, settings()?, kept).await?);
            taken[usize::from(kept)].push(take(stage, tuning, settings()?, kept).await?);
        }
    }
    let is_embedded = matches!(stage.on, On::Embedded);
    let (what, unit) = match is_embedded {
        true => ("publishing over HTTP and delivering at once", "deliveries"),
        false => ("publishing over HTTP", "events"),
    };
    let goal = |least| (!is_embedded).then_some(Goal::AtLeast(least));
    let mut rows = pair("draining a backlog", "deliveries", &drained, goal(0.75));
    let mut taking = pair(what, unit, &taken, goal(0.85));
    if is_embedded && let Some(row) = taking.pop() {
        let rate = row.rate.median;
        taking.push(row.judge("deliveries/s", rate, Some(Goal::AtLeast(EMBEDDED_PER_SECOND))));
    }
    rows.extend(taking);
    Ok(rows)
}

fn pair(what: &str, unit: &'static str, [without, with]: &[Vec<Run>; 2], goal: Option<Goal>) -> Vec<Row> {
    let without = Row::new('h', what, "hooklane without a store", unit, without);
    let with = Row::new('h', what, "hooklane with its history in a store", unit, with);
    let with = with.beside(&without, "of without", goal);
    vec![without, with]
}

/// Drains a backlog that came without a service, so that what delivers records events too.
async fn drain(stage: &Stage<'_>, tuning: &Tuning, settings: Settings, kept: bool) -> anyhow::Result<Run> {
    stage.renew().await?;
    let count = stage.options.events;
    stage.fill(Load::of(count)).await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = settings.endpoint(address, "/ok", &at_once(tuning.concurrency));
    let recorder = if kept {
        stage.recorder(&settings).await?
    } else {
        None
    };
    let (deliverer, _) = stage.deliverer(&settings).await?;
    let mut watched = vec![&deliverer, &receiver];
    watched.extend(&recorder);
    let watched = stage.watched(&watched);
    let run = deliveries(&mut receiver, &watched, count, Span::Middle).await?;
    stop([deliverer, receiver].into_iter().chain(recorder)).await?;
    stage.nothing_left().await?;
    Ok(run)
}

/// Publishes over HTTP: to ingest alone on a broker, to all of `serve` on the embedded queue.
async fn take(stage: &Stage<'_>, tuning: &Tuning, settings: Settings, kept: bool) -> anyhow::Result<Run> {
    stage.renew().await?;
    let count = stage.options.events;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = settings.endpoint(address, "/ok", &at_once(tuning.concurrency));
    let recorder = if kept {
        stage.recorder(&settings).await?
    } else {
        None
    };
    let (service, at) = match stage.on {
        On::RabbitMq { .. } => stage.ingest(&settings).await?,
        On::Embedded => stage.deliverer(&settings).await?,
    };
    let mut publisher = stage.over_http(at, Load::of(count)).await?;
    let mut watched = vec![&publisher, &service, &receiver];
    watched.extend(&recorder);
    let watched = stage.watched(&watched);
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
