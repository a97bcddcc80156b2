//! From counts and CPU times to a run.

use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::{Instant, sleep};

use crate::part::{Counts, Done};
use crate::process::Process;
use crate::rows::Run;
use crate::usage::{Cpu, Watched};

/// Between two looks at the receiver.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A run that delivers nothing new for so long is given up.
const STUCK_AFTER: Duration = Duration::from_secs(90);

/// One look: how much had come, when, and what the processes had used.
struct Sample {
    at_us: u64,
    ok: u64,
    cpu: Cpu,
}

/// Which part of a run is measured, in shares of the deliveries.
#[derive(Clone, Copy)]
pub enum Span {
    /// From one tenth to nine tenths: without the start and the end.
    Middle,
    /// All of it.
    Whole,
}

/// Waits for this many deliveries and measures them.
pub async fn deliveries(
    receiver: &mut Process,
    watched: &Watched,
    total: u64,
    span: Span,
) -> anyhow::Result<Run> {
    let (from, to) = match span {
        Span::Middle => (total / 10, total - total / 10),
        Span::Whole => (0, total),
    };
    let (mut first, mut last) = (sample(receiver, watched).await?, None);
    let counts = watch(
        receiver,
        |counts| counts.ok,
        total,
        async |counts| {
            let seen = Sample {
                at_us: counts.at_us,
                ok: counts.ok,
                cpu: watched.cpu()?,
            };
            if seen.ok <= from {
                first = seen;
            } else if seen.ok >= to && last.is_none() {
                last = Some(seen);
            }
            Ok(())
        },
    )
    .await?;
    ensure!(
        counts.ok == total && counts.distinct == total,
        "{total} deliveries were to come, and {} came, {} different ones",
        counts.ok,
        counts.distinct
    );
    let Some(last) = last else {
        bail!("the end of the run was not seen");
    };
    let units = last.ok.saturating_sub(first.ok).max(1) as f64;
    // With nothing in front of it the first delivery begins the time; with samples in the middle, their own moments.
    let begun_us = match span {
        Span::Middle => first.at_us,
        Span::Whole => counts.first_ok_us.min(last.at_us),
    };
    let ended_us = match span {
        Span::Middle => last.at_us,
        Span::Whole => counts.last_ok_us,
    };
    Ok(Run {
        rate: units * 1e6 / ended_us.saturating_sub(begun_us).max(1) as f64,
        cpu_us: per_unit(&first.cpu, &last.cpu, units),
        peak_mib: watched.peak_mib()?,
        latency: counts.latency,
    })
}

/// A publisher's work as a run; `before` is what the processes had used when it was told to go.
pub fn published(watched: &Watched, before: &Cpu, done: &Done) -> anyhow::Result<Run> {
    Ok(Run {
        rate: done.rate(),
        cpu_us: per_unit(before, &watched.cpu()?, done.confirmed as f64),
        peak_mib: watched.peak_mib()?,
        latency: done.latency,
    })
}

/// Looks at a receiver until so many have come, and gives what it said then. Each look is handed on.
pub async fn watch(
    receiver: &mut Process,
    count: impl Fn(&Counts) -> u64,
    total: u64,
    mut look: impl AsyncFnMut(Counts) -> anyhow::Result<()>,
) -> anyhow::Result<Counts> {
    let (mut seen, mut until) = (0, Instant::now() + STUCK_AFTER);
    loop {
        let counts = receiver.look().await?;
        look(counts).await?;
        let now = count(&counts);
        if now >= total {
            return Ok(counts);
        }
        if now > seen {
            (seen, until) = (now, Instant::now() + STUCK_AFTER);
        }
        if Instant::now() > until {
            bail!("nothing new came for {} s: {counts:?}", STUCK_AFTER.as_secs());
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn sample(receiver: &mut Process, watched: &Watched) -> anyhow::Result<Sample> {
    let counts = receiver.look().await?;
    Ok(Sample {
        at_us: counts.at_us,
        ok: counts.ok,
        cpu: watched.cpu()?,
    })
}

fn per_unit(before: &Cpu, after: &Cpu, units: f64) -> Cpu {
    after
        .iter()
        .map(|(name, us)| (*name, (us - before.get(name).unwrap_or(&0.0)) / units))
        .collect()
}
