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
    if needs(&[Case::Publish]) {
        let mut best = 0.0;
        let values = match stage.on {
            On::RabbitMq { .. } => WINDOWS,
            On::Embedded => BATCHES,
        };
        for value in values {
            let tried = Tuning {
                window: value,
                batch: value,
                ..tuning
            };
            let rate = bare::publish(stage, &tried, count).await?.rate;
            if rate > best {
                (best, tuning.window, tuning.batch) = (rate, value, value);
            }
        }
    }
    if needs(&[Case::Drain, Case::Both, Case::Endpoints]) {
        let mut best = 0.0;
        for concurrency in CONCURRENCIES {
            let tried = Tuning {
                concurrency,
                ..tuning
            };
            let rate = bare::drain(stage, &tried, count).await?.rate;
            if rate > best {
                (best, tuning.concurrency) = (rate, concurrency);
            }
        }
    }
    if needs(&[Case::Both]) {
        let mut best = 0.0;
        let values = match stage.on {
            On::RabbitMq { .. } => WINDOWS,
            On::Embedded => BATCHES,
        };
        for value in values {
            let tried = Tuning {
                window_both: value,
                batch: value,
                ..tuning
            };
            let rate = bare::both(stage, &tried, count, None).await?.rate;
            if rate > best {
                (best, tuning.window_both) = (rate, value);
                if let On::Embedded = stage.on {
                    tuning.batch = value;
                }
            }
        }
    }
    Ok(tuning)
}
