//! What an envelope says beside the payload, in the form that is written.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::EnvelopeError;
use crate::cloudevent;
use crate::content_type::check_content_type;
use crate::delivery::{AttemptSummary, DeadReason, Delivery, HISTORY_ENTRIES_MAX, SLICE_ENDPOINTS_MAX};
use crate::event::Event;
use crate::filter::{Channel, EVENT_CHANNELS_MAX, EventType};
use crate::id::{ApplicationId, AttemptId, EndpointId, EventId, ProducerId};
use crate::message::{FaultReason, Origin, Original, Properties, RawMessage};
use crate::sequence;
use crate::time::UnixMillis;
use crate::traceparent;

#[derive(Serialize, Deserialize)]
pub(super) enum Head {
    Event(EventHead),
    Delivery(DeliveryHead),
    Suspect {
        original: OriginalHead,
        deaths: u32,
        since: UnixMillis,
    },
    Dead {
        delivery: DeliveryHead,
        reason: DeadReason,
        at: UnixMillis,
    },
    Fault {
        reason: FaultReason,
        detail: String,
        at: UnixMillis,
        original: OriginalHead,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct EventHead {
    id: EventId,
    producer_id: Option<ProducerId>,
    application: ApplicationId,
    event_type: EventType,
    #[serde(deserialize_with = "sequence::deserialize")]
    channels: Vec<Channel>,
    accepted_at: UnixMillis,
    content_type: String,
    traceparent: Option<String>,
    #[serde(deserialize_with = "sequence::deserialize")]
    headers: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct DeliveryHead {
    event: EventHead,
    #[serde(deserialize_with = "sequence::deserialize")]
    endpoints: Vec<EndpointId>,
    target: u16,
    run: u32,
    attempts_made: u32,
    parks: u32,
    remaining_ms: u64,
    deadline: Option<UnixMillis>,
    #[serde(deserialize_with = "sequence::deserialize")]
    history: Vec<AttemptSummary>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct OriginalHead {
    origin: Origin,
    exchange: String,
    routing_key: String,
    properties: Properties,
}

fn broken(error: impl ToString) -> EnvelopeError {
    EnvelopeError::Broken(error.to_string())
}

fn check_count(what: &str, count: usize, limit: usize) -> Result<(), EnvelopeError> {
    if count > limit {
        return Err(EnvelopeError::Broken(format!(
            "{count} {what}, more than {limit}"
        )));
    }
    Ok(())
}

impl From<&Event> for EventHead {
    fn from(event: &Event) -> EventHead {
        EventHead {
            id: event.id.clone(),
            producer_id: event.producer_id.clone(),
            application: event.application.clone(),
            event_type: event.event_type.clone(),
            channels: event.channels.clone(),
            accepted_at: event.accepted_at,
            content_type: event.content_type.clone(),
            traceparent: event.traceparent.clone(),
            headers: event.headers.clone(),
        }
    }
}

impl EventHead {
    /// Everything is checked again, for what is decoded here ends in headers and log lines. A trace context that breaks its
    /// rules is left out: it harms nobody to be without.
    pub(super) fn with(self, payload: Bytes) -> Result<Event, EnvelopeError> {
        EventId::parse(self.id.as_str()).map_err(broken)?;
        ApplicationId::parse(self.application.as_str()).map_err(broken)?;
        EventType::parse(self.event_type.as_str()).map_err(broken)?;
        if let Some(producer_id) = &self.producer_id {
            ProducerId::parse(producer_id.as_str()).map_err(broken)?;
        }
        check_count("channels", self.channels.len(), EVENT_CHANNELS_MAX)?;
        for channel in &self.channels {
            Channel::parse(channel.as_str()).map_err(broken)?;
        }
        check_content_type(&self.content_type).map_err(broken)?;
        cloudevent::check_headers(&self.headers).map_err(broken)?;
        Ok(Event {
            id: self.id,
            producer_id: self.producer_id,
            application: self.application,
            event_type: self.event_type,
            channels: self.channels,
            accepted_at: self.accepted_at,
            content_type: self.content_type,
            traceparent: self.traceparent.filter(|text| traceparent::is_valid(text)),
            headers: self.headers,
            payload,
        })
    }
}

impl From<&Delivery> for DeliveryHead {
    fn from(delivery: &Delivery) -> DeliveryHead {
        DeliveryHead {
            event: EventHead::from(&delivery.event),
            endpoints: delivery.endpoints.clone(),
            target: delivery.target,
            run: delivery.run,
            attempts_made: delivery.attempts_made,
            parks: delivery.parks,
            remaining_ms: delivery.remaining_ms,
            deadline: delivery.deadline,
            history: delivery.history.clone(),
        }
    }
}

impl DeliveryHead {
    pub(super) fn with(self, payload: Bytes) -> Result<Delivery, EnvelopeError> {
        if self.endpoints.is_empty() {
            return Err(EnvelopeError::Broken("a delivery without an endpoint".to_owned()));
        }
        check_count("endpoints", self.endpoints.len(), SLICE_ENDPOINTS_MAX)?;
        for endpoint in &self.endpoints {
            EndpointId::parse(endpoint.as_str()).map_err(broken)?;
        }
        check_count("attempts in the history", self.history.len(), HISTORY_ENTRIES_MAX)?;
        for attempt in &self.history {
            AttemptId::parse(attempt.id.as_str()).map_err(broken)?;
        }
        Ok(Delivery {
            event: self.event.with(payload)?,
            endpoints: self.endpoints,
            target: self.target,
            run: self.run,
            attempts_made: self.attempts_made,
            parks: self.parks,
            remaining_ms: self.remaining_ms,
            deadline: self.deadline,
            history: self.history,
        })
    }
}

impl From<&Original> for OriginalHead {
    fn from(original: &Original) -> OriginalHead {
        OriginalHead {
            origin: original.origin,
            exchange: original.message.exchange.clone(),
            routing_key: original.message.routing_key.clone(),
            properties: original.message.properties.clone(),
        }
    }
}

impl OriginalHead {
    pub(super) fn with(self, payload: Bytes) -> Original {
        Original {
            origin: self.origin,
            message: RawMessage {
                exchange: self.exchange,
                routing_key: self.routing_key,
                properties: self.properties,
                body: payload,
            },
        }
    }
}
