//! The window itself: bounded by count, the oldest entry yields.

use std::collections::{HashMap, VecDeque};

use crate::claims::{ClaimWindow, Verdict};
use crate::key::Key;

struct Entry {
    settled: bool,
    sequence: u64,
}

struct Taken {
    key: Key,
    sequence: u64,
    at_ms: i64,
}

/// The window. Times are those of the process's monotonic clock; what is older than it has a negative one.
pub(crate) struct Window {
    entries_max: usize,
    by_key: HashMap<Key, Entry>,
    oldest_first: VecDeque<Taken>,
    next_sequence: u64,
}

impl Window {
    pub(crate) fn new(entries_max: usize) -> Window {
        Window {
            entries_max,
            by_key: HashMap::new(),
            oldest_first: VecDeque::new(),
            next_sequence: 0,
        }
    }

    /// Puts a settled event in, as the newest one.
    pub(crate) fn restore(&mut self, key: Key, at_ms: i64) {
        self.insert(key, true, at_ms);
    }

    pub(crate) fn claim(&mut self, key: Key, redelivered: bool, now_ms: u64) -> Verdict {
        match self.by_key.get(&key) {
            Some(entry) if entry.settled || !redelivered => Verdict::Duplicate,
            Some(_) => Verdict::Ours,
            None => {
                self.insert(key, false, signed(now_ms));
                Verdict::Ours
            }
        }
    }

    /// Whether it was not settled before. An id that has left the window meanwhile is forgotten.
    pub(crate) fn settle(&mut self, key: Key) -> bool {
        match self.by_key.get_mut(&key) {
            Some(entry) => !std::mem::replace(&mut entry.settled, true),
            None => false,
        }
    }

    pub(crate) fn release(&mut self, key: Key) {
        if self.by_key.get(&key).is_some_and(|entry| !entry.settled) {
            self.by_key.remove(&key);
        }
    }

    pub(crate) fn measure(&self, now_ms: u64) -> ClaimWindow {
        let now_ms = signed(now_ms);
        let oldest_ms = self.oldest_first.front().map_or(now_ms, |taken| taken.at_ms);
        ClaimWindow {
            entries: self.by_key.len() as u64,
            seconds: now_ms.saturating_sub(oldest_ms).max(0) as f64 / 1000.0,
        }
    }

    fn insert(&mut self, key: Key, settled: bool, at_ms: i64) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.by_key.insert(key, Entry { settled, sequence });
        self.oldest_first.push_back(Taken { key, sequence, at_ms });
        while self.oldest_first.len() > self.entries_max {
            self.evict();
        }
    }

    /// The oldest yields. A key that was released and claimed again has a newer place in line, which stays.
    fn evict(&mut self) {
        if let Some(oldest) = self.oldest_first.pop_front()
            && self
                .by_key
                .get(&oldest.key)
                .is_some_and(|entry| entry.sequence == oldest.sequence)
        {
            self.by_key.remove(&oldest.key);
        }
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key([n; crate::key::KEY_BYTES])
    }

    #[test]
    fn released_ids_do_not_grow_the_window_without_bound() {
        // Goal: an id claimed and released again and again holds at most one entry, and its line stays bounded.
        let mut window = Window::new(3);
        for _ in 0..100 {
            assert_eq!(window.claim(key(7), false, 0), Verdict::Ours);
            window.release(key(7));
        }
        assert!(window.by_key.is_empty());
        assert!(window.oldest_first.len() <= 3);
    }

    #[test]
    fn settling_is_told_once() {
        // Goal: whoever keeps settled ids writes each once, and none that has left the window.
        let mut window = Window::new(1);
        window.claim(key(1), false, 0);
        assert!(window.settle(key(1)));
        assert!(!window.settle(key(1)));
        window.claim(key(2), false, 0);
        window.claim(key(3), false, 0);
        assert!(!window.settle(key(2)));
    }
}
