//! What is known of a queue in memory: counts, who has what, and what comes again. The messages themselves stay in the file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::embedded::store::Tally;

/// How long a message rests that was given back for the first time.
const REST_MIN: Duration = Duration::from_millis(100);

/// One queue.
#[derive(Default)]
pub(crate) struct QueueState {
    /// What is there, those in hand included, those that were acked not.
    pub(crate) tally: Tally,
    /// What the file says.
    pub(crate) saved: Tally,
    /// Up to here messages were given out at least once, since the file was opened.
    pub(crate) cursor: u64,
    /// The first message behind the cursor, when it was found too large for its consumers: its `seq` and bytes.
    pub(crate) head: Option<(u64, u64)>,
    /// Given back: they come before those behind the cursor. With their bytes.
    pub(crate) returned: BTreeMap<u64, u64>,
    /// Given back by somebody who may well give it back again: they wait a little.
    resting: BTreeMap<(Instant, u64), u64>,
    /// How often messages were delivered before, where they were.
    pub(crate) counts: HashMap<u64, u64>,
    /// Counts that the file does not have.
    pub(crate) unsaved_counts: BTreeSet<u64>,
    /// Acked, and still in the file.
    pub(crate) finished: Vec<u64>,
    /// Messages in hand or on their way.
    pub(crate) unacked: u64,
    /// Its consumers, in turn.
    pub(crate) consumers: Vec<u64>,
    pub(crate) turn: usize,
}

impl QueueState {
    /// Messages that nobody has.
    pub(crate) fn ready(&self) -> u64 {
        self.tally.messages.saturating_sub(self.unacked)
    }

    /// Of those, the ones behind the cursor.
    pub(crate) fn unread(&self) -> u64 {
        let given_back = self.returned.len() + self.resting.len();
        self.ready().saturating_sub(given_back as u64)
    }

    /// Acked: it will be deleted.
    pub(crate) fn finish(&mut self, seq: u64, bytes: u64) {
        self.unacked -= 1;
        self.tally.messages = self.tally.messages.saturating_sub(1);
        self.tally.bytes = self.tally.bytes.saturating_sub(bytes);
        self.finished.push(seq);
    }

    /// Back as if nobody had had it.
    pub(crate) fn put_back(&mut self, seq: u64, bytes: u64) {
        self.unacked -= 1;
        self.returned.insert(seq, bytes);
    }

    /// Back, and counted; at once, or after a rest.
    pub(crate) fn give_back(&mut self, seq: u64, bytes: u64, rest: Option<(Instant, Duration)>) {
        self.unacked -= 1;
        let count = self.counts.entry(seq).or_default();
        *count += 1;
        self.unsaved_counts.insert(seq);
        match rest {
            Some((now, rest_max)) => {
                let doublings = u32::try_from(*count - 1).unwrap_or(u32::MAX).min(16);
                let rest = (REST_MIN * 2_u32.pow(doublings)).min(rest_max);
                self.resting.insert((now + rest, seq), bytes);
            }
            None => {
                self.returned.insert(seq, bytes);
            }
        }
    }

    /// Everything is in the file now.
    pub(crate) fn written(&mut self) {
        for seq in self.finished.drain(..) {
            self.counts.remove(&seq);
        }
        self.unsaved_counts.clear();
        self.saved = self.tally;
    }

    /// Takes it out of everything, because it was removed; `unacked` if somebody had it.
    pub(crate) fn forget(&mut self, seq: u64, unacked: bool) {
        self.unacked -= u64::from(unacked);
        self.returned.remove(&seq);
        self.resting.retain(|(_, resting), _| *resting != seq);
        self.counts.remove(&seq);
        self.unsaved_counts.remove(&seq);
    }

    /// Those that have rested enough are ready.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.resting.first_entry()
            && entry.key().0 <= now
        {
            let ((_, seq), bytes) = entry.remove_entry();
            self.returned.insert(seq, bytes);
        }
    }

    /// When the next one has rested enough.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.resting.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_hand(messages: u64) -> QueueState {
        QueueState {
            tally: Tally {
                messages,
                bytes: 10 * messages,
                mark: messages,
            },
            cursor: messages,
            unacked: messages,
            ..QueueState::default()
        }
    }

    #[test]
    fn what_is_given_back_again_and_again_rests_twice_as_long_each_time() {
        let (mut queue, now, max) = (in_hand(1), Instant::now(), Duration::from_millis(500));
        for expected_ms in [100, 200, 400, 500, 500] {
            queue.give_back(1, 10, Some((now, max)));
            assert_eq!(queue.next_wake(), Some(now + Duration::from_millis(expected_ms)));
            queue.wake(now + Duration::from_millis(expected_ms - 1));
            assert!(queue.returned.is_empty());
            queue.wake(now + Duration::from_millis(expected_ms));
            assert_eq!(queue.returned.remove(&1), Some(10));
            queue.unacked += 1;
        }
        assert_eq!(queue.counts[&1], 5);
    }

    #[test]
    fn every_message_is_counted_in_one_place() {
        let (mut queue, now) = (in_hand(4), Instant::now());
        queue.finish(1, 10);
        queue.put_back(2, 10);
        queue.give_back(3, 10, Some((now, Duration::from_secs(1))));
        assert_eq!((queue.tally.messages, queue.tally.bytes), (3, 30));
        assert_eq!((queue.ready(), queue.unread(), queue.unacked), (2, 0, 1));
        assert_eq!((queue.counts.get(&2), queue.counts.get(&3)), (None, Some(&1)));
        queue.forget(3, false);
        queue.forget(4, true);
        assert_eq!(
            (queue.returned.len(), queue.next_wake(), queue.unacked),
            (1, None, 0)
        );
    }
}
