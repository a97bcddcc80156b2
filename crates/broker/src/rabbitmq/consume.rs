//! A lasting subscription: one task per consumption subscribes, and again after anything that ends a channel.

mod end;
mod open;
mod pauses;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::session::{Buffer, Ledger};
use super::supervisor::{Shared, Supervised};
use crate::port::{ConsumeOptions, Consumption, Incoming};
use pauses::Pauses;

/// What is subscribed to.
pub(crate) enum Source {
    /// A queue of the topology, by its full name.
    Queue(String),
    /// The exchange `control`, by a queue of this process's own.
    Control,
}

enum Command {
    Pause {
        grace: Duration,
        done: oneshot::Sender<()>,
    },
    Resume,
}

/// The handle that the port gives out.
pub(crate) struct Subscription {
    buffer: Arc<Buffer>,
    commands: mpsc::UnboundedSender<Command>,
}

#[async_trait]
impl Consumption for Subscription {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            while let Some(held) = self.buffer.pop() {
                if let Some(incoming) = held.hand_out() {
                    return Some(incoming);
                }
            }
            if self.buffer.is_closed() {
                return None;
            }
            self.buffer.arrived.notified().await;
        }
    }

    async fn pause(&mut self, grace: Duration) {
        let (done, paused) = oneshot::channel();
        // An error on either way says that the broker was shut down: nothing is consumed then.
        let _ = self.commands.send(Command::Pause { grace, done });
        let _ = paused.await;
    }

    async fn resume(&mut self) {
        let _ = self.commands.send(Command::Resume);
    }
}

/// The handle, and its task to be spawned. The task ends when the handle is dropped.
pub(crate) fn subscription(
    shared: Arc<Shared>,
    link: Supervised,
    source: Source,
    options: ConsumeOptions,
    stop: CancellationToken,
) -> (Subscription, impl Future<Output = ()> + Send) {
    let buffer = Arc::new(Buffer::default());
    let (commands, inbox) = mpsc::unbounded_channel();
    let worker = Worker {
        ledger: Arc::new(Ledger::new(options.bytes_max)),
        buffer: buffer.clone(),
        prefetch: options.prefetch.max(1),
        // 0 would mean no limit to RabbitMQ.
        prefetch_full: options.prefetch.max(1),
        pauses: Pauses::default(),
        pausing: None,
        commands: inbox,
        shared,
        link,
        source,
        stop,
    };
    (Subscription { buffer, commands }, worker.run())
}

/// The task behind a subscription. [`worker`] is its life, [`open`] how a channel begins, [`end`] how one ends.
struct Worker {
    shared: Arc<Shared>,
    link: Supervised,
    source: Source,
    ledger: Arc<Ledger>,
    buffer: Arc<Buffer>,
    prefetch: u16,
    prefetch_full: u16,
    pauses: Pauses,
    /// A pause that was asked for while a channel was being ended.
    pausing: Option<oneshot::Sender<()>>,
    commands: mpsc::UnboundedReceiver<Command>,
    stop: CancellationToken,
}
