//! The claim window: which events were taken lately, so that a repeat is noticed. It lives in the process and is bounded
//! by count; the oldest entry yields. The store takes the place of [`Claims`] where there is one: the callers only know
//! `claim`, `settle` and `release`.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use hooklane_types::{ApplicationId, EventId};

/// What a claim says about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not seen before, or this very message again: process it.
    Ours,
    /// Another message with this id is in work or was settled.
    Duplicate,
}

/// How long the window really is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) entries: usize,
    /// Age of the oldest entry: how far back a repeat is noticed.
    pub(crate) seconds: f64,
}

/// An event in the window: 128 bits of two hashes with random keys, instead of two texts of up to 256 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64, u64);

struct Entry {
    settled: bool,
    sequence: u64,
}

struct Taken {
    key: Key,
    sequence: u64,
    at_ms: u64,
}

struct Entries {
    by_key: HashMap<Key, Entry>,
    oldest_first: VecDeque<Taken>,
    next_sequence: u64,
}

/// The window.
pub(crate) struct Claims {
    entries_max: usize,
    hashers: (RandomState, RandomState),
    entries: Mutex<Entries>,
}

impl Claims {
    pub(crate) fn new(entries_max: usize) -> Claims {
        let entries = Entries {
            by_key: HashMap::new(),
            oldest_first: VecDeque::new(),
            next_sequence: 0,
        };
        Claims {
            entries_max,
            hashers: (RandomState::new(), RandomState::new()),
            entries: Mutex::new(entries),
        }
    }

    /// Claims an event. A redelivered message is no duplicate of itself, unless its claim says settled.
    pub(crate) fn claim(
        &self,
        (application, event): (&ApplicationId, &EventId),
        redelivered: bool,
        now_ms: u64,
    ) -> (Key, Verdict) {
        let text = (application.as_str(), event.as_str());
        let key = Key(self.hashers.0.hash_one(text), self.hashers.1.hash_one(text));
        let mut entries = self.lock();
        let verdict = match entries.by_key.get(&key) {
            Some(entry) if entry.settled || !redelivered => Verdict::Duplicate,
            Some(_) => Verdict::Ours,
            None => {
                entries.insert(key, now_ms);
                while entries.oldest_first.len() > self.entries_max {
                    entries.evict();
                }
                Verdict::Ours
            }
        };
        (key, verdict)
    }

    /// All that follows from the event is confirmed: from now on any message with its id is a repeat.
    pub(crate) fn settle(&self, key: Key) {
        if let Some(entry) = self.lock().by_key.get_mut(&key) {
            entry.settled = true;
        }
    }

    /// The event was given back, or became a fault: its next message is not a repeat. A settled claim stays.
    pub(crate) fn release(&self, key: Key) {
        let mut entries = self.lock();
        if entries.by_key.get(&key).is_some_and(|entry| !entry.settled) {
            entries.by_key.remove(&key);
        }
    }

    /// The window's size and real length.
    pub(crate) fn window(&self, now_ms: u64) -> Window {
        let entries = self.lock();
        let oldest_ms = entries.oldest_first.front().map_or(now_ms, |taken| taken.at_ms);
        Window {
            entries: entries.by_key.len(),
            seconds: now_ms.saturating_sub(oldest_ms) as f64 / 1000.0,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // No code under this lock panics; were it poisoned all the same, a lost claim only lets a repeat through.
        self.entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Entries {
    fn insert(&mut self, key: Key, at_ms: u64) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.by_key.insert(
            key,
            Entry {
                settled: false,
                sequence,
            },
        );
        self.oldest_first.push_back(Taken { key, sequence, at_ms });
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

/// A claim in work: released when dropped, unless it was settled.
pub(crate) struct Held<'a> {
    claims: &'a Claims,
    key: Key,
}

impl<'a> Held<'a> {
    pub(crate) fn new(claims: &'a Claims, key: Key) -> Held<'a> {
        Held { claims, key }
    }

    pub(crate) fn settle(self) {
        self.claims.settle(self.key);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.claims.release(self.key);
    }
}

#[cfg(test)]
mod tests {
    use hooklane_types::ProducerId;

    use super::*;

    fn ids(n: u32) -> (ApplicationId, EventId) {
        let application = ApplicationId::parse("app_a").unwrap();
        let event = EventId::derived(&application, None, &ProducerId::parse(&n.to_string()).unwrap());
        (application, event)
    }

    fn claim(claims: &Claims, n: u32, redelivered: bool) -> (Key, Verdict) {
        let (application, event) = ids(n);
        claims.claim((&application, &event), redelivered, u64::from(n))
    }

    #[test]
    fn a_repeat_is_noticed_in_flight_and_after() {
        // Goal: a second message with the id of one in work, or settled, is a duplicate.
        let claims = Claims::new(10);
        let (key, verdict) = claim(&claims, 1, false);
        assert_eq!(verdict, Verdict::Ours);
        assert_eq!(claim(&claims, 1, false).1, Verdict::Duplicate);
        claims.settle(key);
        assert_eq!(claim(&claims, 1, false).1, Verdict::Duplicate);
        assert_eq!(claim(&claims, 2, false).1, Verdict::Ours);
    }

    #[test]
    fn a_redelivered_message_is_no_duplicate_of_itself_unless_settled() {
        // Goal: what the broker gives again after a lost channel is processed; after its settlement it is not.
        let claims = Claims::new(10);
        let (key, _) = claim(&claims, 1, false);
        assert_eq!(claim(&claims, 1, true).1, Verdict::Ours);
        claims.settle(key);
        assert_eq!(claim(&claims, 1, true).1, Verdict::Duplicate);
    }

    #[test]
    fn a_claim_that_was_given_back_leaves_no_trace() {
        // Goal: a dropped claim is released, a settled one is not, even when another holder of it is dropped later.
        let claims = Claims::new(10);
        let (key, _) = claim(&claims, 1, false);
        drop(Held::new(&claims, key));
        assert_eq!(claim(&claims, 1, false).1, Verdict::Ours);
        Held::new(&claims, key).settle();
        drop(Held::new(&claims, key));
        assert_eq!(claim(&claims, 1, false).1, Verdict::Duplicate);
    }

    #[test]
    fn the_window_is_bounded_and_the_oldest_yields() {
        // Goal: with room for 3, the fourth id pushes out the first; the length is the age of the oldest left.
        let claims = Claims::new(3);
        for n in 1..=4 {
            claim(&claims, n, false);
        }
        assert_eq!(
            claims.window(12),
            Window {
                entries: 3,
                seconds: 0.01
            }
        );
        assert_eq!(claim(&claims, 4, false).1, Verdict::Duplicate);
        assert_eq!(claim(&claims, 1, false).1, Verdict::Ours);
    }

    #[test]
    fn released_ids_do_not_grow_the_window_without_bound() {
        // Goal: an id claimed and released again and again holds at most one entry, and its line stays bounded.
        let claims = Claims::new(3);
        for _ in 0..100 {
            let (key, verdict) = claim(&claims, 7, false);
            assert_eq!(verdict, Verdict::Ours);
            claims.release(key);
        }
        let entries = claims.lock();
        assert!(entries.by_key.is_empty());
        assert!(entries.oldest_first.len() <= 3);
    }
}
