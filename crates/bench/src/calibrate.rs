//! The best the bare loop can do: a short run with each of several values.

use crate::cases::bare;
use crate::options::{Case, Options};
use crate::stage::{On, Stage};

const WINDOWS: [usize; 3] = [250, 500, 1000];
const CONCURRENCIES: [usize; 3] = [32, 64, 128];
const BATCHES: [usize; 3] = [64, 256, 1024];
/// Events in one of these runs.
const EVENTS_MAX: u64 = 10_000;

/// With what the bare loop is fastest here.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Events without a confirm when it only publishes.
    pub window: usize,
    /// The same when it delivers at once.
    pub window_both: usize,
    /// POSTs at once.
    pub concurrency: usize,
    /// Rows in one transaction of SQLite.
    pub batch: usize,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            window: 500,
            window_both: 500,
            concurrency: 64,
            batch: 256,
        }
    }
}

/// Tries them all, where a case needs it.
pub async fn tune(stage: &Stage<'_>, options: &Options) -> anyhow::Result<Tuning> {
    let mut tuning = Tuning::default();
    let needs = |cases: &[Case]| options.cases.iter().any(|case| cases.contains(case));
    let count = (options.events / 3).clamp(1, EVENTS_MAX);
    let (windows, is_embedded) = match stage.on {
        On::RabbitMq { .. } => (WINDOWS, false),
        On::Embedded => (BATCHES, true),
    };
    if needs(&[Case::Publish]) {
        let of = |value| Tuning {
            window: value,
            batch: value,
            ..tuning
        };
        let tried = windows.map(of);
        tuning = fastest(tried, async |tried| {
            Ok(bare::publish(stage, tried, count).await?.rate)
        })
        .await?;
    }
    if needs(&[Case::Drain, Case::Both, Case::Endpoints]) {
        let of = |concurrency| Tuning {
            concurrency,
            ..tuning
        };
        let tried = CONCURRENCIES.map(of);
        tuning = fastest(tried, async |tried| {
            Ok(bare::drain(stage, tried, count).await?.rate)
        })
        .await?;
    }
    if needs(&[Case::Both]) {
        let of = |value| Tuning {
            window_both: value,
            batch: if is_embedded { value } else { tuning.batch },
            ..tuning
        };
        let tried = windows.map(of);
        tuning = fastest(tried, async |tried| {
            Ok(bare::both(stage, tried, count, None).await?.rate)
        })
        .await?;
    }
    Ok(tuning)
}

/// The one with the highest rate.
async fn fastest(
    tried: [Tuning; 3],
    rate: impl AsyncFn(&Tuning) -> anyhow::Result<f64>,
) -> anyhow::Result<Tuning> {
    let (mut best, mut fastest) = (0.0, tried[0]);
    for tuning in tried {
        let rate = rate(&tuning).await?;
        if rate > best {
            (best, fastest) = (rate, tuning);
        }
    }
    Ok(fastest)
}
