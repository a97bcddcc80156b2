//! What waits for the next batch.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::mem::discriminant;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::claims::{ClaimError, Verdict};
use crate::key::Key;

/// Most keys of a batch.
const BATCH_MAX: usize = 500;
/// Most operations that are looked at for a batch, those that stay behind included: all under the lock that each event takes.
const LOOKS_MAX: usize = 5_000;
/// Most that waits while the server is away; then the oldest is given up. A few MB.
const WAITING_MAX: usize = 100_000;

/// What is to be done with a claim.
pub(super) enum Op {
    Claim {
        key: Key,
        redelivered: bool,
        tell: oneshot::Sender<Result<Verdict, ClaimError>>,
    },
    Settle {
        key: Key,
        tell: oneshot::Sender<()>,
    },
    Release {
        key: Key,
    },
}

impl Op {
    pub(super) fn key(&self) -> Key {
        match self {
            Op::Claim { key, .. } | Op::Settle { key, .. } | Op::Release { key } => *key,
        }
    }

    /// A claim that nobody waits for any more.
    fn is_abandoned(&self) -> bool {
        matches!(self, Op::Claim { tell, .. } if tell.is_closed())
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Op>,
    /// The server is away: nobody is kept waiting.
    rests: bool,
}

/// Operations in their order, which holds for each key.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    stop: CancellationToken,
}

impl Queue {
    /// Adds one. Whether it is worth waiting for.
    pub(super) fn add(&self, op: Op) -> bool {
        let mut state = self.lock();
        if state.rests
            && let Op::Claim { tell, .. } = op
        {
            let _ = tell.send(Err(ClaimError(
                "the store did not answer a moment ago".to_owned(),
            )));
            return false;
        }
        state.waiting.push_back(op);
        if state.waiting.len() > WAITING_MAX {
            state.waiting.pop_front();
        }
        let is_soon = !state.rests;
        drop(state);
        self.changed.notify_one();
        is_soon
    }

    /// The next batch, none at the end. A key is in it once, or several times with the same wish, which one statement answers.
    pub(super) async fn next(&self) -> Option<Vec<Op>> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return Some(batch);
            }
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Other keys do not wait behind one that comes often: what its first operation does not answer along stays for the next batch.
    fn take(&self) -> Vec<Op> {
        let mut state = self.lock();
        // What is wished for each key; nothing more goes along once another wish of it has stayed behind, for their order holds.
        let mut wishes = HashMap::new();
        let (mut batch, mut behind) = (Vec::new(), Vec::new());
        for _ in 0..LOOKS_MAX {
            if wishes.len() == BATCH_MAX {
                break;
            }
            let Some(op) = state.waiting.pop_front() else {
                break;
            };
            if op.is_abandoned() {
                continue;
            }
            let wish = Some(discriminant(&op));
            let goes = match wishes.entry(op.key()) {
                Entry::Vacant(entry) => {
                    entry.insert(wish);
                    true
                }
                Entry::Occupied(entry) if *entry.get() == wish => true,
                Entry::Occupied(mut entry) => {
                    entry.insert(None);
                    false
                }
            };
            match goes {
                true => batch.push(op),
                false => behind.push(op),
            }
        }
        for op in behind.into_iter().rev() {
            state.waiting.push_front(op);
        }
        batch
    }

    /// The server is away: this waits, in front; claims do not.
    pub(super) fn rest(&self, ops: Vec<Op>) {
        let mut state = self.lock();
        state.rests = true;
        for op in std::mem::take(&mut state.waiting) {
            match op {
                Op::Claim { tell, .. } => {
                    let _ = tell.send(Err(ClaimError("the store does not answer".to_owned())));
                }
                op => state.waiting.push_back(unwatched(op)),
            }
        }
        for op in ops.into_iter().rev() {
            state.waiting.push_front(unwatched(op));
        }
        while state.waiting.len() > WAITING_MAX {
            state.waiting.pop_front();
        }
    }

    /// It is tried again.
    pub(super) fn go_on(&self) {
        self.lock().rests = false;
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics; what a poisoned one lost would let a repeat through, no more.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever waits for it, waits no longer.
fn unwatched(op: Op) -> Op {
    match op {
        Op::Settle { key, .. } => Op::Settle {
            key,
            tell: oneshot::channel().0,
        },
        op => op,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key([n; crate::key::KEY_BYTES])
    }

    type Told = oneshot::Receiver<Result<Verdict, ClaimError>>;

    /// A claim, for as long as its end is held.
    fn claim(queue: &Queue, n: u8) -> Told {
        let (tell, told) = oneshot::channel();
        queue.add(Op::Claim {
            key: key(n),
            redelivered: false,
            tell,
        });
        told
    }

    fn settle(queue: &Queue, n: u8) {
        let tell = oneshot::channel().0;
        queue.add(Op::Settle { key: key(n), tell });
    }

    fn release(queue: &Queue, n: u8) {
        queue.add(Op::Release { key: key(n) });
    }

    /// The next batch, in short.
    fn taken(queue: &Queue) -> Vec<String> {
        let short = |op: &Op| {
            let wish = match op {
                Op::Claim { .. } => "claim",
                Op::Settle { .. } => "settle",
                Op::Release { .. } => "release",
            };
            format!("{wish} {}", op.key().0[0])
        };
        queue.take().iter().map(short).collect()
    }

    #[test]
    fn claims_of_one_key_go_together_and_other_keys_do_not_wait_behind_them() {
        // Goal: a burst of one id is one batch.
        let queue = Queue::default();
        let _told: Vec<Told> = [1, 1, 1, 2, 1, 3].map(|n| claim(&queue, n)).into();
        let all = ["claim 1", "claim 1", "claim 1", "claim 2", "claim 1", "claim 3"];
        assert_eq!(taken(&queue), all);
        assert!(taken(&queue).is_empty());
    }

    #[test]
    fn what_is_wished_of_one_key_keeps_its_order() {
        // Goal: a claim behind a settlement is not put in front of it, while another key passes both.
        let queue = Queue::default();
        let mut told = vec![claim(&queue, 1)];
        settle(&queue, 1);
        told.push(claim(&queue, 1));
        release(&queue, 1);
        settle(&queue, 2);
        settle(&queue, 2);
        told.push(claim(&queue, 3));
        assert_eq!(taken(&queue), ["claim 1", "settle 2", "settle 2", "claim 3"]);
        told.push(claim(&queue, 2));
        assert_eq!(taken(&queue), ["settle 1", "claim 2"]);
        assert_eq!(taken(&queue), ["claim 1"]);
        assert_eq!(taken(&queue), ["release 1"]);
        assert!(taken(&queue).is_empty());
    }

    #[test]
    fn a_claim_that_nobody_waits_for_is_not_made() {
        // Goal: its event went out unclaimed; the next one with its id is answered for itself.
        let queue = Queue::default();
        drop(claim(&queue, 1));
        let _told = claim(&queue, 1);
        assert_eq!(taken(&queue), ["claim 1"]);
    }

    #[test]
    fn a_batch_is_bounded() {
        // Goal: neither many keys nor many operations of one make a batch without bound, and none is lost.
        let queue = Queue::default();
        for n in 0..=BATCH_MAX {
            let mut key = key(0);
            key.0[..8].copy_from_slice(&n.to_le_bytes());
            queue.add(Op::Release { key });
        }
        assert_eq!(queue.take().len(), BATCH_MAX);
        assert_eq!(queue.take().len(), 1);
        for _ in 0..=LOOKS_MAX {
            settle(&queue, 1);
        }
        assert_eq!(queue.take().len(), LOOKS_MAX);
        assert_eq!(queue.take().len(), 1);
    }
}
