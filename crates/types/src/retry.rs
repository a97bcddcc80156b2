//! A retry policy that cannot exist invalid. What it decides is in the `policy` crate.

use std::borrow::Cow;
use std::time::Duration;

/// Most retries of one delivery: bounds the history in the envelope and the life of a delivery.
pub const RETRIES_MAX: usize = 50;
/// Longest delay between two attempts (a week, the widest of the peers).
pub const DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

const STANDARD: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(300),
    Duration::from_secs(1_800),
    Duration::from_secs(7_200),
    Duration::from_secs(18_000),
    Duration::from_secs(36_000),
    Duration::from_secs(50_400),
    Duration::from_secs(72_000),
    Duration::from_secs(86_400),
];
const STANDARD_JITTER: f64 = 0.1;

/// Why a retry policy is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RetryPolicyError {
    /// `attempts = 0`.
    #[error("attempts must be at least 1")]
    NoAttempt,
    /// More than [`RETRIES_MAX`].
    #[error("{retries} retries are more than {RETRIES_MAX}")]
    TooMany {
        /// How many were asked for.
        retries: usize,
    },
    /// A delay over [`DELAY_MAX`].
    #[error("a delay of {seconds} s is longer than {} s", DELAY_MAX.as_secs())]
    TooLong {
        /// The delay.
        seconds: u64,
    },
    /// Not a number from 1 to 100.
    #[error("factor must be a number from 1 to 100")]
    Factor,
    /// Not a number from 0 to 1.
    #[error("jitter must be a number from 0 to 1")]
    Jitter,
}

/// When a delivery is tried again: the delay before each retry, and how much of it may be added at random.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Most endpoints have the standard one: they share it.
    delays: Cow<'static, [Duration]>,
    jitter: f64,
}

impl RetryPolicy {
    /// The schedule of the Standard Webhooks specification: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
    pub fn standard() -> RetryPolicy {
        RetryPolicy {
            delays: Cow::Borrowed(&STANDARD),
            jitter: STANDARD_JITTER,
        }
    }

    /// A list of delays, one before each retry; empty for a single attempt. `jitter` is the largest share added.
    ///
    /// # Errors
    /// See [`RetryPolicyError`].
    pub fn list(delays: Vec<Duration>, jitter: f64) -> Result<RetryPolicy, RetryPolicyError> {
        if delays.len() > RETRIES_MAX {
            return Err(RetryPolicyError::TooMany {
                retries: delays.len(),
            });
        }
        if let Some(delay) = delays.iter().find(|delay| **delay > DELAY_MAX) {
            return Err(RetryPolicyError::TooLong {
                seconds: delay.as_secs(),
            });
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(RetryPolicyError::Jitter);
        }
        Ok(RetryPolicy {
            delays: delays.into(),
            jitter,
        })
    }

    /// `attempts` in all; the first retry after `first`, each later one after `factor` times the one before, at most `max`.
    ///
    /// # Errors
    /// See [`RetryPolicyError`].
    pub fn exponential(
        attempts: u32,
        first: Duration,
        factor: f64,
        max: Duration,
        jitter: f64,
    ) -> Result<RetryPolicy, RetryPolicyError> {
        let retries = (attempts as usize)
            .checked_sub(1)
            .ok_or(RetryPolicyError::NoAttempt)?;
        if retries > RETRIES_MAX {
            return Err(RetryPolicyError::TooMany { retries });
        }
        if !(1.0..=100.0).contains(&factor) {
            return Err(RetryPolicyError::Factor);
        }
        if max > DELAY_MAX || first > DELAY_MAX {
            return Err(RetryPolicyError::TooLong {
                seconds: max.max(first).as_secs(),
            });
        }
        let delays = (0..retries)
            .map(|n| {
                let seconds = first.as_secs_f64() * factor.powi(n as i32);
                Duration::from_secs_f64(seconds.min(max.as_secs_f64()))
            })
            .collect();
        RetryPolicy::list(delays, jitter)
    }

    /// How many attempts a delivery gets in all.
    pub fn attempts(&self) -> u32 {
        self.delays.len() as u32 + 1
    }

    /// The delay before the next attempt when `made` attempts were made, without jitter; none after the last.
    pub fn delay_after(&self, made: u32) -> Option<Duration> {
        self.delays.get((made as usize).checked_sub(1)?).copied()
    }

    /// The largest share of a delay that jitter adds, from 0 to 1.
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// The sum of all delays, each with its largest jitter.
    pub fn longest(&self) -> Duration {
        self.delays
            .iter()
            .map(|delay| delay.mul_f64(1.0 + self.jitter))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_example_waits_one_two_and_four_seconds() {
        let four =
            RetryPolicy::exponential(4, Duration::from_secs(1), 2.0, Duration::from_secs(60), 0.0).unwrap();
        let delays: Vec<_> = (1..=4)
            .map(|made| four.delay_after(made).map(|d| d.as_secs()))
            .collect();
        assert_eq!(delays, [Some(1), Some(2), Some(4), None]);
        assert_eq!(four.longest(), Duration::from_secs(7));
    }

    #[test]
    fn the_default_is_the_schedule_of_standard_webhooks() {
        let policy = RetryPolicy::standard();
        assert_eq!(policy.attempts(), 10);
        assert_eq!(policy.delay_after(1), Some(Duration::from_secs(5)));
        assert_eq!(policy.delay_after(9), Some(Duration::from_secs(86_400)));
        assert_eq!(policy.delay_after(10), None);
    }

    #[test]
    fn exponential_stays_under_its_maximum() {
        let policy =
            RetryPolicy::exponential(9, Duration::from_secs(1), 10.0, Duration::from_secs(60), 0.2).unwrap();
        assert_eq!(policy.delay_after(8), Some(Duration::from_secs(60)));
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let second = Duration::from_secs(1);
        assert_eq!(
            RetryPolicy::exponential(0, second, 2.0, second, 0.0),
            Err(RetryPolicyError::NoAttempt)
        );
        assert_eq!(
            RetryPolicy::exponential(2, second, f64::NAN, second, 0.0),
            Err(RetryPolicyError::Factor)
        );
        assert_eq!(RetryPolicy::list(vec![], f64::NAN), Err(RetryPolicyError::Jitter));
        assert!(matches!(
            RetryPolicy::list(vec![second; 51], 0.0),
            Err(RetryPolicyError::TooMany { .. })
        ));
        assert!(matches!(
            RetryPolicy::list(vec![DELAY_MAX + second], 0.0),
            Err(RetryPolicyError::TooLong { .. })
        ));
    }
}
