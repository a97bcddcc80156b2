//! Short patience with a store: what answers late, or not at all, holds up nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// After so many failures in a row nobody is asked for a while: each would cost the whole deadline.
const FAILURES_MAX: u32 = 5;
/// How long that is.
const REST_MS: u64 = 1_000;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// None came in time.
    #[error("it does not answer in time")]
    Late,
    /// It cannot be asked.
    #[error("{0}")]
    Away(String),
    /// Nobody was asked, after failures in a row.
    #[error("it did not answer lately")]
    Resting,
}

impl Unanswered {
    /// A metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Unanswered::Late => "late",
            Unanswered::Away(_) => "away",
            Unanswered::Resting => "breaker",
        }
    }
}

/// A deadline, and a breaker that many calls share.
#[derive(Debug)]
pub struct Patience {
    deadline: Duration,
    failures: AtomicU32,
    /// Until when nobody is asked, on the monotonic clock.
    rests_until_ms: AtomicU64,
}

impl Patience {
    /// No call waits longer than this.
    pub fn of(deadline: Duration) -> Patience {
        Patience {
            deadline,
            failures: AtomicU32::default(),
            rests_until_ms: AtomicU64::default(),
        }
    }

    /// Asks, unless there were failures in a row lately. `now_ms` is the process's monotonic clock.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask<T, E: std::fmt::Display>(
        &self,
        now_ms: u64,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Unanswered> {
        if now_ms < self.rests_until_ms.load(Ordering::Relaxed) {
            return Err(Unanswered::Resting);
        }
        let why = match tokio::time::timeout(self.deadline, call).await {
            Ok(Ok(answer)) => {
                self.failures.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => Unanswered::Away(error.to_string()),
            Err(_) => Unanswered::Late,
        };
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.failures.store(0, Ordering::Relaxed);
            self.rests_until_ms.store(now_ms + REST_MS, Ordering::Relaxed);
            tracing::warn!("the store does not answer in time ({why}): repeats are not noticed for a second");
        }
        Err(why)
    }
}
