//! A map that forgets what was not used for longest when it is full.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A full map forgets this share at once, so that the scan for the oldest is paid for by many insertions.
const EVICTED_SHARE: usize = 16;

/// At most `entries_max` entries.
pub(crate) struct Bounded<K, V> {
    entries: HashMap<K, (u64, V)>,
    entries_max: usize,
    uses: u64,
}

impl<K: Eq + Hash + Clone, V> Bounded<K, V> {
    /// An empty map. A bound of 0 counts as 1: callers insert to read back at once.
    pub(crate) fn new(entries_max: usize) -> Bounded<K, V> {
        Bounded {
            entries: HashMap::new(),
            entries_max: entries_max.max(1),
            uses: 0,
        }
    }

    /// The value of a key, which counts as a use.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.uses += 1;
        let uses = self.uses;
        self.entries.get_mut(key).map(|(used, value)| {
            *used = uses;
            value
        })
    }

    /// Sets the value of a key; a new key may push out old ones.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= self.entries_max && !self.entries.contains_key(&key) {
            self.evict();
        }
        self.uses += 1;
        self.entries.insert(key, (self.uses, value));
    }

    /// Forgets the keys for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.entries.retain(|key, _| keep(key));
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn evict(&mut self) {
        let count = (self.entries_max / EVICTED_SHARE).max(1).min(self.entries.len());
        let mut uses: Vec<u64> = self.entries.values().map(|(used, _)| *used).collect();
        // `count` is at least 1 and at most the number of uses.
        let (_, &mut newest_evicted, _) = uses.select_nth_unstable(count - 1);
        self.entries.retain(|_, (used, _)| *used > newest_evicted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_forgets_what_was_not_used_for_longest() {
        let mut map = Bounded::new(3);
        for key in ["a", "b", "c"] {
            map.insert(key, ());
        }
        map.get("a");
        map.insert("d", ());
        assert!(map.get("a").is_some());
        assert!(map.get("b").is_none());
        assert_eq!(map.len(), 3);
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let mut map = Bounded::new(100);
        for key in 0..10_000 {
            map.insert(key, ());
            assert!(map.len() <= 100);
            assert!(map.get(&key).is_some());
        }
        assert!(map.len() > 90, "it forgets no more than it must: {}", map.len());
    }

    #[test]
    fn replacing_a_value_pushes_nobody_out() {
        let mut map = Bounded::new(2);
        map.insert("a", 1);
        map.insert("b", 1);
        map.insert("b", 2);
        assert_eq!(map.get("a"), Some(&mut 1));
        assert_eq!(map.get("b"), Some(&mut 2));
    }
}
