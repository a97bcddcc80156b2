//! A consumption as the engine sees it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::ops::{Delivered, Session, Subscribe};

pub(crate) struct Consumer {
    pub(crate) queue: usize,
    prefetch: usize,
    bytes_max: u64,
    pub(crate) feed: mpsc::UnboundedSender<Delivered>,
    pub(crate) ledger: Arc<AtomicU64>,
    pub(crate) session: Arc<Session>,
    /// Fed, and counted among the queue's consumers.
    pub(crate) open: bool,
    /// What it has, with its bytes.
    pub(crate) unacked: HashMap<u64, u64>,
    /// Whoever waits for that to be nothing.
    pub(crate) waiting: Option<oneshot::Sender<()>>,
}

impl Consumer {
    pub(crate) fn new(subscribe: Subscribe) -> Consumer {
        Consumer {
            queue: subscribe.queue,
            prefetch: usize::from(subscribe.options.prefetch.max(1)),
            bytes_max: subscribe.options.bytes_max,
            feed: subscribe.feed,
            ledger: subscribe.ledger,
            session: Session::new(0),
            open: true,
            unacked: HashMap::new(),
            waiting: None,
        }
    }

    /// Whether one more of this size may be given to it. When it has nothing, one always may: somebody must judge it.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let held = self.ledger.load(Ordering::Acquire);
        self.open
            && self.unacked.len() < self.prefetch
            && (held == 0 || held.saturating_add(bytes) <= self.bytes_max)
    }

    /// Takes what it had; nothing of it is in hand any more.
    pub(crate) fn end_session(&mut self) -> HashMap<u64, u64> {
        self.session.live.store(false, Ordering::Release);
        self.open = false;
        self.waiting = None;
        std::mem::take(&mut self.unacked)
    }

    pub(crate) fn tell_if_settled(&mut self) {
        if self.unacked.is_empty()
            && let Some(waiting) = self.waiting.take()
        {
            // Whoever waited may have given up.
            let _ = waiting.send(());
        }
    }
}
