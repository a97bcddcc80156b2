//! A limit of attempts a second: whether one may begin, and when what is over the limit comes back.
//!
//! Two things are kept apart. The bucket alone says whether an attempt may begin, so that the limit holds whatever else goes
//! wrong; it is the generic cell rate algorithm (ITU-T I.371), whose whole state is one time. The line says when to come back:
//! each delivery that is turned away gets the next slot, as far apart as the limit allows, like numbers at a counter. Whoever
//! comes first-hand while there is a line goes to its end: otherwise the newest would take what the oldest wait for.

use std::time::Duration;

use hooklane_types::ThrottleRate;

use crate::ladder;
use crate::pacing::Reservation;

/// What may begin at once after a rest: the worth of this many milliseconds, at least one. The ladder brings back together what
/// is due within its smallest step.
const BURST_MS: f64 = STEP_MS;
/// The ladder's smallest step.
const STEP_MS: f64 = ladder::LEVELS_MS[0] as f64;

/// A delivery waits in memory when its turn comes within this time, in milliseconds; it holds one of the process's places.
const WAIT_MAX_MS: f64 = 200.0;
/// ... one that comes back for its slot: the ladder brings it some tenths of a second late, and the one in front of it later
/// still.
const WAIT_BACK_MAX_MS: f64 = 400.0;

/// Slots are given out this far ahead, in milliseconds. Longer would bring back less often what waits, but so much later profits
/// from a limit that was raised.
const SLOTS_AHEAD_MS: f64 = 200_000.0;
/// For whom there is no slot comes back for one after half of this time at least, while there still is a line.
const AWAY_MIN_MS: f64 = SLOTS_AHEAD_MS / 2.0;
/// ... and after this part of the time that all who wait will take. So each comes back a few times, however long the backlog.
const AWAY_PART: f64 = 0.25;
/// ... but after this at most, in milliseconds: an hour.
const AWAY_MAX_MS: f64 = 3_600_000.0;
/// Share of such a delay by which it may be late: fewer hops.
const AWAY_TOLERANCE: f64 = 0.05;

/// Golden ratio: multiples of it, modulo 1, spread evenly however many there are.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// Longest time until a delivery that is turned away comes back, beside what it must wait for anyway.
pub const DELAY_MAX: Duration = Duration::from_millis(AWAY_MAX_MS as u64);

/// How fast one dispatcher may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    interval_ms: f64,
    burst: f64,
}

impl Pace {
    /// Its share of a limit that `dispatchers` keep together.
    pub fn share(rate: ThrottleRate, dispatchers: u32) -> Pace {
        let interval_ms = 1000.0 * f64::from(dispatchers.max(1)) / f64::from(rate.per_second());
        Pace {
            interval_ms,
            burst: (BURST_MS / interval_ms).floor().max(1.0),
        }
    }

    /// How many may begin at once after a rest.
    pub fn burst(self) -> u32 {
        self.burst as u32
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// First-hand.
    New,
    /// It was here before, and waited on the ladder: for its slot, or for a retry.
    Back,
}

/// When a delivery that is turned away comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    delay_ms: f64,
    tolerance_ms: f64,
}

impl Turn {
    /// The later of two: for a delivery under two limits.
    pub fn later(self, other: Turn) -> Turn {
        if self.delay_ms >= other.delay_ms {
            self
        } else {
            other
        }
    }

    /// The way there.
    pub fn reservation(self) -> Reservation {
        let delay_ms = self.delay_ms.ceil() as u64;
        Reservation {
            delay: Duration::from_millis(delay_ms),
            hop: ladder::fine_hop(delay_ms, self.tolerance_ms as u64),
        }
    }
}

/// One limit, in one dispatcher. Of fixed size.
///
/// All times are milliseconds of one monotonic clock, whose zero is when the process began: what one before it let through
/// counts as begun until then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Throttle {
    /// When the bucket is full again; none before the first attempt.
    full_ms: Option<f64>,
    /// Slots given out that have not passed by `at_ms`.
    ahead: f64,
    at_ms: f64,
    /// About how many were sent away without a slot and are not back, at `away_at_ms`.
    away: f64,
    away_at_ms: f64,
    /// How many there were in all: spreads the next.
    sent_away: u32,
}

impl Throttle {
    /// How long until an attempt may begin, in whole milliseconds; nothing, if one may now.
    pub fn wait(&self, now_ms: u64, pace: Pace) -> Duration {
        Duration::from_millis(self.wait_ms(now_ms as f64, pace).ceil() as u64)
    }

    fn wait_ms(&self, now_ms: f64, pace: Pace) -> f64 {
        let full_ms = self.full_ms.unwrap_or(pace.burst * pace.interval_ms);
        (full_ms - (pace.burst - 1.0) * pace.interval_ms - now_ms).max(0.0)
    }

    /// An attempt begins. Says whether it may: not while there is a [`Throttle::wait`].
    pub fn take(&mut self, now_ms: u64, pace: Pace) -> bool {
        if self.wait_ms(now_ms as f64, pace) > 0.0 {
            return false;
        }
        // The clock was cut to milliseconds: it may be nearly one later.
        let now_ms = now_ms as f64 + 1.0;
        let full_ms = self.full_ms.unwrap_or_default().max(now_ms);
        self.full_ms = Some(full_ms + pace.interval_ms);
        true
    }

    /// Whether a delivery stays for its turn, behind `waiting` others in memory; otherwise it parks.
    pub fn lets_in(&self, now_ms: u64, pace: Pace, waiting: u32, visitor: Visitor) -> bool {
        let now_ms = now_ms as f64;
        let turn_ms = self.begin_ms(now_ms, pace, waiting) - now_ms;
        match visitor {
            Visitor::New => {
                turn_ms <= WAIT_MAX_MS && self.ahead_at(self.begin_ms(now_ms, pace, waiting), pace) == 0.0
            }
            Visitor::Back => turn_ms <= WAIT_BACK_MAX_MS,
        }
    }

    /// Reserves the next slot behind those that wait in memory, not before `free_from_ms`.
    pub fn reserve(&mut self, now_ms: u64, pace: Pace, waiting: u32, free_from_ms: u64) -> Turn {
        let now_ms = now_ms as f64;
        let begin_ms = self.begin_ms(now_ms, pace, waiting).max(free_from_ms as f64);
        self.ahead = self.ahead_at(begin_ms, pace);
        self.at_ms = begin_ms;
        let delay_ms = (begin_ms - now_ms + self.ahead * pace.interval_ms).max(STEP_MS);
        if delay_ms <= SLOTS_AHEAD_MS {
            self.ahead += 1.0;
            return Turn {
                delay_ms,
                tolerance_ms: STEP_MS,
            };
        }
        let delay_ms = begin_ms - now_ms + self.send_away_ms(now_ms, pace);
        Turn {
            delay_ms,
            tolerance_ms: delay_ms * AWAY_TOLERANCE,
        }
    }

    /// When whoever comes now has its turn if there is no line.
    fn begin_ms(&self, now_ms: f64, pace: Pace, waiting: u32) -> f64 {
        now_ms + self.wait_ms(now_ms, pace) + f64::from(waiting) * pace.interval_ms
    }

    fn ahead_at(&self, begin_ms: f64, pace: Pace) -> f64 {
        let passed = (begin_ms - self.at_ms).max(0.0) / pace.interval_ms;
        (self.ahead - passed).max(0.0)
    }

    /// How long one stays away for which there is no slot: the longer, the more do.
    fn send_away_ms(&mut self, now_ms: f64, pace: Pace) -> f64 {
        let longest_ms = |away: f64| {
            let all_ms = (away + self.ahead) * pace.interval_ms;
            (all_ms * AWAY_PART).clamp(SLOTS_AHEAD_MS, AWAY_MAX_MS)
        };
        let mean_ms = (AWAY_MIN_MS + longest_ms(self.away)) / 2.0;
        let passed_ms = (now_ms - self.away_at_ms).max(0.0);
        let away = self.away * (-passed_ms / mean_ms).exp() + 1.0;
        let longest_ms = longest_ms(away);
        self.away = away;
        self.away_at_ms = now_ms;
        self.sent_away = self.sent_away.wrapping_add(1);
        let spread = (f64::from(self.sent_away) * GOLDEN).fract();
        AWAY_MIN_MS + spread * (longest_ms - AWAY_MIN_MS)
    }
}

#[cfg(test)]
mod tests;
