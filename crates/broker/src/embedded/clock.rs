//! The broker's own time, by which delays are due: it only goes forward, and no change of the wall clock moves it.
//!
//! It runs with the system's time since boot, suspended time included. Within one boot, restarts of the process included, it
//! is exact. Over a reboot nothing but the wall clock can say how long the machine was off: so much is added, and nothing when
//! the wall clock went back. A delay is made early only when the wall clock was set forward between the last write before a
//! reboot and the start after it, and by no more than that; it is made late by at most the time that the machine was off.

use std::time::{SystemTime, UNIX_EPOCH};

/// The system's clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// Differs after each reboot; empty where the system does not tell.
    pub(crate) boot: String,
    /// Since boot.
    pub(crate) uptime_ms: i64,
    /// Since 1970.
    pub(crate) wall_ms: i64,
}

/// The broker's time as it was last written down, and the system's clocks then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) now_ms: i64,
    pub(crate) host: Host,
}

/// The broker's time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    boot: String,
    /// The broker's time at boot.
    at_boot_ms: i64,
}

impl Clock {
    /// Goes on from what was saved.
    pub(crate) fn resume(saved: Option<&Saved>, host: &Host) -> Clock {
        let now_ms = match saved {
            None => host.wall_ms,
            Some(saved) => {
                let uptime_ms = host.uptime_ms - saved.host.uptime_ms;
                let same_boot = !host.boot.is_empty() && host.boot == saved.host.boot && uptime_ms >= 0;
                let passed_ms = if same_boot {
                    uptime_ms
                } else {
                    host.wall_ms.saturating_sub(saved.host.wall_ms).max(0)
                };
                saved.now_ms.saturating_add(passed_ms)
            }
        };
        Clock {
            boot: host.boot.clone(),
            at_boot_ms: now_ms - host.uptime_ms,
        }
    }

    /// Milliseconds, rounded down.
    pub(crate) fn now_ms(&self) -> i64 {
        self.at_boot_ms.saturating_add(uptime_ms())
    }

    /// To be written down.
    pub(crate) fn save(&self) -> Saved {
        let host = Host {
            boot: self.boot.clone(),
            uptime_ms: uptime_ms(),
            wall_ms: wall_ms(),
        };
        let now_ms = self.at_boot_ms.saturating_add(host.uptime_ms);
        Saved { now_ms, host }
    }
}

impl Host {
    /// The clocks now.
    pub(crate) fn read() -> Host {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Host {
            boot: boot.trim().to_owned(),
            uptime_ms: uptime_ms(),
            wall_ms: wall_ms(),
        }
    }
}

fn wall_ms() -> i64 {
    // A clock before 1970 is as good as 1970 here: only differences count.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn uptime_ms() -> i64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn host(boot: &str, uptime_ms: i64, wall_ms: i64) -> Host {
        Host {
            boot: boot.to_owned(),
            uptime_ms,
            wall_ms,
        }
    }

    /// What the broker's time is at `after`, when it was 1,000,000 at `before`.
    fn resumed(before: Host, after: &Host) -> i64 {
        let saved = Saved {
            now_ms: 1_000_000,
            host: before,
        };
        Clock::resume(Some(&saved), after).at_boot_ms + after.uptime_ms
    }

    #[test]
    fn within_a_boot_the_wall_clock_means_nothing() {
        // Goal: 5 s pass, while the wall clock jumps a day back or forward.
        for jump_ms in [-DAY_MS, 0, DAY_MS] {
            let (before, after) = (host("a", 10_000, 0), host("a", 15_000, 5_000 + jump_ms));
            assert_eq!(resumed(before, &after), 1_005_000);
        }
    }

    #[test]
    fn over_a_reboot_the_wall_clock_tells_how_long_it_was_and_never_turns_time_back() {
        let before = host("a", 10_000, 100_000);
        assert_eq!(resumed(before.clone(), &host("b", 20_000, 160_000)), 1_060_000);
        assert_eq!(resumed(before.clone(), &host("b", 5_000, 160_000)), 1_060_000);
        assert_eq!(resumed(before, &host("b", 5_000, 100_000 - DAY_MS)), 1_000_000);
    }

    #[test]
    fn a_system_that_does_not_name_its_boots_is_never_taken_for_the_same() {
        assert_eq!(resumed(host("", 10_000, 0), &host("", 90_000, 7_000)), 1_007_000);
    }

    #[test]
    fn what_is_saved_goes_on() {
        let clock = Clock::resume(None, &Host::read());
        let saved = clock.save();
        let again = Clock::resume(Some(&saved), &Host::read());
        let ahead_ms = again.now_ms() - clock.now_ms();
        // Each reading is rounded down to a millisecond.
        assert!((-1..=1).contains(&ahead_ms), "{ahead_ms} ms");
    }
}
