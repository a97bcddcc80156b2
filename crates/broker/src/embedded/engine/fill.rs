//! Giving messages to consumers: within the transaction, so that the mark of what may be in hand is written before it is.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Engine;
use super::ops::{Delivered, Place};
use crate::embedded::store::{Stored, Trouble};

/// Most messages of one queue in one turn, and their bytes: confirms wait for no more than that.
const MESSAGES_MAX: usize = 256;
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A message that goes out after the commit.
pub(super) struct Handout {
    queue: usize,
    consumer: u64,
    stored: Stored,
    /// It had been given back.
    returned: bool,
}

impl Engine {
    /// Takes what consumers have room for.
    pub(super) fn fill(&mut self, handouts: &mut Vec<Handout>) -> Result<(), Trouble> {
        self.more = false;
        for queue in 0..self.queues.len() {
            let (mut messages, mut bytes) = (0, 0);
            while let Some(handout) = self.next_for(queue)? {
                messages += 1;
                bytes += handout.stored.bytes;
                handouts.push(handout);
                if messages == MESSAGES_MAX || bytes >= BYTES_MAX {
                    self.more = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The queue's next message, given to the next consumer that has room for it.
    fn next_for(&mut self, id: usize) -> Result<Option<Handout>, Trouble> {
        let mut from = 0;
        while let Some((&seq, &bytes)) = self.queues[id].returned.range(from..).next() {
            let Some(consumer) = self.with_room(id, bytes) else {
                return Ok(None);
            };
            if let Some(stored) = self.store.read(id, seq)? {
                self.queues[id].returned.remove(&seq);
                return Ok(Some(self.give(id, consumer, stored, true)));
            }
            // Removed within this transaction; it is forgotten with the commit.
            from = seq + 1;
        }
        let queue = &self.queues[id];
        let bytes = queue.head.map_or(0, |(_, bytes)| bytes);
        if queue.unread() == 0 || self.with_room(id, bytes).is_none() {
            return Ok(None);
        }
        let Some(stored) = self.store.next(id, self.queues[id].cursor)? else {
            return Ok(None);
        };
        match self.with_room(id, stored.bytes) {
            Some(consumer) => {
                self.queues[id].head = None;
                self.queues[id].cursor = stored.seq;
                Ok(Some(self.give(id, consumer, stored, false)))
            }
            None => {
                self.queues[id].head = Some((stored.seq, stored.bytes));
                Ok(None)
            }
        }
    }

    /// In turn, so that consumers of one queue share it.
    fn with_room(&self, id: usize, bytes: u64) -> Option<u64> {
        let queue = &self.queues[id];
        let count = queue.consumers.len();
        (0..count)
            .map(|step| queue.consumers[(queue.turn + step) % count])
            .find(|consumer| self.consumers[consumer].has_room(bytes))
    }

    fn give(&mut self, id: usize, consumer: u64, stored: Stored, returned: bool) -> Handout {
        let queue = &mut self.queues[id];
        queue.unacked += 1;
        queue.turn = queue.turn.wrapping_add(1);
        queue.tally.mark = queue.tally.mark.max(stored.seq);
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.unacked.insert(stored.seq, stored.bytes);
            consumer.ledger.fetch_add(stored.bytes, Ordering::AcqRel);
        }
        Handout {
            queue: id,
            consumer,
            stored,
            returned,
        }
    }

    /// As if they had not been given; those behind a restored cursor are read again.
    pub(super) fn take_back(&mut self, handouts: Vec<Handout>) {
        for handout in handouts {
            let Stored { seq, bytes, .. } = handout.stored;
            let queue = &mut self.queues[handout.queue];
            queue.unacked -= 1;
            queue.head = None;
            if handout.returned {
                queue.returned.insert(seq, bytes);
            }
            if let Some(consumer) = self.consumers.get_mut(&handout.consumer) {
                consumer.unacked.remove(&seq);
                consumer.ledger.fetch_sub(bytes, Ordering::AcqRel);
            }
        }
    }

    pub(super) fn send(&self, handouts: Vec<Handout>) {
        let received_at = Instant::now();
        for handout in handouts {
            let Some(consumer) = self.consumers.get(&handout.consumer) else {
                continue;
            };
            let Stored { seq, bytes, message } = handout.stored;
            let counts = &self.queues[handout.queue].counts;
            let delivered = Delivered {
                message,
                delivery_count: counts.get(&seq).copied().unwrap_or(0),
                received_at,
                place: Place {
                    asks: self.back.clone(),
                    session: consumer.session.clone(),
                    consumer: handout.consumer,
                    seq,
                    bytes,
                    ledger: consumer.ledger.clone(),
                    handed_out: false,
                    settled: false,
                },
            };
            // Whoever is gone gives it back by dropping it.
            let _ = consumer.feed.send(delivered);
        }
    }
}
