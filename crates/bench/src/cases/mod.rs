//! What is measured, one file each, and the bare loop beside it.

pub mod backlog;
pub mod bare;
pub mod both;
pub mod drain;
pub mod endpoints;
pub mod hanging;
pub mod history;
pub mod publish;
pub mod retries;

use std::net::SocketAddr;

use crate::measure::{Span, deliveries};
use crate::process::Process;
use crate::rows::Run;
use crate::settings::Settings;
use crate::stage::{Load, Stage};

/// More runs to come, alternating, so that what else the machine does hits all alike.
fn rounds(stage: &Stage<'_>) -> std::ops::Range<usize> {
    0..stage.options.rounds.max(1)
}

/// An endpoint as the bare loop has it: this many POSTs at once.
fn at_once(concurrency: usize) -> String {
    format!("max_in_flight = {concurrency}")
}

/// A backlog of `load`, drained by Hooklane with these settings; the middle of `deliveries_total` is measured.
async fn drained(
    stage: &Stage<'_>,
    load: Load,
    deliveries_total: u64,
    settings: impl FnOnce(Settings, SocketAddr) -> Settings,
) -> anyhow::Result<Run> {
    stage.renew().await?;
    stage.fill(load).await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = settings(stage.settings(), address);
    let (deliverer, _) = stage.deliverer(&settings).await?;
    let watched = stage.watched(&[&deliverer, &receiver]);
    let run = deliveries(&mut receiver, &watched, deliveries_total, Span::Middle).await?;
    stop([deliverer, receiver]).await?;
    stage.nothing_left().await?;
    Ok(run)
}

async fn stop(processes: impl IntoIterator<Item = Process>) -> anyhow::Result<()> {
    for process in processes {
        process.stop().await?;
    }
    Ok(())
}
