//! The port on RabbitMQ 3.10 to 4.x, by AMQP 0-9-1.

mod acks;
pub mod check;
pub mod connection;
mod consume;
mod convert;
pub mod declare;
mod publish;
mod pulse;
mod repair;
mod server;
mod session;
pub mod settings;
mod shelf;
mod supervisor;
mod tls;
mod transport;
mod url;

pub use settings::{Declare, RabbitMqSettings, Role, SettingsError, host_name};
pub use shelf::RabbitMqShelves;
pub use url::{BrokerUrl, BrokerUrls};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hooklane_policy::ladder::LEVELS_MS;
use hooklane_telemetry::Metrics;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use consume::{Source, subscription};
use publish::{Message, Publisher};
use supervisor::{CONSUME, PUBLISH, Shared, Supervised};

use crate::port::{
    Broker, BrokerError, BrokerState, ConsumeOptions, Consumption, Depth, Destination, Outgoing, Queue,
};
use crate::topology::{DELIVERIES_KEY, Exchange, Names};

/// Looking at all queues takes some ten milliseconds on a calm node.
const DEPTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Both connections say goodbye at once, each within its own deadline.
const SHUT_DOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// What `listen` holds at most; more is dropped, as soft state may be.
const CONTROL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// RabbitMQ: two connections that keep themselves up, one to publish and one to consume, so that a memory alarm, which stops
/// everything on a publishing connection, stops no ack.
pub struct RabbitMq {
    shared: Arc<Shared>,
    publishing: Supervised,
    consuming: Supervised,
    publisher: Arc<Publisher>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl RabbitMq {
    /// Starts the tasks that connect, and returns at once: follow `state` to know when it is connected. To be called in a tokio
    /// runtime, which must live as long as this.
    ///
    /// # Errors
    /// When the settings can't be used.
    pub fn start(settings: RabbitMqSettings, metrics: Arc<Metrics>) -> Result<Arc<RabbitMq>, SettingsError> {
        let topology = settings.topology()?;
        let role = settings.role;
        let shared = Arc::new(Shared::new(settings, topology, metrics));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let not_yet = BrokerState::Disconnected {
            last_error: "not yet connected".to_owned(),
        };
        let (publishing, task) = Supervised::new(shared.clone(), PUBLISH, not_yet, stop.clone());
        tasks.spawn(essential(task, stop.clone()));
        let (consuming, task) =
            Supervised::new(shared.clone(), CONSUME, BrokerState::Connected, stop.clone());
        tasks.spawn(essential(task, stop.clone()));
        let (publisher, task) = Publisher::new(shared.clone(), publishing.clone(), stop.clone());
        tasks.spawn(essential(task, stop.clone()));
        let publisher = Arc::new(publisher);
        if matches!(role, Role::Dispatcher | Role::Control) {
            consuming.want();
        }
        if role != Role::Operator {
            publishing.want();
            let control = shared.topology.names.exchange(Exchange::Control).into();
            let task = pulse::run(publisher.clone(), control, stop.clone());
            tasks.spawn(essential(task, stop.clone()));
        }
        Ok(Arc::new(RabbitMq {
            shared,
            publishing,
            consuming,
            publisher,
            tasks,
            stop,
        }))
    }

    /// The names on this broker.
    pub fn names(&self) -> &Names {
        &self.shared.topology.names
    }

    /// The settings that it was started with.
    pub fn settings(&self) -> &RabbitMqSettings {
        &self.shared.settings
    }

    fn message(&self, to: Destination, outgoing: Outgoing) -> Result<Message, BrokerError> {
        let names = self.names();
        let (exchange, routing_key, properties) = match to {
            Destination::ProducerEvents { routing_key } => {
                let properties = convert::outgoing(&outgoing.properties, self.settings().urls.user())?;
                (
                    Exchange::Events,
                    convert::short("the routing key", &routing_key)?,
                    properties,
                )
            }
            Destination::IngestedEvents => (
                Exchange::Ingest,
                Queue::Events.name().into(),
                convert::internal(true),
            ),
            Destination::Internal(queue @ (Queue::Events | Queue::Ordered)) => {
                return Err(BrokerError::Refused(format!(
                    "queue {} is not an internal one",
                    queue.name()
                )));
            }
            Destination::Internal(queue @ (Queue::Contents | Queue::Records | Queue::Deaths)) => {
                (Exchange::Records, queue.name().into(), convert::internal(true))
            }
            Destination::Internal(queue) => {
                (Exchange::Internal, queue.name().into(), convert::internal(true))
            }
            Destination::Delay { level } => (
                Exchange::Delay(level),
                DELIVERIES_KEY.into(),
                convert::internal(true),
            ),
            Destination::Control => (Exchange::Control, "".into(), convert::internal(false)),
        };
        let exchange = ShortString::from(names.exchange(exchange));
        Ok(Message {
            exchange,
            routing_key,
            properties,
            body: outgoing.body,
        })
    }

    fn subscribe(&self, source: Source, options: ConsumeOptions) -> Box<dyn Consumption> {
        self.consuming.want();
        let (shared, link) = (self.shared.clone(), self.consuming.clone());
        let (subscription, task) = subscription(shared, link, source, options, self.stop.clone());
        self.tasks.spawn(task);
        Box::new(subscription)
    }

    /// Looks at queues on a throw-away channel of the consuming connection, which a memory alarm does not stop.
    async fn depths(&self, queues: Vec<String>) -> Result<Vec<Depth>, BrokerError> {
        let mut link = self.consuming.clone();
        let look = async {
            let live = link.live().await.ok_or(BrokerError::ShutDown)?;
            let failed = |error: lapin::Error| match error.is_amqp_soft_error() {
                true => BrokerError::Refused(error.to_string()),
                false => BrokerError::Unavailable(format!("no connection to the broker: {error}")),
            };
            let channel = live.link.connection().create_channel().await.map_err(failed)?;
            let mut depths = Vec::with_capacity(queues.len());
            for queue in &queues {
                let passive = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let queue = ShortString::from(queue.as_str());
                let found = channel
                    .queue_declare(queue, passive, FieldTable::default())
                    .await
                    .map_err(failed)?;
                let (messages, consumers) = (found.message_count().into(), found.consumer_count().into());
                depths.push(Depth { messages, consumers });
            }
            // It closes itself when dropped; the answer does not have to wait for that.
            Ok(depths)
        };
        match timeout(DEPTH_TIMEOUT, look).await {
            Ok(result) => result,
            Err(_) => Err(BrokerError::Unavailable(self.consuming.trouble())),
        }
    }
}

/// Without one of these tasks the others would wait for ever: when it ends, by a panic too, everything ends as after
/// [`Broker::shut_down`], and whoever uses it can say so.
async fn essential(task: impl Future<Output = ()>, stop: CancellationToken) {
    let all = stop.clone().drop_guard();
    task.await;
    if !stop.is_cancelled() {
        error!("a task of the broker connection ended by itself; the connection is given up");
    }
    drop(all);
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // Its tasks hold what they need, but nobody would end them.
        self.stop.cancel();
    }
}

#[async_trait]
impl Broker for RabbitMq {
    async fn publish(&self, to: Destination, message: Outgoing, within: Duration) -> Result<(), BrokerError> {
        let message = self.message(to, message)?;
        self.publisher.publish(message, within).await
    }

    fn consume(&self, queue: Queue, options: ConsumeOptions) -> Box<dyn Consumption> {
        self.subscribe(Source::Queue(self.names().queue(queue)), options)
    }

    fn listen(&self) -> Box<dyn Consumption> {
        // No acks, so the prefetch means nothing.
        self.subscribe(
            Source::Control,
            ConsumeOptions {
                prefetch: u16::MAX,
                bytes_max: CONTROL_BYTES_MAX,
            },
        )
    }

    async fn depth(&self, queue: Queue) -> Result<Depth, BrokerError> {
        let depths = self.depths(vec![self.names().queue(queue)]).await?;
        depths
            .into_iter()
            .next()
            .ok_or_else(|| BrokerError::Unavailable("the broker gives no answer".to_owned()))
    }

    async fn delay_depths(&self) -> Result<Vec<Depth>, BrokerError> {
        self.depths(
            (0..LEVELS_MS.len())
                .map(|level| self.names().delay(level))
                .collect(),
        )
        .await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.publishing.state()
    }

    fn consume_state(&self) -> watch::Receiver<BrokerState> {
        self.consuming.state()
    }

    async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        // What hangs ends with the process.
        let _ = timeout(SHUT_DOWN_TIMEOUT, self.tasks.wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_ends_all() {
        // Goal: by a panic or by itself, nothing that waits for it waits for ever.
        let dies = async |task: futures_util::future::BoxFuture<'static, ()>| {
            let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
            let waiting = stop.clone();
            tasks.spawn(essential(async move { waiting.cancelled().await }, stop.clone()));
            tasks.spawn(essential(task, stop.clone()));
            tasks.close();
            timeout(Duration::from_secs(10), tasks.wait())
                .await
                .expect("all ended");
            assert!(stop.is_cancelled());
        };
        dies(Box::pin(async { panic!("on purpose") })).await;
        dies(Box::pin(async {})).await;
    }
}
