//! How many dispatchers there are, told by the consumers of the broker's queues: each keeps its share of a limit. While the number
//! is not known, or may be too small, nothing that is limited begins.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A dispatcher begins with what is limited so long after it took its first message, in milliseconds: by then the others, who look
/// every two seconds, count it too.
pub(crate) const SETTLE_MS: u64 = 5_000;
/// Looks that failed for so long: the others may count this process no more.
const STALE_MS: u64 = 10_000;
/// Fewer dispatchers are believed after so long: a channel that is opened again is no dispatcher that left.
const FEWER_AFTER_MS: u64 = 10_000;

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// How many there are, at least one.
    pub(crate) dispatchers: u32,
    /// Nothing that is limited begins before this, on the monotonic clock.
    pub(crate) from_ms: u64,
}

/// The number, followed.
pub(crate) struct Dispatchers {
    /// None in a process that shares its queue with no other.
    counted: Option<Mutex<Counted>>,
}

impl Dispatchers {
    /// One alone, or one of several.
    pub(crate) fn new(is_alone: bool) -> Dispatchers {
        Dispatchers {
            counted: (!is_alone).then(Mutex::default),
        }
    }

    /// A message was taken: this process is one of the consumers.
    pub(crate) fn took(&self, now_ms: u64) {
        if let Some(mut counted) = self.lock() {
            counted.took(now_ms);
        }
    }

    /// So many consumers were seen by a look that began at `now_ms`.
    pub(crate) fn looked(&self, now_ms: u64, consumers: u64) {
        if let Some(mut counted) = self.lock() {
            counted.looked(now_ms, u32::try_from(consumers).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn known(&self, now_ms: u64) -> Known {
        let alone = Known {
            dispatchers: 1,
            from_ms: 0,
        };
        self.lock().map_or(alone, |counted| counted.known(now_ms))
    }

    fn lock(&self) -> Option<MutexGuard<'_, Counted>> {
        let counted = self.counted.as_ref()?;
        // A few numbers, which are right after any panic.
        Some(counted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
struct Counted {
    took_ms: Option<u64>,
    looked_ms: Option<u64>,
    dispatchers: u32,
    /// Since when fewer were seen, and the most since then.
    fewer: Option<(u64, u32)>,
}

impl Counted {
    fn took(&mut self, now_ms: u64) {
        self.took_ms.get_or_insert(now_ms);
    }

    fn looked(&mut self, now_ms: u64, seen: u32) {
        if self.is_stale(now_ms) {
            // Out of sight for the others, perhaps: as one that has just come.
            self.took_ms = self.took_ms.map(|_| now_ms);
        }
        self.looked_ms = Some(now_ms);
        let seen = seen.max(1);
        if seen >= self.dispatchers {
            self.dispatchers = seen;
            self.fewer = None;
            return;
        }
        let (since_ms, most) = self.fewer.unwrap_or((now_ms, seen));
        let most = most.max(seen);
        self.fewer = Some((since_ms, most));
        if now_ms.saturating_sub(since_ms) >= FEWER_AFTER_MS {
            self.dispatchers = most;
            self.fewer = None;
        }
    }

    fn is_stale(&self, now_ms: u64) -> bool {
        self.looked_ms
            .is_none_or(|looked_ms| now_ms.saturating_sub(looked_ms) > STALE_MS)
    }

    fn known(&self, now_ms: u64) -> Known {
        let settled_ms = self.took_ms.unwrap_or(now_ms).saturating_add(SETTLE_MS);
        // The number has to be one that was seen since this process is a consumer.
        let is_counted = self.took_ms.is_some_and(|took_ms| self.looked_ms > Some(took_ms));
        let from_ms = if is_counted && !self.is_stale(now_ms) {
            settled_ms
        } else {
            settled_ms.max(now_ms.saturating_add(SETTLE_MS))
        };
        Known {
            dispatchers: self.dispatchers.max(1),
            from_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(counted: &Counted, now_ms: u64) -> bool {
        counted.known(now_ms).from_ms <= now_ms
    }

    #[test]
    fn one_that_is_alone_begins_at_once() {
        let alone = Dispatchers::new(true);
        alone.looked(5, 7);
        assert_eq!(
            alone.known(5),
            Known {
                dispatchers: 1,
                from_ms: 0
            }
        );
    }

    #[test]
    fn one_of_several_begins_once_the_others_count_it_too() {
        let mut counted = Counted::default();
        assert!(!begins(&counted, 100_000), "nothing is known");
        counted.looked(1_000, 3);
        counted.took(2_000);
        assert!(
            !begins(&counted, 8_000),
            "the number is from before it was a consumer"
        );
        counted.looked(3_000, 4);
        assert!(!begins(&counted, 6_999));
        assert!(begins(&counted, 7_000));
        assert_eq!(counted.known(7_000).dispatchers, 4);
        assert!(!begins(&counted, 13_001), "no look for over ten seconds");
        counted.looked(20_000, 4);
        counted.looked(22_000, 4);
        assert!(!begins(&counted, 24_999), "as if it had just come");
        assert!(begins(&counted, 25_000));
    }

    #[test]
    fn more_are_believed_at_once_and_fewer_after_ten_seconds() {
        let mut counted = Counted::default();
        let steps = [
            (0, 2, 2),
            (2_000, 3, 3),
            (4_000, 1, 3),
            (6_000, 2, 3),
            (12_000, 1, 3),
            (14_000, 1, 2),
            (16_000, 1, 2),
            (18_000, 2, 2),
            (20_000, 0, 2),
            (30_000, 0, 1),
        ];
        for (now_ms, seen, expected) in steps {
            counted.looked(now_ms, seen);
            assert_eq!(counted.known(now_ms).dispatchers, expected, "at {now_ms}");
        }
    }
}
