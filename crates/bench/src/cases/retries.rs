//! (f) Retries that fall due within a moment: an endpoint fails for all events, then answers.

use anyhow::ensure;

use super::{rounds, stop};
use crate::measure::watch;
use crate::rows::{Row, Run};
use crate::stage::{Load, PUBLISH_MAX, Stage};

/// Long enough for all to fail before the first is due.
const DELAY_S: u64 = 30;
/// The delay for few.
const DELAY_FEW_S: u64 = 5;
const FEW: u64 = 1000;

/// All rounds.
pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let count = stage.options.retries.max(1);
    let mut runs = Vec::new();
    for _ in rounds(stage) {
        runs.push(retried(stage, count).await?);
    }
    let what = format!("{count} retries that fall due as fast as they had failed");
    Ok(vec![Row::new('f', what, "hooklane", "retries", &runs)])
}

async fn retried(stage: &Stage<'_>, count: u64) -> anyhow::Result<Run> {
    stage.renew().await?;
    let (mut receiver, address) = stage.receiver(count).await?;
    let delay_s = if count > FEW { DELAY_S } else { DELAY_FEW_S };
    let retry = format!("retry = {{ delays = [\"{delay_s}s\"], jitter = 0.0 }}");
    let settings = stage.settings().endpoint(address, "/fail", &retry);
    let (deliverer, serve) = stage.deliverer(&settings).await?;
    let watched = stage.watched(&[&deliverer, &receiver]);
    let mut publisher = stage.publisher(serve, Load::of(count)).await?;
    publisher.go().await?;
    publisher.done(PUBLISH_MAX).await?;
    let failed = watch(&mut receiver, |counts| counts.failed, count, async |_| Ok(())).await?;
    ensure!(
        failed.ok == 0,
        "{} retries came before the last event had failed: give fewer with --retries",
        failed.ok
    );
    let before = watched.cpu()?;
    let counts = watch(&mut receiver, |counts| counts.ok, count, async |_| Ok(())).await?;
    ensure!(
        counts.ok == count && counts.distinct == count,
        "{count} retries were to come, and {} came, for {} events",
        counts.ok,
        counts.distinct
    );
    let took_us = counts.last_ok_us.saturating_sub(counts.first_ok_us).max(1);
    let after = watched.cpu()?;
    let run = Run {
        rate: count as f64 * 1e6 / took_us as f64,
        cpu_us: after
            .iter()
            .map(|(name, us)| (*name, (us - before.get(name).unwrap_or(&0.0)) / count as f64))
            .collect(),
        peak_mib: watched.peak_mib()?,
        latency: counts.latency,
    };
    stop([publisher, deliverer, receiver]).await?;
    stage.nothing_left().await?;
    Ok(run)
}
