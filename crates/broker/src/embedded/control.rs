//! Soft state within the process: whoever listens hears it, nothing is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hooklane_types::{Properties, RawMessage};
use tokio::sync::mpsc;

use crate::port::{Consumption, Incoming};
use crate::soft;

/// What one listener holds at most; more is dropped, as soft state may be.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// An empty body takes room too.
const MESSAGE_BYTES: u64 = 256;

/// All listeners; `None` once the broker has ended.
pub(crate) struct Control {
    exchange: String,
    listeners: Mutex<Option<Vec<Listener>>>,
}

struct Listener {
    sender: mpsc::UnboundedSender<Heard>,
    bytes: Arc<AtomicU64>,
}

struct Heard {
    body: Bytes,
    at: Instant,
}

impl Heard {
    fn bytes(&self) -> u64 {
        self.body.len() as u64 + MESSAGE_BYTES
    }
}

impl Control {
    pub(crate) fn new(exchange: String) -> Control {
        Control {
            exchange,
            listeners: Mutex::new(Some(Vec::new())),
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Option<Vec<Listener>>> {
        // Nothing that runs under this lock leaves things half done when it panics.
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody; false when the broker has ended.
    pub(crate) fn tell(&self, body: &Bytes) -> bool {
        let mut listeners = self.listeners();
        let Some(listeners) = listeners.as_mut() else {
            return false;
        };
        listeners.retain(|listener| {
            let heard = Heard {
                body: body.clone(),
                at: Instant::now(),
            };
            let bytes = heard.bytes();
            if listener.bytes.load(Ordering::Acquire) + bytes > BYTES_MAX {
                return !listener.sender.is_closed();
            }
            listener.bytes.fetch_add(bytes, Ordering::AcqRel);
            listener.sender.send(heard).is_ok()
        });
        true
    }

    pub(crate) fn listen(self: &Arc<Self>) -> Listening {
        let (sender, receiver) = mpsc::unbounded_channel();
        let bytes = Arc::new(AtomicU64::new(0));
        if let Some(listeners) = self.listeners().as_mut() {
            let bytes = bytes.clone();
            listeners.push(Listener { sender, bytes });
        }
        Listening {
            exchange: self.exchange.clone(),
            receiver,
            bytes,
            paused: false,
        }
    }

    /// Listeners hear that nothing comes any more.
    pub(crate) fn end(&self) {
        self.listeners().take();
    }
}

/// One listener.
pub(crate) struct Listening {
    exchange: String,
    receiver: mpsc::UnboundedReceiver<Heard>,
    bytes: Arc<AtomicU64>,
    paused: bool,
}

#[async_trait]
impl Consumption for Listening {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            let heard = self.receiver.recv().await?;
            self.bytes.fetch_sub(heard.bytes(), Ordering::AcqRel);
            if self.paused {
                continue;
            }
            let message = RawMessage {
                exchange: self.exchange.clone(),
                routing_key: String::new(),
                properties: Properties::default(),
                body: heard.body,
            };
            return Some(soft::incoming(message, heard.at));
        }
    }

    async fn pause(&mut self, _grace: Duration) {
        self.paused = true;
    }

    async fn resume(&mut self) {
        // What was said meanwhile was not heard.
        while let Ok(heard) = self.receiver.try_recv() {
            self.bytes.fetch_sub(heard.bytes(), Ordering::AcqRel);
        }
        self.paused = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_does_not_listen_holds_no_more_than_its_bound() {
        let control = Arc::new(Control::new("control".to_owned()));
        let mut listening = control.listen();
        let body = Bytes::from(vec![0; 1024 * 1024]);
        for _ in 0..10 {
            assert!(control.tell(&body));
        }
        control.end();
        assert!(!control.tell(&body));
        let mut heard = 0;
        while listening.next().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, 3);
    }
}
