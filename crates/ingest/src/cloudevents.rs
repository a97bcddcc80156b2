//! CloudEvents 1.0 over HTTP: what `hooklane_types::cloudevent` reads, as an event.

use bytes::Bytes;
use hooklane_types::cloudevent::{read_http_binary, read_structured};
use hooklane_types::{ApplicationId, CloudEvent, CloudEventError, Event, UnixMillis};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::answer::Refusal;

/// Reads an event whose attributes stand in `ce-*` headers; the body is its data, untouched.
pub(crate) fn binary(
    application: ApplicationId,
    headers: &HeaderMap,
    body: Bytes,
    accepted_at: UnixMillis,
) -> Result<Event, Refusal> {
    let all = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    let read = read_http_binary(all, content_type(headers)).map_err(refusal)?;
    Ok(event(read, application, body, accepted_at))
}

/// Reads an event that is the body; the body is sent on as it came.
pub(crate) fn structured(
    application: ApplicationId,
    headers: &HeaderMap,
    body: Bytes,
    accepted_at: UnixMillis,
) -> Result<Event, Refusal> {
    // Without a content type the request would not be in this form.
    let read = read_structured(content_type(headers).unwrap_or_default(), &body).map_err(refusal)?;
    Ok(event(read, application, body, accepted_at))
}

fn event(read: CloudEvent, application: ApplicationId, payload: Bytes, accepted_at: UnixMillis) -> Event {
    Event {
        id: read.event_id(&application),
        producer_id: Some(read.id),
        application,
        event_type: read.event_type,
        channels: Vec::new(),
        accepted_at,
        content_type: read.content_type,
        traceparent: read.traceparent,
        headers: read.headers,
        payload,
    }
}

/// `form` has seen that it is ASCII.
fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok())
}

fn refusal(error: CloudEventError) -> Refusal {
    Refusal::MalformedCloudEvent {
        detail: error.to_string(),
    }
}
