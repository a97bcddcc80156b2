//! Wall-clock time as the wire and the records carry it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// As RFC 3339 has it, in UTC. A time beyond the year 9999 is shown as the last one before.
    pub fn rfc3339(self) -> String {
        let time = jiff::Timestamp::from_millisecond(self.0);
        time.unwrap_or(jiff::Timestamp::MAX).to_string()
    }

    /// This time plus `duration`; stays at the largest value instead of wrapping.
    pub fn plus(self, duration: Duration) -> UnixMillis {
        let added_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        UnixMillis(self.0.saturating_add(added_ms))
    }

    /// How long ago `earlier` was; zero when it lies in the future (clocks of two machines differ).
    pub fn since(self, earlier: UnixMillis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// Whole seconds since 1970, as signature timestamps carry them.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}
