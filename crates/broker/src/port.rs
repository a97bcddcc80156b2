//! The port: what Hooklane asks of a broker, whatever stands behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hooklane_types::{Properties, RawMessage};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// The queues that processes read. Their full names carry the installation's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Queue {
    /// What producers and ingest published.
    Events,
    /// What producers published to exchange `ordered`: consumed like `Events`.
    Ordered,
    /// Retries that are due, and slices.
    Deliveries,
    /// Messages to be tried alone.
    Suspects,
    /// The shelf of deliveries that were given up.
    Dead,
    /// The shelf of messages that the pipeline could not handle.
    Faults,
    /// Events on their way into the history: the first to yield when the history takes nothing for long.
    Contents,
    /// What became of them, on its way into the history.
    Records,
    /// Of that, what says that a delivery was given up and found `Records` full: it never yields.
    Deaths,
}

impl Queue {
    /// All queues.
    pub const ALL: [Queue; 9] = [
        Queue::Events,
        Queue::Ordered,
        Queue::Deliveries,
        Queue::Suspects,
        Queue::Dead,
        Queue::Faults,
        Queue::Contents,
        Queue::Records,
        Queue::Deaths,
    ];

    /// The name behind the prefix; a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Queue::Events => "events",
            Queue::Ordered => "ordered",
            Queue::Deliveries => "deliveries",
            Queue::Suspects => "suspects",
            Queue::Dead => "dead",
            Queue::Faults => "faults",
            Queue::Contents => "contents",
            Queue::Records => "records",
            Queue::Deaths => "deaths",
        }
    }
}

/// Where a message is published to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// Exchange `events`, as a foreign producer does (the CLI's `publish`): external form.
    ProducerEvents {
        /// The event type.
        routing_key: String,
    },
    /// Exchange `ingest`, to queue `events`: an `Internal::Event`. Only Hooklane may write to this exchange.
    IngestedEvents,
    /// To one of the internal queues: internal form. Not for `Queue::Events` and `Queue::Ordered`. By exchange `internal`; `Queue::Contents`,
    /// `Queue::Records` and `Queue::Deaths` by exchange `records`, to which ingest may write as well.
    Internal(Queue),
    /// One step of the delay ladder (an index into `hooklane_policy::ladder::LEVELS_MS`); leads to queue `deliveries`
    /// when its time is over.
    Delay {
        /// Index of the level.
        level: usize,
    },
    /// Fanout `control`: soft state between processes, not persistent, lost without harm.
    Control,
}

/// A message to publish. Always persistent, but on `Control`.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Properties: empty for internal messages, the publish contract's for `ProducerEvents`.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
}

impl Outgoing {
    /// An internal message: fresh properties, only a body.
    pub fn internal(body: Bytes) -> Outgoing {
        Outgoing {
            properties: Properties::default(),
            body,
        }
    }
}

/// Stands where a producer's text (a property, a header's name, a routing key) was not UTF-8: ASCII's SUB, which is made for
/// that.
pub const SUBSTITUTE: u8 = 0x1a;

/// Stands in the place of all headers of a message, with the reason as its text, when they cannot be read. A producer that sets
/// it says the same of its own message.
pub const UNREADABLE_HEADER: &str = "x-hooklane-unreadable";

/// What went wrong, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
pub enum BrokerError {
    /// Not confirmed within the deadline: the message may or may not arrive. Publish again with the same id.
    #[error("the broker did not confirm within {} ms: {last_error}", waited.as_millis())]
    Unconfirmed {
        /// How long it was waited for.
        waited: Duration,
        /// What stood in the way, in words.
        last_error: String,
    },
    /// The connection ended after the message was sent and before its confirm: it may or may not arrive. Publish again with the same id.
    #[error("{0}")]
    Lost(String),
    /// The broker refused it (nack): the queue is full. Wait, then publish again.
    #[error("the broker refused the message: the queue is full")]
    Full,
    /// The broker doesn't have what was asked for, or forbids it. An operator must act.
    #[error("{0}")]
    Refused(String),
    /// Not connected, or the broker takes no publishes (an alarm), within the deadline: in words.
    #[error("{0}")]
    Unavailable(String),
    /// The process is shutting down.
    #[error("the broker connection was shut down")]
    ShutDown,
}

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Up.
    Connected,
    /// Up, but the broker takes no publishes (memory or disk alarm).
    Blocked {
        /// The broker's reason.
        reason: String,
    },
    /// Being made, or made again.
    Disconnected {
        /// The last error, in words.
        last_error: String,
    },
}

/// A queue as a passive declaration shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// Messages ready.
    pub messages: u64,
    /// Consumers.
    pub consumers: u64,
}

/// How a queue is consumed.
#[derive(Clone, Copy, Debug)]
pub struct ConsumeOptions {
    /// Most messages unacked at once.
    pub prefetch: u16,
    /// Most bytes of bodies held at once by this consumption; when it is passed, the channel is closed (which gives the
    /// work back) and opened again with a smaller prefetch until bodies are small again.
    pub bytes_max: u64,
}

/// One message from a queue. Settle it by value through its `ack`.
pub struct Incoming {
    /// The message.
    pub message: RawMessage,
    /// The broker delivered it before.
    pub redelivered: bool,
    /// How often it was delivered before (`x-delivery-count`); 0 the first time.
    pub delivery_count: u64,
    /// When this process got it.
    pub received_at: Instant,
    /// Its settlement.
    pub ack: Box<dyn Ack>,
}

/// The settlement of one message, consumed by use: acking twice does not compile. Dropped without `ack`, the message counts
/// as given back: its channel is closed and opened again once what else is in flight on it was settled.
#[async_trait]
pub trait Ack: Send + Sync {
    /// Whether the channel that brought the message lives: if not, the broker has given it to somebody else.
    fn is_live(&self) -> bool;

    /// The message is done. To be called only after what follows from it was confirmed.
    ///
    /// # Errors
    /// When the channel is gone: the message comes again.
    async fn ack(self: Box<Self>) -> Result<(), AckError>;
}

/// The channel that brought the message is gone; the message comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel that brought the message is gone")]
pub struct AckError;

/// A lasting subscription: it survives lost connections, closed channels and deleted queues, and yields again once the queue
/// is there. Dropping it closes its channel, which gives back what was not acked.
#[async_trait]
pub trait Consumption: Send {
    /// The next message; waits while there is none or no connection. `None` only after the broker was shut down or broke down.
    /// Cancel safe.
    async fn next(&mut self) -> Option<Incoming>;

    /// Takes nothing new: closes the channel and subscribes again only at `resume`. Messages in flight on the channel are
    /// settled first, within `grace`; the rest is given back.
    async fn pause(&mut self, grace: Duration);

    /// Subscribes again after `pause`.
    async fn resume(&mut self);
}

/// A broker, RabbitMQ or embedded. Cloned by `Arc`; all methods may be called from many tasks at once.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Publishes and waits for the confirm, at most `within`. Many calls at once share a channel, their number is bounded: beyond
    /// that they wait, and may overtake each other. Who needs an order waits for each confirm before the next publish.
    ///
    /// # Errors
    /// See [`BrokerError`]. After `Unconfirmed` and `Lost` the message may still arrive.
    async fn publish(&self, to: Destination, message: Outgoing, within: Duration) -> Result<(), BrokerError>;

    /// Subscribes to a queue. Waits for nothing: the subscription is made in the background, as often as needed.
    fn consume(&self, queue: Queue, options: ConsumeOptions) -> Box<dyn Consumption>;

    /// Subscribes to the fanout `control` with a queue of this process's own that goes with it.
    fn listen(&self) -> Box<dyn Consumption>;

    /// Messages and consumers of a queue.
    ///
    /// # Errors
    /// See [`BrokerError`].
    async fn depth(&self, queue: Queue) -> Result<Depth, BrokerError>;

    /// Messages waiting on each level of the delay ladder, in the order of `hooklane_policy::ladder::LEVELS_MS`.
    ///
    /// # Errors
    /// See [`BrokerError`].
    async fn delay_depths(&self) -> Result<Vec<Depth>, BrokerError>;

    /// State of the publishing connection, followed. Closed once the broker has ended: after `shut_down`, or because a task that
    /// it needs died; then publishes end with [`BrokerError::ShutDown`] and consumptions with `None`.
    fn state(&self) -> watch::Receiver<BrokerState>;

    /// State of the consuming connection, followed. `Connected` while nothing is consumed.
    fn consume_state(&self) -> watch::Receiver<BrokerState>;

    /// Closes both connections, within a few seconds.
    async fn shut_down(&self);
}

/// A shared broker.
pub type SharedBroker = Arc<dyn Broker>;
