//! Messages as the API shows them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hooklane_store::history::{FoundEvent, Payload, Status};
use hooklane_types::{Event, UnixMillis};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::text::time;

/// The type of an event of which only outcomes are known.
const UNKNOWN_TYPE: &str = "hooklane.unknown";
/// In place of a payload that was not asked for.
const NOT_SHOWN: &str = "{}";
/// In place of a payload that is not there any more, as Svix's server says it.
const GONE: &str = r#"{"expired":true}"#;

/// A message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageOut {
    pub(crate) id: String,
    pub(crate) event_type: String,
    /// The producer's own id, or the key of its request.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<String>>,
    /// The text that was published. What is no JSON object stands in a member `hooklane`.
    #[schemars(with = "BTreeMap<String, Value>")]
    payload: Box<RawValue>,
    timestamp: String,
}

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    /// 0 delivered, 1 pending, 2 given up.
    status: u8,
    /// The same in a word: success, pending, fail.
    status_text: &'static str,
}

/// Of a message at an endpoint, or of an endpoint of a message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct There {
    #[serde(flatten)]
    standing: Standing,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<String>,
}

/// A payload that the API's form has no place for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Foreign<'a> {
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl MessageOut {
    /// With what was read of its payload.
    pub(crate) fn of(found: &FoundEvent) -> MessageOut {
        match &found.content {
            Some(content) => MessageOut::shown(
                &content.event,
                shown(&content.payload, &content.event.content_type),
            ),
            None => MessageOut {
                id: found.id.to_string(),
                event_type: UNKNOWN_TYPE.to_owned(),
                event_id: None,
                channels: None,
                payload: raw(GONE),
                timestamp: time(found.accepted_at),
            },
        }
    }

    /// Without its payload.
    pub(crate) fn head(found: &FoundEvent) -> MessageOut {
        MessageOut {
            payload: raw(NOT_SHOWN),
            ..MessageOut::of(found)
        }
    }

    /// An event as it is published.
    pub(crate) fn published(event: &Event) -> MessageOut {
        let payload = shown(&Payload::Kept(event.payload.clone()), &event.content_type);
        MessageOut::shown(event, payload)
    }

    fn shown(event: &Event, payload: Box<RawValue>) -> MessageOut {
        let channels = event
            .channels
            .iter()
            .map(|channel| channel.as_str().to_owned())
            .collect();
        MessageOut {
            id: event.id.to_string(),
            event_type: event.event_type.to_string(),
            event_id: event.producer_id.as_ref().map(|id| id.as_str().to_owned()),
            channels: Some(channels).filter(|channels: &Vec<String>| !channels.is_empty()),
            payload,
            timestamp: time(event.accepted_at),
        }
    }
}

impl From<Status> for Standing {
    fn from(status: Status) -> Standing {
        let (status, status_text) = match status {
            Status::Delivered => (0, "success"),
            Status::Pending => (1, "pending"),
            Status::Dead => (2, "fail"),
        };
        Standing { status, status_text }
    }
}

impl There {
    pub(crate) fn new(status: Status, next_attempt: Option<UnixMillis>) -> There {
        There {
            standing: status.into(),
            next_attempt: next_attempt.map(time),
        }
    }
}

fn shown(payload: &Payload, content_type: &str) -> Box<RawValue> {
    match payload {
        Payload::NotRead => raw(NOT_SHOWN),
        Payload::Expunged => raw(GONE),
        Payload::Kept(bytes) => object(bytes).unwrap_or_else(|| foreign(bytes, content_type)),
    }
}

/// The text itself, if it is a JSON object.
fn object(bytes: &Bytes) -> Option<Box<RawValue>> {
    let raw: Box<RawValue> = serde_json::from_slice(bytes).ok()?;
    raw.get().starts_with('{').then_some(raw)
}

/// Clients read an object.
fn foreign(bytes: &Bytes, content_type: &str) -> Box<RawValue> {
    let text = std::str::from_utf8(bytes).ok();
    let foreign = Foreign {
        content_type,
        text,
        base64: text.is_none().then(|| STANDARD.encode(bytes)),
    };
    let wrapped = BTreeMap::from([("hooklane", foreign)]);
    to_raw_value(&wrapped).expect("strings serialise")
}

fn raw(text: &'static str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("a constant that is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &'static [u8], content_type: &str) -> String {
        let payload = Payload::Kept(Bytes::from_static(bytes));
        shown(&payload, content_type).get().to_owned()
    }

    #[test]
    fn an_object_is_shown_as_it_was_published() {
        let text = br#"{"b": 1.10, "a":1e400, "a":"\u00e4"}"#;
        assert_eq!(of(text, "application/json").as_bytes(), text);
        assert_eq!(shown(&Payload::NotRead, "x").get(), "{}");
        assert_eq!(shown(&Payload::Expunged, "x").get(), r#"{"expired":true}"#);
    }

    #[test]
    fn what_is_no_object_is_shown_in_one() {
        assert_eq!(
            of(b"[1]", "application/json"),
            r#"{"hooklane":{"contentType":"application/json","text":"[1]"}}"#
        );
        assert_eq!(
            of(b"{\"a\":", "text/plain"),
            r#"{"hooklane":{"contentType":"text/plain","text":"{\"a\":"}}"#
        );
        assert_eq!(
            of(b"\xff\x00", "application/octet-stream"),
            r#"{"hooklane":{"contentType":"application/octet-stream","base64":"/wA="}}"#
        );
        assert!(of(b"", "text/plain").contains(r#""text":"""#));
    }
}
