//! How a channel ends, so that what is in hand is settled or given back, and nothing is acked twice.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::StreamExt;
use hooklane_telemetry::Metric;
use lapin::Consumer;
use lapin::options::{BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::session::{Finding, Session};
use super::super::supervisor::Live;
use super::open::{Open, cancel, consumer};
use super::worker::{End, Next};
use super::{Command, Source, Worker};

/// The answer to a close or cancel comes behind everything that the broker has already sent on the channel, which may be a
/// prefetch full of large bodies. A connection that does not get through that in a minute is of no use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// When the process ends, nobody waits for that: the connection is about to be closed.
const CLOSE_TIMEOUT_AT_STOP: Duration = Duration::from_secs(1);
/// Three round trips behind what the broker has sent already. A process that stops has about as long after its grace time.
const TAKE_IN_TIMEOUT: Duration = Duration::from_secs(4);
/// When too many bytes came, what is in hand has this long to be acked before the channel is closed. It costs no memory: what
/// comes meanwhile is dropped on arrival. It spares endpoints repeats; longer would waste the network.
const OVER_BYTES_GRACE: Duration = Duration::from_secs(1);
/// When a message was dropped, the others on its channel have this long before it is closed over them: longer than an
/// attempt takes by default.
const GIVE_BACK_GRACE: Duration = Duration::from_secs(20);

impl Worker {
    pub(super) async fn finish(&mut self, end: End, live: &Live, mut open: Open) -> Next {
        let next = match end {
            // Nobody waits for the connection: everything in hand goes back at once.
            End::Lost => Next::Subscribe,
            End::Stop => Next::Stop,
            End::Pause { grace, done } => {
                self.pausing = Some(done);
                // Not cancelled: what still comes is dropped on arrival, and goes back with the channel.
                open.session.refuse();
                self.buffer.discard();
                self.drain(&open.session, live, grace, false).await;
                Next::Paused
            }
            End::Found(Finding::Ended(why)) => {
                self.count("ended");
                warn!(queue = self.name(), "the subscription ended: {why}");
                self.shared.mend(live).await;
                Next::After(self.pauses.next())
            }
            End::Found(Finding::OverBytes) => {
                self.count("bytes");
                self.buffer.discard();
                self.drain(&open.session, live, OVER_BYTES_GRACE, false).await;
                self.prefetch = self.ledger.prefetch(self.prefetch_full);
                info!(
                    queue = self.name(),
                    prefetch = self.prefetch,
                    "messages are large: smaller prefetch"
                );
                Next::Subscribe
            }
            End::Found(Finding::GivenBack) => {
                self.count("given_back");
                let cancelling = timeout(CLOSE_TIMEOUT, cancel(&mut open));
                // Whatever comes of it, the channel is closed next.
                let _ = live.lost.run_until_cancelled(cancelling).await;
                self.drain(&open.session, live, GIVE_BACK_GRACE, true).await;
                // Whatever made somebody drop it may do so again.
                Next::After(self.pauses.next())
            }
        };
        let settling = !live.lost.is_cancelled() && matches!(self.source, Source::Queue(_));
        let _taken_in = if settling {
            self.take_in_acks(live, &open).await
        } else {
            None
        };
        // From here on acks fail, and only then the channel is closed: no ack can follow it.
        open.session.end();
        if !live.lost.is_cancelled() {
            close(live, &mut open, &self.stop).await;
        }
        match self.pausing.take() {
            Some(done) => {
                let _ = done.send(());
                Next::Paused
            }
            None if self.commands.is_closed() => Next::Stop,
            None => next,
        }
    }

    /// Waits until what is in hand is settled, at most `grace`. A pause meanwhile brings a grace of its own, which may be longer:
    /// who stops a process wants what is in flight to be finished. A stop ends it.
    async fn drain(&mut self, session: &Session, live: &Live, grace: Duration, buffered: bool) {
        let stop = self.stop.clone();
        let (mut until, mut buffered) = (Instant::now() + grace, buffered);
        while !session.is_settled(buffered) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = live.lost.cancelled() => return,
                () = sleep_until(until) => return,
                () = session.changed.notified() => {}
                command = self.commands.recv() => match command {
                    None => return,
                    Some(Command::Resume) => {}
                    Some(Command::Pause { grace, done }) => {
                        self.pausing = Some(done);
                        session.refuse();
                        self.buffer.discard();
                        buffered = false;
                        until = Instant::now() + grace;
                    }
                }
            }
        }
    }

    /// Waits until the broker has taken in the acks that it has got. With 32 of them on their way to a quorum queue, its channel
    /// keeps further ones to itself, and forgets them when it is closed: of a thousand acks at once just before a close, up to
    /// several hundred were lost (seen), and as many deliveries repeated. So those that wait to be sent with others are sent first.
    ///
    /// A consumer is begun only when all earlier commands of the channel were applied; and a look at the queue is answered by
    /// the process that has told the channel so before. What the channel had kept, it has sent then. Not by a cancel: on a queue
    /// with a single active consumer, the next one would begin behind what is given back with the channel.
    async fn take_in_acks(&self, live: &Live, open: &Open) -> Option<(Consumer, Arc<AtomicBool>)> {
        open.session.refuse();
        let taking_in = async {
            open.session.flush().await;
            open.channel
                .basic_qos(1, BasicQosOptions { global: false })
                .await?;
            let second = consumer(&open.channel, &open.queue, &open.session, false).await?;
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            open.channel
                .queue_declare(open.queue.clone(), passive, FieldTable::default())
                .await?;
            lapin::Result::Ok(second)
        };
        tokio::select! {
            // What fails here costs repeats at most; the channel is closed next in any case.
            second = taking_in => second.ok(),
            () = live.lost.cancelled() => None,
            () = self.stop.cancelled() => None,
            () = tokio::time::sleep(TAKE_IN_TIMEOUT) => None,
        }
    }

    fn count(&self, reason: &str) {
        self.shared.metrics.count(Metric::ChannelsRecycled, &[reason]);
    }
}

/// Closes the channel, and drops what comes until that is done: lapin would keep it, without bound.
async fn close(live: &Live, open: &mut Open, stop: &CancellationToken) {
    let (channel, consumer) = (&open.channel, &mut open.consumer);
    let arrivals = async {
        while consumer.next().await.is_some() {}
        std::future::pending::<()>().await;
    };
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(CLOSE_TIMEOUT_AT_STOP).await;
    };
    tokio::select! {
        // What fails to close is gone already, or goes with its connection.
        _ = channel.close(200, "OK".into()) => {}
        () = arrivals => {}
        () = stopped => {}
        () = live.lost.cancelled() => {}
        () = tokio::time::sleep(CLOSE_TIMEOUT) => {
            warn!("a channel was not closed within {} s: connecting again", CLOSE_TIMEOUT.as_secs());
            live.link.close().await;
        }
    }
}
