//! What waits for the next batch.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::waiting::Waiting;
use crate::claims::{ClaimError, Verdict};
use crate::key::Key;

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
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(self, Op::Claim { tell, .. } if tell.is_closed())
    }
}

#[derive(Default)]
struct State {
    waiting: Waiting,
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
        state.waiting.add(op);
        let is_soon = !state.rests;
        drop(state);
        self.changed.notify_one();
        is_soon
    }

    /// The next batch, see [`Waiting::take`]; none at the end.
    pub(super) async fn next(&self) -> Option<Vec<Op>> {
        loop {
            let batch = self.lock().waiting.take();
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

    /// The server is away: this waits, in front; claims do not.
    pub(super) fn rest(&self, ops: Vec<Op>) {
        let mut state = self.lock();
        state.rests = true;
        let behind = std::mem::take(&mut state.waiting);
        for op in ops.into_iter().chain(behind) {
            match op {
                Op::Claim { tell, .. } => {
                    let _ = tell.send(Err(ClaimError("the store does not answer".to_owned())));
                }
                op => state.waiting.add(unwatched(op)),
            }
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
