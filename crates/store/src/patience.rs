//! Short patience with a store: what answers late, or not at all, holds up nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// After so many failures one behind the other nobody is asked for a while: each would cost the whole deadline. Calls that waited at the same time
/// have met the same trouble, and are one failure: a short halt of the store, met by all that are under way, blinds nobody.
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
    /// When the last one that was counted ended, on the monotonic clock.
    failed_at_ms: AtomicU64,
    /// Until when nobody is asked, on the monotonic clock.
    rests_until_ms: AtomicU64,
}

impl Patience {
    /// No call waits longer than this.
    pub fn of(deadline: Duration) -> Patience {
        Patience {
            deadline,
            failures: AtomicU32::default(),
            failed_at_ms: AtomicU64::default(),
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
        let begun = Instant::now();
        let why = match tokio::time::timeout(self.deadline, call).await {
            Ok(Ok(answer)) => {
                self.failures.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => Unanswered::Away(error.to_string()),
            Err(_) => Unanswered::Late,
        };
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ended_ms = now_ms.saturating_add(took_ms);
        if self.is_new(now_ms, ended_ms) && self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX
        {
            self.failures.store(0, Ordering::Relaxed);
            self.rests_until_ms
                .store(ended_ms.saturating_add(REST_MS), Ordering::Relaxed);
            tracing::warn!("the store does not answer in time ({why}): repeats are not noticed for a second");
        }
        Err(why)
    }

    /// Whether a call that failed had begun when the last failure that was counted was over. Then it is counted.
    fn is_new(&self, began_ms: u64, ended_ms: u64) -> bool {
        let count = |failed_at_ms| (began_ms >= failed_at_ms).then_some(ended_ms);
        self.failed_at_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(20);

    async fn fail(patience: &Patience, now_ms: u64) -> Unanswered {
        let never = std::future::pending::<Result<(), String>>();
        patience.ask(now_ms, never).await.expect_err("nobody answers")
    }

    #[tokio::test(start_paused = true)]
    async fn failures_one_behind_the_other_end_the_asking_for_a_second_and_those_at_once_are_one() {
        let patience = Patience::of(DEADLINE);
        let mut now_ms = 1_000;
        for _ in 0..FAILURES_MAX {
            let failed = join_all((0..50).map(|n| fail(&patience, now_ms + n % 20))).await;
            assert!(failed.iter().all(|why| *why == Unanswered::Late), "{failed:?}");
            now_ms += 40;
        }
        let last_ms = now_ms - 40 + 20;
        for now_ms in [last_ms + 1, last_ms + REST_MS - 1] {
            assert_eq!(fail(&patience, now_ms).await, Unanswered::Resting);
        }
        assert_eq!(fail(&patience, last_ms + REST_MS + 20).await, Unanswered::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_between_failures_begins_the_count_anew() {
        let patience = Patience::of(DEADLINE);
        for now_ms in (1_000..5_000).step_by(100) {
            assert_eq!(fail(&patience, now_ms).await, Unanswered::Late);
            if now_ms % 400 == 0 {
                let answer = async { Ok::<_, String>(7) };
                assert_eq!(patience.ask(now_ms + 50, answer).await, Ok(7));
            }
        }
    }
}
