//! The delay ladder: the fixed steps from which every delay is made.
//!
//! A delay is a few hops over the ladder's levels, one after the other. Between them only what is left of it is carried
//! (`remaining_ms`): clocks of two machines are never compared. A delay is never cut short, and its hops add up to at
//! most 300 ms or 2 % more than it, whichever is larger; where three hops don't come as close as that (one
//! delay in fifteen), 600 ms or 3 %. The promise to users is 1 s or 5 %: the rest is for queueing.
//!
//! How this holds although a later hop knows nothing of the whole delay: rounding up happens once. The hop that rounds
//! rounds to a sum of levels and carries a sum of levels; a hop that finds such a rest takes it exactly.

use std::time::Duration;

/// The levels, in milliseconds, rising. Steps grow by at most two thirds between 1 s and 12 h, so that what is left after a
/// hop is small and few hops suffice. A level never changes: a new one gets a new name (queues are named after it).
pub const LEVELS_MS: [u64; 30] = [
    100, 200, 500, 1_000, 2_000, 3_000, 5_000, 8_000, 12_000, 20_000, 30_000, 45_000, 60_000, 90_000,
    120_000, 180_000, 300_000, 480_000, 720_000, 1_200_000, 1_800_000, 2_700_000, 3_600_000, 5_400_000,
    7_200_000, 10_800_000, 18_000_000, 28_800_000, 43_200_000, 86_400_000,
];

const TOP: usize = LEVELS_MS.len() - 1;

/// Most hops of a delay up to the top level (24 h); a longer one has one more per day. Three suffice nearly everywhere.
pub const HOPS_MAX: usize = 4;
/// Hops that are tried together: a sum of so many levels is looked for.
const HOPS_SOUGHT: usize = HOPS_MAX - 1;

/// By how much the hops of a delay may add up to more than it.
#[derive(Clone, Copy)]
struct Tolerance {
    /// For every delay, in milliseconds.
    least_ms: u64,
    /// For a long one, if that is more: so many percent of it.
    percent: u64,
}

impl Tolerance {
    fn of(self, delay_ms: u64) -> u64 {
        self.least_ms.max(delay_ms / 100 * self.percent)
    }
}

/// What is aimed at.
const NEAR: Tolerance = Tolerance {
    least_ms: 300,
    percent: 2,
};
/// For the gaps between the sums of three levels, above 18.5 s for one.
const WIDE: Tolerance = Tolerance {
    least_ms: 600,
    percent: 3,
};

/// One step of a delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Where to wait: an index into [`LEVELS_MS`].
    pub level: usize,
    /// What is left of the delay after this hop, in milliseconds; 0 when it is the last.
    pub remaining_ms: u64,
}

/// The first hop of a delay. None when there is no delay: due now.
pub fn first_hop(delay: Duration) -> Option<Hop> {
    // Rounded up: a fraction of a millisecond is not cut off.
    let delay_ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    (delay_ms > 0).then(|| rounded(delay_ms))
}

/// The first hop of a delay that should be met within `tolerance_ms`, for one hop more if need be; where even that doesn't
/// suffice, as closely as any other delay. For what is timed to a slot: see `pacing`.
pub(crate) fn fine_hop(delay_ms: u64, tolerance_ms: u64) -> Hop {
    fewest(delay_ms, tolerance_ms, HOPS_MAX).unwrap_or_else(|| rounded(delay_ms))
}

/// The next hop of a delay of which `remaining_ms` are left. None when nothing is left: due now.
pub fn next_hop(remaining_ms: u64) -> Option<Hop> {
    if remaining_ms == 0 {
        return None;
    }
    Some(fewest(remaining_ms, 0, HOPS_SOUGHT).unwrap_or_else(|| rounded(remaining_ms)))
}

/// The fewest hops that come close enough from above. Where there are none (above 23 h, and above 24 h in many places), the
/// longest level that is not too long, with the rest unrounded: that is rounded by the next hop.
fn rounded(delay_ms: u64) -> Hop {
    [NEAR, WIDE]
        .into_iter()
        .find_map(|tolerance| fewest(delay_ms, tolerance.of(delay_ms), HOPS_SOUGHT))
        .unwrap_or_else(|| {
            let level = LEVELS_MS
                .partition_point(|level_ms| *level_ms <= delay_ms)
                .saturating_sub(1);
            Hop {
                level,
                remaining_ms: delay_ms.saturating_sub(LEVELS_MS[level]),
            }
        })
}

/// The fewest hops, at most `hops_max`, whose sum is longer than the delay by no more than the tolerance.
fn fewest(delay_ms: u64, tolerance_ms: u64, hops_max: usize) -> Option<Hop> {
    (1..=hops_max)
        .find_map(|hops| closest(delay_ms, hops).filter(|sum| sum.over_ms <= tolerance_ms))
        .map(|sum| sum.hop(delay_ms))
}

/// A sum of levels at or above a delay.
#[derive(Clone, Copy)]
struct Sum {
    /// The largest of its levels.
    level: usize,
    /// By how much the sum is longer than the delay.
    over_ms: u64,
}

impl Sum {
    fn hop(self, delay_ms: u64) -> Hop {
        Hop {
            level: self.level,
            remaining_ms: delay_ms + self.over_ms - LEVELS_MS[self.level],
        }
    }
}

/// The sum of exactly `hops` levels that is nearest to `delay_ms` from above.
fn closest(delay_ms: u64, hops: usize) -> Option<Sum> {
    closest_under(delay_ms, hops, TOP)
}

/// ... of levels up to `highest`. Without this order each sum would be tried in every order of its levels.
fn closest_under(delay_ms: u64, hops: usize, highest: usize) -> Option<Sum> {
    if hops == 1 {
        let level = LEVELS_MS[..=highest].partition_point(|level_ms| *level_ms < delay_ms);
        return (level <= highest).then(|| Sum {
            level,
            over_ms: LEVELS_MS[level] - delay_ms,
        });
    }
    (0..=highest)
        .rev()
        .filter(|level| LEVELS_MS[*level] < delay_ms)
        .filter_map(|level| {
            let rest = closest_under(delay_ms - LEVELS_MS[level], hops - 1, level)?;
            Some(Sum {
                level,
                over_ms: rest.over_ms,
            })
        })
        .min_by_key(|sum| sum.over_ms)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: u64 = 86_400_000;

    /// Walks a delay to its end: the sum of its levels, and how many there were.
    fn walk(delay: Duration) -> (u64, u64) {
        let (mut sum_ms, mut hops) = (0, 0);
        let mut hop = first_hop(delay);
        while let Some(Hop { level, remaining_ms }) = hop {
            sum_ms += LEVELS_MS[level];
            hops += 1;
            assert!(hops < 100, "{delay:?} never ends");
            hop = next_hop(remaining_ms);
        }
        (sum_ms, hops)
    }

    fn check(delay: Duration) {
        let (sum_ms, hops) = walk(delay);
        let asked_ms = delay.as_nanos().div_ceil(1_000_000) as u64;
        assert!(sum_ms >= asked_ms, "{delay:?} is cut short to {sum_ms} ms");
        let over_ms = sum_ms - asked_ms;
        assert!(
            over_ms <= 600.max(asked_ms * 3 / 100),
            "{delay:?} takes {over_ms} ms more"
        );
        assert!(
            hops <= asked_ms / DAY_MS + HOPS_MAX as u64,
            "{delay:?} takes {hops} hops"
        );
    }

    #[test]
    fn levels_rise() {
        assert!(LEVELS_MS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn no_delay_is_due_now() {
        assert_eq!(first_hop(Duration::ZERO), None);
        assert_eq!(next_hop(0), None);
    }

    #[test]
    fn a_delay_that_is_a_level_takes_one_hop_exactly() {
        for (level, level_ms) in LEVELS_MS.into_iter().enumerate() {
            let hop = Some(Hop {
                level,
                remaining_ms: 0,
            });
            assert_eq!(first_hop(Duration::from_millis(level_ms)), hop);
            assert_eq!(next_hop(level_ms), hop);
        }
    }

    #[test]
    fn a_fraction_of_a_millisecond_is_not_cut_off() {
        assert_eq!(walk(Duration::from_nanos(1)).0, 100);
        assert!(walk(Duration::from_micros(200_001)).0 >= 201);
    }

    /// Goal: the bounds hold for every delay, also just above a sum of levels. By walking a dense set, and all such places.
    #[test]
    fn no_gap_between_the_sums_of_levels_is_too_wide() {
        (1..6_000).for_each(|n| check(Duration::from_millis(n)));
        (60..6_000).for_each(|n| check(Duration::from_millis(n * 100 + 1)));
        (1..10_000).for_each(|n| check(Duration::from_millis(n * 16_183)));
        let mut wide = 0;
        for n in 1..10_000 {
            let delay = Duration::from_millis(n * 8_641);
            let over_ms = walk(delay).0 - n * 8_641;
            wide += u32::from(over_ms > 300.max(n * 8_641 / 50));
        }
        assert!(wide < 1_000, "{wide} of 10,000 delays are met only widely");
        for a in LEVELS_MS {
            for b in LEVELS_MS {
                check(Duration::from_millis(a + b + 1));
                LEVELS_MS
                    .iter()
                    .step_by(3)
                    .for_each(|c| check(Duration::from_millis(a + b + c + 1)));
            }
        }
    }

    /// Goal: the hops that the default schedule costs, with its jitter, are few on average.
    #[test]
    fn the_standard_schedule_takes_few_hops_on_average() {
        let schedule_s = [5u64, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        let jittered = schedule_s
            .iter()
            .flat_map(|s| (0..100).map(move |n| s * (1_000 + n)));
        let hops: Vec<u64> = jittered.map(|ms| walk(Duration::from_millis(ms)).1).collect();
        let mean = hops.iter().sum::<u64>() as f64 / hops.len() as f64;
        assert!(mean < 2.5, "{mean} hops on average");
    }

    #[test]
    fn the_longest_delay_of_all_still_begins() {
        assert_eq!(first_hop(Duration::MAX).map(|hop| hop.level), Some(TOP));
        assert_eq!(next_hop(u64::MAX).map(|hop| hop.level), Some(TOP));
    }

    proptest! {
        #[test]
        fn any_delay_to_seven_days_is_never_early_and_not_late(ns in 0..7 * DAY_MS * 1_000_000) {
            check(Duration::from_nanos(ns));
        }

        #[test]
        fn short_delays_too(ns in 0..30_000_000_000u64) {
            check(Duration::from_nanos(ns));
        }
    }
}
