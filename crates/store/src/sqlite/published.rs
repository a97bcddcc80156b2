//! Published ids in memory, which the file follows.

use std::collections::{HashMap, VecDeque};

use async_trait::async_trait;
use hooklane_types::{ApplicationId, EventId, UnixMillis};

use super::DurableClaims;
use super::file::Row;
use crate::claims::ClaimError;
use crate::key::Key;
use crate::published::{Published, PublishedIds};

/// The newest so many.
pub(super) struct PublishedWindow {
    entries_max: usize,
    by_key: HashMap<Key, Published>,
    oldest_first: VecDeque<(Key, UnixMillis)>,
}

impl PublishedWindow {
    pub(super) fn new(entries_max: usize) -> PublishedWindow {
        PublishedWindow {
            entries_max,
            by_key: HashMap::new(),
            oldest_first: VecDeque::new(),
        }
    }

    fn find(&self, key: Key, now: UnixMillis) -> Option<Published> {
        self.by_key.get(&key).copied().filter(|found| !found.is_over(now))
    }

    /// Puts one in as the newest. Whether it is new.
    pub(super) fn insert(&mut self, key: Key, published: Published) -> bool {
        if self.find(key, published.accepted_at).is_some() {
            return false;
        }
        self.by_key.insert(key, published);
        self.oldest_first.push_back((key, published.accepted_at));
        while self.oldest_first.len() > self.entries_max {
            // One that came again after its time has a newer place in line, which stays.
            if let Some((key, accepted_at)) = self.oldest_first.pop_front()
                && self
                    .by_key
                    .get(&key)
                    .is_some_and(|found| found.accepted_at == accepted_at)
            {
                self.by_key.remove(&key);
            }
        }
        true
    }
}

#[async_trait]
impl PublishedIds for DurableClaims {
    async fn find(
        &self,
        application: &ApplicationId,
        event: &EventId,
        now: UnixMillis,
    ) -> Result<Option<Published>, ClaimError> {
        Ok(self.published().find(Key::of(application, event), now))
    }

    /// Known at once, and written a moment later, which is not waited for: a kill in between costs that the same id is accepted once more.
    async fn keep(
        &self,
        application: &ApplicationId,
        event: &EventId,
        published: Published,
    ) -> Result<(), ClaimError> {
        let key = Key::of(application, event);
        if self.published().insert(key, published) {
            self.writer.write_later(Row::Published(key, published));
        }
        Ok(())
    }
}
