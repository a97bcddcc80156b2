//! Publishing as any producer does: by the contract of docs/PUBLISHING.md.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hooklane_broker::rabbitmq::{RabbitMq, Role};
use hooklane_broker::{Destination, Outgoing, SharedBroker};
use hooklane_telemetry::Metrics;
use hooklane_types::{EventId, HeaderValue, Properties};

use super::NewEvent;
use crate::commands::now;
use crate::settings::BrokerSettings;

/// The header that names the application.
const APPLICATION_HEADER: &str = "application";

/// A connection to the broker.
pub struct Amqp {
    broker: SharedBroker,
    publish_timeout: Duration,
}

impl Amqp {
    /// Begins to connect.
    pub fn start(settings: &BrokerSettings) -> anyhow::Result<Amqp> {
        let broker = RabbitMq::start(settings.rabbitmq(Role::Operator)?, Arc::new(Metrics::new()))?;
        Ok(Amqp {
            broker,
            publish_timeout: settings.publish_timeout,
        })
    }

    /// Publishes, and waits for the confirm. The id is known where the event has a producer's id.
    pub async fn publish(&self, event: NewEvent) -> anyhow::Result<Option<String>> {
        let id = event
            .id
            .as_ref()
            .map(|id| EventId::derived(&event.application, None, id).to_string());
        let properties = Properties {
            content_type: Some(event.content_type),
            message_id: event.id.as_ref().map(|id| id.as_str().to_owned()),
            kind: Some(event.event_type.as_str().to_owned()),
            timestamp_s: u64::try_from(now().seconds()).ok(),
            headers: vec![(
                APPLICATION_HEADER.to_owned(),
                HeaderValue::Text(event.application.as_str().to_owned()),
            )],
            ..Properties::default()
        };
        let to = Destination::ProducerEvents {
            routing_key: event.event_type.as_str().to_owned(),
        };
        let message = Outgoing {
            properties,
            body: event.payload.into(),
        };
        self.broker
            .publish(to, message, self.publish_timeout)
            .await
            .context(
                "not accepted by the broker (`hooklane check` looks at the connection, rights and topology)",
            )?;
        Ok(id)
    }

    /// Closes the connection.
    pub async fn end(&self) {
        self.broker.shut_down().await;
    }
}
