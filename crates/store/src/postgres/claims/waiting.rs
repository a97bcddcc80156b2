//! Operations by their keys: those of one key have their order, and no key waits for another's.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::mem::discriminant;

use super::queue::Op;
use crate::key::Key;

/// Most keys of a batch: rows of its statements.
const BATCH_KEYS_MAX: usize = 500;
/// Most operations of a batch, for they are taken under the lock that each event needs.
const BATCH_OPS_MAX: usize = 5_000;
/// Most that waits while the server is away; then the oldest is given up. About 15 MB, if each has a key of its own.
const WAITING_MAX: usize = 100_000;

/// What waits. To add one, and to take one, costs the same however many wait.
#[derive(Default)]
pub(super) struct Waiting {
    /// In their order; none is empty.
    of_key: HashMap<Key, VecDeque<Op>>,
    /// The keys of those, in the order of their turns.
    turns: VecDeque<Key>,
    count: usize,
}

impl Waiting {
    pub(super) fn add(&mut self, op: Op) {
        match self.of_key.entry(op.key()) {
            Entry::Occupied(mut ops) => ops.get_mut().push_back(op),
            Entry::Vacant(entry) => {
                self.turns.push_back(*entry.key());
                // Room for one: most keys have no more.
                entry.insert(VecDeque::from([op]));
            }
        }
        self.count += 1;
        if self.count > WAITING_MAX {
            self.give_up_oldest();
        }
    }

    /// A batch, empty if nothing waits. Of each key it has the first operation and those behind it that wish the same, which one row answers.
    /// A key with more has its next turn behind all others.
    pub(super) fn take(&mut self) -> Vec<Op> {
        let (mut batch, mut unfinished) = (Vec::new(), Vec::new());
        let mut keys = 0;
        while keys < BATCH_KEYS_MAX
            && batch.len() < BATCH_OPS_MAX
            && let Some(key) = self.turns.pop_front()
            && let Entry::Occupied(mut ops) = self.of_key.entry(key)
        {
            let (waited, taken) = (ops.get().len(), batch.len());
            take_alike(ops.get_mut(), &mut batch);
            self.count -= waited - ops.get().len();
            keys += usize::from(batch.len() > taken);
            if ops.get().is_empty() {
                ops.remove();
            } else {
                unfinished.push(key);
            }
        }
        self.turns.extend(unfinished);
        batch
    }

    fn give_up_oldest(&mut self) {
        if let Some(key) = self.turns.front()
            && let Entry::Occupied(mut ops) = self.of_key.entry(*key)
        {
            ops.get_mut().pop_front();
            self.count -= 1;
            if ops.get().is_empty() {
                ops.remove();
                self.turns.pop_front();
            }
        }
    }
}

/// All that waits, each key's in its order.
impl IntoIterator for Waiting {
    type Item = Op;
    type IntoIter = Box<dyn Iterator<Item = Op>>;

    fn into_iter(mut self) -> Self::IntoIter {
        let ops = move |key| self.of_key.remove(&key).unwrap_or_default();
        Box::new(self.turns.into_iter().flat_map(ops))
    }
}

/// Takes what wishes the same as the first, up to what wishes something else. Claims that nobody waits for any more are forgotten.
fn take_alike(ops: &mut VecDeque<Op>, batch: &mut Vec<Op>) {
    let mut wish = None;
    while batch.len() < BATCH_OPS_MAX
        && let Some(op) = ops.front()
    {
        if !op.is_abandoned() {
            let its = discriminant(op);
            if *wish.get_or_insert(its) != its {
                break;
            }
            batch.extend(ops.pop_front());
        } else {
            ops.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::claims::{ClaimError, Verdict};

    fn key(n: usize) -> Key {
        let mut key = Key([0; crate::key::KEY_BYTES]);
        key.0[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    type Told = oneshot::Receiver<Result<Verdict, ClaimError>>;

    /// A claim, for as long as its end is held.
    fn claim(waiting: &mut Waiting, n: usize) -> Told {
        let (tell, told) = oneshot::channel();
        waiting.add(Op::Claim {
            key: key(n),
            redelivered: false,
            tell,
        });
        told
    }

    fn settle(waiting: &mut Waiting, n: usize) {
        let tell = oneshot::channel().0;
        waiting.add(Op::Settle { key: key(n), tell });
    }

    fn release(waiting: &mut Waiting, n: usize) {
        waiting.add(Op::Release { key: key(n) });
    }

    /// An operation, in short.
    fn short(op: &Op) -> String {
        let wish = match op {
            Op::Claim { .. } => "claim",
            Op::Settle { .. } => "settle",
            Op::Release { .. } => "release",
        };
        format!("{wish} {}", op.key().0[0])
    }

    /// The next batch, in short.
    fn taken(waiting: &mut Waiting) -> Vec<String> {
        waiting.take().iter().map(short).collect()
    }

    #[test]
    fn claims_of_one_key_go_together_and_no_other_key_waits_behind_them() {
        let waiting = &mut Waiting::default();
        let _told: Vec<Told> = [1, 1, 1, 2, 1, 3].map(|n| claim(waiting, n)).into();
        let all = ["claim 1", "claim 1", "claim 1", "claim 1", "claim 2", "claim 3"];
        assert_eq!(taken(waiting), all);
        assert!(taken(waiting).is_empty());
    }

    #[test]
    fn what_is_wished_of_one_key_keeps_its_order_while_other_keys_pass() {
        let waiting = &mut Waiting::default();
        let mut told = vec![claim(waiting, 1)];
        settle(waiting, 1);
        told.push(claim(waiting, 1));
        release(waiting, 1);
        settle(waiting, 2);
        settle(waiting, 2);
        told.push(claim(waiting, 3));
        assert_eq!(taken(waiting), ["claim 1", "settle 2", "settle 2", "claim 3"]);
        told.push(claim(waiting, 2));
        assert_eq!(taken(waiting), ["settle 1", "claim 2"]);
        assert_eq!(taken(waiting), ["claim 1"]);
        assert_eq!(taken(waiting), ["release 1"]);
        assert!(taken(waiting).is_empty());
        assert!(waiting.count == 0 && waiting.of_key.is_empty() && waiting.turns.is_empty());
    }

    #[test]
    fn a_claim_that_nobody_waits_for_is_not_made() {
        // Goal: its event went out unclaimed; it neither parts what stands around it nor takes a place in the batch.
        let waiting = &mut Waiting::default();
        drop(claim(waiting, 1));
        settle(waiting, 1);
        drop(claim(waiting, 1));
        settle(waiting, 1);
        drop(claim(waiting, 2));
        assert_eq!(taken(waiting), ["settle 1", "settle 1"]);
        assert!(waiting.count == 0 && waiting.of_key.is_empty());
    }

    #[test]
    fn a_batch_is_bounded_and_what_is_over_comes_with_the_next() {
        let waiting = &mut Waiting::default();
        (0..=BATCH_KEYS_MAX).for_each(|n| release(waiting, n));
        assert_eq!(waiting.take().len(), BATCH_KEYS_MAX);
        assert_eq!(waiting.take().len(), 1);
        (0..=BATCH_OPS_MAX).for_each(|_| settle(waiting, 1));
        settle(waiting, 2);
        assert_eq!(waiting.take().len(), BATCH_OPS_MAX);
        assert_eq!(taken(waiting), ["settle 2", "settle 1"]);
    }

    #[test]
    fn of_too_many_the_oldest_is_given_up() {
        // Goal: also where they are of one key. Method: everything over the bound is of key 1, in front of it 2 of key 0.
        let waiting = &mut Waiting::default();
        settle(waiting, 0);
        release(waiting, 0);
        (0..WAITING_MAX - 1).for_each(|_| settle(waiting, 1));
        assert_eq!(waiting.count, WAITING_MAX);
        settle(waiting, 1);
        settle(waiting, 1);
        assert_eq!(waiting.count, WAITING_MAX);
        assert!(waiting.of_key.len() == 1 && waiting.turns == [key(1)]);
    }

    #[test]
    fn a_long_row_of_one_key_holds_up_no_other_and_costs_the_same_at_any_length() {
        // Method: were all that waits looked at for each batch, this would be thousands of millions of looks: minutes.
        let waiting = &mut Waiting::default();
        for _ in 0..WAITING_MAX / 2 - 1 {
            settle(waiting, 1);
            release(waiting, 1);
        }
        let _told = claim(waiting, 2);
        assert_eq!(taken(waiting), ["settle 1", "claim 2"]);
        for _ in 0..WAITING_MAX - 3 {
            assert_eq!(waiting.take().len(), 1);
        }
        assert!(taken(waiting).is_empty());
    }

    #[test]
    fn all_that_waits_comes_out_in_its_order() {
        let waiting = &mut Waiting::default();
        settle(waiting, 1);
        release(waiting, 2);
        release(waiting, 1);
        let all = std::mem::take(waiting).into_iter();
        let all: Vec<_> = all.map(|op| short(&op)).collect();
        assert_eq!(all, ["settle 1", "release 1", "release 2"]);
    }
}
