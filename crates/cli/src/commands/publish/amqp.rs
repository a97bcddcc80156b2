//! Publishing as any producer does: by the contract of docs/PUBLISHING.md.

use std::time::Duration;

use anyhow::Context;
use hooklane_broker::{Destination, Outgoing, SharedBroker};
use hooklane_types::{EventId, HeaderValue, ProducerId, Properties};

use super::NewEvent;
use crate::commands::now;
use crate::commands::reach::Reach;
use crate::settings::Settings;

/// The header that names the application.
const APPLICATION_HEADER: &str = "application";

/// A connection to the broker.
pub struct Amqp {
    broker: SharedBroker,
    publish_timeout: Duration,
}

impl Amqp {
    /// Begins to connect.
    pub async fn start(settings: &Settings) -> anyhow::Result<Amqp> {
        let broker = Reach::find(settings, "hooklane publish").await?.broker()?;
        Ok(Amqp {
            broker,
            publish_timeout: settings.broker.publish_timeout,
        })
    }

    /// Publishes, waits for the confirm, and returns the event's id. A dispatcher derives it from the producer's id, so an event without one
    /// gets a fresh one here: a message that is sent again after a lost connection, or taken again after a kill, stays the same event. That
    /// costs an entry of the idempotency window.
    pub async fn publish(&self, mut event: NewEvent) -> anyhow::Result<String> {
        let producer_id = match event.id.take() {
            Some(id) => id,
            None => ProducerId::parse(EventId::fresh(now(), rand::random()).as_str())?,
        };
        let id = EventId::derived(&event.application, None, &producer_id).to_string();
        event.id = Some(producer_id);
        self.send(event).await?;
        Ok(id)
    }

    async fn send(&self, event: NewEvent) -> anyhow::Result<()> {
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
            )
    }

    /// Closes the connection.
    pub async fn end(&self) {
        self.broker.shut_down().await;
    }
}
