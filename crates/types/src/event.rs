//! What a producer publishes once.

use bytes::Bytes;

use crate::filter::{Channel, EventType};
use crate::id::{ApplicationId, EventId, ProducerId};
use crate::time::UnixMillis;

/// An event on its way through Hooklane. The payload is exactly what the producer published.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Our id: the `webhook-id` of every attempt.
    pub id: EventId,
    /// The producer's own id, where it gave one. Never a header.
    pub producer_id: Option<ProducerId>,
    /// Whose event this is.
    pub application: ApplicationId,
    /// Its type.
    pub event_type: EventType,
    /// Channels that endpoints may filter by; at most [`crate::filter::EVENT_CHANNELS_MAX`].
    pub channels: Vec<Channel>,
    /// When Hooklane accepted it.
    pub accepted_at: UnixMillis,
    /// The payload's media type, sent as `content-type`.
    pub content_type: String,
    /// W3C trace context, passed on as it came.
    pub traceparent: Option<String>,
    /// `ce-*` headers of a CloudEvent that came in binary mode: lower-case names and header-safe values.
    pub headers: Vec<(String, String)>,
    /// The bytes that are signed and sent.
    pub payload: Bytes,
}
