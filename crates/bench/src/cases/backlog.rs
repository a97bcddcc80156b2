//! (g) Memory with a large backlog: what delivers must not hold it.

use anyhow::ensure;

use super::drain::memory;
use super::{at_once, rounds, stop};
use crate::calibrate::Tuning;
use crate::measure::watch;
use crate::rows::{Row, Run};
use crate::stage::{Load, On, Stage};

/// Delivered of each backlog; the rest is thrown away.
const DELIVERED: u64 = 20_000;

/// All rounds, with a small backlog and with the large one.
pub async fn run(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let large = stage.options.backlog.max(1);
    let small = DELIVERED.min(large);
    let mut runs = [Vec::new(), Vec::new()];
    for _ in rounds(stage) {
        for (runs, waiting) in runs.iter_mut().zip([small, large]) {
            runs.push(delivered(stage, tuning, waiting, small).await?);
        }
    }
    let row = |waiting: u64, runs: &[Run]| {
        memory(Row::new(
            'g',
            "memory with a backlog",
            format!("events that wait: {waiting}"),
            "deliveries",
            runs,
        ))
    };
    let (least, most) = (row(small, &runs[0]), row(large, &runs[1]));
    let name = match stage.on {
        On::RabbitMq { .. } => "dispatcher",
        On::Embedded => "serve",
    };
    let peak = |row: &Row| row.peak_mib.get(name).copied().unwrap_or(0.0);
    let ratio = peak(&most) / peak(&least);
    Ok(vec![least, most.judge("of the memory with few", ratio, None)])
}

async fn delivered(stage: &Stage<'_>, tuning: &Tuning, waiting: u64, wanted: u64) -> anyhow::Result<Run> {
    stage.renew().await?;
    stage.fill(Load::of(waiting)).await?;
    let (mut receiver, address) = stage.receiver(0).await?;
    let settings = stage
        .settings()
        .endpoint(address, "/ok", &at_once(tuning.concurrency));
    let (deliverer, _) = stage.deliverer(&settings).await?;
    let watched = stage.watched(&[&deliverer, &receiver]);
    let counts = watch(&mut receiver, |counts| counts.ok, wanted, async |_| Ok(())).await?;
    ensure!(
        counts.distinct >= wanted,
        "{} deliveries came, for {} events",
        counts.ok,
        counts.distinct
    );
    let took_us = counts.last_ok_us.saturating_sub(counts.first_ok_us).max(1);
    let run = Run {
        rate: counts.ok as f64 * 1e6 / took_us as f64,
        peak_mib: watched.peak_mib()?,
        ..Run::default()
    };
    stop([deliverer, receiver]).await?;
    Ok(run)
}
