//! When what is over an endpoint's limit comes back: each delivery parks until a slot of its own.
//!
//! A fixed time would bring all that was turned away back at once, to be turned away again. So slots are given out like
//! numbers at a counter: they lie as far apart as the endpoint frees room, measured by how long its attempts take. The
//! queue that this forms is kept as a length, not as times: when the endpoint gets quicker, all who come later profit.

use std::time::Duration;

use crate::ladder::{self, Hop};

/// No slot lies further ahead than this; a delivery that would need a later one parks again.
pub const DELAY_MAX: Duration = Duration::from_secs(300);

/// Slots are given out this far ahead, in milliseconds. From here to [`DELAY_MAX`] are those spread for whom there was none.
const SLOTS_AHEAD_MS: f64 = 200_000.0;
const DELAY_MAX_MS: f64 = 300_000.0;

/// The ladder's smallest step: nothing comes back sooner, and nothing is timed more finely.
const STEP_MS: f64 = ladder::LEVELS_MS[0] as f64;

/// What an attempt is taken to last before one was measured, and the least afterwards, in milliseconds: an estimate of
/// next to nothing would give out all slots at once.
const ESTIMATE_MIN_MS: f64 = 10.0;
/// Weight of the newest attempt in the estimate. After an endpoint's recovery from 15 s to 50 ms, forty attempts bring
/// the estimate below 150 ms.
const ESTIMATE_WEIGHT: f64 = 0.125;

/// Share of an endpoint's room that is given out. The rest is for first attempts, and for attempts that last longer than
/// usual: each collision with these costs a delivery another round.
const FILL: f64 = 0.8;

/// Golden ratio: multiples of it, modulo 1, spread evenly however many there are.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// The room that one dispatcher has for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Attempts at once.
    pub concurrency: u32,
    /// Deliveries that may wait in memory for one of these to end. With 0, whatever doesn't find a free attempt at once
    /// parks, and a quick endpoint is used badly: the ladder can bring back no more than `concurrency` per 100 ms.
    pub waiting: u32,
}

/// A delivery's slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reservation {
    /// How long it parks.
    pub delay: Duration,
    /// The way there: what to publish it with.
    pub hop: Hop,
}

/// The slots of one endpoint, in one dispatcher. Of fixed size.
///
/// All times are milliseconds of one monotonic clock, from any zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Pacer {
    estimate_ms: f64,
    /// Slots given out that have not passed by `at_ms`.
    ahead: f64,
    at_ms: f64,
    /// How many found no slot: spreads the next.
    turned_away: u32,
}

impl Default for Pacer {
    fn default() -> Pacer {
        Pacer {
            estimate_ms: ESTIMATE_MIN_MS,
            ahead: 0.0,
            at_ms: 0.0,
            turned_away: 0,
        }
    }
}

impl Pacer {
    /// Nothing measured, nothing reserved.
    pub fn new() -> Pacer {
        Pacer::default()
    }

    /// Learns from an attempt how long the endpoint's attempts take, whatever came of it.
    pub fn observe(&mut self, attempt: Duration) {
        let measured_ms = attempt.as_secs_f64() * 1000.0;
        let moved_ms = self.estimate_ms + ESTIMATE_WEIGHT * (measured_ms - self.estimate_ms);
        self.estimate_ms = moved_ms.max(ESTIMATE_MIN_MS);
    }

    /// What an attempt is taken to last.
    pub fn estimate(&self) -> Duration {
        Duration::from_secs_f64(self.estimate_ms / 1000.0)
    }

    /// Reserves the next free slot. `free_from_ms` is when the endpoint takes anything again: the end of its pause, or of
    /// the timeout of the attempt that makes it sick; any time in the past when it is only full.
    pub fn reserve(&mut self, now_ms: u64, room: Room, free_from_ms: u64) -> Reservation {
        let now_ms = now_ms as f64;
        let begin_ms = now_ms.max(free_from_ms as f64);
        let spacing_ms = self.spacing_ms(room);
        let passed = (begin_ms - self.at_ms).max(0.0) / spacing_ms;
        self.ahead = (self.ahead - passed).max(0.0);
        self.at_ms = begin_ms;
        let delay_ms = (begin_ms - now_ms + self.ahead * spacing_ms).max(STEP_MS);
        if delay_ms <= SLOTS_AHEAD_MS {
            self.ahead += 1.0;
            self.reservation(delay_ms, room)
        } else {
            self.turned_away = self.turned_away.wrapping_add(1);
            let spread = (f64::from(self.turned_away) * GOLDEN).fract();
            self.reservation(SLOTS_AHEAD_MS + spread * (DELAY_MAX_MS - SLOTS_AHEAD_MS), room)
        }
    }

    fn reservation(&self, delay_ms: f64, room: Room) -> Reservation {
        let delay_ms = delay_ms.ceil() as u64;
        let hop = ladder::fine_hop(delay_ms, self.tolerance_ms(room) as u64);
        Reservation {
            delay: Duration::from_millis(delay_ms),
            hop,
        }
    }

    /// The time between two slots: as the endpoint frees room, but no more per step of the ladder than there is room for.
    fn spacing_ms(&self, room: Room) -> f64 {
        let (concurrency, together) = Pacer::counts(room);
        (self.estimate_ms / concurrency / FILL).max(STEP_MS / together)
    }

    /// How inexactly a slot may be met. Who is due within this time comes back together, so the endpoint's room must take
    /// them: half of what it takes in, as the other half may still be busy.
    fn tolerance_ms(&self, room: Room) -> f64 {
        let (_, together) = Pacer::counts(room);
        (self.spacing_ms(room) * together / 2.0).max(STEP_MS)
    }

    /// Attempts at once, and deliveries taken at once; at least one.
    fn counts(room: Room) -> (f64, f64) {
        let concurrency = f64::from(room.concurrency.max(1));
        (concurrency, concurrency + f64::from(room.waiting))
    }
}

#[cfg(test)]
mod tests;
