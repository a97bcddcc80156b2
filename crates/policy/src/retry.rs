//! What becomes of a delivery after an attempt, and what the answer means for its endpoint.

use std::time::Duration;

use hooklane_types::{AttemptOutcome, DeadReason, RetryPolicy, UnixMillis};

/// The largest share of a `Retry-After` that is added at random, so that what an endpoint sent away in one moment does
/// not come back in one moment. Small: the endpoint named a time, and near it is when it expects us.
pub const RETRY_AFTER_SPREAD: f64 = 0.02;

const GONE: u16 = 410;
const TOO_MANY_REQUESTS: u16 = 429;
const SERVICE_UNAVAILABLE: u16 = 503;

/// What becomes of the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The endpoint has it.
    Delivered,
    /// It is tried again.
    RetryAt {
        /// When; not before.
        at: UnixMillis,
        /// Its deadline from now on: later than before by what a `Retry-After` asked for beyond the schedule.
        deadline: UnixMillis,
    },
    /// It is not tried again.
    Dead(DeadReason),
}

/// What the answer means for the endpoint's other deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The endpoint is gone: it gets nothing more.
    Gone,
    /// The endpoint asked for a pause: it gets nothing until then.
    PauseUntil(UnixMillis),
}

/// What an outcome leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the delivery.
    pub decision: Decision,
    /// For the endpoint.
    pub effect: Effect,
}

/// Decides after an attempt. `attempts_made` counts this one; `jitter` is a random number from 0 to 1, used upwards only.
///
/// The status decides: 2xx is delivered, 410 means gone, everything else (3xx, 4xx, 5xx, no status at all) is tried again
/// by the schedule, as the peers do: an endpoint that answers 404 today may have been deployed wrongly for an hour. A
/// `Retry-After` is a minimum and costs an attempt like any other answer.
pub fn decide(
    attempts_made: u32,
    outcome: &AttemptOutcome,
    policy: &RetryPolicy,
    now: UnixMillis,
    deadline: UnixMillis,
    jitter: f64,
) -> Verdict {
    let (code, asked) = match *outcome {
        AttemptOutcome::Status { code, retry_after_ms } => (Some(code), retry_after_ms.unwrap_or(0)),
        AttemptOutcome::Failed(_) => (None, 0),
    };
    let asked = Duration::from_millis(asked);
    match code {
        Some(200..=299) => Verdict {
            decision: Decision::Delivered,
            effect: Effect::None,
        },
        Some(GONE) => Verdict {
            decision: Decision::Dead(DeadReason::Gone),
            effect: Effect::Gone,
        },
        Some(TOO_MANY_REQUESTS | SERVICE_UNAVAILABLE) if !asked.is_zero() => Verdict {
            decision: retry(attempts_made, asked, policy, now, deadline, jitter),
            effect: Effect::PauseUntil(now.plus(asked)),
        },
        _ => Verdict {
            decision: retry(attempts_made, asked, policy, now, deadline, jitter),
            effect: Effect::None,
        },
    }
}

fn retry(
    attempts_made: u32,
    asked: Duration,
    policy: &RetryPolicy,
    now: UnixMillis,
    deadline: UnixMillis,
    jitter: f64,
) -> Decision {
    let Some(delay) = policy.delay_after(attempts_made.max(1)) else {
        return Decision::Dead(DeadReason::Exhausted);
    };
    let scheduled = stretch(delay, policy.jitter(), jitter);
    let delay = scheduled.max(stretch(asked, RETRY_AFTER_SPREAD, jitter));
    // The schedule is within the deadline already; only what goes beyond it has to be granted.
    let deadline = deadline.plus(delay - scheduled);
    let at = now.plus(delay);
    if at > deadline {
        Decision::Dead(DeadReason::Expired)
    } else {
        Decision::RetryAt { at, deadline }
    }
}

/// `delay`, longer by the part `jitter` of `share`. In whole milliseconds, for any `delay`; never shorter.
fn stretch(delay: Duration, share: f64, jitter: f64) -> Duration {
    // A number that is none (NaN) adds nothing.
    let jitter = if jitter > 0.0 { jitter.min(1.0) } else { 0.0 };
    let added_ms = (delay.as_millis() as f64 * share * jitter).round();
    // `as` stops at the largest value instead of wrapping.
    delay.saturating_add(Duration::from_millis(added_ms as u64))
}

#[cfg(test)]
mod tests {
    use hooklane_types::FailureKind;
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
    const FAR: UnixMillis = UnixMillis(NOW.0 + 7 * 86_400_000);

    fn status(code: u16, retry_after_s: Option<u64>) -> AttemptOutcome {
        AttemptOutcome::Status {
            code,
            retry_after_ms: retry_after_s.map(|s| s * 1000),
        }
    }

    fn after(made: u32, outcome: AttemptOutcome) -> Verdict {
        decide(made, &outcome, &RetryPolicy::standard(), NOW, FAR, 0.0)
    }

    /// The wait that a verdict asks for, in milliseconds.
    fn wait_ms(verdict: Verdict) -> i64 {
        match verdict.decision {
            Decision::RetryAt { at, .. } => at.0 - NOW.0,
            other => panic!("no retry: {other:?}"),
        }
    }

    #[test]
    fn every_2xx_is_delivered() {
        for code in [200, 201, 202, 204, 299] {
            assert_eq!(after(1, status(code, None)).decision, Decision::Delivered);
        }
        // Also on the last attempt, after the deadline, and with a Retry-After.
        let late = decide(
            99,
            &status(200, Some(5)),
            &RetryPolicy::standard(),
            NOW,
            UnixMillis(0),
            1.0,
        );
        assert_eq!(
            late,
            Verdict {
                decision: Decision::Delivered,
                effect: Effect::None
            }
        );
    }

    #[test]
    fn a_410_is_dead_at_once_and_ends_the_endpoint() {
        let verdict = after(1, status(410, Some(5)));
        assert_eq!(
            verdict,
            Verdict {
                decision: Decision::Dead(DeadReason::Gone),
                effect: Effect::Gone
            }
        );
    }

    #[test]
    fn everything_else_retries_by_the_schedule() {
        let odd = [
            0, 100, 199, 300, 301, 308, 400, 401, 404, 422, 429, 500, 503, 599, 600, 999,
        ];
        let failures = [
            FailureKind::Timeout,
            FailureKind::Dns,
            FailureKind::Blocked,
            FailureKind::Configuration,
        ];
        let all = odd
            .map(|code| status(code, None))
            .into_iter()
            .chain(failures.map(AttemptOutcome::Failed));
        for outcome in all {
            assert_eq!(wait_ms(after(1, outcome)), 5_000, "{outcome:?}");
            assert_eq!(wait_ms(after(2, outcome)), 300_000, "{outcome:?}");
            assert_eq!(after(1, outcome).effect, Effect::None, "{outcome:?}");
        }
    }

    #[test]
    fn dead_letters_after_the_last_attempt() {
        assert_eq!(wait_ms(after(9, status(500, None))), 86_400_000);
        assert_eq!(
            after(10, status(500, None)).decision,
            Decision::Dead(DeadReason::Exhausted)
        );
        // A schedule that was cut while the delivery waited.
        assert_eq!(
            after(40, status(500, None)).decision,
            Decision::Dead(DeadReason::Exhausted)
        );
    }

    #[test]
    fn a_retry_after_is_a_minimum_and_not_an_order_to_come_earlier() {
        assert_eq!(wait_ms(after(1, status(500, Some(20)))), 20_000);
        assert_eq!(wait_ms(after(2, status(500, Some(20)))), 300_000);
    }

    #[test]
    fn a_retry_after_costs_an_attempt() {
        assert_eq!(
            after(10, status(429, Some(20))).decision,
            Decision::Dead(DeadReason::Exhausted)
        );
    }

    #[test]
    fn only_429_and_503_with_a_retry_after_pause_the_endpoint() {
        let until = Effect::PauseUntil(NOW.plus(Duration::from_secs(20)));
        assert_eq!(after(1, status(429, Some(20))).effect, until);
        assert_eq!(after(1, status(503, Some(20))).effect, until);
        assert_eq!(
            after(10, status(503, Some(20))).effect,
            until,
            "the last attempt was told so too"
        );
        for other in [
            status(429, None),
            status(429, Some(0)),
            status(500, Some(20)),
            status(302, Some(20)),
        ] {
            assert_eq!(after(1, other).effect, Effect::None);
        }
    }

    #[test]
    fn expires_when_the_next_attempt_would_be_past_the_deadline() {
        let policy = RetryPolicy::standard();
        let in_5_s = NOW.plus(Duration::from_secs(5));
        let at_deadline = decide(1, &status(500, None), &policy, NOW, in_5_s, 0.0);
        assert_eq!(
            at_deadline.decision,
            Decision::RetryAt {
                at: in_5_s,
                deadline: in_5_s
            }
        );
        let past = decide(1, &status(500, None), &policy, NOW, UnixMillis(in_5_s.0 - 1), 0.0);
        assert_eq!(past.decision, Decision::Dead(DeadReason::Expired));
    }

    #[test]
    fn a_retry_after_beyond_the_schedule_extends_the_deadline_by_the_difference() {
        let deadline = NOW.plus(Duration::from_secs(10));
        let verdict = decide(
            1,
            &status(429, Some(3600)),
            &RetryPolicy::standard(),
            NOW,
            deadline,
            0.0,
        );
        assert_eq!(
            verdict.decision,
            Decision::RetryAt {
                at: NOW.plus(Duration::from_secs(3600)),
                deadline: deadline.plus(Duration::from_secs(3595)),
            }
        );
    }

    proptest! {
        #[test]
        fn a_retry_is_never_early_and_jitter_adds_no_more_than_its_share(
            made in 1u32..9,
            asked_ms in proptest::option::of(0u64..100_000_000),
            share in 0.0..1.0f64,
            jitter in 0.0..=1.0f64,
        ) {
            let delays = [5u64, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000].map(Duration::from_secs);
            let policy = RetryPolicy::list(delays.to_vec(), share).unwrap();
            let outcome = AttemptOutcome::Status { code: 500, retry_after_ms: asked_ms };
            let wait = wait_ms(decide(made, &outcome, &policy, NOW, FAR, jitter)) as f64;
            let scheduled = delays[made as usize - 1].as_millis() as f64;
            let asked = asked_ms.unwrap_or(0) as f64;
            prop_assert!(wait >= scheduled.max(asked));
            let most = (scheduled * (1.0 + share)).max(asked * (1.0 + RETRY_AFTER_SPREAD));
            prop_assert!(wait <= most + 1.0, "{} > {}", wait, most);
        }

        #[test]
        fn no_input_panics_and_a_retry_lies_within_its_deadline(
            made: u32, code: u16, asked: Option<u64>, now: i64, deadline: i64, jitter: f64,
        ) {
            let outcome = AttemptOutcome::Status { code, retry_after_ms: asked };
            let policy = RetryPolicy::standard();
            let verdict = decide(made, &outcome, &policy, UnixMillis(now), UnixMillis(deadline), jitter);
            if let Decision::RetryAt { at, deadline: extended } = verdict.decision {
                prop_assert!(at <= extended);
                prop_assert!(extended.0 >= deadline);
                prop_assert!(at.0 >= now);
            }
        }
    }
}
