//! Publishing with confirms: many at once on one channel, each until its own deadline.
//!
//! One task owns the channel. lapin numbers a publish and queues its frames in two steps, so two tasks publishing at once
//! could get each other's confirms.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::supervisor::{Live, Shared, Supervised};
use crate::port::{BrokerError, BrokerState};
use crate::window::{Places, Window, count};

/// Most publishes without a confirm. 500 saturate a quorum queue; more than 1,000 starve its consumers (measured).
const WINDOW: usize = 1_000;
/// Most bytes of bodies without a confirm: lapin holds a copy of each.
const WINDOW_BYTES: usize = 64 * 1024 * 1024;
/// Opening a channel is two round trips.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often publishes are dropped whose callers have given up, while nothing can be sent.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// A channel that the broker closes at once must not be opened again in a tight loop.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);
/// A channel that was refused a publish is replaced when it is as old as this. A queue that is full refuses on the new one too; but
/// RabbitMQ 3.10 also refuses, for as long as the channel lives, when the queue's leader was gone at its first publish (seen after a
/// node was killed).
const RENEW_AFTER: Duration = Duration::from_secs(1);
/// How long nothing is sent, so that what is in flight is confirmed before that. It is milliseconds; else the channel stays.
const RENEW_WAIT: Duration = Duration::from_secs(1);

/// What is published, in AMQP's terms.
pub(crate) struct Message {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Bytes,
}

struct Request {
    message: Message,
    reply: oneshot::Sender<Result<(), BrokerError>>,
    /// Set once it was handed to lapin: from then on it may arrive.
    sent: Arc<AtomicBool>,
    /// It was in flight when the broker closed a channel over one publish.
    doubted: bool,
    /// Its place in the window, until the broker has answered or the channel is gone.
    _places: Places,
}

/// Where publishes are handed in.
pub(crate) struct Publisher {
    requests: mpsc::UnboundedSender<Request>,
    window: Window,
    link: Supervised,
    shared: Arc<Shared>,
}

impl Publisher {
    /// The publisher, and its task to be spawned.
    pub(crate) fn new(
        shared: Arc<Shared>,
        link: Supervised,
        stop: CancellationToken,
    ) -> (Publisher, impl Future<Output = ()> + Send) {
        // Bounded by the window: a request holds its place in it.
        let (requests, inbox) = mpsc::unbounded_channel();
        let task = PublishTask {
            shared: shared.clone(),
            state: link.state(),
            link: link.clone(),
            inbox,
            backlog: VecDeque::new(),
            doubtful: VecDeque::new(),
            stop,
        };
        let publisher = Publisher {
            requests,
            window: Window::new(WINDOW, WINDOW_BYTES),
            link,
            shared,
        };
        (publisher, task.run())
    }

    /// Publishes, again on every new channel, until it is confirmed, refused, or the time is over.
    pub(crate) async fn publish(&self, message: Message, within: Duration) -> Result<(), BrokerError> {
        self.link.want();
        let result = self.attempt(message, within).await;
        count(&self.shared.metrics, &result);
        result
    }

    /// How the connection stands.
    pub(crate) fn state(&self) -> watch::Receiver<BrokerState> {
        self.link.state()
    }

    /// As `publish`, and neither counted nor a reason to connect.
    pub(crate) async fn attempt(&self, message: Message, within: Duration) -> Result<(), BrokerError> {
        let trouble = || self.link.trouble();
        self.window
            .publish(message.body.len(), within, trouble, |ticket| {
                let request = Request {
                    message,
                    reply: ticket.reply,
                    sent: ticket.sent,
                    doubted: false,
                    _places: ticket.places,
                };
                self.requests.send(request).is_ok()
            })
            .await
    }
}

struct PublishTask {
    shared: Arc<Shared>,
    link: Supervised,
    state: watch::Receiver<BrokerState>,
    inbox: mpsc::UnboundedReceiver<Request>,
    /// To be sent.
    backlog: VecDeque<Request>,
    /// In flight when the broker closed the channel over one of them: sent one at a time, so that the next close says which.
    doubtful: VecDeque<Request>,
    stop: CancellationToken,
}

type Answered = (u64, lapin::Result<Confirmation>);

/// What was handed to lapin on one channel.
struct Flight {
    requests: BTreeMap<u64, Request>,
    confirms: FuturesUnordered<BoxFuture<'static, Answered>>,
    next: u64,
    /// When the channel was opened, or was last found to be better kept.
    since: Instant,
    /// A publish was refused since then.
    refused: bool,
    /// Since when nothing is sent, because the channel is to be replaced.
    resting: Option<Instant>,
}

/// What to do with a channel before more is sent on it.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Send,
    Rest,
    Replace,
}

impl PublishTask {
    async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(Some(live)) = stop.run_until_cancelled(self.next_link()).await {
            let channel = match timeout(OPEN_TIMEOUT, confirming(&live)).await {
                Ok(Ok(channel)) => channel,
                Ok(Err(error)) => {
                    debug!("the publishing channel could not be opened: {error}");
                    tokio::time::sleep(REOPEN_PAUSE).await;
                    continue;
                }
                Err(_) => {
                    warn!(
                        "the publishing channel was not opened within {} s: connecting again",
                        OPEN_TIMEOUT.as_secs()
                    );
                    live.link.close().await;
                    continue;
                }
            };
            let mut flight = Flight::new();
            let ended = stop
                .run_until_cancelled(self.serve(&live, &channel, &mut flight))
                .await;
            let refused = collect(&mut flight);
            let Some(error) = ended else { break };
            self.after(refused.or(error), flight, &live).await;
        }
    }

    /// Waits for a connection, and takes requests in meanwhile, so that those whose time is over leave the window.
    async fn next_link(&mut self) -> Option<Arc<Live>> {
        let mut link = self.link.clone();
        let mut up = Box::pin(link.live());
        let mut sweep = sweep();
        loop {
            tokio::select! {
                live = &mut up => return live,
                Some(request) = self.inbox.recv() => self.backlog.push_back(request),
                _ = sweep.tick() => self.forget_given_up(),
            }
        }
    }

    /// Sends and takes confirms in until the channel ends; says why it did, where it knows.
    async fn serve(&mut self, live: &Live, channel: &Channel, flight: &mut Flight) -> Option<lapin::Error> {
        let mut sweep = sweep();
        loop {
            match flight.turn() {
                Turn::Send => self.send_waiting(live, channel, flight).await,
                Turn::Rest => {}
                Turn::Replace => {
                    debug!("a publish was refused: the publishing channel is replaced");
                    // Nothing depends on it any more; it goes with its connection at the latest.
                    let _ = timeout(OPEN_TIMEOUT, channel.close(200, "OK".into())).await;
                    return None;
                }
            }
            tokio::select! {
                Some((id, result)) = flight.confirms.next(), if !flight.confirms.is_empty() => {
                    if let Err(error) = settle(flight, id, result) {
                        return Some(error);
                    }
                }
                request = self.inbox.recv() => match request {
                    Some(request) => self.backlog.push_back(request),
                    None => self.stop.cancelled().await,
                },
                () = live.lost.cancelled() => return None,
                _ = self.state.changed() => {}
                _ = sweep.tick() => {
                    self.forget_given_up();
                    if !channel.status().connected() && flight.confirms.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    async fn send_waiting(&mut self, live: &Live, channel: &Channel, flight: &mut Flight) {
        // What is handed to lapin now would count as sent, and could not be told from what may arrive.
        if live.lost.is_cancelled() {
            return;
        }
        // lapin would queue without bound while the broker blocks the connection.
        if matches!(&*self.state.borrow(), BrokerState::Blocked { .. }) {
            return;
        }
        if !self.doubtful.is_empty() {
            if flight.requests.is_empty()
                && let Some(request) = self.doubtful.pop_front()
            {
                flight.start(channel, request).await;
            }
            return;
        }
        while let Some(request) = self.backlog.pop_front() {
            flight.start(channel, request).await;
        }
    }

    async fn after(&mut self, error: Option<lapin::Error>, flight: Flight, live: &Live) {
        let mut requests: VecDeque<Request> = flight.requests.into_values().collect();
        match error {
            // The broker refuses one of these publishes by closing the channel: an exchange that is gone, no right, too large.
            Some(error) if error.is_amqp_soft_error() => {
                self.shared.mend(live).await;
                if let [alone] = requests.make_contiguous()
                    && alone.doubted
                    && let Some(request) = requests.pop_front()
                {
                    let _ = request.reply.send(Err(BrokerError::Refused(error.to_string())));
                } else {
                    warn!(
                        "the broker closed the publishing channel; {} publishes go again, one by one: {error}",
                        requests.len()
                    );
                }
                requests.iter_mut().for_each(|request| request.doubted = true);
                requests.append(&mut self.doubtful);
                self.doubtful = requests;
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
            _ => {
                requests.append(&mut self.doubtful);
                requests.append(&mut self.backlog);
                self.backlog = requests;
            }
        }
        self.forget_given_up();
    }

    fn forget_given_up(&mut self) {
        self.backlog.retain(|request| !request.reply.is_closed());
        self.doubtful.retain(|request| !request.reply.is_closed());
    }
}

impl Flight {
    fn new() -> Flight {
        Flight {
            requests: BTreeMap::new(),
            confirms: FuturesUnordered::new(),
            next: 0,
            since: Instant::now(),
            refused: false,
            resting: None,
        }
    }

    fn turn(&mut self) -> Turn {
        if !self.refused || self.since.elapsed() < RENEW_AFTER {
            return Turn::Send;
        }
        if self.requests.is_empty() {
            return Turn::Replace;
        }
        if self.resting.get_or_insert_with(Instant::now).elapsed() < RENEW_WAIT {
            return Turn::Rest;
        }
        (self.since, self.refused, self.resting) = (Instant::now(), false, None);
        Turn::Send
    }

    async fn start(&mut self, channel: &Channel, request: Request) {
        if request.reply.is_closed() {
            return;
        }
        request.sent.store(true, Ordering::Release);
        let id = self.next;
        self.next += 1;
        let Message {
            exchange,
            routing_key,
            properties,
            body,
        } = &request.message;
        let (exchange, routing_key, properties) = (exchange.clone(), routing_key.clone(), properties.clone());
        let (channel, body) = (channel.clone(), body.clone());
        self.requests.insert(id, request);
        // Never `mandatory`: with pipelined confirms lapin hands a return to the wrong publish.
        let mut confirm = async move {
            let options = BasicPublishOptions::default();
            let sending = channel.basic_publish(exchange, routing_key, options, &body, properties);
            let result = match sending.await {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            (id, result)
        }
        .boxed();
        // The first poll hands it to lapin, here and now, so that publishes go out in the order in which they came.
        match futures_util::poll!(&mut confirm) {
            std::task::Poll::Ready(answered) => self.confirms.push(std::future::ready(answered).boxed()),
            std::task::Poll::Pending => self.confirms.push(confirm),
        }
    }
}

/// Answers a caller; an error is the channel's, and its request stays.
fn settle(flight: &mut Flight, id: u64, result: lapin::Result<Confirmation>) -> lapin::Result<()> {
    let answer = match result? {
        Confirmation::Ack(_) => Ok(()),
        Confirmation::Nack(_) => {
            flight.refused = true;
            Err(BrokerError::Full)
        }
        // The channel was put into confirm mode before anything was sent.
        Confirmation::NotRequested => Err(BrokerError::Refused("the channel has no confirms".to_owned())),
    };
    if let Some(request) = flight.requests.remove(&id) {
        // The caller may have given up; it was told that the message may arrive.
        let _ = request.reply.send(answer);
    }
    Ok(())
}

/// Takes in the confirms that came before the channel ended; says which refusal of the broker ended it, if one did.
fn collect(flight: &mut Flight) -> Option<lapin::Error> {
    let mut refusal = None;
    while let Some(Some((id, result))) = flight.confirms.next().now_or_never() {
        if let Err(error) = settle(flight, id, result)
            && error.is_amqp_soft_error()
        {
            refusal = Some(error);
        }
    }
    refusal
}

async fn confirming(live: &Live) -> lapin::Result<Channel> {
    let channel = live.link.connection().create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

fn sweep() -> tokio::time::Interval {
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep
}
