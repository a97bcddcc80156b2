//! A dispatcher with a broker, a receiver and endpoints, for tests.

#![allow(dead_code, reason = "every test file uses another part of it")]

pub mod memory;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
use hooklane_broker::{BrokerState, ConsumeOptions, Destination, Outgoing, Queue, SharedBroker};
use hooklane_dispatcher::{DispatcherError, DispatcherSettings, Ports, Shutdown};
use hooklane_egress::{Client, EgressSettings};
use hooklane_receiver::{Options, Receiver};
use hooklane_signing::{HeaderFamily, Scheme, Secret, Signer, Verifier};
use hooklane_store::{CLAIM_ENTRIES_DEFAULT, ProcessClaims};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_testkit::eventually;
use hooklane_testkit::rabbitmq::{Vhost, shared};
use hooklane_types::control::{Control, ControlMessage, StatusReply};
use hooklane_types::{
    ApplicationId, DeadLetter, Endpoint, EndpointId, Event, EventId, EventType, Fault, HeaderValue, Internal,
    Properties, RawMessage, Registry, RetryPolicy, TlsFiles, TypePattern, UnixMillis,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for anything that should happen soon, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(30);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Everything around a dispatcher.
pub struct World {
    pub broker: SharedBroker,
    pub receiver: Receiver,
    pub metrics: Arc<Metrics>,
    registry: watch::Sender<Arc<Registry>>,
    is_current: watch::Sender<bool>,
    vhost: Option<Vhost>,
}

/// A running dispatcher.
pub struct Running {
    pub shutdown: Shutdown,
    task: JoinHandle<Result<(), DispatcherError>>,
}

impl World {
    /// On a real RabbitMQ, in a vhost of its own.
    pub async fn rabbitmq() -> Result<World> {
        let vhost = shared().await?.vhost().await?;
        let settings = RabbitMqSettings::new(Role::Dispatcher, vhost.url())?;
        let broker = RabbitMq::start(settings, Arc::new(Metrics::new()))?;
        let mut state = hooklane_broker::Broker::state(&*broker);
        tokio::time::timeout(SOON, state.wait_for(|state| *state == BrokerState::Connected)).await??;
        World::with(broker, Some(vhost)).await
    }

    /// On a broker in memory that fails on command.
    pub async fn memory() -> Result<(World, memory::MemoryBroker)> {
        let broker = memory::MemoryBroker::new();
        Ok((World::with(Arc::new(broker.clone()), None).await?, broker))
    }

    async fn with(broker: SharedBroker, vhost: Option<Vhost>) -> Result<World> {
        let receiver = Receiver::start(Options::default()).await?;
        let scheme = Scheme::Standard(HeaderFamily::Webhook);
        receiver.verify_default(Verifier::new(scheme, vec![Secret::parse(SECRET)?])?);
        let (registry, _) = watch::channel(Arc::new(Registry::default()));
        Ok(World {
            broker,
            receiver,
            metrics: Arc::new(Metrics::new()),
            registry,
            is_current: watch::Sender::new(true),
            vhost,
        })
    }

    /// An endpoint at a path of the receiver, wanting all of application `app_a`.
    pub fn endpoint(&self, id: &str, path: &str) -> Endpoint {
        let secret = Secret::parse(SECRET).expect("a published secret");
        let scheme = Scheme::Standard(HeaderFamily::Webhook);
        Endpoint {
            id: EndpointId::parse(id).expect("an id"),
            application: ApplicationId::parse("app_a").expect("an id"),
            url: self.receiver.url(path).parse().expect("a URL"),
            event_types: vec![TypePattern::Any],
            channels: Vec::new(),
            signer: Signer::new(scheme, vec![secret]).expect("a signer"),
            headers: Vec::new(),
            timeout: Duration::from_secs(15),
            auth: None,
            tls: TlsFiles::default(),
            max_in_flight: 8,
            throttle_rate: None,
            disabled: false,
            retry: retries(&[100, 100]),
        }
    }

    /// Puts endpoints in force.
    pub fn serve(&self, endpoints: impl IntoIterator<Item = Endpoint>) {
        self.in_force(Registry::new([], endpoints).expect("ids of their own"));
    }

    /// Puts a registry in force.
    pub fn in_force(&self, registry: Registry) {
        self.registry.send_replace(Arc::new(registry));
    }

    /// Whether the registry is as new as the store, from now on.
    pub fn is_current(&self, is_current: bool) {
        self.is_current.send_replace(is_current);
    }

    /// Starts a dispatcher.
    pub fn start(&self) -> Running {
        self.start_with(DispatcherSettings::default())
    }

    pub fn start_with(&self, settings: DispatcherSettings) -> Running {
        let egress = EgressSettings {
            https_only: false,
            allowed_networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..EgressSettings::default()
        };
        let client = Client::new(egress, self.metrics.clone()).expect("a client");
        let shutdown = Shutdown::default();
        let run = hooklane_dispatcher::run(
            settings,
            Ports {
                broker: self.broker.clone(),
                client,
                claims: Arc::new(ProcessClaims::new(CLAIM_ENTRIES_DEFAULT)),
                registry: self.registry.subscribe(),
                is_current: self.is_current.subscribe(),
                records: hooklane_broker::RecordWriter::off(),
                metrics: self.metrics.clone(),
            },
            shutdown.clone(),
        );
        Running {
            shutdown,
            task: tokio::spawn(run),
        }
    }

    /// Publishes as a foreign producer does.
    pub async fn publish(&self, message_id: &str, body: &str) -> Result<()> {
        self.publish_with(properties(message_id), body).await
    }

    pub async fn publish_with(&self, properties: Properties, body: &str) -> Result<()> {
        let to = Destination::ProducerEvents {
            routing_key: "invoice.paid".to_owned(),
        };
        let message = Outgoing {
            properties,
            body: Bytes::from(body.to_owned()),
        };
        Ok(self.broker.publish(to, message, SOON).await?)
    }

    /// Takes the next message of a shelf.
    pub async fn take(&self, shelf: Queue) -> Result<RawMessage> {
        let mut consumption = self.broker.consume(
            shelf,
            ConsumeOptions {
                prefetch: 1,
                bytes_max: 1 << 20,
            },
        );
        let incoming = tokio::time::timeout(SOON, consumption.next())
            .await
            .context("nothing on the shelf")?;
        let incoming = incoming.ok_or_else(|| anyhow!("the broker was shut down"))?;
        incoming.ack.ack().await?;
        Ok(incoming.message)
    }

    pub async fn take_dead(&self) -> Result<DeadLetter> {
        match Internal::decode(self.take(Queue::Dead).await?.body)? {
            Internal::Dead(dead) => Ok(dead),
            other => bail!("not a dead letter: {other:?}"),
        }
    }

    pub async fn take_fault(&self) -> Result<Fault> {
        match Internal::decode(self.take(Queue::Faults).await?.body)? {
            Internal::Fault(fault) => Ok(fault),
            other => bail!("not a fault: {other:?}"),
        }
    }

    /// Has the broker close all connections of this test, as an operator would.
    pub async fn close_connections(&self) -> Result<()> {
        self.vhost
            .as_ref()
            .context("on RabbitMQ only")?
            .close_all_connections()
            .await
    }

    /// Asks on `control` until a dispatcher answers.
    pub async fn ask_status(&self, id: &str) -> Result<StatusReply> {
        let mut replies = self.broker.listen();
        let body = serde_json::to_vec(&Control::new(ControlMessage::StatusRequest { id: id.to_owned() }))?;
        let until = tokio::time::Instant::now() + SOON;
        loop {
            let message = Outgoing {
                properties: Properties::default(),
                body: body.clone().into(),
            };
            self.broker.publish(Destination::Control, message, SOON).await?;
            // Soft state may be lost, and our own listener may have come later than the answer: ask again.
            let heard_within = tokio::time::Instant::now() + Duration::from_millis(500);
            while let Ok(heard) = tokio::time::timeout_at(heard_within, replies.next()).await {
                let heard = heard.ok_or_else(|| anyhow!("the broker was shut down"))?;
                let message = serde_json::from_slice::<Control>(&heard.message.body)?.message;
                heard.ack.ack().await?;
                match message {
                    ControlMessage::StatusReply(reply) if reply.id == id => return Ok(reply),
                    _ => {}
                }
            }
            if tokio::time::Instant::now() > until {
                bail!("nobody answered");
            }
        }
    }

    /// Waits until a counter has reached a value.
    pub async fn counted(&self, metric: Metric, labels: &[&str], count: f64) -> Result<()> {
        eventually(&format!("{metric:?}{labels:?} at {count}"), SOON, || async {
            let found = self.metrics.value(metric, labels);
            if found >= count { Ok(()) } else { bail!("{found}") }
        })
        .await
    }

    /// Waits until a queue holds nothing that is ready.
    pub async fn drained(&self, queue: Queue) -> Result<()> {
        eventually(&format!("{} drained", queue.name()), SOON, || async {
            let depth = self.broker.depth(queue).await?;
            if depth.messages == 0 {
                Ok(())
            } else {
                bail!("{depth:?}")
            }
        })
        .await
    }
}

impl Running {
    /// Stops it as SIGTERM does, and waits for its end.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.stop.cancel();
        Ok(tokio::time::timeout(SOON, self.task)
            .await
            .context("the dispatcher did not end")???)
    }

    /// Ends it at once, as a second signal does.
    pub async fn end_now(self) -> Result<()> {
        self.shutdown.now.cancel();
        Ok(tokio::time::timeout(Duration::from_secs(5), self.task)
            .await
            .context("the dispatcher did not end")???)
    }
}

/// The smallest contract: id and application.
pub fn properties(message_id: &str) -> Properties {
    Properties {
        message_id: Some(message_id.to_owned()),
        headers: vec![("application".to_owned(), HeaderValue::Text("app_a".to_owned()))],
        ..Properties::default()
    }
}

/// A policy without jitter.
pub fn retries(delays_ms: &[u64]) -> RetryPolicy {
    let delays = delays_ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
    RetryPolicy::list(delays, 0.0).expect("a policy")
}

/// An external message as it stands in `events`.
pub fn external(message_id: &str) -> RawMessage {
    RawMessage {
        exchange: "hooklane.events".to_owned(),
        routing_key: "invoice.paid".to_owned(),
        properties: properties(message_id),
        body: Bytes::from_static(b"{}"),
    }
}

/// Waits until exactly so many messages of a queue were acked.
pub async fn acked(broker: &memory::MemoryBroker, queue: Queue, count: u64) -> Result<()> {
    eventually(&format!("{count} acks on {}", queue.name()), SOON, || async {
        let found = broker.acked(queue);
        if found == count { Ok(()) } else { bail!("{found}") }
    })
    .await
}

/// An event as ingest publishes it.
pub fn ingested(event: &str, body: &'static [u8]) -> RawMessage {
    let application = ApplicationId::parse("app_a").expect("an id");
    let event = Event {
        id: EventId::parse(event).expect("an id"),
        producer_id: None,
        application,
        event_type: EventType::parse("invoice.paid").expect("a type"),
        channels: Vec::new(),
        accepted_at: now(),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::from_static(body),
    };
    internal("ingest", Internal::Event(event).encode())
}

/// A message in internal form, as it stands in a queue.
pub fn internal(exchange: &str, body: Bytes) -> RawMessage {
    let mut message = external("");
    message.exchange = format!("hooklane.{exchange}");
    message.properties = Default::default();
    message.body = body;
    message
}

/// The time of day.
pub fn now() -> UnixMillis {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    UnixMillis(since.as_millis() as i64)
}
