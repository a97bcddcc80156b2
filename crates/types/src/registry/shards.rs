//! A set that is cheap to copy and to change: a copy shares all of its parts with the original, and a change copies the one part that it
//! touches. So a hundred thousand endpoints are not gone through because one of them is another now.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A hundred members each, where there are a hundred thousand: as long as copying one takes copying the list of all.
const SHARDS: usize = 1024;

type Build = BuildHasherDefault<DefaultHasher>;

/// What is found by a text.
pub(super) trait Named {
    /// The text. No other member has it.
    fn name(&self) -> &str;
}

/// A member; it is its name that counts.
#[derive(Debug)]
struct Member<T>(Arc<T>);

impl<T> Clone for Member<T> {
    fn clone(&self) -> Member<T> {
        Member(self.0.clone())
    }
}

impl<T: Named> Borrow<str> for Member<T> {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl<T: Named> Hash for Member<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl<T: Named> PartialEq for Member<T> {
    fn eq(&self, other: &Member<T>) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T: Named> Eq for Member<T> {}

/// The set.
#[derive(Debug)]
pub(super) struct Shards<T>(Vec<Arc<HashSet<Member<T>, Build>>>);

impl<T> Clone for Shards<T> {
    fn clone(&self) -> Shards<T> {
        Shards(self.0.clone())
    }
}

impl<T> Default for Shards<T> {
    fn default() -> Shards<T> {
        Shards(vec![Arc::default(); SHARDS])
    }
}

/// By bits that the shard itself does not look at first.
fn shard_of(name: &str) -> usize {
    (Build::default().hash_one(name) >> 32) as usize % SHARDS
}

impl<T: Named> Shards<T> {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.0[shard_of(name)].get(name).map(|member| &member.0)
    }

    /// Returns what had this name.
    pub(super) fn put(&mut self, member: Arc<T>) -> Option<Arc<T>> {
        let shard = Arc::make_mut(&mut self.0[shard_of(member.name())]);
        shard.replace(Member(member)).map(|earlier| earlier.0)
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<T>> {
        let shard = &mut self.0[shard_of(name)];
        if !shard.contains(name) {
            return None;
        }
        Arc::make_mut(shard).take(name).map(|member| member.0)
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0
            .iter()
            .flat_map(|shard| shard.iter())
            .map(|member| &member.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Word(String, u32);

    impl Named for Word {
        fn name(&self) -> &str {
            &self.0
        }
    }

    fn all(shards: &Shards<Word>) -> BTreeMap<String, u32> {
        shards.iter().map(|word| (word.0.clone(), word.1)).collect()
    }

    proptest! {
        #[test]
        fn whatever_is_put_and_removed_it_agrees_with_a_map_and_copies_stay_as_they_were(
            steps in proptest::collection::vec(("[a-c]{1,3}", proptest::option::of(any::<u32>())), 0..60),
        ) {
            let (mut shards, mut map) = (Shards::default(), BTreeMap::new());
            let mut copies = Vec::new();
            for (name, number) in steps {
                copies.push((shards.clone(), map.clone()));
                let (earlier, expected) = match number {
                    Some(number) => (
                        shards.put(Arc::new(Word(name.clone(), number))),
                        map.insert(name.clone(), number),
                    ),
                    None => (shards.remove(&name), map.remove(&name)),
                };
                prop_assert_eq!(earlier.map(|word| word.1), expected);
                prop_assert_eq!(shards.get(&name).map(|word| word.1), map.get(&name).copied());
                prop_assert_eq!(shards.len(), map.len());
            }
            for (shards, map) in copies {
                prop_assert_eq!(all(&shards), map);
            }
        }
    }
}
