//! (a) Publishing: bare, over AMQP by the contract, and over HTTP.

use super::{bare, rounds};
use crate::calibrate::Tuning;
use crate::measure::published;
use crate::process::Process;
use crate::rows::{Goal, Row, Run};
use crate::stage::{Load, On, PUBLISH_MAX, Stage};
use crate::usage::Watched;

/// A type that nobody publishes: what is published here goes to no endpoint.
const NO_TYPE: &str = "event_types = [\"none\"]";

/// All rounds.
pub async fn run(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let (mut bare, mut direct, mut http) = (Vec::new(), Vec::new(), Vec::new());
    for _ in rounds(stage) {
        bare.push(bare::publish(stage, tuning, stage.options.events).await?);
        direct.push(directly(stage, tuning).await?);
        http.push(over_http(stage).await?);
    }
    let (what, who) = match stage.on {
        On::RabbitMq { .. } => (
            "publishing, on RabbitMQ",
            [
                "bare publish with confirms",
                "hooklane: AMQP, by the contract",
                "hooklane: HTTP, through ingest",
            ],
        ),
        On::Embedded => (
            "publishing, into the embedded queue; over HTTP, serve takes and acks each event at once",
            [
                "bare insert in group commits",
                "hooklane: without a service",
                "hooklane: HTTP, through serve",
            ],
        ),
    };
    let goals = match stage.on {
        On::RabbitMq { .. } => [Some(Goal::AtLeast(1.0)), Some(Goal::AtLeast(0.6))],
        On::Embedded => [None, None],
    };
    let row = |who: &str, runs: &[Run]| Row::new('a', what, who, "events", runs);
    let bare = row(who[0], &bare);
    let direct = row(who[1], &direct).beside(&bare, "of bare", goals[0]);
    let http = row(who[2], &http).beside(&bare, "of bare", goals[1]);
    Ok(vec![bare, direct, http])
}

async fn directly(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Run> {
    stage.renew().await?;
    let load = Load {
        window: tuning.window,
        ..Load::of(stage.options.events)
    };
    let publisher = match stage.on {
        On::RabbitMq { .. } => stage.amqp(load).await?,
        On::Embedded => stage.filler(load).await?,
    };
    let watched = stage.watched(&[&publisher]);
    publishing(publisher, &watched).await
}

async fn over_http(stage: &Stage<'_>) -> anyhow::Result<Run> {
    stage.renew().await?;
    let load = Load::of(stage.options.events);
    let (service, address) = match stage.on {
        On::RabbitMq { .. } => stage.ingest(&stage.settings()).await?,
        On::Embedded => {
            let nowhere = ([127, 0, 0, 1], 9).into();
            let settings = stage.settings().endpoint(nowhere, "/none", NO_TYPE);
            stage.deliverer(&settings).await?
        }
    };
    let publisher = stage.over_http(address, load).await?;
    let watched = stage.watched(&[&publisher, &service]);
    let run = publishing(publisher, &watched).await?;
    service.stop().await?;
    Ok(run)
}

async fn publishing(mut publisher: Process, watched: &Watched) -> anyhow::Result<Run> {
    let before = watched.cpu()?;
    publisher.go().await?;
    let done = publisher.done(PUBLISH_MAX).await?;
    let run = published(watched, &before, &done)?;
    publisher.stop().await?;
    Ok(run)
}
