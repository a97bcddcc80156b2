//! What goes over the socket: a frame of JSON, and after those that bear a message a second frame with its body, as it is. Both ends
//! are the same binary in most cases; where they are not, an unknown request is refused in words.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hooklane_types::{Properties, RawMessage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::port::{BrokerError, Destination, Queue};
use crate::shelf::{Holder, ShelfError, ShelfName};

/// Longest frame: a body of the largest size that can be set, and some.
const FRAME_BYTES_MAX: usize = 160 * 1024 * 1024;

/// What a client asks for; the first frame of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A body follows. Answered by `Result<(), BrokerError>`.
    Publish {
        to: Destination,
        properties: Box<Properties>,
        within_ms: u64,
    },
    /// Answered by `Result<Depth, BrokerError>`.
    Depth(Queue),
    /// Answered by `Result<Vec<Depth>, BrokerError>`.
    DelayDepths,
    /// Answered by a [`Heard`] and then messages without end.
    Listen,
    /// Answered by `Result<u64, Failure>`; then [`ShelfRequest`]s follow.
    Shelf(ShelfName, Holder),
}

/// The listener hears from now on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heard;

/// What is asked of an open shelf.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ShelfRequest {
    /// Answered by `Result<Option<Head>, Failure>`, with a body behind each head.
    Next,
    /// The message that came as the `n`th. Answered by `Result<(), Failure>`.
    Remove(u64),
    /// Answered by `Result<(), Failure>`.
    Close,
}

/// A message without its body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    exchange: String,
    routing_key: String,
    properties: Properties,
}

impl Head {
    pub(super) fn of(message: RawMessage) -> (Head, Bytes) {
        let RawMessage {
            exchange,
            routing_key,
            properties,
            body,
        } = message;
        let head = Head {
            exchange,
            routing_key,
            properties,
        };
        (head, body)
    }

    pub(super) fn with(self, body: Bytes) -> RawMessage {
        RawMessage {
            exchange: self.exchange,
            routing_key: self.routing_key,
            properties: self.properties,
            body,
        }
    }
}

/// A [`ShelfError`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    Held(Option<Holder>),
    Refused(String),
    TooDeep(u64),
    Unavailable(String),
    /// The rest, in words.
    Lost(String),
}

impl From<ShelfError> for Failure {
    fn from(error: ShelfError) -> Failure {
        match error {
            ShelfError::Held(holder) => Failure::Held(holder),
            ShelfError::Refused(reason) => Failure::Refused(reason),
            ShelfError::TooDeep { messages } => Failure::TooDeep(messages),
            ShelfError::Unavailable(reason) => Failure::Unavailable(reason),
            other @ (ShelfError::Lost { .. } | ShelfError::Timeout { .. }) => {
                Failure::Lost(other.to_string())
            }
        }
    }
}

impl Failure {
    pub(super) fn into_error(self, doing: &'static str) -> ShelfError {
        match self {
            Failure::Held(holder) => ShelfError::Held(holder),
            Failure::Refused(reason) => ShelfError::Refused(reason),
            Failure::TooDeep(messages) => ShelfError::TooDeep { messages },
            Failure::Unavailable(reason) => ShelfError::Unavailable(reason),
            Failure::Lost(reason) => ShelfError::Lost { doing, reason },
        }
    }
}

/// An answer to anything about the broker.
pub(super) type Answer<T> = Result<T, BrokerError>;

/// One connection, seen from either end.
pub(super) struct Wire {
    frames: Framed<UnixStream, LengthDelimitedCodec>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Wire {
        let codec = LengthDelimitedCodec::builder()
            .max_frame_length(FRAME_BYTES_MAX)
            .new_codec();
        Wire {
            frames: Framed::new(stream, codec),
        }
    }

    pub(super) async fn send(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.send_bytes(serde_json::to_vec(value)?.into()).await
    }

    /// Takes `value` in for sending, which the next `send`, `flush` or `receive` of the wire's user carries out. Cancel safe: it is taken
    /// wholly or not at all.
    pub(super) async fn feed(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.frames.feed(Bytes::from(serde_json::to_vec(value)?)).await
    }

    /// Sends what was taken in. Cancel safe.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        SinkExt::<Bytes>::flush(&mut self.frames).await
    }

    pub(super) async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.frames.send(bytes).await
    }

    /// The next value. Cancel safe. An error of the kind `UnexpectedEof` where the other end has ended.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.receive_bytes().await?)?)
    }

    pub(super) async fn receive_bytes(&mut self) -> io::Result<Bytes> {
        match self.frames.next().await {
            Some(frame) => Ok(frame?.freeze()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Waits for the other end to end.
    pub(super) async fn closed(&mut self) {
        while let Some(Ok(_)) = self.frames.next().await {}
    }
}
