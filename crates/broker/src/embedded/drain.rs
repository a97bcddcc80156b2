//! Moving what waits here to another broker. Nothing else has the directory meanwhile. What is taken is still in the file until it
//! is removed: published, confirmed, and only then removed, a message is here, or there, or both.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use hooklane_policy::ladder;
use hooklane_types::{Internal, RawMessage};

use super::clock::{Clock, Host};
use super::directory::{LockedDirectory, OpenDirectory, OpenError};
use super::engine::index;
use super::file::FILE;
use super::lock::DirectoryLock;
use super::record;
use super::reserve::Reserve;
use super::settings::EmbeddedSettings;
use super::store::{Store, Tally, Trouble};
use crate::port::{Destination, Outgoing, Queue, UNREADABLE_HEADER};
use crate::topology::{Exchange, Names};

/// Most messages taken at once.
const MESSAGES_MAX: usize = 256;
/// Most bytes of bodies taken at once; one message may be larger.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// What is taken first: what is on its way, then what waits on the delay ladder (None), then the history and the shelves.
const ORDER: [Option<Queue>; Queue::ALL.len() + 1] = [
    Some(Queue::Events),
    Some(Queue::Ordered),
    Some(Queue::Suspects),
    Some(Queue::Deliveries),
    None,
    Some(Queue::Contents),
    Some(Queue::Records),
    Some(Queue::Deaths),
    Some(Queue::Dead),
    Some(Queue::Faults),
];

/// A data directory that is being emptied.
pub struct Drain {
    store: Store,
    names: Names,
    path: PathBuf,
    reserve: Reserve,
    clock: Clock,
    tallies: [Tally; Queue::ALL.len()],
    delayed: u64,
    next_seq: u64,
    _lock: DirectoryLock,
}

/// Where a message lies: its number, in a queue or on the delay ladder (None).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    queue: Option<Queue>,
    seq: u64,
}

impl Taken {
    /// The queue, as a person knows it.
    pub fn queue_name(&self) -> &'static str {
        self.queue.map_or("delayed", Queue::name)
    }
}

/// A message that waits.
#[derive(Debug)]
pub struct Waiting {
    /// To remove it.
    pub taken: Taken,
    /// Where it has to go.
    pub to: Destination,
    /// The message.
    pub message: Outgoing,
}

/// Why it does not go on. What was not removed is still there.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// No room for removing: not even what was put by for it suffices.
    #[error("{} cannot be written to ({why}): make room, then run it again", path.display())]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// In SQLite's words.
        why: String,
    },
    /// The file, or the disk under it, cannot be relied on.
    #[error("{} is damaged ({why}): restore it from a copy, then run it again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// In SQLite's words.
        why: String,
    },
}

impl Drain {
    /// Opens the directory, which must be there.
    ///
    /// # Errors
    /// See [`OpenError`]: `Held` while `hooklane serve` runs on it.
    pub fn open(settings: &EmbeddedSettings) -> Result<Drain, OpenError> {
        let OpenDirectory { connection, lock, .. } = LockedDirectory::lock(settings.clone())?.open()?;
        let path = settings.directory.join(FILE);
        let store = Store::new(connection, settings.names.clone(), settings.synchronous);
        let read = || -> Result<_, Trouble> {
            let saved = store.state()?;
            let mut tallies = [Tally::default(); Queue::ALL.len()];
            for (id, tally) in tallies.iter_mut().enumerate() {
                *tally = store.tally(id)?;
            }
            Ok((saved, tallies, store.levels()?.iter().sum()))
        };
        let (saved, tallies, delayed) =
            read().map_err(|trouble| super::unusable(&settings.directory, trouble))?;
        let clock = Clock::resume(saved.as_ref().map(|(_, clock)| clock), &Host::read());
        Ok(Drain {
            store,
            names: settings.names.clone(),
            path,
            reserve: Reserve::find(&settings.directory),
            clock,
            tallies,
            delayed,
            next_seq: saved.map_or(1, |(next_seq, _)| next_seq),
            _lock: lock,
        })
    }

    /// Messages that are still here.
    pub fn messages(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.messages).sum::<u64>() + self.delayed
    }

    /// Some of them: oldest first within a queue, what is on its way before the shelves. Empty when nothing is left. An event that
    /// bears no id at all gets one from `fresh_id`, and keeps it: taken again, it is the same event.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub fn take(&mut self, fresh_id: impl FnMut() -> String) -> Result<Vec<Waiting>, DrainError> {
        self.take_some(fresh_id).map_err(|trouble| self.explain(trouble))
    }

    fn take_some(&mut self, mut fresh_id: impl FnMut() -> String) -> Result<Vec<Waiting>, Trouble> {
        for place in ORDER {
            let waiting = match place {
                Some(queue) => self.take_from(queue, &mut fresh_id)?,
                None => self.take_delayed()?,
            };
            if !waiting.is_empty() {
                return Ok(waiting);
            }
        }
        Ok(Vec::new())
    }

    fn take_from(
        &mut self,
        queue: Queue,
        fresh_id: &mut impl FnMut() -> String,
    ) -> Result<Vec<Waiting>, Trouble> {
        let (mut waiting, mut bytes, mut after) = (Vec::new(), 0, 0);
        let mut named = Vec::new();
        while waiting.len() < MESSAGES_MAX
            && bytes < BYTES_MAX
            && let Some(stored) = self.store.next(index(queue), after)?
        {
            after = stored.seq;
            bytes += stored.message.body.len();
            let mut message = stored.message;
            if message.exchange == self.names.exchange(Exchange::Events) && bears_no_id(&message) {
                message.properties.message_id = Some(fresh_id());
                named.push((
                    stored.seq,
                    message.routing_key.clone(),
                    message.properties.clone(),
                ));
            }
            waiting.push(Waiting {
                taken: Taken {
                    queue: Some(queue),
                    seq: stored.seq,
                },
                to: self.destination(queue, &message),
                message: Outgoing {
                    properties: message.properties,
                    body: message.body,
                },
            });
        }
        if !named.is_empty() {
            self.transact(|drain| {
                for (seq, routing_key, properties) in &named {
                    // It was short enough for a longer one.
                    let head = record::head(routing_key.clone(), properties.clone())
                        .map_err(|error| Trouble::Broken(error.to_string()))?;
                    drain.store.save_head(index(queue), *seq, &head)?;
                }
                Ok(())
            })?;
        }
        Ok(waiting)
    }

    fn destination(&self, queue: Queue, message: &RawMessage) -> Destination {
        if message.exchange == self.names.exchange(Exchange::Events) {
            let routing_key = message.routing_key.clone();
            Destination::ProducerEvents { routing_key }
        } else if message.exchange == self.names.exchange(Exchange::Ingest) {
            Destination::IngestedEvents
        } else {
            Destination::Internal(queue)
        }
    }

    /// What is left of a delay is made there, by as many hops as it needs.
    fn take_delayed(&mut self) -> Result<Vec<Waiting>, Trouble> {
        let now_ms = self.clock.now_ms();
        let delayed = self.store.delayed(MESSAGES_MAX, BYTES_MAX)?;
        Ok(delayed
            .into_iter()
            .map(|(seq, due_ms, body)| {
                let rest_ms = u64::try_from(due_ms.saturating_sub(now_ms)).unwrap_or(0);
                let (to, body) = delay(rest_ms, body);
                Waiting {
                    taken: Taken { queue: None, seq },
                    to,
                    message: Outgoing::internal(body),
                }
            })
            .collect())
    }

    /// Removes what has arrived there.
    ///
    /// # Errors
    /// See [`DrainError`].
    pub fn remove(&mut self, arrived: &[Taken]) -> Result<(), DrainError> {
        let removed = match self.transact(|drain| drain.remove_all(arrived)) {
            // It was put by for this. The next `serve` takes it anew.
            Err(Trouble::NoRoom(_)) if self.reserve.is_held() => {
                self.reserve.release();
                self.transact(|drain| drain.remove_all(arrived))
            }
            removed => removed,
        };
        removed.map_err(|trouble| self.explain(trouble))
    }

    fn remove_all(&mut self, arrived: &[Taken]) -> Result<(), Trouble> {
        for taken in arrived {
            match taken.queue {
                Some(queue) => {
                    let id = index(queue);
                    if let Some(bytes) = self.store.delete(id, taken.seq)? {
                        let tally = &mut self.tallies[id];
                        tally.messages = tally.messages.saturating_sub(1);
                        tally.bytes = tally.bytes.saturating_sub(bytes);
                    }
                    self.store.forget_count(id, taken.seq)?;
                }
                None => {
                    self.delayed = self.delayed.saturating_sub(self.store.delete_delayed(taken.seq)?);
                }
            }
        }
        for (id, tally) in self.tallies.iter().enumerate() {
            self.store.save_tally(id, tally)?;
        }
        Ok(())
    }

    /// All of it or nothing. What is committed is so whatever the checkpoint after it says: the log grows meanwhile, and the next commit
    /// says whether it still can.
    fn transact(&mut self, work: impl FnOnce(&mut Drain) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let before = (self.tallies, self.delayed);
        self.store.begin(true)?;
        let done = work(self)
            .and_then(|()| self.store.save_state(self.next_seq, &self.clock.save()))
            .and_then(|()| self.store.commit());
        if done.is_err() {
            self.store.roll_back();
            (self.tallies, self.delayed) = before;
            return done;
        }
        if let Err(trouble) = self.store.checkpoint_if_long() {
            tracing::warn!(?trouble, "the log cannot be written back into the file and grows");
        }
        Ok(())
    }

    fn explain(&self, trouble: Trouble) -> DrainError {
        let path = self.path.clone();
        match trouble {
            Trouble::NoRoom(why) => DrainError::NoRoom { path, why },
            Trouble::Broken(why) => DrainError::Corrupt { path, why },
        }
    }
}

/// A CloudEvent bears its id elsewhere, and a `message_id` beside it means nothing. What cannot be read stays as it is.
fn bears_no_id(message: &RawMessage) -> bool {
    let properties = &message.properties;
    properties.message_id.as_deref().unwrap_or_default().is_empty()
        && properties.header(UNREADABLE_HEADER).is_none()
}

fn delay(rest_ms: u64, body: Bytes) -> (Destination, Bytes) {
    match Internal::decode(body.clone()) {
        Ok(Internal::Delivery(mut delivery)) => {
            let rest = Duration::from_millis(rest_ms.saturating_add(delivery.remaining_ms));
            let hop = ladder::first_hop(rest);
            delivery.remaining_ms = hop.map_or(0, |hop| hop.remaining_ms);
            let to = hop.map_or(Destination::Internal(Queue::Deliveries), |hop| {
                Destination::Delay { level: hop.level }
            });
            (to, Internal::Delivery(delivery).encode())
        }
        // A dispatcher judges it, now as well as later.
        _ => (Destination::Internal(Queue::Deliveries), body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_delivery_goes_to_whoever_judges_it() {
        let (to, body) = delay(5_000, Bytes::from_static(b"rubbish"));
        assert_eq!(
            (to, &body[..]),
            (Destination::Internal(Queue::Deliveries), &b"rubbish"[..])
        );
    }
}
