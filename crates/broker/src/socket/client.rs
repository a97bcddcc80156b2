//! The asking end: a broker and its shelves, as if they were here.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hooklane_types::RawMessage;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::wire::{Answer, Failure, Head, Heard, Request, ShelfRequest, Wire};
use crate::port::{
    Broker, BrokerError, BrokerState, ConsumeOptions, Consumption, Depth, Destination, Incoming, Outgoing,
    Queue,
};
use crate::shelf::{Handle, Holder, Shelf, ShelfError, ShelfName, Shelved, Shelves};

use crate::soft;

/// How long an answer that is no publish's is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// What a publish may take beyond the time that the broker has for it.
const PUBLISH_MORE: Duration = Duration::from_secs(2);
/// A listener whose connection is gone tries again after this long.
const LISTEN_AGAIN: Duration = Duration::from_millis(200);

/// The broker of the process that serves at a Unix socket.
pub struct SocketBroker {
    path: PathBuf,
    /// Kept open, so that those who follow it wait: the other process ends by itself, not through us.
    state: watch::Sender<BrokerState>,
}

impl SocketBroker {
    /// Whether anybody serves there; `None` where nobody does.
    ///
    /// # Errors
    /// When that cannot be found out, like for want of rights.
    pub async fn find(path: &Path) -> io::Result<Option<SocketBroker>> {
        match UnixStream::connect(path).await {
            Ok(_) => Ok(Some(SocketBroker {
                path: path.to_owned(),
                state: watch::Sender::new(BrokerState::Connected),
            })),
            // A socket file that the last process left behind refuses.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Answer<T> {
        let asked = async {
            let mut wire = connect(&self.path).await?;
            wire.send(request).await?;
            wire.receive::<Answer<T>>().await
        };
        match timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(unavailable(&self.path, &error)),
            Err(_) => Err(BrokerError::Unavailable(format!(
                "the process that serves at {} does not answer",
                self.path.display()
            ))),
        }
    }
}

async fn connect(path: &Path) -> io::Result<Wire> {
    Ok(Wire::new(UnixStream::connect(path).await?))
}

fn unavailable(path: &Path, error: &io::Error) -> BrokerError {
    BrokerError::Unavailable(format!(
        "the process that serves at {} has ended: {error}",
        path.display()
    ))
}

#[async_trait]
impl Broker for SocketBroker {
    async fn publish(&self, to: Destination, message: Outgoing, within: Duration) -> Result<(), BrokerError> {
        let request = Request::Publish {
            to,
            properties: Box::new(message.properties),
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        };
        let mut wire = connect(&self.path)
            .await
            .map_err(|error| unavailable(&self.path, &error))?;
        let unconfirmed = |last_error: String| BrokerError::Unconfirmed {
            waited: within,
            last_error,
        };
        let published = async {
            wire.send(&request).await?;
            wire.send_bytes(message.body).await?;
            wire.receive::<Answer<()>>().await
        };
        match timeout(within.saturating_add(PUBLISH_MORE), published).await {
            Ok(Ok(answer)) => answer,
            // It may have been published before the connection ended.
            Ok(Err(error)) => Err(BrokerError::Lost(format!(
                "the process that serves at {} has ended without an answer ({error}): the message may have been taken, or not",
                self.path.display()
            ))),
            Err(_) => Err(unconfirmed("no answer".to_owned())),
        }
    }

    /// Queues are consumed where the broker is: here nothing ever comes.
    fn consume(&self, _: Queue, _: ConsumeOptions) -> Box<dyn Consumption> {
        Box::new(Nothing)
    }

    fn listen(&self) -> Box<dyn Consumption> {
        Box::new(Listening {
            path: self.path.clone(),
            wire: None,
            head: None,
        })
    }

    async fn depth(&self, queue: Queue) -> Result<Depth, BrokerError> {
        self.ask(&Request::Depth(queue)).await
    }

    async fn delay_depths(&self) -> Result<Vec<Depth>, BrokerError> {
        self.ask(&Request::DelayDepths).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    fn consume_state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    async fn shut_down(&self) {}
}

struct Nothing;

#[async_trait]
impl Consumption for Nothing {
    async fn next(&mut self) -> Option<Incoming> {
        None
    }

    async fn pause(&mut self, _: Duration) {}

    async fn resume(&mut self) {}
}

struct Listening {
    path: PathBuf,
    wire: Option<Wire>,
    /// Came without its body yet, when the waiting was broken off.
    head: Option<Head>,
}

impl Listening {
    async fn open(&self) -> io::Result<Wire> {
        let mut wire = connect(&self.path).await?;
        wire.send(&Request::Listen).await?;
        let Heard = wire.receive().await?;
        Ok(wire)
    }

    async fn hear(&mut self) -> io::Result<RawMessage> {
        if self.wire.is_none() {
            self.head = None;
            self.wire = Some(self.open().await?);
        }
        let wire = self.wire.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if self.head.is_none() {
            self.head = Some(wire.receive().await?);
        }
        let body = wire.receive_bytes().await?;
        let head = self.head.take().ok_or(io::ErrorKind::InvalidData)?;
        Ok(head.with(body))
    }
}

#[async_trait]
impl Consumption for Listening {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            match self.hear().await {
                Ok(message) => {
                    // It was acked where the broker is.
                    return Some(soft::incoming(message, Instant::now()));
                }
                Err(_) => {
                    self.wire = None;
                    tokio::time::sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }

    async fn pause(&mut self, _: Duration) {
        self.wire = None;
    }

    async fn resume(&mut self) {}
}

#[async_trait]
impl Shelves for SocketBroker {
    async fn open(&self, shelf: ShelfName, holder: Holder) -> Result<Box<dyn Shelf>, ShelfError> {
        let opened = async {
            let mut wire = connect(&self.path).await?;
            wire.send(&Request::Shelf(shelf, holder)).await?;
            let answer: Result<u64, Failure> = wire.receive().await?;
            Ok::<_, io::Error>((wire, answer))
        };
        let (wire, answer) = opened
            .await
            .map_err(|error| ShelfError::Unavailable(unavailable(&self.path, &error).to_string()))?;
        let total = answer.map_err(|failure| failure.into_error("the shelf was opened"))?;
        Ok(Box::new(OpenShelf {
            wire,
            total,
            read: 0,
            stage: Stage::Idle,
            kept: None,
        }))
    }
}

struct OpenShelf {
    wire: Wire,
    total: u64,
    read: u64,
    stage: Stage,
    /// Read while something else was wanted.
    kept: Option<Option<Shelved>>,
}

/// How far the reading of a message has come: it may be broken off anywhere, and goes on from there.
enum Stage {
    Idle,
    Asked,
    Head(Box<Head>),
}

fn lost(doing: &'static str) -> impl Fn(io::Error) -> ShelfError {
    move |error| ShelfError::Lost {
        doing,
        reason: error.to_string(),
    }
}

impl OpenShelf {
    /// The end of a reading that was begun.
    async fn read_on(&mut self) -> Result<Option<Shelved>, ShelfError> {
        let doing = "the next message was read";
        if matches!(self.stage, Stage::Asked) {
            self.wire.flush().await.map_err(lost(doing))?;
            let answer: Result<Option<Head>, Failure> = self.wire.receive().await.map_err(lost(doing))?;
            self.stage = Stage::Idle;
            match answer.map_err(|failure| failure.into_error(doing))? {
                None => return Ok(None),
                Some(head) => self.stage = Stage::Head(Box::new(head)),
            }
        }
        let body = self.wire.receive_bytes().await.map_err(lost(doing))?;
        let Stage::Head(head) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return Ok(None);
        };
        let handle = Handle {
            batch: 0,
            tag: self.read,
        };
        self.read += 1;
        Ok(Some(Shelved {
            message: head.with(body),
            handle,
        }))
    }

    /// A question and its answer, after that of a reading that was broken off.
    async fn ask(&mut self, request: ShelfRequest, doing: &'static str) -> Result<(), ShelfError> {
        if !matches!(self.stage, Stage::Idle) {
            self.kept = Some(self.read_on().await?);
        }
        self.wire.send(&request).await.map_err(lost(doing))?;
        let answer: Result<(), Failure> = self.wire.receive().await.map_err(lost(doing))?;
        answer.map_err(|failure| failure.into_error(doing))
    }
}

#[async_trait]
impl Shelf for OpenShelf {
    fn total(&self) -> u64 {
        self.total
    }

    async fn next(&mut self) -> Result<Option<Shelved>, ShelfError> {
        if let Some(kept) = self.kept.take() {
            return Ok(kept);
        }
        if matches!(self.stage, Stage::Idle) {
            let asked = self.wire.feed(&ShelfRequest::Next).await;
            asked.map_err(lost("the next message was asked for"))?;
            self.stage = Stage::Asked;
        }
        self.read_on().await
    }

    async fn remove(&mut self, handle: Handle) -> Result<(), ShelfError> {
        self.ask(ShelfRequest::Remove(handle.tag), "a message was removed")
            .await
    }

    async fn close(mut self: Box<Self>) -> Result<(), ShelfError> {
        self.ask(ShelfRequest::Close, "the shelf was closed").await
    }
}
