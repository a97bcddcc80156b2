//! An installation on a real node, with messages on its shelves.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, RabbitMqShelves, Role};
use hooklane_broker::topology::{Exchange, Names};
use hooklane_broker::{Holder, Queue, SharedBroker};
use hooklane_control::{DeadEntry, Entry, Filter, Reader, Scanned};
use hooklane_telemetry::Metrics;
use hooklane_testkit::eventually;
use hooklane_testkit::rabbitmq::{Vhost, shared};
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, AttemptSummary, DeadLetter, DeadReason, Delivery, EndpointId,
    Event, EventId, EventType, Internal, UnixMillis,
};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio_util::sync::CancellationToken;

/// Long enough for a machine that does seven other things.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// When the letters died.
pub const DIED_AT: UnixMillis = UnixMillis(1_700_000_000_000);
/// When commands run.
pub const NOW: UnixMillis = UnixMillis(1_700_000_060_000);

pub struct Bench {
    pub vhost: Vhost,
    pub broker: SharedBroker,
    pub shelves: RabbitMqShelves,
    pub names: Names,
}

impl Bench {
    pub async fn new() -> Result<Bench> {
        let vhost = shared().await?.vhost().await?;
        let settings = RabbitMqSettings::new(Role::Dispatcher, vhost.url())?;
        Ok(Bench {
            names: settings.names()?,
            shelves: RabbitMqShelves::new(settings.clone()),
            broker: RabbitMq::start(settings, Arc::new(Metrics::new()))?,
            vhost,
        })
    }

    /// An installation with so many dead letters, `msg_00000`, `msg_00001` …
    pub async fn with_letters(count: u32) -> Result<Bench> {
        let bench = Bench::new().await?;
        bench
            .put(Queue::Dead, (0..count).map(|number| letter(number).encode()))
            .await?;
        Ok(bench)
    }

    /// Publishes in this order: many callers of the port's `publish` may overtake each other.
    pub async fn put(&self, queue: Queue, bodies: impl Iterator<Item = Bytes>) -> Result<()> {
        // Connecting declares what is missing.
        eventually("a connection", PATIENCE, || async {
            Ok(self.broker.depth(queue).await?)
        })
        .await?;
        let connection = Connection::connect(self.vhost.url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let exchange = self.names.exchange(Exchange::Internal);
        let mut confirms = Vec::new();
        for body in bodies {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            let (exchange, key) = (exchange.as_str().into(), queue.name().into());
            confirms.push(
                channel
                    .basic_publish(exchange, key, options, &body, properties)
                    .await?,
            );
        }
        for confirm in confirms {
            ensure!(confirm.await?.is_ack());
        }
        connection.close(200, "OK".into()).await?;
        Ok(())
    }

    pub fn reader(&self, stop: &CancellationToken) -> Reader<'_> {
        Reader {
            shelves: &self.shelves,
            names: &self.names,
            holder: holder("test"),
            now: NOW,
            stop: stop.clone(),
        }
    }

    /// The ids of everything on the shelf that the filter lets through, in order.
    pub async fn ids<E: Entry>(&self, filter: &Filter<E::Reason>) -> Result<Vec<String>> {
        Ok(self.ids_up_to::<E>(filter, usize::MAX).await?.0)
    }

    pub async fn ids_up_to<E: Entry>(
        &self,
        filter: &Filter<E::Reason>,
        limit: usize,
    ) -> Result<(Vec<String>, Scanned)> {
        let mut ids = Vec::new();
        let scanned = self
            .reader(&CancellationToken::new())
            .scan::<E>(filter, |entry| {
                ids.push(entry.facts().id);
                Ok(if ids.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })
            .await?;
        Ok((ids, scanned))
    }

    pub async fn dead_ids(&self) -> Result<Vec<String>> {
        self.ids::<DeadEntry>(&Filter::default()).await
    }

    /// Takes everything out of a queue.
    pub async fn drain(&self, queue: Queue, count: usize) -> Result<Vec<Internal>> {
        let options = hooklane_broker::ConsumeOptions {
            prefetch: 500,
            bytes_max: 1 << 30,
        };
        let mut consumption = self.broker.consume(queue, options);
        let mut taken = Vec::new();
        while taken.len() < count {
            let Ok(Some(incoming)) = tokio::time::timeout(PATIENCE, consumption.next()).await else {
                anyhow::bail!("only {} of {count} messages are in {queue:?}", taken.len());
            };
            taken.push(Internal::decode(incoming.message.body.clone())?);
            incoming.ack.ack().await?;
        }
        Ok(taken)
    }

    pub async fn wait_depth(&self, queue: Queue, messages: u64) -> Result<()> {
        eventually("the queue's depth", PATIENCE, || async {
            let depth = self.broker.depth(queue).await?;
            ensure!(
                depth.messages == messages,
                "{} in {queue:?} instead of {messages}",
                depth.messages
            );
            Ok(())
        })
        .await
    }
}

pub fn holder(command: &str) -> Holder {
    Holder {
        pid: std::process::id(),
        host: "somewhere".to_owned(),
        user: "ann".to_owned(),
        command: command.to_owned(),
        since: NOW,
    }
}

/// Both are the same, or the first difference.
pub fn same(found: &[String], expected: &[String]) -> Result<()> {
    let at = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    let at = at.or((found.len() != expected.len()).then_some(found.len().min(expected.len())));
    let around = |list: &[String], at: usize| list[at.saturating_sub(2)..list.len().min(at + 4)].join(" ");
    match at {
        None => Ok(()),
        Some(at) => anyhow::bail!(
            "{} instead of {}, different from {at} on: {} instead of {}",
            found.len(),
            expected.len(),
            around(found, at),
            around(expected, at)
        ),
    }
}

pub fn id(number: u32) -> String {
    format!("msg_{number:05}")
}

pub fn event(number: u32) -> Event {
    let application = if number.is_multiple_of(2) { "even" } else { "odd" };
    Event {
        id: EventId::parse(&id(number)).expect("a valid id"),
        producer_id: None,
        application: ApplicationId::parse(application).expect("a valid id"),
        event_type: EventType::parse("invoice.paid").expect("a valid type"),
        channels: vec![],
        accepted_at: UnixMillis(DIED_AT.0 - 1_000),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: vec![],
        payload: Bytes::from(format!("{{\"number\": {number}}}")),
    }
}

/// A dead letter after two attempts in its third run.
pub fn letter(number: u32) -> Internal {
    let attempt = AttemptSummary {
        id: AttemptId::fresh(DIED_AT, [1; 10]),
        at: DIED_AT,
        duration_ms: 12,
        outcome: AttemptOutcome::Status {
            code: 500,
            retry_after_ms: None,
        },
    };
    Internal::Dead(DeadLetter {
        delivery: Delivery {
            event: event(number),
            endpoints: vec![EndpointId::parse("ep_1").expect("a valid id")],
            target: 0,
            run: 2,
            attempts_made: 2,
            parks: 1,
            remaining_ms: 0,
            deadline: Some(NOW),
            history: vec![attempt.clone(), attempt],
        },
        reason: DeadReason::Exhausted,
        at: DIED_AT,
    })
}
