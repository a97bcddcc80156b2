//! The window in the process: bounded by count, the oldest entry yields.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use async_trait::async_trait;
use hooklane_types::{ApplicationId, EventId};

use super::{ClaimError, ClaimWindow, Claims, Verdict};

/// An event in the window: 128 bits of two hashes with random keys, instead of two texts of up to 256 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u64, u64);

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
pub(crate) struct Window {
    entries_max: usize,
    hashers: (RandomState, RandomState),
    entries: Mutex<Entries>,
}

impl Window {
    pub(crate) fn new(entries_max: usize) -> Window {
        let entries = Entries {
            by_key: HashMap::new(),
            oldest_first: VecDeque::new(),
            next_sequence: 0,
        };
        Window {
            entries_max,
            hashers: (RandomState::new(), RandomState::new()),
            entries: Mutex::new(entries),
        }
    }

    fn key(&self, application: &ApplicationId, event: &EventId) -> Key {
        let text = (application.as_str(), event.as_str());
        Key(self.hashers.0.hash_one(text), self.hashers.1.hash_one(text))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // No code under this lock panics; were it poisoned all the same, a lost claim only lets a repeat through.
        self.entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Claims for Window {
    async fn claim(
        &self,
        application: &ApplicationId,
        event: &EventId,
        redelivered: bool,
        now_ms: u64,
    ) -> Result<Verdict, ClaimError> {
        let key = self.key(application, event);
        let mut entries = self.lock();
        match entries.by_key.get(&key) {
            Some(entry) if entry.settled || !redelivered => Ok(Verdict::Duplicate),
            Some(_) => Ok(Verdict::Ours),
            None => {
                entries.insert(key, now_ms);
                while entries.oldest_first.len() > self.entries_max {
                    entries.evict();
                }
                Ok(Verdict::Ours)
            }
        }
    }

    fn settle(&self, application: &ApplicationId, event: &EventId) {
        let key = self.key(application, event);
        if let Some(entry) = self.lock().by_key.get_mut(&key) {
            entry.settled = true;
        }
    }

    fn release(&self, application: &ApplicationId, event: &EventId) {
        let key = self.key(application, event);
        let mut entries = self.lock();
        if entries.by_key.get(&key).is_some_and(|entry| !entry.settled) {
            entries.by_key.remove(&key);
        }
    }

    fn window(&self, now_ms: u64) -> ClaimWindow {
        let entries = self.lock();
        let oldest_ms = entries.oldest_first.front().map_or(now_ms, |taken| taken.at_ms);
        ClaimWindow {
            entries: entries.by_key.len() as u64,
            seconds: now_ms.saturating_sub(oldest_ms) as f64 / 1000.0,
        }
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

#[cfg(test)]
mod tests {
    use hooklane_types::ProducerId;

    use super::*;

    fn ids(n: u32) -> (ApplicationId, EventId) {
        let application = ApplicationId::parse("app_a").unwrap();
        let event = EventId::derived(&application, None, &ProducerId::parse(&n.to_string()).unwrap());
        (application, event)
    }

    async fn claim(window: &Window, n: u32, redelivered: bool) -> Verdict {
        let (application, event) = ids(n);
        let claimed = window.claim(&application, &event, redelivered, u64::from(n));
        claimed.await.unwrap()
    }

    fn settle(window: &Window, n: u32) {
        let (application, event) = ids(n);
        window.settle(&application, &event);
    }

    fn release(window: &Window, n: u32) {
        let (application, event) = ids(n);
        window.release(&application, &event);
    }

    #[tokio::test]
    async fn a_repeat_is_noticed_in_flight_and_after() {
        // Goal: a second message with the id of one in work, or settled, is a duplicate.
        let window = Window::new(10);
        assert_eq!(claim(&window, 1, false).await, Verdict::Ours);
        assert_eq!(claim(&window, 1, false).await, Verdict::Duplicate);
        settle(&window, 1);
        assert_eq!(claim(&window, 1, false).await, Verdict::Duplicate);
        assert_eq!(claim(&window, 2, false).await, Verdict::Ours);
    }

    #[tokio::test]
    async fn a_redelivered_message_is_no_duplicate_of_itself_unless_settled() {
        // Goal: what the broker gives again after a lost channel is processed; after its settlement it is not.
        let window = Window::new(10);
        claim(&window, 1, false).await;
        assert_eq!(claim(&window, 1, true).await, Verdict::Ours);
        settle(&window, 1);
        assert_eq!(claim(&window, 1, true).await, Verdict::Duplicate);
    }

    #[tokio::test]
    async fn a_claim_that_was_given_back_leaves_no_trace() {
        // Goal: a released claim is gone; a settled one stays, also when another holder of it releases it later.
        let window = Window::new(10);
        claim(&window, 1, false).await;
        release(&window, 1);
        assert_eq!(claim(&window, 1, false).await, Verdict::Ours);
        settle(&window, 1);
        release(&window, 1);
        assert_eq!(claim(&window, 1, false).await, Verdict::Duplicate);
    }

    #[tokio::test]
    async fn the_window_is_bounded_and_the_oldest_yields() {
        // Goal: with room for 3, the fourth id pushes out the first; the length is the age of the oldest left.
        let window = Window::new(3);
        for n in 1..=4 {
            claim(&window, n, false).await;
        }
        let expected = ClaimWindow {
            entries: 3,
            seconds: 0.01,
        };
        assert_eq!(window.window(12), expected);
        assert_eq!(claim(&window, 4, false).await, Verdict::Duplicate);
        assert_eq!(claim(&window, 1, false).await, Verdict::Ours);
    }

    #[tokio::test]
    async fn released_ids_do_not_grow_the_window_without_bound() {
        // Goal: an id claimed and released again and again holds at most one entry, and its line stays bounded.
        let window = Window::new(3);
        for _ in 0..100 {
            assert_eq!(claim(&window, 7, false).await, Verdict::Ours);
            release(&window, 7);
        }
        let entries = window.lock();
        assert!(entries.by_key.is_empty());
        assert!(entries.oldest_first.len() <= 3);
    }
}
