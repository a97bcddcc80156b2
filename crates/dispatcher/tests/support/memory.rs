//! A broker in memory that fails on command: channels that die, publishes that are refused, alarms. What a real broker does
//! only now and then is tried here at the very moment that matters.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hooklane_broker::{
    Ack, AckError, Broker, BrokerError, BrokerState, ConsumeOptions, Consumption, Depth, Destination,
    Incoming, Outgoing, Queue,
};
use hooklane_policy::ladder::LEVELS_MS;
use hooklane_types::RawMessage;
use tokio::sync::{Notify, watch};

#[derive(Clone, Debug)]
struct Stored {
    message: RawMessage,
    deliveries: u64,
}

#[derive(Default)]
struct Channel {
    dead: AtomicBool,
    unacked: Mutex<HashMap<u64, Stored>>,
}

struct Queued {
    ready: Mutex<VecDeque<Stored>>,
    arrivals: Notify,
    channels: Mutex<Vec<Arc<Channel>>>,
}

struct Shared {
    queues: HashMap<Queue, Queued>,
    state: watch::Sender<BrokerState>,
    consume_state: watch::Sender<BrokerState>,
    refusing: Mutex<Option<BrokerError>>,
    refused: AtomicU64,
    panicking: AtomicBool,
    published: Mutex<Vec<Destination>>,
    acks: Mutex<HashMap<Queue, u64>>,
}

/// The broker. Clones share their queues.
#[derive(Clone)]
pub struct MemoryBroker(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics under this lock")
}

impl MemoryBroker {
    pub fn new() -> MemoryBroker {
        let queues = Queue::ALL.map(|queue| {
            let queued = Queued {
                ready: Mutex::default(),
                arrivals: Notify::new(),
                channels: Mutex::default(),
            };
            (queue, queued)
        });
        MemoryBroker(Arc::new(Shared {
            queues: queues.into(),
            state: watch::Sender::new(BrokerState::Connected),
            consume_state: watch::Sender::new(BrokerState::Connected),
            refusing: Mutex::default(),
            refused: AtomicU64::new(0),
            panicking: AtomicBool::new(false),
            published: Mutex::default(),
            acks: Mutex::default(),
        }))
    }

    /// Puts a message into a queue, as if it had been delivered `deliveries` times before.
    pub fn put(&self, queue: Queue, message: RawMessage, deliveries: u64) {
        lock(&self.queue(queue).ready).push_back(Stored { message, deliveries });
        self.queue(queue).arrivals.notify_waiters();
    }

    /// Every publish fails like this, until `None`.
    pub fn refuse(&self, error: Option<BrokerError>) {
        *lock(&self.0.refusing) = error;
    }

    /// How many publishes failed on command.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::SeqCst)
    }

    /// The next publish panics, as a defect of ours would.
    pub fn panic_once(&self) {
        self.0.panicking.store(true, Ordering::SeqCst);
    }

    /// Messages that are ready in a queue.
    pub fn ready(&self, queue: Queue) -> usize {
        lock(&self.queue(queue).ready).len()
    }

    /// The publishing connection's state.
    pub fn set_state(&self, state: BrokerState) {
        self.0.state.send_replace(state);
    }

    /// Kills all channels that consume a queue: what was unacked comes again.
    pub fn kill_channels(&self, queue: Queue) {
        let channels: Vec<_> = lock(&self.queue(queue).channels).drain(..).collect();
        for channel in channels {
            self.close(queue, &channel);
        }
    }

    /// What was published, in order, without the bodies and without `control`.
    pub fn published(&self) -> Vec<Destination> {
        lock(&self.0.published).clone()
    }

    /// How many messages of a queue were acked.
    pub fn acked(&self, queue: Queue) -> u64 {
        lock(&self.0.acks).get(&queue).copied().unwrap_or(0)
    }

    /// How many messages of a queue are out with consumers.
    pub fn unacked(&self, queue: Queue) -> usize {
        lock(&self.queue(queue).channels)
            .iter()
            .map(|channel| lock(&channel.unacked).len())
            .sum()
    }

    fn queue(&self, queue: Queue) -> &Queued {
        &self.0.queues[&queue]
    }

    fn close(&self, queue: Queue, channel: &Channel) {
        channel.dead.store(true, Ordering::SeqCst);
        let mut given_back: Vec<_> = lock(&channel.unacked).drain().collect();
        given_back.sort_by_key(|(tag, _)| std::cmp::Reverse(*tag));
        let mut ready = lock(&self.queue(queue).ready);
        for (_, mut stored) in given_back {
            stored.deliveries += 1;
            ready.push_front(stored);
        }
        drop(ready);
        self.queue(queue).arrivals.notify_waiters();
    }
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn publish(
        &self,
        to: Destination,
        message: Outgoing,
        _within: Duration,
    ) -> Result<(), BrokerError> {
        // Soft state, as dispatchers tell each other: no test is about it here, and nothing is scripted for it.
        if to == Destination::Control {
            return Ok(());
        }
        assert!(
            !self.0.panicking.swap(false, Ordering::SeqCst),
            "a scripted panic"
        );
        if let Some(error) = lock(&self.0.refusing).clone() {
            self.0.refused.fetch_add(1, Ordering::SeqCst);
            return Err(error);
        }
        lock(&self.0.published).push(to.clone());
        let internal = |exchange: &str, key: &str| RawMessage {
            exchange: format!("hooklane.{exchange}"),
            routing_key: key.to_owned(),
            properties: message.properties.clone(),
            body: message.body.clone(),
        };
        match to {
            Destination::ProducerEvents { routing_key } => {
                self.put(Queue::Events, internal("events", &routing_key), 0)
            }
            Destination::IngestedEvents => self.put(Queue::Events, internal("ingest", "events"), 0),
            Destination::Internal(queue) => self.put(queue, internal("internal", queue.name()), 0),
            Destination::Delay { level } => {
                let (broker, message) = (self.clone(), internal("lanes", "deliveries"));
                // A test's own task: it ends with the test's runtime.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(LEVELS_MS[level])).await;
                    broker.put(Queue::Deliveries, message, 0);
                });
            }
            Destination::Control => {}
        }
        Ok(())
    }

    fn consume(&self, queue: Queue, options: ConsumeOptions) -> Box<dyn Consumption> {
        Box::new(MemoryConsumption {
            broker: self.clone(),
            queue,
            options,
            channel: None,
            next_tag: 0,
            paused: false,
        })
    }

    fn listen(&self) -> Box<dyn Consumption> {
        // Nothing is ever published to `suspects` of this second broker: a consumption that yields nothing.
        let options = ConsumeOptions {
            prefetch: 1,
            bytes_max: 1,
        };
        MemoryBroker::new().consume(Queue::Suspects, options)
    }

    async fn depth(&self, queue: Queue) -> Result<Depth, BrokerError> {
        Ok(Depth {
            messages: lock(&self.queue(queue).ready).len() as u64,
            consumers: 1,
        })
    }

    async fn delay_depths(&self) -> Result<Vec<Depth>, BrokerError> {
        Ok(Vec::new())
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.0.state.subscribe()
    }

    fn consume_state(&self) -> watch::Receiver<BrokerState> {
        self.0.consume_state.subscribe()
    }

    async fn shut_down(&self) {}
}

struct MemoryConsumption {
    broker: MemoryBroker,
    queue: Queue,
    options: ConsumeOptions,
    channel: Option<Arc<Channel>>,
    next_tag: u64,
    paused: bool,
}

impl MemoryConsumption {
    /// A dead channel is made anew.
    fn channel(&mut self) -> Arc<Channel> {
        match &self.channel {
            Some(channel) if !channel.dead.load(Ordering::SeqCst) => channel.clone(),
            _ => {
                let channel = Arc::new(Channel::default());
                lock(&self.broker.queue(self.queue).channels).push(channel.clone());
                self.channel = Some(channel.clone());
                channel
            }
        }
    }

    fn take(&mut self) -> Option<Incoming> {
        let channel = self.channel();
        let mut unacked = lock(&channel.unacked);
        if unacked.len() >= usize::from(self.options.prefetch) {
            return None;
        }
        let stored = lock(&self.broker.queue(self.queue).ready).pop_front()?;
        self.next_tag += 1;
        unacked.insert(self.next_tag, stored.clone());
        let ack = MemoryAck {
            broker: self.broker.clone(),
            queue: self.queue,
            channel: channel.clone(),
            tag: Some(self.next_tag),
        };
        Some(Incoming {
            message: stored.message,
            redelivered: stored.deliveries > 0,
            delivery_count: stored.deliveries,
            received_at: Instant::now(),
            ack: Box::new(ack),
        })
    }
}

#[async_trait]
impl Consumption for MemoryConsumption {
    async fn next(&mut self) -> Option<Incoming> {
        loop {
            let broker = self.broker.clone();
            let arrived = broker.queue(self.queue).arrivals.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if !self.paused
                && let Some(incoming) = self.take()
            {
                return Some(incoming);
            }
            arrived.await;
        }
    }

    async fn pause(&mut self, grace: Duration) {
        self.paused = true;
        let Some(channel) = self.channel.take() else {
            return;
        };
        let settled = async {
            while !lock(&channel.unacked).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(grace, settled).await;
        self.broker.close(self.queue, &channel);
    }

    async fn resume(&mut self) {
        self.paused = false;
    }
}

impl Drop for MemoryConsumption {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            self.broker.close(self.queue, channel);
        }
    }
}

struct MemoryAck {
    broker: MemoryBroker,
    queue: Queue,
    channel: Arc<Channel>,
    tag: Option<u64>,
}

#[async_trait]
impl Ack for MemoryAck {
    fn is_live(&self) -> bool {
        !self.channel.dead.load(Ordering::SeqCst)
    }

    async fn ack(mut self: Box<Self>) -> Result<(), AckError> {
        let tag = self.tag.take().ok_or(AckError)?;
        lock(&self.channel.unacked).remove(&tag).ok_or(AckError)?;
        *lock(&self.broker.0.acks).entry(self.queue).or_default() += 1;
        self.broker.queue(self.queue).arrivals.notify_waiters();
        Ok(())
    }
}

impl Drop for MemoryAck {
    /// Given back at once: the message alone, which is what the recycled channel comes to.
    fn drop(&mut self) {
        let Some(mut stored) = self
            .tag
            .take()
            .and_then(|tag| lock(&self.channel.unacked).remove(&tag))
        else {
            return;
        };
        stored.deliveries += 1;
        lock(&self.broker.queue(self.queue).ready).push_front(stored);
        self.broker.queue(self.queue).arrivals.notify_waiters();
    }
}
