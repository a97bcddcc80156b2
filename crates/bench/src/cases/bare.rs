//! The bare loop's runs.

use anyhow::Context;

use super::stop;
use crate::calibrate::Tuning;
use crate::measure::{Span, deliveries, published};
use crate::part::Part;
use crate::parts::{rabbitmq_loop, sqlite_loop};
use crate::process::Process;
use crate::rows::Run;
use crate::settings::SECRET;
use crate::stage::{Load, On, PUBLISH_MAX, Stage};

/// What a dispatcher asks the broker for, too.
const PREFETCH: u16 = 1024;

/// Publishing alone.
pub async fn publish(stage: &Stage<'_>, tuning: &Tuning, count: u64) -> anyhow::Result<Run> {
    stage.renew().await?;
    let mut publisher = match stage.on {
        On::RabbitMq { .. } => {
            let window = tuning.window;
            stage
                .bare_amqp(Load {
                    window,
                    ..Load::of(count)
                })
                .await?
        }
        On::Embedded => sqlite(stage, tuning, count, None, None).await?,
    };
    let watched = stage.watched(&[&publisher]);
    let before = watched.cpu()?;
    publisher.go().await?;
    let done = publisher.done(PUBLISH_MAX).await?;
    let run = published(&watched, &before, &done)?;
    publisher.stop().await?;
    Ok(run)
}

/// Draining a backlog.
pub async fn drain(stage: &Stage<'_>, tuning: &Tuning, count: u64) -> anyhow::Result<Run> {
    stage.renew().await?;
    fill(stage, tuning, count).await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let url = format!("http://{address}/ok");
    let mut bare = match stage.on {
        On::RabbitMq { .. } => rabbitmq(stage, tuning, url).await?,
        On::Embedded => sqlite(stage, tuning, 0, Some(url), None).await?,
    };
    bare.go().await?;
    let watched = stage.watched(&[&bare, &receiver]);
    let run = deliveries(&mut receiver, &watched, count, Span::Middle).await?;
    stop([bare, receiver]).await?;
    Ok(run)
}

/// Publishing and delivering at once.
pub async fn both(
    stage: &Stage<'_>,
    tuning: &Tuning,
    count: u64,
    per_second: Option<f64>,
) -> anyhow::Result<Run> {
    stage.renew().await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let url = format!("http://{address}/ok");
    match stage.on {
        On::RabbitMq { .. } => {
            let load = Load {
                window: tuning.window_both,
                per_second,
                ..Load::of(count)
            };
            let mut publisher = stage.bare_amqp(load).await?;
            let mut bare = rabbitmq(stage, tuning, url).await?;
            bare.go().await?;
            let watched = stage.watched(&[&bare, &receiver, &publisher]);
            publisher.go().await?;
            let run = deliveries(&mut receiver, &watched, count, Span::Whole).await?;
            publisher.done(PUBLISH_MAX).await?;
            stop([publisher, bare, receiver]).await?;
            Ok(run)
        }
        On::Embedded => {
            let mut bare = sqlite(stage, tuning, count, Some(url), per_second).await?;
            let watched = stage.watched(&[&bare, &receiver]);
            bare.go().await?;
            let run = deliveries(&mut receiver, &watched, count, Span::Whole).await?;
            bare.done(PUBLISH_MAX).await?;
            stop([bare, receiver]).await?;
            Ok(run)
        }
    }
}

async fn fill(stage: &Stage<'_>, tuning: &Tuning, count: u64) -> anyhow::Result<()> {
    let mut publisher = match stage.on {
        On::RabbitMq { .. } => stage.bare_amqp(Load::of(count)).await?,
        On::Embedded => sqlite(stage, tuning, count, None, None).await?,
    };
    publisher.go().await?;
    publisher.done(PUBLISH_MAX).await?;
    publisher.stop().await
}

async fn rabbitmq(stage: &Stage<'_>, tuning: &Tuning, receiver: String) -> anyhow::Result<Process> {
    let (url, place) = stage.rabbitmq()?;
    let spec = rabbitmq_loop::Spec {
        url: url.to_owned(),
        queue: place.bare(),
        receiver,
        secret: SECRET.to_owned(),
        prefetch: PREFETCH,
        concurrency: tuning.concurrency,
    };
    started(stage, &Part::RabbitMqLoop(spec)).await
}

async fn sqlite(
    stage: &Stage<'_>,
    tuning: &Tuning,
    insert: u64,
    receiver: Option<String>,
    per_second: Option<f64>,
) -> anyhow::Result<Process> {
    let spec = sqlite_loop::Spec {
        directory: stage.bare_data(),
        insert,
        receiver,
        secret: SECRET.to_owned(),
        batch: tuning.batch,
        concurrency: tuning.concurrency,
        per_second,
    };
    started(stage, &Part::SqliteLoop(spec)).await
}

async fn started(stage: &Stage<'_>, part: &Part) -> anyhow::Result<Process> {
    let mut process = stage.part("loop", part).await?;
    process.ready().await.context("the bare loop does not start")?;
    Ok(process)
}
