//! How values look to people and programs: times, outcomes, payloads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hooklane_types::{AttemptOutcome, AttemptSummary, HeaderValue, Properties, UnixMillis};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// RFC 3339 in UTC, with milliseconds.
pub fn time(at: UnixMillis) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{} ms", at.0),
    }
}

pub(crate) fn time_field<S: serde::Serializer>(
    at: &Option<UnixMillis>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.map(time).serialize(serializer)
}

/// An outcome in a word: the status, or the failure's name.
pub fn outcome(outcome: &AttemptOutcome) -> String {
    match outcome {
        AttemptOutcome::Status { code, .. } => code.to_string(),
        AttemptOutcome::Failed(kind) => kind.name().to_owned(),
    }
}

/// One attempt of a delivery's history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// Its id.
    pub id: String,
    /// When it began, RFC 3339.
    pub at: String,
    /// How long it took.
    pub duration_ms: u32,
    /// The status, or the failure's name.
    pub outcome: String,
    /// `Retry-After`, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl From<&AttemptSummary> for Attempt {
    fn from(attempt: &AttemptSummary) -> Attempt {
        let retry_after_ms = match attempt.outcome {
            AttemptOutcome::Status { retry_after_ms, .. } => retry_after_ms,
            AttemptOutcome::Failed(_) => None,
        };
        Attempt {
            id: attempt.id.to_string(),
            at: time(attempt.at),
            duration_ms: attempt.duration_ms,
            outcome: outcome(&attempt.outcome),
            retry_after_ms,
        }
    }
}

/// A body: as text where it is UTF-8, else in base 64.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Payload {
    /// Its length.
    pub payload_bytes: usize,
    /// Whether only its beginning stands here.
    pub payload_cut: bool,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The bytes, where they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

impl Payload {
    /// The first `bytes_max` bytes of a body.
    pub fn new(body: &[u8], bytes_max: usize) -> Payload {
        let shown = &body[..body.len().min(bytes_max)];
        let cut = shown.len() < body.len();
        let text = match std::str::from_utf8(shown) {
            Ok(text) => Some(text),
            // A character that the cut went through; bytes that are none have an error length.
            Err(error) if cut && error.error_len().is_none() => {
                std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        Payload {
            payload_bytes: body.len(),
            payload_cut: cut,
            payload: text.map(str::to_owned),
            payload_base64: text.is_none().then(|| STANDARD.encode(shown)),
        }
    }
}

/// The properties that are set, by their AMQP names.
pub(crate) fn properties(properties: &Properties) -> Value {
    let mut shown = Map::new();
    let texts = [
        ("content_type", &properties.content_type),
        ("content_encoding", &properties.content_encoding),
        ("message_id", &properties.message_id),
        ("correlation_id", &properties.correlation_id),
        ("reply_to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("type", &properties.kind),
        ("user_id", &properties.user_id),
        ("app_id", &properties.app_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            shown.insert(name.to_owned(), json!(text));
        }
    }
    if let Some(seconds) = properties.timestamp_s {
        shown.insert("timestamp".to_owned(), json!(seconds));
    }
    if let Some(priority) = properties.priority {
        shown.insert("priority".to_owned(), json!(priority));
    }
    if !properties.headers.is_empty() {
        shown.insert("headers".to_owned(), table(&properties.headers));
    }
    Value::Object(shown)
}

fn table(entries: &[(String, HeaderValue)]) -> Value {
    Value::Object(
        entries
            .iter()
            .map(|(name, value)| (name.clone(), header(value)))
            .collect(),
    )
}

fn header(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Text(text) => json!(text),
        HeaderValue::Bytes(bytes) => json!({ "base64": STANDARD.encode(bytes) }),
        HeaderValue::Integer(number) => json!(number),
        HeaderValue::Float(number) => json!(number),
        HeaderValue::Bool(truth) => json!(truth),
        HeaderValue::Timestamp(seconds) => json!({ "timestamp": seconds }),
        HeaderValue::List(values) => Value::Array(values.iter().map(header).collect()),
        HeaderValue::Table(entries) => table(entries),
        HeaderValue::Void => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_goes_through_no_character_and_bytes_that_are_no_text_are_base_64() {
        // Goal: what is shown is always valid; a whole payload comes back byte for byte.
        let cut = Payload::new("aü".as_bytes(), 2);
        assert_eq!(
            (cut.payload.as_deref(), cut.payload_cut, cut.payload_bytes),
            (Some("a"), true, 3)
        );
        let whole = Payload::new("aü".as_bytes(), 3);
        assert_eq!((whole.payload.as_deref(), whole.payload_cut), (Some("aü"), false));
        let binary = Payload::new(&[0xff, 0x00], 10);
        assert_eq!(
            (binary.payload, binary.payload_base64.as_deref()),
            (None, Some("/wA="))
        );
        assert!(Payload::new(&[b'a', 0xc3], 10).payload_base64.is_some());
    }

    #[test]
    fn times_are_rfc_3339() {
        // Goal: programs can read them.
        assert_eq!(time(UnixMillis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }
}
