//! Messages put on a shelf, or into another internal queue, without the processes that would do it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, RabbitMqShelves, Role};
use hooklane_broker::socket::SocketBroker;
use hooklane_broker::{Broker, Destination, Outgoing, Queue, SharedBroker, Shelves};
use hooklane_telemetry::Metrics;
use hooklane_types::{
    ApplicationId, DeadLetter, DeadReason, Delivery, EndpointId, Event, EventId, EventType, Internal,
    UnixMillis,
};

use super::{On, SOON, Stage};

/// Publishes that wait for their confirm together.
const WINDOW: usize = 1_000;

/// The stage's broker, as the processes have it: a connection of our own, the socket of what serves, or the data directory.
pub async fn port(stage: &Stage) -> Result<SharedBroker> {
    let directory = stage.data_dir();
    if stage.on == On::RabbitMq {
        let settings = RabbitMqSettings::new(Role::Operator, &stage.broker_url)?;
        let broker = RabbitMq::start(settings, Arc::new(Metrics::new()))?;
        hooklane_testkit::eventually("a connection", SOON, || async {
            Ok(broker.depth(Queue::Dead).await?)
        })
        .await?;
        return Ok(broker);
    }
    match SocketBroker::find(&directory.join("admin.sock")).await? {
        Some(serving) => Ok(Arc::new(serving)),
        None => Ok(EmbeddedBroker::open(EmbeddedSettings::new(directory))?.shared()),
    }
}

/// The stage's shelves, as a second operator's command has them beside what runs.
pub async fn shelves(stage: &Stage) -> Result<Arc<dyn Shelves>> {
    if stage.on == On::RabbitMq {
        let settings = RabbitMqSettings::new(Role::Operator, &stage.broker_url)?;
        return Ok(Arc::new(RabbitMqShelves::new(settings)));
    }
    let serving = SocketBroker::find(&stage.data_dir().join("admin.sock")).await?;
    Ok(Arc::new(serving.context("nothing serves")?))
}

/// Puts messages in internal form into a queue, in this order. Connecting declares what is missing.
pub async fn put(stage: &Stage, queue: Queue, bodies: impl IntoIterator<Item = Bytes>) -> Result<()> {
    let broker = port(stage).await?;
    let to = || Destination::Internal(queue);
    stream::iter(bodies)
        .map(|body| broker.publish(to(), Outgoing::internal(body), SOON))
        // They are sent, and so confirmed, in the order in which they are asked for first.
        .buffered(WINDOW)
        .try_collect::<()>()
        .await?;
    broker.shut_down().await;
    Ok(())
}

/// A dead letter with what filters look at.
#[derive(Clone, Copy)]
pub struct Letter {
    /// `msg_…`
    pub id: &'static str,
    /// Whose.
    pub application: &'static str,
    /// To whom.
    pub endpoint: &'static str,
    /// What.
    pub event_type: &'static str,
    /// Why.
    pub reason: DeadReason,
    /// How long ago it was given up.
    pub age: Duration,
    /// The payload.
    pub payload: &'static [u8],
}

impl Letter {
    /// In internal form, as a dispatcher would put it on the shelf now.
    pub fn encode(&self) -> Result<Bytes> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let at = UnixMillis(i64::try_from((now - self.age).as_millis())?);
        let mut letter = dead_letter(self.id, at, Bytes::from_static(self.payload))?;
        let Delivery { event, endpoints, .. } = &mut letter.delivery;
        event.accepted_at = at;
        event.application = ApplicationId::parse(self.application).context("an application")?;
        event.event_type = EventType::parse(self.event_type).context("an event type")?;
        *endpoints = vec![EndpointId::parse(self.endpoint).context("an endpoint")?];
        letter.reason = self.reason;
        Ok(Internal::Dead(letter).encode())
    }
}

/// A dead letter of application `acme` to endpoint `ep_1`, of type `invoice.paid`, exhausted at `at`, a minute after its event.
pub fn dead_letter(id: &str, at: UnixMillis, payload: Bytes) -> Result<DeadLetter> {
    let event = Event {
        id: EventId::parse(id).context("an event id")?,
        producer_id: None,
        application: ApplicationId::parse("acme").context("an application")?,
        event_type: EventType::parse("invoice.paid").context("an event type")?,
        channels: vec![],
        accepted_at: UnixMillis(at.0 - 60_000),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: vec![],
        payload,
    };
    let delivery = Delivery {
        event,
        endpoints: vec![EndpointId::parse("ep_1").context("an endpoint")?],
        target: 0,
        run: 0,
        attempts_made: 10,
        parks: 0,
        remaining_ms: 0,
        deadline: None,
        history: vec![],
    };
    let reason = DeadReason::Exhausted;
    Ok(DeadLetter { delivery, reason, at })
}
