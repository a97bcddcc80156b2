//! What the engine is asked, from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use bytes::Bytes;
use hooklane_types::RawMessage;
use tokio::sync::{mpsc, oneshot};

use crate::embedded::record::Way;
use crate::port::{AckError, BrokerError, ConsumeOptions, Depth};
use crate::shelf::{Holder, ShelfError};
use crate::window::Places;

/// Where the engine is asked. Bounded by who asks: publishes have their places in the window, settlements are of messages in
/// hand, and everything else waits for its answer.
pub(crate) type Asks = Sender<Ask>;

pub(crate) enum Ask {
    Publish(Publish),
    Settle(Settle),
    Subscribe(Subscribe),
    /// Feeds it no more.
    Hold {
        consumer: u64,
        done: oneshot::Sender<()>,
    },
    /// Says when nothing of it is in hand.
    WhenSettled {
        consumer: u64,
        done: oneshot::Sender<()>,
    },
    /// Ends its session: what is in hand is given back.
    End {
        consumer: u64,
        done: oneshot::Sender<()>,
    },
    /// Feeds it again, in a new session.
    Resume {
        consumer: u64,
    },
    Unsubscribe {
        consumer: u64,
    },
    Depth {
        queue: usize,
        reply: oneshot::Sender<Depth>,
    },
    DelayDepths {
        reply: oneshot::Sender<Vec<Depth>>,
    },
    OpenShelf {
        queue: usize,
        holder: Holder,
        reply: oneshot::Sender<Result<OpenedShelf, ShelfError>>,
    },
    ReadShelf {
        queue: usize,
        /// The last one that was read.
        after: u64,
        /// The last one that is read.
        until: u64,
        reply: oneshot::Sender<Result<Vec<(u64, RawMessage)>, ShelfError>>,
    },
    Remove(Remove),
    CloseShelf {
        queue: usize,
        shelf: u64,
        done: Option<oneshot::Sender<()>>,
    },
    /// Everything that was asked before is done first.
    Stop,
}

pub(crate) enum Target {
    Queue(usize),
    Delay(usize),
}

pub(crate) struct Publish {
    pub(crate) target: Target,
    pub(crate) way: Way,
    pub(crate) head: Option<Vec<u8>>,
    pub(crate) body: Bytes,
    pub(crate) reply: oneshot::Sender<Result<(), BrokerError>>,
    /// Set while it is in a transaction: then it may be there although nobody heard of it.
    pub(crate) sent: Arc<AtomicBool>,
    /// Its place in the window.
    pub(crate) _places: Places,
}

impl Publish {
    pub(crate) fn bytes(&self) -> u64 {
        (self.body.len() + self.head.as_ref().map_or(0, Vec::len)) as u64
    }
}

pub(crate) enum Settlement {
    Acked(oneshot::Sender<Result<(), AckError>>),
    /// Dropped by whoever had it in hand.
    GivenBack,
    /// Never handed out.
    Untouched,
}

pub(crate) struct Settle {
    pub(crate) consumer: u64,
    pub(crate) session: u64,
    pub(crate) seq: u64,
    pub(crate) settlement: Settlement,
}

pub(crate) struct Subscribe {
    pub(crate) consumer: u64,
    pub(crate) queue: usize,
    pub(crate) options: ConsumeOptions,
    pub(crate) feed: mpsc::UnboundedSender<Delivered>,
    /// Bytes of bodies that this consumption has, whatever session brought them.
    pub(crate) ledger: Arc<AtomicU64>,
}

pub(crate) struct OpenedShelf {
    /// To close this one and no other.
    pub(crate) shelf: u64,
    pub(crate) total: u64,
    /// Its last message.
    pub(crate) last: u64,
}

pub(crate) struct Remove {
    pub(crate) queue: usize,
    pub(crate) seq: u64,
    pub(crate) reply: oneshot::Sender<Result<(), ShelfError>>,
}

/// The time between a subscription and its end or pause: acks of an earlier one do not count.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) live: AtomicBool,
}

impl Session {
    pub(crate) fn new(id: u64) -> Arc<Session> {
        Arc::new(Session {
            id,
            live: AtomicBool::new(true),
        })
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
}

/// A message on its way to a consumer.
pub(crate) struct Delivered {
    pub(crate) message: RawMessage,
    pub(crate) delivery_count: u64,
    pub(crate) received_at: Instant,
    pub(crate) place: Place,
}

/// What one message takes of its consumption. Dropped without being settled, it is given back.
pub(crate) struct Place {
    pub(crate) asks: Asks,
    pub(crate) session: Arc<Session>,
    pub(crate) consumer: u64,
    pub(crate) seq: u64,
    pub(crate) bytes: u64,
    pub(crate) ledger: Arc<AtomicU64>,
    pub(crate) handed_out: bool,
    pub(crate) settled: bool,
}

impl Place {
    /// Tells the engine; false when it has ended.
    pub(crate) fn settle(&mut self, settlement: Settlement) -> bool {
        self.settled = true;
        // Before the engine is told, so that it finds the room.
        self.ledger.fetch_sub(self.bytes, Ordering::AcqRel);
        let settle = Settle {
            consumer: self.consumer,
            session: self.session.id,
            seq: self.seq,
            settlement,
        };
        self.asks.send(Ask::Settle(settle)).is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.settled {
            // When the engine has ended, the file has it still.
            self.settle(match self.handed_out {
                true => Settlement::GivenBack,
                false => Settlement::Untouched,
            });
        }
    }
}
