//! Where a delivery waits that cannot be attempted now: no attempt is spent, and it keeps its id and its count.
//!
//! This is the place that lanes will take over: what is parked here for a sick, limited or paused endpoint will go to a
//! queue of its own instead of the delay ladder.

use std::time::Duration;

use hooklane_policy::ladder::{self, Hop};

use crate::endpoints::{EndpointState, Moment, Standing};

/// First wait of a delivery for a disabled endpoint; it doubles from park to park.
const DISABLED_WAIT_MIN: Duration = Duration::from_secs(30);
/// ... up to this: what waits is served within it after the endpoint was enabled.
const DISABLED_WAIT_MAX: Duration = Duration::from_secs(300);
/// Doublings from the first to the longest wait.
const DISABLED_DOUBLINGS_MAX: u32 = 4;
/// First wait of what the registry does not know yet; it doubles from park to park.
const UNKNOWN_WAIT_MIN: Duration = Duration::from_secs(5);
/// ... up to this: what waits is served within it after the store is back, and costs the broker little until then.
const UNKNOWN_WAIT_MAX: Duration = Duration::from_secs(60);
/// Doublings from the first to the longest wait.
const UNKNOWN_DOUBLINGS_MAX: u32 = 4;
/// Share of a wait that is added at random, so that what was parked in one moment does not come back in one.
const SPREAD: f64 = 0.25;

/// Why no attempt can be made now. A closed set: it is a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParkReason {
    /// An attempt hangs.
    Sick,
    /// All its attempts are in flight.
    Limit,
    /// It, or its application, gets no more attempts a second.
    Throttled,
    /// It asked for a pause.
    Paused,
    /// It is disabled.
    Disabled,
    /// It is not known yet: the registry may be older than it.
    Unknown,
}

impl ParkReason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            ParkReason::Sick => "sick",
            ParkReason::Limit => "limit",
            ParkReason::Throttled => "throttled",
            ParkReason::Paused => "paused",
            ParkReason::Disabled => "disabled",
            ParkReason::Unknown => "unknown",
        }
    }
}

/// The way to the endpoint's next free slot. `standing` is why there is none now; `Well` means over the limit.
pub(crate) fn reserve(state: &EndpointState, standing: Standing, now: Moment) -> (ParkReason, Hop) {
    let (reason, free_from_ms) = match standing {
        Standing::Well | Standing::Throttled | Standing::Gone => (ParkReason::Limit, now.monotonic_ms),
        Standing::Sick { until_ms } => (ParkReason::Sick, until_ms),
        Standing::Paused { until } => (
            ParkReason::Paused,
            now.monotonic_ms + until.since(now.wall).as_millis() as u64,
        ),
    };
    (reason, state.reserve(now.monotonic_ms, free_from_ms).hop)
}

/// The wait of a delivery whose endpoint is disabled, which has parked `parks` times before.
pub(crate) fn disabled(parks: u32, jitter: f64) -> Option<Hop> {
    let wait = DISABLED_WAIT_MIN * 2u32.pow(parks.min(DISABLED_DOUBLINGS_MAX));
    ladder::first_hop(wait.min(DISABLED_WAIT_MAX).mul_f64(1.0 + SPREAD * jitter))
}

/// The wait of a delivery whose endpoint is not known yet, which has parked `parks` times before.
pub(crate) fn unknown(parks: u32, jitter: f64) -> Option<Hop> {
    let wait = UNKNOWN_WAIT_MIN * 2u32.pow(parks.min(UNKNOWN_DOUBLINGS_MAX));
    ladder::first_hop(wait.min(UNKNOWN_WAIT_MAX).mul_f64(1.0 + SPREAD * jitter))
}

/// The level of the ladder for an event whose application is not known yet, and which has waited for so long. It has no endpoint to count
/// for, so it waits about as long again.
pub(crate) fn unknown_event(waited: Duration) -> usize {
    let wait_ms = waited.clamp(UNKNOWN_WAIT_MIN, UNKNOWN_WAIT_MAX).as_millis();
    let shorter = ladder::LEVELS_MS.partition_point(|level_ms| u128::from(*level_ms) <= wait_ms);
    shorter.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disabled_endpoint_is_asked_for_ever_more_rarely_but_at_least_every_few_minutes() {
        // Goal: 30 s at first, never over 5 min plus spread, however often it parked.
        let wait_ms = |parks, jitter| {
            let hop = disabled(parks, jitter).unwrap();
            ladder::LEVELS_MS[hop.level] + hop.remaining_ms
        };
        assert_eq!(wait_ms(0, 0.0), 30_000);
        assert!(wait_ms(1, 0.0) >= 60_000);
        for parks in [4, 5, 1_000, u32::MAX] {
            assert!((300_000..400_000).contains(&wait_ms(parks, 1.0)), "{parks}");
        }
    }

    #[test]
    fn what_is_not_known_yet_is_asked_for_ever_more_rarely_but_at_least_every_minute() {
        // Goal: 5 s at first, never over a minute plus spread, however often it parked and however long an event has waited.
        let wait_ms = |parks, jitter| {
            let hop = unknown(parks, jitter).unwrap();
            ladder::LEVELS_MS[hop.level] + hop.remaining_ms
        };
        assert_eq!(wait_ms(0, 0.0), 5_000);
        assert!(wait_ms(1, 0.0) >= 10_000);
        for parks in [4, 5, 1_000, u32::MAX] {
            assert!((60_000..80_000).contains(&wait_ms(parks, 1.0)), "{parks}");
        }
        for (waited_s, level_ms) in [
            (0, 5_000),
            (5, 5_000),
            (11, 8_000),
            (59, 45_000),
            (60, 60_000),
            (u64::MAX, 60_000),
        ] {
            let level = unknown_event(Duration::from_secs(waited_s));
            assert_eq!(ladder::LEVELS_MS[level], level_ms, "{waited_s} s");
        }
    }
}
