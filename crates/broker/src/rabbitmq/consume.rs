//! A lasting subscription: one task per consumption subscribes, and again after anything that ends a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use hooklane_telemetry::Metric;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::session::{Buffer, Finding, Inlet, Ledger, Session};
use super::supervisor::{Live, Shared, Supervised};
use crate::port::{ConsumeOptions, Consumption, Incoming};
use crate::topology::Exchange;

/// Channel, queue, qos and consume are four round trips.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(15);
/// The answer to a close or cancel comes behind everything that the broker has already sent on the channel, which may be a
/// prefetch full of large bodies. A connection that does not get through that in a minute is of no use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// When the process ends, nobody waits for that: the connection is about to be closed.
const CLOSE_TIMEOUT_AT_STOP: Duration = Duration::from_secs(1);
/// Three round trips behind what the broker has sent already. A process that stops has about as long after its grace time.
const TAKE_IN_TIMEOUT: Duration = Duration::from_secs(4);
/// Pauses before subscribing again after a failure; doubled after each.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After that long without trouble the next pause is the shortest again.
const CALM: Duration = Duration::from_secs(60);
/// When too many bytes came, what is in hand has this long to be acked before the channel is closed. It costs no memory: what
/// comes meanwhile is dropped on arrival. It spares endpoints repeats; longer would waste the network.
const OVER_BYTES_GRACE: Duration = Duration::from_secs(1);
/// When a message was dropped, the others on its channel have this long before it is closed over them: longer than an
/// attempt takes by default.
const GIVE_BACK_GRACE: Duration = Duration::from_secs(20);
/// Messages in a row that must be small before the full prefetch is tried again.
const SMALL_IN_A_ROW: u32 = 1_000;

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

/// When the task ends, by a panic too, whoever waits for messages is told.
struct Closing(Arc<Buffer>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

enum Next {
    Subscribe,
    After(Duration),
    Paused,
    Stop,
}

/// Why a channel is given up.
enum End {
    Lost,
    Found(Finding),
    Pause {
        grace: Duration,
        done: oneshot::Sender<()>,
    },
    Stop,
}

struct Open {
    channel: Channel,
    /// Cancels itself when dropped.
    consumer: Consumer,
    retired: Arc<AtomicBool>,
    session: Arc<Session>,
    queue: ShortString,
}

impl Worker {
    async fn run(mut self) {
        let _closing = Closing(self.buffer.clone());
        let mut next = Next::Subscribe;
        loop {
            next = match next {
                Next::Subscribe => self.subscribe().await,
                Next::After(pause) => self.idle(Some(pause)).await,
                Next::Paused => self.idle(None).await,
                Next::Stop => break,
            };
        }
    }

    fn name(&self) -> &str {
        match &self.source {
            Source::Queue(name) => name,
            Source::Control => "control",
        }
    }

    /// Without a channel, until the pause is over; without a pause, until told.
    async fn idle(&mut self, pause: Option<Duration>) -> Next {
        let stop = self.stop.clone();
        let over = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Next::Stop,
            () = over => Next::Subscribe,
            command = self.commands.recv() => without_channel(command),
        }
    }

    async fn subscribe(&mut self) -> Next {
        let (stop, ledger) = (self.stop.clone(), self.ledger.clone());
        let mut link = self.link.clone();
        let ready = async {
            // What was in hand on the last channel may still be held by whoever works on it.
            while !ledger.has_room() {
                ledger.released.notified().await;
            }
            link.live().await
        };
        let live = tokio::select! {
            () = stop.cancelled() => return Next::Stop,
            command = self.commands.recv() => return without_channel(command),
            live = ready => live,
        };
        let Some(live) = live else { return Next::Stop };
        let opening = timeout(SUBSCRIBE_TIMEOUT, self.open(&live));
        let opened = match stop.run_until_cancelled(opening).await {
            None => return Next::Stop,
            Some(Err(_)) => Err(format!("no answer within {} s", SUBSCRIBE_TIMEOUT.as_secs())),
            Some(Ok(Err(error))) => {
                if error.is_amqp_soft_error() {
                    self.shared.mend(&live).await;
                }
                Err(error.to_string())
            }
            Some(Ok(Ok(open))) => Ok(open),
        };
        match opened {
            Err(why) => {
                let pause = self.pauses.next();
                if live.lost.is_cancelled() {
                    debug!(queue = self.name(), "not subscribed: {why}");
                } else {
                    warn!(
                        queue = self.name(),
                        "not subscribed, next try in {} ms: {why}",
                        pause.as_millis()
                    );
                }
                Next::After(pause)
            }
            Ok(mut open) => {
                debug!(queue = self.name(), prefetch = self.prefetch, "subscribed");
                let end = self.attend(&live, &mut open).await;
                self.finish(end, &live, open).await
            }
        }
    }

    async fn open(&self, live: &Live) -> lapin::Result<Open> {
        let channel = live.link.connection().create_channel().await?;
        let lossy = matches!(self.source, Source::Control);
        let queue = match &self.source {
            Source::Queue(name) => ShortString::from(name.as_str()),
            Source::Control => self.own_queue(&channel).await?,
        };
        if !lossy {
            channel
                .basic_qos(self.prefetch, BasicQosOptions { global: false })
                .await?;
        }
        let session = Session::new(
            self.ledger.clone(),
            self.buffer.clone(),
            self.prefetch_full,
            lossy,
        );
        let session = Arc::new(session);
        let (consumer, retired) = consumer(&channel, &queue, &session, lossy).await?;
        Ok(Open {
            channel,
            consumer,
            retired,
            session,
            queue,
        })
    }

    /// A queue that goes with this connection. Its name is new every time: the last one may not be gone yet.
    async fn own_queue(&self, channel: &Channel) -> lapin::Result<ShortString> {
        let names = &self.shared.topology.names;
        let queue = ShortString::from(names.listener(&format!("{:016x}", rand::random::<u64>())));
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.clone(), options, FieldTable::default())
            .await?;
        let control = ShortString::from(names.exchange(Exchange::Control));
        channel
            .queue_bind(
                queue.clone(),
                control,
                "".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(queue)
    }

    /// Watches over a channel until it has to go.
    async fn attend(&mut self, live: &Live, open: &mut Open) -> End {
        let stop = self.stop.clone();
        loop {
            if let Some(finding) = open.session.finding() {
                return if live.lost.is_cancelled() {
                    End::Lost
                } else {
                    End::Found(finding)
                };
            }
            if self.prefetch < self.prefetch_full && open.session.small_in_a_row() >= SMALL_IN_A_ROW {
                let trouble = match timeout(SUBSCRIBE_TIMEOUT, self.raise_prefetch(open)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the full prefetch could not be asked for".to_owned(),
                };
                return End::Found(Finding::Ended(trouble));
            }
            tokio::select! {
                () = stop.cancelled() => return End::Stop,
                () = live.lost.cancelled() => return End::Lost,
                () = open.session.changed.notified() => {}
                command = self.commands.recv() => match command {
                    None => return End::Stop,
                    Some(Command::Resume) => {}
                    Some(Command::Pause { grace, done }) => return End::Pause { grace, done },
                }
            }
        }
    }

    /// A second consumer with the full prefetch takes over on the same channel, so that nothing has to be given back.
    async fn raise_prefetch(&mut self, open: &mut Open) -> lapin::Result<()> {
        open.channel
            .basic_qos(self.prefetch_full, BasicQosOptions { global: false })
            .await?;
        let (fuller, retired) = consumer(&open.channel, &open.queue, &open.session, false).await?;
        cancel(open).await?;
        (open.consumer, open.retired) = (fuller, retired);
        self.prefetch = self.prefetch_full;
        self.ledger.forget_largest();
        info!(
            queue = self.name(),
            prefetch = self.prefetch,
            "messages are small again: full prefetch"
        );
        Ok(())
    }

    async fn finish(&mut self, end: End, live: &Live, mut open: Open) -> Next {
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
    /// several hundred were lost (seen), and as many deliveries repeated.
    ///
    /// A consumer is begun only when all earlier commands of the channel were applied; and a look at the queue is answered by
    /// the process that has told the channel so before. What the channel had kept, it has sent then. Not by a cancel: on a queue
    /// with a single active consumer, the next one would begin behind what is given back with the channel.
    async fn take_in_acks(&self, live: &Live, open: &Open) -> Option<(Consumer, Arc<AtomicBool>)> {
        open.session.refuse();
        let taking_in = async {
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

/// A consumer whose deliveries are taken in lapin's thread.
async fn consumer(
    channel: &Channel,
    queue: &ShortString,
    session: &Arc<Session>,
    lossy: bool,
) -> lapin::Result<(Consumer, Arc<AtomicBool>)> {
    let options = BasicConsumeOptions {
        no_ack: lossy,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel
        .basic_consume(queue.clone(), "".into(), options, FieldTable::default())
        .await?;
    let (inlet, retired) = Inlet::new(session.clone());
    consumer.set_delegate(inlet);
    Ok((consumer, retired))
}

/// Ends the consumer and keeps the channel: what is in hand can still be acked.
async fn cancel(open: &mut Open) -> lapin::Result<()> {
    open.retired.store(true, Ordering::Release);
    let (tag, session, consumer) = (open.consumer.tag(), &open.session, &mut open.consumer);
    // From its cancel on lapin puts deliveries into a buffer of its own instead of handing them to the inlet.
    let arrivals = async {
        while let Some(Ok(delivery)) = consumer.next().await {
            session.arrive(delivery);
        }
    };
    let (cancelled, ()) = tokio::join!(
        open.channel.basic_cancel(tag, BasicCancelOptions::default()),
        arrivals
    );
    cancelled
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

fn without_channel(command: Option<Command>) -> Next {
    match command {
        None => Next::Stop,
        Some(Command::Resume) => Next::Subscribe,
        Some(Command::Pause { done, .. }) => {
            // Nobody waits any more: it is paused all the same.
            let _ = done.send(());
            Next::Paused
        }
    }
}

/// Growing pauses between subscriptions that fail one after the other.
#[derive(Default)]
struct Pauses {
    last: Option<(Instant, Duration)>,
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let now = Instant::now();
        let pause = match self.last {
            Some((at, last)) if now.duration_since(at) < CALM => (last * 2).min(PAUSE_MAX),
            _ => PAUSE_MIN,
        };
        self.last = Some((now, pause));
        pause
    }
}
