//! The one thread that owns the file. It takes whatever was asked meanwhile, carries all of it out in one transaction, and
//! answers after the commit: so many publishers share one `fsync`, and nobody hears of what could still be undone.

mod consumer;
mod fill;
pub(crate) mod ops;
mod queue;
mod shelves;
mod turn;

pub(crate) use turn::index;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use hooklane_policy::ladder::LEVELS_MS;
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::RawMessage;
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};

use self::consumer::Consumer;
use self::ops::{Ask, OpenedShelf, Publish, Remove, Session, Settle, Settlement};
use self::queue::QueueState;
use super::clock::{Clock, Host};
use super::reserve::{RESERVE_BYTES, Reserve};
use super::settings::EmbeddedSettings;
use super::store::{Store, Tally, Trouble};
use crate::port::{AckError, BrokerState, Depth, Queue};
use crate::shelf::{Holder, ShelfError};

const QUEUES: usize = Queue::ALL.len();
/// Most that is asked within one transaction; bodies are bounded by the window of publishes.
const ASKS_MAX: usize = 4_096;
/// While messages are delayed, the clock is looked at so often at least: a system that slept has not waited.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// How often it is tried whether there is room again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// An answer that is given after the commit.
enum Look {
    Depth(usize, oneshot::Sender<Depth>),
    DelayDepths(oneshot::Sender<Vec<Depth>>),
    Opened(usize, Holder, oneshot::Sender<Result<OpenedShelf, ShelfError>>),
    Read(ReadShelf),
    Done(oneshot::Sender<()>),
}

struct ReadShelf {
    queue: usize,
    after: u64,
    until: u64,
    reply: oneshot::Sender<Result<Vec<(u64, RawMessage)>, ShelfError>>,
}

/// While nothing can be written.
struct Blocked {
    probe_at: Instant,
}

struct Limits {
    file_bytes_max: Option<u64>,
    events_bytes_max: u64,
    records_bytes_max: u64,
    events_messages_max: u64,
    rest_max: Duration,
}

pub(crate) struct Engine {
    store: Store,
    reserve: Reserve,
    clock: Clock,
    asks: Receiver<Ask>,
    /// For what it hands out to come back.
    back: ops::Asks,
    limits: Limits,
    queues: [QueueState; QUEUES],
    levels: [u64; LEVELS_MS.len()],
    next_due_ms: Option<i64>,
    next_seq: u64,
    /// What the file says.
    saved_seq: u64,
    next_session: u64,
    consumers: HashMap<u64, Consumer>,
    publishes: VecDeque<Publish>,
    removals: Vec<Remove>,
    acked: Vec<oneshot::Sender<Result<(), AckError>>>,
    looks: Vec<Look>,
    shelves: shelves::Holders,
    blocked: Option<Blocked>,
    state: watch::Sender<BrokerState>,
    metrics: Arc<Metrics>,
    /// There may be more to hand out than one turn does.
    more: bool,
    stopping: bool,
}

impl Engine {
    /// Reads what the file says.
    pub(crate) fn new(
        store: Store,
        settings: &EmbeddedSettings,
        asks: Receiver<Ask>,
        back: ops::Asks,
        state: watch::Sender<BrokerState>,
    ) -> Result<Engine, Trouble> {
        let saved = store.state()?;
        let clock = Clock::resume(saved.as_ref().map(|(_, clock)| clock), &Host::read());
        let mut queues: [QueueState; QUEUES] = Default::default();
        let mut next_seq = saved.map_or(1, |(next_seq, _)| next_seq);
        for (id, queue) in queues.iter_mut().enumerate() {
            queue.saved = store.tally(id)?;
            queue.counts = store.counts(id)?;
            // Whatever ended the process, these may have been in hand then. It is written with the first transaction: until
            // then nothing is in hand again.
            for seq in store.up_to(id, queue.saved.mark)? {
                *queue.counts.entry(seq).or_default() += 1;
                queue.unsaved_counts.insert(seq);
            }
            next_seq = next_seq.max(queue.saved.mark + 1);
            queue.tally = Tally {
                mark: 0,
                ..queue.saved
            };
        }
        Ok(Engine {
            levels: store.levels()?,
            next_due_ms: store.next_due()?,
            store,
            reserve: Reserve::find(&settings.directory),
            clock,
            asks,
            back,
            limits: Limits {
                file_bytes_max: settings.file_bytes_max,
                events_bytes_max: settings.events_bytes_max,
                records_bytes_max: settings.records_bytes_max,
                events_messages_max: settings.events_messages_max,
                rest_max: settings.rest_max,
            },
            queues,
            next_seq,
            saved_seq: next_seq,
            next_session: 1,
            consumers: HashMap::new(),
            publishes: VecDeque::new(),
            removals: Vec::new(),
            acked: Vec::new(),
            looks: Vec::new(),
            shelves: shelves::Holders::default(),
            blocked: None,
            state,
            metrics: settings.metrics.clone(),
            // The first turn needs no reason.
            more: true,
            stopping: false,
        })
    }

    /// Until it is told to stop, or the file cannot be relied on.
    pub(crate) fn run(mut self) -> Result<(), Trouble> {
        let ended = loop {
            self.take_asks();
            let turned = self.turn();
            if turned.is_err() || self.stopping {
                break turned;
            }
        };
        for consumer in self.consumers.values_mut() {
            let queue = &mut self.queues[consumer.queue];
            for (seq, bytes) in consumer.end_session() {
                queue.give_back(seq, bytes, None);
            }
        }
        ended?;
        self.queues.iter_mut().for_each(|queue| queue.tally.mark = 0);
        self.write_at_the_end()
    }

    fn take_asks(&mut self) {
        let mut next = match self.patience() {
            Some(Duration::ZERO) => self.asks.try_recv().ok(),
            Some(patience) => match self.asks.recv_timeout(patience) {
                Ok(ask) => Some(ask),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Ask::Stop),
            },
            None => Some(self.asks.recv().unwrap_or(Ask::Stop)),
        };
        let mut taken = 0;
        while let Some(ask) = next {
            self.take(ask);
            taken += 1;
            if self.stopping || taken == ASKS_MAX {
                break;
            }
            next = self.asks.try_recv().ok();
        }
    }

    /// How long nothing has to be done unless something is asked.
    fn patience(&self) -> Option<Duration> {
        if self.more {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let wakes = self.queues.iter().filter_map(QueueState::next_wake).map(until);
        let probe = self.blocked.as_ref().map(|blocked| until(blocked.probe_at));
        let due = self.next_due_ms.filter(|_| self.blocked.is_none()).map(|due_ms| {
            let wait_ms = u64::try_from(due_ms - self.clock.now_ms()).unwrap_or(0);
            Duration::from_millis(wait_ms).min(LOOK_MAX)
        });
        wakes.chain(probe).chain(due).min()
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Publish(publish) => self.publishes.push_back(publish),
            Ask::Settle(settle) => self.settle(settle),
            Ask::Subscribe(subscribe) => {
                let id = subscribe.consumer;
                self.consumers.insert(id, Consumer::new(subscribe));
                self.open(id);
            }
            Ask::Hold { consumer, done } => {
                self.close(consumer);
                let _ = done.send(());
            }
            Ask::WhenSettled { consumer, done } => {
                if let Some(consumer) = self.consumers.get_mut(&consumer) {
                    consumer.waiting = Some(done);
                    consumer.tell_if_settled();
                }
            }
            Ask::End { consumer, done } => {
                self.end_session(consumer);
                self.looks.push(Look::Done(done));
            }
            Ask::Resume { consumer } => self.open(consumer),
            Ask::Unsubscribe { consumer } => {
                self.end_session(consumer);
                self.consumers.remove(&consumer);
            }
            Ask::Depth { queue, reply } => self.looks.push(Look::Depth(queue, reply)),
            Ask::DelayDepths { reply } => self.looks.push(Look::DelayDepths(reply)),
            Ask::OpenShelf { queue, holder, reply } => self.looks.push(Look::Opened(queue, holder, reply)),
            Ask::ReadShelf {
                queue,
                after,
                until,
                reply,
            } => self.looks.push(Look::Read(ReadShelf {
                queue,
                after,
                until,
                reply,
            })),
            Ask::Remove(remove) => self.removals.push(remove),
            Ask::CloseShelf { queue, shelf, done } => {
                self.shelves.close(queue, shelf);
                self.looks.extend(done.map(Look::Done));
            }
            Ask::Stop => self.stopping = true,
        }
    }

    fn open(&mut self, id: u64) {
        let Some(consumer) = self.consumers.get_mut(&id) else {
            return;
        };
        let consumers = &mut self.queues[consumer.queue].consumers;
        if !consumers.contains(&id) {
            consumers.push(id);
        }
        consumer.session = Session::new(self.next_session);
        self.next_session += 1;
        consumer.open = true;
    }

    fn close(&mut self, id: u64) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            consumer.open = false;
            self.queues[consumer.queue].consumers.retain(|found| *found != id);
        }
    }

    fn end_session(&mut self, id: u64) {
        self.close(id);
        if let Some(consumer) = self.consumers.get_mut(&id) {
            let queue = &mut self.queues[consumer.queue];
            for (seq, bytes) in consumer.end_session() {
                queue.give_back(seq, bytes, None);
            }
        }
    }

    fn settle(&mut self, settle: Settle) {
        let found = self
            .consumers
            .get_mut(&settle.consumer)
            // What is left of an earlier session must not touch what came again in this one.
            .filter(|consumer| consumer.session.id == settle.session)
            .and_then(|consumer| {
                let bytes = consumer.unacked.remove(&settle.seq)?;
                consumer.tell_if_settled();
                Some((consumer.queue, bytes))
            });
        let (seq, settlement) = (settle.seq, settle.settlement);
        match (found, settlement) {
            (Some((queue, bytes)), Settlement::Acked(reply)) => {
                self.queues[queue].finish(seq, bytes);
                self.acked.push(reply);
            }
            (Some((queue, bytes)), Settlement::GivenBack) => {
                let rest = (Instant::now(), self.limits.rest_max);
                self.queues[queue].give_back(seq, bytes, Some(rest));
            }
            (Some((queue, bytes)), Settlement::Untouched) => self.queues[queue].put_back(seq, bytes),
            (None, Settlement::Acked(reply)) => drop(reply.send(Err(AckError))),
            (None, Settlement::GivenBack | Settlement::Untouched) => {}
        }
    }

    fn block(&mut self, reason: String) {
        let now = Instant::now();
        let probe_at = match &self.blocked {
            Some(blocked) if blocked.probe_at > now => blocked.probe_at,
            _ => now + PROBE_INTERVAL,
        };
        if self.blocked.is_none() {
            self.reserve.release();
            warn!("the data directory takes no writes, publishes wait: {reason}");
        }
        self.state.send_if_modified(|state| {
            let blocked = BrokerState::Blocked { reason };
            let changed = *state != blocked;
            *state = blocked;
            changed
        });
        self.metrics.set(Metric::BrokerBlocked, &[], 1.0);
        self.blocked = Some(Blocked { probe_at });
    }

    fn unblock(&mut self) {
        if self.blocked.take().is_some() {
            info!("the data directory takes writes again");
            self.state.send_replace(BrokerState::Connected);
            self.metrics.set(Metric::BrokerBlocked, &[], 0.0);
        }
    }

    /// Tries with as much as waits, when it is time to.
    fn probe(&mut self) -> Result<(), Trouble> {
        /// Enough to make file and log grow.
        const BYTES_MIN: usize = 64 * 1024;
        if self
            .blocked
            .as_ref()
            .is_none_or(|blocked| Instant::now() < blocked.probe_at)
        {
            return Ok(());
        }
        self.publishes.retain(|publish| !publish.reply.is_closed());
        let largest = self.publishes.iter().map(|publish| publish.body.len()).max();
        let bytes = largest.unwrap_or(0).max(BYTES_MIN);
        match self.store.probe(bytes).and_then(|()| self.secure()) {
            Ok(()) => self.unblock(),
            Err(Trouble::NoRoom(reason)) => {
                debug!("still no room: {reason}");
                self.block(reason);
            }
            Err(broken) => return Err(broken),
        }
        Ok(())
    }

    /// Sees to it that acks can be written even on a full disk: out of the reserve, or because the file has room inside.
    fn secure(&mut self) -> Result<(), Trouble> {
        if self.reserve.is_held() || self.store.free_bytes()? >= RESERVE_BYTES {
            return Ok(());
        }
        self.reserve.take().map_err(Trouble::NoRoom)
    }
}
