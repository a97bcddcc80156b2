//! CloudEvents 1.0, as far as a carrier has to understand them: over HTTP and AMQP, in binary and structured mode.
//!
//! An event in structured mode is sent on as it came: the whole body is the payload and only its attributes are read. In
//! binary mode the body is the data, and the attributes travel on as `ce-*` headers of the HTTP protocol binding. Batches
//! are known and refused. Sources: the [specification](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md),
//! its JSON format, its HTTP and AMQP protocol bindings.

mod attributes;
mod percent;
mod structured;

pub(crate) use attributes::check_headers;
pub use attributes::{is_amqp_binary, read_amqp_binary, read_http_binary};
pub use structured::read_structured;

use crate::filter::EventType;
use crate::id::{ApplicationId, EventId, IdError, ProducerId};

/// Longest value of one attribute, in bytes, before percent-encoding. The specification asks carriers for 64 KiB of event
/// in all; servers give up on headers long before that.
pub const ATTRIBUTE_BYTES_MAX: usize = 2048;
/// Most attributes of one event, extensions included.
pub const ATTRIBUTES_MAX: usize = 64;
/// Most bytes of all `ce-*` headers of one event, names and percent-encoded values. Common servers take 8 KiB of headers;
/// the signature and the operator's own ones need their share.
pub const HEADERS_BYTES_MAX: usize = 6 * 1024;
/// Longest attribute name, in bytes; the specification advises 20.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64;

const SPEC_VERSION: &str = "1.0";
const MEDIA_TYPE_PREFIX: &str = "application/cloudevents";

/// Why something is no CloudEvent that Hooklane takes. The text names the attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudEventError {
    /// A required attribute isn't there.
    #[error("the CloudEvents attribute '{attribute}' is missing")]
    Missing {
        /// Which.
        attribute: &'static str,
    },
    /// An attribute stands twice.
    #[error("the CloudEvents attribute '{attribute}' stands twice")]
    Twice {
        /// Which.
        attribute: String,
    },
    /// An attribute isn't what the specification says.
    #[error("the CloudEvents attribute '{attribute}' {reason}")]
    Invalid {
        /// Which.
        attribute: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `specversion` is another one.
    #[error("the CloudEvents attribute 'specversion' is {found:?}; Hooklane reads {SPEC_VERSION}")]
    Version {
        /// What it is.
        found: String,
    },
    /// The event type is fine for CloudEvents, but no event type of Hooklane's, so that no endpoint could ask for it.
    #[error("the CloudEvents attribute 'type': {0}")]
    Type(#[source] IdError),
    /// The body is not a JSON object.
    #[error("the CloudEvent is not a JSON object: {detail}")]
    Json {
        /// The parser's words.
        detail: String,
    },
    /// Too many attributes, or too large in all.
    #[error("the CloudEvents attributes are more than {limit} {unit}")]
    TooLarge {
        /// The bound.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
}

impl CloudEventError {
    pub(crate) fn invalid(attribute: &str, reason: impl Into<String>) -> CloudEventError {
        CloudEventError::Invalid {
            attribute: shorten(attribute),
            reason: reason.into(),
        }
    }
}

/// An attribute's name for an error: names from outside may have any length.
fn shorten(name: &str) -> String {
    name.chars().take(ATTRIBUTE_NAME_BYTES_MAX).collect()
}

/// How a media type says that a body is made of CloudEvents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One event, as JSON, with any parameters (`; charset=utf-8`): for [`read_structured`].
    Json,
    /// Several events in one body. Refused: each needs an answer of its own.
    Batch,
    /// One event in a format that Hooklane doesn't read (Avro, Protobuf, XML).
    Foreign,
}

/// The format that a `content-type` names; none when it isn't one of CloudEvents'. The event may still come in binary mode.
pub fn format_of(content_type: &str) -> Option<Format> {
    let media_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match media_type.strip_prefix(MEDIA_TYPE_PREFIX)? {
        "+json" => Some(Format::Json),
        rest if rest.starts_with("-batch") => Some(Format::Batch),
        "" => Some(Format::Foreign),
        rest if rest.starts_with('+') => Some(Format::Foreign),
        _ => None,
    }
}

/// A CloudEvent, as far as it is needed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudEvent {
    /// Attribute `id`: unique only together with the source.
    pub id: ProducerId,
    /// Attribute `source`.
    pub source: String,
    /// Attribute `type`.
    pub event_type: EventType,
    /// In binary mode the attributes as headers to send on: lower-case names, percent-encoded values. The producer's id is
    /// among them as `ce-id`, for without it this would be no CloudEvent; encoded, it cannot break a header.
    pub headers: Vec<(String, String)>,
    /// What to send as `content-type`.
    pub content_type: String,
    /// The extension `traceparent`, where it is valid.
    pub traceparent: Option<String>,
}

impl CloudEvent {
    /// Our id of it: the same for every repeat.
    pub fn event_id(&self, application: &ApplicationId) -> EventId {
        EventId::derived(application, Some(&self.source), &self.id)
    }
}

/// The attributes that every event must have, checked.
pub(crate) struct Required {
    pub id: ProducerId,
    pub source: String,
    pub event_type: EventType,
}

impl Required {
    pub(crate) fn check(
        spec_version: Option<&str>,
        id: Option<&str>,
        source: Option<&str>,
        event_type: Option<&str>,
    ) -> Result<Required, CloudEventError> {
        let missing = |attribute| CloudEventError::Missing { attribute };
        let spec_version = spec_version.ok_or(missing("specversion"))?;
        if spec_version != SPEC_VERSION {
            return Err(CloudEventError::Version {
                found: shorten(spec_version),
            });
        }
        let id = id.ok_or(missing("id"))?;
        let source = source.ok_or(missing("source"))?;
        let event_type = event_type.ok_or(missing("type"))?;
        check_value("id", id)?;
        check_value("source", source)?;
        Ok(Required {
            id: ProducerId::parse(id)
                .map_err(|error| CloudEventError::invalid("id", format!("is refused: {error}")))?,
            source: source.to_owned(),
            event_type: EventType::parse(event_type).map_err(CloudEventError::Type)?,
        })
    }
}

/// What holds for every attribute's value: not empty, bounded, and no control characters (the specification's type String).
pub(crate) fn check_value(attribute: &str, value: &str) -> Result<(), CloudEventError> {
    if value.is_empty() {
        return Err(CloudEventError::invalid(attribute, "is empty"));
    }
    if value.len() > ATTRIBUTE_BYTES_MAX {
        let reason = format!("has {} bytes, more than {ATTRIBUTE_BYTES_MAX}", value.len());
        return Err(CloudEventError::invalid(attribute, reason));
    }
    match value.chars().find(|c| c.is_control()) {
        Some(found) => Err(CloudEventError::invalid(
            attribute,
            format!("holds the control character {found:?}"),
        )),
        None => Ok(()),
    }
}
