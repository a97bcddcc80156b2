//! The clock that all processes of one machine share.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds on the monotonic clock, which is the same in all processes.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let micros = u64::try_from(now.tv_nsec / 1000).unwrap_or(0);
    seconds * 1_000_000 + micros
}
