//! The port without a server: a durable queue in one SQLite file, for one process.
//!
//! ```text
//! publish ─► window (count, bytes) ─► asks ─► engine: one thread, one transaction for all that waits, commit ─► confirms
//! consume ◄─ feed (prefetch, bytes) ◄──────── pages from the file, oldest first
//! ```
//!
//! What holds:
//! - A confirm is given after the commit; what a killed process had confirmed is there when the file is opened again, once,
//!   and what it had acked is gone. [`Synchronous`] says what a power cut may cost.
//! - A queue gives its messages out in the order in which they were confirmed. One that was given back comes before those
//!   that were never given out, after a short rest if it was dropped. How often a message was delivered is kept over restarts;
//!   when a process is killed, all that it may have had in hand counts one delivery more.
//! - What waits is on disk, not in memory: a consumption reads as much as its prefetch and its bytes allow.
//! - A delay is never cut short, and is late by at most a second, whatever the wall clock does while the system runs. Over a
//!   reboot only the wall clock can say how long it took: if it was set forward in between, delays end earlier by as much, and
//!   if it was set back, later by at most the time that the machine was off. Nothing is lost by it.
//! - While the disk is full, the state is [`BrokerState::Blocked`], publishes wait for their deadline, and consuming and acks go
//!   on, out of a reserve of 16 MiB that is put by for it; in memory, if even that does not suffice. It ends by itself within a
//!   second or two of there being room, by others' space or because the queues were worked off.
//! - A file of an older format is brought up to date when it is opened, and stays what it is if that fails.
//! - Space is used again, and not given back: the file stays as large as the queues once were.

mod clock;
mod control;
mod directory;
mod drain;
mod engine;
mod file;
mod lock;
mod record;
mod reserve;
mod settings;
mod shelf;
mod store;
mod subscription;

pub use directory::{FoundDirectory, LockedDirectory, OpenDirectory, OpenError, inspect};
pub use drain::{Drain, DrainError, Taken, Waiting};
pub use file::{FILE, FORMAT};
pub use settings::{EVENTS_MESSAGES_MAX, EmbeddedSettings, REST_MAX, Synchronous};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use hooklane_policy::ladder::LEVELS_MS;
use hooklane_sqlite::FileError;
use hooklane_telemetry::Metrics;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tracing::error;

use control::Control;
use engine::ops::{Ask, Asks, Publish, Target};
use engine::{Engine, index};
use record::Way;
use store::{Store, Trouble};
use subscription::Subscription;

use crate::port::{
    Broker, BrokerError, BrokerState, ConsumeOptions, Consumption, Depth, Destination, Outgoing, Queue,
    SharedBroker,
};
use crate::shelf::{Holder, Shelf, ShelfError, ShelfName, Shelves};
use crate::topology::Exchange;
use crate::window::{Window, count};

/// Most publishes without a confirm, and so about the most that share a commit.
const WINDOW: usize = 4_096;
/// Most bytes of bodies without a confirm.
const WINDOW_BYTES: usize = 64 * 1024 * 1024;
/// One transaction may be under way, with as many bytes as the window has, on a slow disk.
const SHUT_DOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Depths are looked at between two transactions.
const DEPTH_TIMEOUT: Duration = Duration::from_secs(30);

/// The embedded broker. Clones are the same one; it ends with `shut_down`, or when the last of them is dropped.
#[derive(Clone)]
pub struct EmbeddedBroker {
    inner: Arc<Inner>,
}

struct Inner {
    asks: Asks,
    window: Window,
    control: Arc<Control>,
    state: watch::Receiver<BrokerState>,
    consume_state: watch::Receiver<BrokerState>,
    metrics: Arc<Metrics>,
    next_consumer: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedBroker {
    /// Opens the data directory, makes it if there is none, and starts the engine's thread. Reads the whole file once, to see
    /// that it is sound. To be called where waiting for a disk does no harm. [`LockedDirectory`] has the same in steps.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(settings: EmbeddedSettings) -> Result<EmbeddedBroker, OpenError> {
        LockedDirectory::lock(settings)?.open()?.start()
    }

    fn start(directory: OpenDirectory) -> Result<EmbeddedBroker, OpenError> {
        let OpenDirectory {
            settings,
            connection,
            lock,
        } = directory;
        let path = settings.directory.join(FILE);
        let directory = settings.directory.clone();
        let store = Store::new(connection, settings.names.clone(), settings.synchronous);
        let (asks, inbox) = mpsc::channel();
        let (state_sender, state) = watch::channel(BrokerState::Connected);
        let (consume_sender, consume_state) = watch::channel(BrokerState::Connected);
        let engine = Engine::new(store, &settings, inbox, asks.clone(), state_sender.clone())
            .map_err(|trouble| unusable(&directory, trouble))?;
        let control = Arc::new(Control::new(settings.names.exchange(Exchange::Control)));
        let ending = Ending(control.clone());
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || {
                // Dropped in this order, by a panic too: the file is closed before the lock is free, and only then does
                // anybody hear that it has ended.
                let _state = (state_sender, consume_sender);
                let _ending = ending;
                let _lock = lock;
                if let Err(trouble) = engine.run() {
                    error!("the embedded broker has ended: {trouble:?}");
                }
            })
            .map_err(|source| FileError::Io {
                doing: "start a thread for",
                path,
                source,
            })?;
        Ok(EmbeddedBroker {
            inner: Arc::new(Inner {
                asks,
                window: Window::new(WINDOW, WINDOW_BYTES),
                control,
                state,
                consume_state,
                metrics: settings.metrics,
                next_consumer: AtomicU64::new(1),
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// It, as the port.
    pub fn shared(&self) -> SharedBroker {
        Arc::new(self.clone())
    }

    /// Its shelves, as the port.
    pub fn shelves(&self) -> Arc<dyn Shelves> {
        Arc::new(self.clone())
    }

    async fn send(&self, to: Destination, message: Outgoing, within: Duration) -> Result<(), BrokerError> {
        let (target, way, head) = match to {
            Destination::Control => {
                return match self.inner.control.tell(&message.body) {
                    true => Ok(()),
                    false => Err(BrokerError::ShutDown),
                };
            }
            Destination::ProducerEvents { routing_key } => {
                let head = record::head(routing_key, message.properties)?;
                (Target::Queue(index(Queue::Events)), Way::Producer, Some(head))
            }
            Destination::IngestedEvents => (Target::Queue(index(Queue::Events)), Way::Ingest, None),
            Destination::Internal(queue @ (Queue::Events | Queue::Ordered)) => {
                let name = queue.name();
                return Err(BrokerError::Refused(format!(
                    "queue {name} is not an internal one"
                )));
            }
            Destination::Internal(queue) => (Target::Queue(index(queue)), Way::Internal, None),
            Destination::Delay { level } => {
                (Target::Delay(level.min(LEVELS_MS.len() - 1)), Way::Ladder, None)
            }
        };
        let trouble = || match &*self.inner.state.borrow() {
            BrokerState::Blocked { reason } => format!("the data directory takes no writes: {reason}"),
            _ => "the disk is slow".to_owned(),
        };
        let body = message.body;
        self.inner
            .window
            .publish(body.len(), within, trouble, |ticket| {
                let publish = Publish {
                    target,
                    way,
                    head,
                    body,
                    reply: ticket.reply,
                    sent: ticket.sent,
                    _places: ticket.places,
                };
                self.inner.asks.send(Ask::Publish(publish)).is_ok()
            })
            .await
    }

    async fn look<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, BrokerError> {
        let (reply, answer) = oneshot::channel();
        self.inner
            .asks
            .send(ask(reply))
            .map_err(|_| BrokerError::ShutDown)?;
        match timeout(DEPTH_TIMEOUT, answer).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(_dropped)) => Err(BrokerError::ShutDown),
            Err(_) => Err(BrokerError::Unavailable("the disk is slow".to_owned())),
        }
    }
}

/// Soft state ends with the rest, whatever ends it.
struct Ending(Arc<Control>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn unusable(directory: &std::path::Path, trouble: Trouble) -> FileError {
    match trouble {
        Trouble::Broken(why) => file::QUEUE.damaged(directory, why),
        Trouble::NoRoom(why) => FileError::Io {
            doing: "write to",
            path: directory.join(FILE),
            source: std::io::Error::other(why),
        },
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.asks.send(Ask::Stop);
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // One transaction at most, so that the directory is free afterwards. Its panic was told when it happened.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, to: Destination, message: Outgoing, within: Duration) -> Result<(), BrokerError> {
        let result = self.send(to, message, within).await;
        count(&self.inner.metrics, &result);
        result
    }

    fn consume(&self, queue: Queue, options: ConsumeOptions) -> Box<dyn Consumption> {
        let id = self.inner.next_consumer.fetch_add(1, Ordering::Relaxed);
        Box::new(Subscription::new(
            id,
            self.inner.asks.clone(),
            index(queue),
            options,
        ))
    }

    fn listen(&self) -> Box<dyn Consumption> {
        Box::new(self.inner.control.listen())
    }

    async fn depth(&self, queue: Queue) -> Result<Depth, BrokerError> {
        let queue = index(queue);
        self.look(|reply| Ask::Depth { queue, reply }).await
    }

    async fn delay_depths(&self) -> Result<Vec<Depth>, BrokerError> {
        self.look(|reply| Ask::DelayDepths { reply }).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.inner.state.clone()
    }

    fn consume_state(&self) -> watch::Receiver<BrokerState> {
        self.inner.consume_state.clone()
    }

    async fn shut_down(&self) {
        let mut state = self.inner.state.clone();
        let _ = self.inner.asks.send(Ask::Stop);
        let ended = async { while state.changed().await.is_ok() {} };
        // What hangs ends with the process.
        let _ = timeout(SHUT_DOWN_TIMEOUT, ended).await;
    }
}

#[async_trait]
impl Shelves for EmbeddedBroker {
    async fn open(&self, shelf: ShelfName, holder: Holder) -> Result<Box<dyn Shelf>, ShelfError> {
        shelf::open(self.inner.asks.clone(), shelf, holder).await
    }
}
