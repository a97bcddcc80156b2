//! One turn: what was asked, in one transaction, and the answers.

use std::mem;
use std::time::Instant;

use hooklane_policy::ladder::LEVELS_MS;
use tracing::warn;

use super::fill::Handout;
use super::ops::{Publish, Target};
use super::queue::QueueState;
use super::{Engine, Look, QUEUES, Queue};
use crate::embedded::store::{Insert, Tally, Trouble};
use crate::port::{BrokerError, Depth};

/// Most delayed messages that are moved in one transaction: publishes wait for no more than that.
const MOVES_MAX: usize = 512;

/// Most bytes that are published in one transaction, and one body more: the reserve has to be larger than what the log becomes.
const PUBLISH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a transaction does, to be told after it, or undone.
struct Staged {
    published: Vec<Publish>,
    refused: Vec<Publish>,
    handouts: Vec<Handout>,
    /// What was removed, and whether it was there.
    removed: Vec<(usize, u64)>,
    before: Before,
}

/// What a transaction changes in memory, as it was.
struct Before {
    tallies: [Tally; QUEUES],
    cursors: [u64; QUEUES],
    levels: [u64; LEVELS_MS.len()],
    next_due_ms: Option<i64>,
    next_seq: u64,
}

impl Engine {
    pub(super) fn turn(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        self.queues.iter_mut().for_each(|queue| queue.wake(now));
        self.probe()?;
        if self.blocked.is_none() {
            match self.secure() {
                Err(Trouble::NoRoom(reason)) => self.block(reason),
                secured => secured?,
            }
        }
        let taking = self.blocked.is_none();
        let mut done = self.attempt(taking);
        if taking && let Err(Trouble::NoRoom(reason)) = done {
            self.block(reason);
            // Room in the log, if the file can take what is in it.
            match self.store.checkpoint() {
                Err(Trouble::NoRoom(_)) => {}
                checkpointed => checkpointed?,
            }
            // What needs no more room than there is goes on.
            done = self.attempt(false);
        }
        if let Err(Trouble::NoRoom(reason)) = done {
            self.go_on_in_memory(&reason)?;
            done = Ok(());
        }
        done?;
        self.answer_looks()?;
        match self.store.checkpoint_if_long() {
            // The log grows meanwhile, and nothing is lost.
            Err(Trouble::NoRoom(reason)) => {
                self.block(reason);
                Ok(())
            }
            checkpointed => checkpointed,
        }
    }

    /// One transaction, with what needs room, or without.
    fn attempt(&mut self, taking: bool) -> Result<(), Trouble> {
        let mut staged = Staged {
            published: Vec::new(),
            refused: Vec::new(),
            handouts: Vec::new(),
            removed: Vec::new(),
            before: self.before(),
        };
        match self.transact(taking, &mut staged) {
            Ok(()) => {
                self.confirm(staged);
                Ok(())
            }
            Err(trouble) => {
                self.store.roll_back();
                self.undo(staged);
                Err(trouble)
            }
        }
    }

    fn transact(&mut self, taking: bool, staged: &mut Staged) -> Result<(), Trouble> {
        let durable = (taking && !self.publishes.is_empty()) || !self.removals.is_empty();
        self.store.begin(durable)?;
        self.delete_finished()?;
        self.remove(staged)?;
        self.write_counts()?;
        if taking {
            self.move_due()?;
            self.insert(staged)?;
        }
        self.fill(&mut staged.handouts)?;
        self.more |= taking && !self.publishes.is_empty();
        if self.write_tallies()? {
            self.store.save_state(self.next_seq, &self.clock.save())?;
        }
        self.store.commit()
    }

    fn delete_finished(&self) -> Result<(), Trouble> {
        for (id, queue) in self.queues.iter().enumerate() {
            for seq in &queue.finished {
                self.store.delete(id, *seq)?;
                if queue.counts.contains_key(seq) {
                    self.store.forget_count(id, *seq)?;
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, staged: &mut Staged) -> Result<(), Trouble> {
        for removal in &self.removals {
            let (id, seq) = (removal.queue, removal.seq);
            // Twice removed, or acked meanwhile, is removed.
            let Some(bytes) = self.store.delete(id, seq)? else {
                continue;
            };
            self.store.forget_count(id, seq)?;
            let tally = &mut self.queues[id].tally;
            tally.messages = tally.messages.saturating_sub(1);
            tally.bytes = tally.bytes.saturating_sub(bytes);
            staged.removed.push((id, seq));
        }
        Ok(())
    }

    fn write_counts(&self) -> Result<(), Trouble> {
        for (id, queue) in self.queues.iter().enumerate() {
            for seq in &queue.unsaved_counts {
                if let Some(count) = queue.counts.get(seq) {
                    self.store.save_count(id, *seq, *count)?;
                }
            }
        }
        Ok(())
    }

    fn move_due(&mut self) -> Result<(), Trouble> {
        let now_ms = self.clock.now_ms();
        if self.next_due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return Ok(());
        }
        let deliveries = index(Queue::Deliveries);
        for (delayed, level) in self.store.due(now_ms, MOVES_MAX)? {
            let bytes = self.store.promote(delayed, deliveries, self.next_seq)?;
            self.next_seq += 1;
            let tally = &mut self.queues[deliveries].tally;
            tally.messages += 1;
            tally.bytes += bytes;
            if let Some(waiting) = self.levels.get_mut(level) {
                *waiting = waiting.saturating_sub(1);
            }
        }
        self.next_due_ms = self.store.next_due()?;
        Ok(())
    }

    fn insert(&mut self, staged: &mut Staged) -> Result<(), Trouble> {
        let mut bytes = 0;
        let mut room = self.room_for_events()?;
        while bytes < PUBLISH_BYTES_MAX
            && let Some(publish) = self.publishes.pop_front()
        {
            bytes += publish.bytes();
            if publish.reply.is_closed() {
                continue;
            }
            if !self.fits(&publish, room) {
                staged.refused.push(publish);
                continue;
            }
            room = room.saturating_sub(publish.bytes());
            publish.sent.store(true, std::sync::atomic::Ordering::Release);
            let seq = self.next_seq;
            self.next_seq += 1;
            let inserted = match publish.target {
                Target::Queue(id) => {
                    let tally = &mut self.queues[id].tally;
                    tally.messages += 1;
                    tally.bytes += publish.bytes();
                    let (way, head) = (publish.way, publish.head.as_deref());
                    let body = &publish.body;
                    self.store.insert(id, &Insert { seq, way, head, body })
                }
                Target::Delay(level) => {
                    self.levels[level] += 1;
                    // The clock rounds down: one more, so that it is never early.
                    let delay_ms = i64::try_from(LEVELS_MS[level]).unwrap_or(i64::MAX);
                    let due_ms = self.clock.now_ms().saturating_add(delay_ms).saturating_add(1);
                    self.next_due_ms = Some(self.next_due_ms.map_or(due_ms, |next| next.min(due_ms)));
                    self.store.insert_delayed(seq, level, due_ms, &publish.body)
                }
            };
            staged.published.push(publish);
            inserted?;
        }
        Ok(())
    }

    /// Bytes that the file has for events, where it is bounded. A quarter of it is for what follows from them: if they could fill it, their
    /// retries could not be written, no attempt would begin, and it would stay full.
    fn room_for_events(&self) -> Result<u64, Trouble> {
        match self.limits.file_bytes_max {
            Some(bytes) if !self.publishes.is_empty() => {
                Ok((bytes - bytes / 4).saturating_sub(self.store.used_bytes()?))
            }
            _ => Ok(u64::MAX),
        }
    }

    /// Only what comes from outside is bounded, and history: what was accepted must be able to go on. What is told here first yields first.
    fn fits(&self, publish: &Publish, room: u64) -> bool {
        let Target::Queue(id) = publish.target else {
            return true;
        };
        let limits = &self.limits;
        let file_bytes = limits.file_bytes_max.unwrap_or(0);
        let (left_to_others, bytes_max, messages_max) = match Queue::ALL[id] {
            Queue::Contents => (file_bytes / 4, limits.records_bytes_max, u64::MAX),
            Queue::Records => (file_bytes / 8, limits.records_bytes_max, u64::MAX),
            Queue::Events | Queue::Ordered => (0, limits.events_bytes_max, limits.events_messages_max),
            _ => return true,
        };
        if publish.bytes().saturating_add(left_to_others) > room {
            return false;
        }
        let Tally { messages, bytes, .. } = self.queues[id].tally;
        messages == 0 || (messages < messages_max && bytes.saturating_add(publish.bytes()) <= bytes_max)
    }

    /// Whether there was anything to write.
    fn write_tallies(&self) -> Result<bool, Trouble> {
        let mut written = self.next_seq != self.saved_seq;
        for (id, queue) in self.queues.iter().enumerate() {
            if queue.tally != queue.saved {
                self.store.save_tally(id, &queue.tally)?;
                written = true;
            }
        }
        Ok(written)
    }

    fn before(&self) -> Before {
        Before {
            tallies: self.queues.each_ref().map(|queue| queue.tally),
            cursors: self.queues.each_ref().map(|queue| queue.cursor),
            levels: self.levels,
            next_due_ms: self.next_due_ms,
            next_seq: self.next_seq,
        }
    }

    fn undo(&mut self, mut staged: Staged) {
        self.take_back(mem::take(&mut staged.handouts));
        let before = staged.before;
        for (id, queue) in self.queues.iter_mut().enumerate() {
            queue.tally = before.tallies[id];
            queue.cursor = before.cursors[id];
        }
        self.levels = before.levels;
        self.next_due_ms = before.next_due_ms;
        self.next_seq = before.next_seq;
        // Before those that came later; the refused ones are judged again.
        for publish in staged.published.into_iter().rev().chain(staged.refused) {
            publish.sent.store(false, std::sync::atomic::Ordering::Release);
            self.publishes.push_front(publish);
        }
    }

    fn confirm(&mut self, staged: Staged) {
        for (id, seq) in staged.removed {
            let holder = self
                .consumers
                .values_mut()
                .filter(|consumer| consumer.queue == id)
                .find_map(|consumer| {
                    let held = consumer.unacked.remove(&seq);
                    consumer.tell_if_settled();
                    held
                });
            self.queues[id].forget(seq, holder.is_some());
        }
        self.queues.iter_mut().for_each(QueueState::written);
        self.saved_seq = self.next_seq;
        // Whoever asked may have gone; it is done all the same.
        for reply in self.acked.drain(..) {
            let _ = reply.send(Ok(()));
        }
        for removal in self.removals.drain(..) {
            let _ = removal.reply.send(Ok(()));
        }
        for publish in staged.published {
            let _ = publish.reply.send(Ok(()));
        }
        for publish in staged.refused {
            let _ = publish.reply.send(Err(BrokerError::Full));
        }
        self.send(staged.handouts);
    }

    /// When not even deletions can be written: acked messages are done as long as this process lives, and messages go out
    /// uncounted. All of it is written as soon as there is room.
    fn go_on_in_memory(&mut self, reason: &str) -> Result<(), Trouble> {
        self.block(reason.to_owned());
        for reply in self.acked.drain(..) {
            let _ = reply.send(Ok(()));
        }
        for removal in self.removals.drain(..) {
            let unavailable = super::ShelfError::Unavailable(reason.to_owned());
            let _ = removal.reply.send(Err(unavailable));
        }
        let mut handouts = Vec::new();
        let filled = self.fill(&mut handouts);
        self.send(handouts);
        filled
    }

    fn answer_looks(&mut self) -> Result<(), Trouble> {
        for look in mem::take(&mut self.looks) {
            match look {
                Look::Depth(id, reply) => {
                    let queue = &self.queues[id];
                    let _ = reply.send(Depth {
                        messages: queue.ready(),
                        consumers: queue.consumers.len() as u64,
                    });
                }
                Look::DelayDepths(reply) => {
                    let depth = |messages| Depth {
                        messages,
                        consumers: 0,
                    };
                    let _ = reply.send(self.levels.map(depth).to_vec());
                }
                Look::Opened(id, holder, reply) => self.open_shelf(id, holder, reply),
                Look::Read(read) => self.read_shelf(read)?,
                Look::Done(reply) => {
                    let _ = reply.send(());
                }
            }
        }
        Ok(())
    }

    /// Counts and marks as nobody has anything in hand any more.
    pub(super) fn write_at_the_end(&mut self) -> Result<(), Trouble> {
        match self.write_all() {
            // Then it is as after a kill.
            Err(Trouble::NoRoom(reason)) => {
                warn!("what was acked last could not be written, and comes again: {reason}");
                Ok(())
            }
            written => written,
        }
    }

    fn write_all(&mut self) -> Result<(), Trouble> {
        self.store.begin(true)?;
        self.delete_finished()?;
        self.write_counts()?;
        self.write_tallies()?;
        self.store.save_state(self.next_seq, &self.clock.save())?;
        self.store.commit()
    }
}

/// A queue's place in [`Queue::ALL`].
pub(crate) fn index(queue: Queue) -> usize {
    match queue {
        Queue::Events => 0,
        Queue::Ordered => 1,
        Queue::Deliveries => 2,
        Queue::Suspects => 3,
        Queue::Dead => 4,
        Queue::Faults => 5,
        Queue::Contents => 6,
        Queue::Records => 7,
        Queue::Deaths => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_found_at_its_index() {
        for queue in Queue::ALL {
            assert_eq!(Queue::ALL[index(queue)], queue);
        }
    }
}
