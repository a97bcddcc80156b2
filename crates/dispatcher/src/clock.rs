//! The only place where the dispatcher reads clocks and randomness; pure code gets what was read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hooklane_types::UnixMillis;

/// Wall clock, monotonic clock and randomness of this process.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: UnixMillis,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            started: Instant::now(),
            started_at: wall(),
        }
    }

    /// The time of day.
    pub(crate) fn now(&self) -> UnixMillis {
        wall()
    }

    /// When this process began.
    pub(crate) fn started_at(&self) -> UnixMillis {
        self.started_at
    }

    /// Milliseconds since the start; never goes back.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// A share from 0 to 1.
    pub(crate) fn jitter(&self) -> f64 {
        rand::random()
    }

    /// The random part of an id.
    pub(crate) fn random(&self) -> [u8; 10] {
        rand::random()
    }
}

fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
