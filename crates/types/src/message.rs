//! An AMQP message as it came, and what is kept of one that the pipeline could not handle.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::header_value::HeaderValue;
use crate::sequence;
use crate::time::UnixMillis;

/// Properties of an AMQP 0-9-1 message (`basic` class), the ones that somebody may set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// `content-type`.
    pub content_type: Option<String>,
    /// `content-encoding`.
    pub content_encoding: Option<String>,
    /// `message-id`.
    pub message_id: Option<String>,
    /// `correlation-id`.
    pub correlation_id: Option<String>,
    /// `reply-to`.
    pub reply_to: Option<String>,
    /// `expiration`, milliseconds as text.
    pub expiration: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// `user-id`, verified by the broker.
    pub user_id: Option<String>,
    /// `app-id`.
    pub app_id: Option<String>,
    /// `timestamp`, seconds since 1970.
    pub timestamp_s: Option<u64>,
    /// `priority`.
    pub priority: Option<u8>,
    /// `headers`.
    #[serde(deserialize_with = "sequence::deserialize")]
    pub headers: Vec<(String, HeaderValue)>,
}

impl Properties {
    /// The first header of this name; names are compared as they stand.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }
}

/// A message as it came from the broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawMessage {
    /// Exchange it was published to; verified by the broker.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its properties.
    pub properties: Properties,
    /// Its body.
    pub body: Bytes,
}

/// Where a faulty or suspect message came from: the short name of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Origin {
    /// Queue `events`.
    Events,
    /// Queue `ordered`.
    Ordered,
    /// Queue `deliveries`.
    Deliveries,
    /// Queue `suspects`.
    Suspects,
    /// Queue `contents` or `records`.
    Records,
}

/// The original of a fault or suspect: exactly what stood in the queue it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Original {
    /// The queue.
    pub origin: Origin,
    /// The message.
    pub message: RawMessage,
}

/// A message that came back from the broker more often than a healthy one does: tried alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// What is tried.
    pub original: Original,
    /// How many processes died while they tried it alone.
    pub deaths: u32,
    /// When it became suspect.
    pub since: UnixMillis,
}

/// Why the pipeline could not handle a message. A closed set: it is a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultReason {
    /// Not to be understood: no event type, bad alphabet, broken CloudEvent, broken envelope.
    Malformed,
    /// The body is over the event limit.
    TooLarge,
    /// No such application.
    UnknownApplication,
    /// The broker user may not speak for this application.
    WrongApplication,
    /// It killed three processes that tried it alone, or made the pipeline panic.
    Poison,
    /// It expired in the queue, or reached an exchange that had nowhere to send it.
    Unroutable,
    /// A record that the history cannot keep.
    Unrecordable,
}

impl FaultReason {
    /// All reasons.
    pub const ALL: [FaultReason; 7] = [
        FaultReason::Malformed,
        FaultReason::TooLarge,
        FaultReason::UnknownApplication,
        FaultReason::WrongApplication,
        FaultReason::Poison,
        FaultReason::Unroutable,
        FaultReason::Unrecordable,
    ];

    /// Its name in logs, metrics and commands.
    pub fn name(self) -> &'static str {
        match self {
            FaultReason::Malformed => "malformed",
            FaultReason::TooLarge => "too_large",
            FaultReason::UnknownApplication => "unknown_application",
            FaultReason::WrongApplication => "wrong_application",
            FaultReason::Poison => "poison",
            FaultReason::Unroutable => "unroutable",
            FaultReason::Unrecordable => "unrecordable",
        }
    }
}

/// Longest detail of a fault, in bytes.
pub const DETAIL_BYTES_MAX: usize = 1024;

/// A message that the pipeline itself could not handle, with its original unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Why.
    pub reason: FaultReason,
    /// In words, for a person; at most [`DETAIL_BYTES_MAX`].
    pub detail: String,
    /// When.
    pub at: UnixMillis,
    /// What.
    pub original: Original,
}

impl Fault {
    /// A fault. The detail is cut to [`DETAIL_BYTES_MAX`]: errors quote what they found, and that has any length.
    pub fn new(reason: FaultReason, detail: impl Into<String>, at: UnixMillis, original: Original) -> Fault {
        let mut detail = detail.into();
        cut_detail(&mut detail);
        Fault {
            reason,
            detail,
            at,
            original,
        }
    }
}

/// Cuts at the last border of a character within the bound.
pub(crate) fn cut_detail(detail: &mut String) {
    let mut end = detail.len().min(DETAIL_BYTES_MAX);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let original = Original {
            origin: Origin::Events,
            message: RawMessage::default(),
        };
        let detail =
            |text: String| Fault::new(FaultReason::Malformed, text, UnixMillis(0), original.clone()).detail;
        assert_eq!(detail("short".to_owned()), "short");
        assert_eq!(detail("x".repeat(1024)).len(), 1024);
        assert_eq!(detail("x".repeat(1025)).len(), 1024);
        assert_eq!(detail(format!("x{}", "é".repeat(600))).len(), 1023);
    }
}
