//! The consuming side, outside the engine.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::engine::ops::{Ask, Asks, Delivered, Place, Settlement, Subscribe};
use crate::port::{Ack, AckError, ConsumeOptions, Consumption, Incoming};

/// A consumption of one queue.
pub(crate) struct Subscription {
    id: u64,
    asks: Asks,
    /// Bounded by the prefetch and the bytes that the engine keeps to.
    feed: mpsc::UnboundedReceiver<Delivered>,
}

impl Subscription {
    /// Asks the engine for it; if that has ended, so has the subscription.
    pub(crate) fn new(id: u64, asks: Asks, queue: usize, options: ConsumeOptions) -> Subscription {
        let (sender, feed) = mpsc::unbounded_channel();
        let subscribe = Subscribe {
            consumer: id,
            queue,
            options,
            feed: sender,
            ledger: Arc::new(AtomicU64::new(0)),
        };
        // An error drops the sender.
        let _ = asks.send(Ask::Subscribe(subscribe));
        Subscription { id, asks, feed }
    }

    /// Asks, and waits; an engine that has ended has nothing in hand either.
    async fn ask(&self, ask: impl FnOnce(oneshot::Sender<()>) -> Ask) {
        let (done, answer) = oneshot::channel();
        if self.asks.send(ask(done)).is_ok() {
            let _ = answer.await;
        }
    }

    /// What was not handed out goes back untouched.
    fn discard(&mut self) {
        while let Ok(delivered) = self.feed.try_recv() {
            drop(delivered);
        }
    }
}

#[async_trait]
impl Consumption for Subscription {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            let Delivered {
                message,
                delivery_count,
                received_at,
                mut place,
            } = self.feed.recv().await?;
            if !place.session.is_live() {
                continue;
            }
            place.handed_out = true;
            return Some(Incoming {
                message,
                redelivered: delivery_count > 0,
                delivery_count,
                received_at,
                ack: Box::new(EmbeddedAck { place }),
            });
        }
    }

    async fn pause(&mut self, grace: Duration) {
        let consumer = self.id;
        self.ask(|done| Ask::Hold { consumer, done }).await;
        self.discard();
        // What is in hand then is given back.
        let _ = timeout(grace, self.ask(|done| Ask::WhenSettled { consumer, done })).await;
        self.ask(|done| Ask::End { consumer, done }).await;
    }

    async fn resume(&mut self) {
        let _ = self.asks.send(Ask::Resume { consumer: self.id });
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.feed.close();
        self.discard();
        let _ = self.asks.send(Ask::Unsubscribe { consumer: self.id });
    }
}

struct EmbeddedAck {
    place: Place,
}

#[async_trait]
impl Ack for EmbeddedAck {
    fn is_live(&self) -> bool {
        self.place.session.is_live()
    }

    async fn ack(mut self: Box<Self>) -> Result<(), AckError> {
        if !self.is_live() {
            return Err(AckError);
        }
        let (reply, answer) = oneshot::channel();
        if !self.place.settle(Settlement::Acked(reply)) {
            return Err(AckError);
        }
        answer.await.map_err(|_| AckError)?
    }
}
