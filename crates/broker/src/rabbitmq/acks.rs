//! The acks of one channel, many in one frame.
//!
//! Whoever acks while nobody is sending takes it over: it lets everything run first that is ready to, and then sends what has come
//! meanwhile. So an ack goes out at once while there is little to do, and under load one frame acks what was finished in the same
//! round: for the broker, one command to its queue instead of one for each message.
//!
//! A frame with `multiple` acks everything up to its tag, also what nobody has seen. So only tags below the first one that is still
//! open are acked together; the broker numbers the deliveries of a channel 1, 2, 3 …, and a number that was passed over counts as
//! open. How many are open is bounded by the prefetch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use lapin::Acker;
use lapin::options::BasicAckOptions;

/// See the module.
#[derive(Default)]
pub(crate) struct Acks {
    state: Mutex<State<Acker>>,
    /// Whoever sends: frames go out in the order in which they were made, since one that acks together must not overtake one that
    /// acks a lower tag alone.
    sending: tokio::sync::Mutex<()>,
}

struct State<A> {
    /// The tag that comes next.
    next: u64,
    /// Given to us and not acked by whoever has it; those included that never arrived, or were dropped.
    open: BTreeSet<u64>,
    /// Acked, and not sent yet.
    waiting: BTreeMap<u64, A>,
}

impl<A> Default for State<A> {
    fn default() -> State<A> {
        State {
            next: 1,
            open: BTreeSet::new(),
            waiting: BTreeMap::new(),
        }
    }
}

/// One frame.
struct Frame<A> {
    acker: A,
    multiple: bool,
}

impl<A> State<A> {
    fn arrived(&mut self, tag: u64) {
        if tag >= self.next {
            self.open.extend(self.next..=tag);
            self.next = tag + 1;
        }
    }

    fn acked(&mut self, tag: u64, acker: A) {
        self.open.remove(&tag);
        self.waiting.insert(tag, acker);
    }

    /// What is to be sent for all that waits: one frame for those below the first open tag, and one for each above.
    fn frames(&mut self) -> Vec<Frame<A>> {
        let mut below = std::mem::take(&mut self.waiting);
        let above = match self.open.first() {
            Some(open) => below.split_off(open),
            None => BTreeMap::new(),
        };
        let multiple = below.len() > 1;
        let last = below.pop_last();
        let together = last.map(|(_, acker)| Frame { acker, multiple });
        let alone = above.into_values().map(|acker| Frame {
            acker,
            multiple: false,
        });
        together.into_iter().chain(alone).collect()
    }
}

impl Acks {
    fn lock(&self) -> MutexGuard<'_, State<Acker>> {
        // Nothing that runs under this lock leaves things half done when it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A delivery of the channel has come, whatever becomes of it.
    pub(crate) fn arrived(&self, tag: u64) {
        self.lock().arrived(tag);
    }

    /// Acks a delivery. It may be that somebody else sends it: then this returns before. Somebody who is broken off before sending leaves
    /// it to the next ack, or to `flush`.
    pub(crate) async fn ack(&self, tag: u64, acker: Acker) {
        self.lock().acked(tag, acker);
        // Whoever sends looks again after it has let go: what came too late for it is taken by one of us.
        while let Ok(turn) = self.sending.try_lock() {
            tokio::task::yield_now().await;
            self.send().await;
            drop(turn);
            if self.lock().waiting.is_empty() {
                return;
            }
        }
    }

    /// Sends what waits: after this every ack that was given before is on its way.
    pub(crate) async fn flush(&self) {
        let _turn = self.sending.lock().await;
        self.send().await;
    }

    /// Sends until nothing waits. All frames of one round are on their way at the first poll: whoever is broken off later has lost none.
    /// An error is the channel's: its messages come again.
    async fn send(&self) {
        loop {
            let frames = self.lock().frames();
            if frames.is_empty() {
                return;
            }
            let acks = frames.into_iter().map(|Frame { acker, multiple }| async move {
                // Neither does a second answer change anything.
                let _ = acker.ack(BasicAckOptions { multiple }).await;
            });
            join_all(acks).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a broker has given and not got back, as RabbitMQ keeps it.
    #[derive(Default)]
    struct Broker {
        unacked: BTreeSet<u64>,
    }

    impl Broker {
        fn take(&mut self, frame: &Frame<u64>) {
            // RabbitMQ ends the channel over a tag that it does not know.
            assert!(
                self.unacked.contains(&frame.acker),
                "tag {} is unknown",
                frame.acker
            );
            match frame.multiple {
                true => self.unacked = self.unacked.split_off(&(frame.acker + 1)),
                false => drop(self.unacked.remove(&frame.acker)),
            }
        }
    }

    fn tags(frames: &[Frame<u64>]) -> Vec<(u64, bool)> {
        frames.iter().map(|frame| (frame.acker, frame.multiple)).collect()
    }

    #[test]
    fn what_is_below_the_first_open_one_goes_in_one_frame() {
        let mut state = State::default();
        state.arrived(6);
        for tag in [3, 1, 2, 5] {
            state.acked(tag, tag);
        }
        assert_eq!(tags(&state.frames()), [(3, true), (5, false)]);
        assert!(state.frames().is_empty());
        // The gap closes: 5 was sent already, so it cannot stand for 4.
        state.acked(4, 4);
        assert_eq!(tags(&state.frames()), [(4, false)]);
        state.acked(6, 6);
        assert_eq!(tags(&state.frames()), [(6, false)]);
    }

    proptest! {
        /// Goal: whatever the order, the broker hears of exactly what was acked: nothing that is in hand, was dropped or never came.
        #[test]
        fn no_frame_acks_what_is_open(steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 1..200)) {
            let (mut state, mut broker) = (State::default(), Broker::default());
            let (mut given, mut in_hand, mut dropped, mut waiting) = (0, Vec::new(), BTreeSet::new(), BTreeSet::new());
            for (step, which) in steps {
                match step {
                    // One comes, and may be the first that is seen after some that are not.
                    0 => {
                        let unseen = which.index(3) as u64;
                        for tag in given + 1..=given + unseen {
                            broker.unacked.insert(tag);
                            dropped.insert(tag);
                        }
                        given += unseen + 1;
                        broker.unacked.insert(given);
                        state.arrived(given);
                        in_hand.push(given);
                    }
                    1 if !in_hand.is_empty() => {
                        let tag = in_hand.swap_remove(which.index(in_hand.len()));
                        state.acked(tag, tag);
                        waiting.insert(tag);
                    }
                    2 if !in_hand.is_empty() => {
                        dropped.insert(in_hand.swap_remove(which.index(in_hand.len())));
                    }
                    3 => {
                        for frame in state.frames() {
                            broker.take(&frame);
                        }
                        waiting.clear();
                    }
                    _ => {}
                }
                let open: BTreeSet<u64> = in_hand.iter().chain(&dropped).chain(&waiting).copied().collect();
                prop_assert_eq!(&broker.unacked, &open);
            }
        }
    }
}
