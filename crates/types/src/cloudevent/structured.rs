//! Structured mode: the whole event as JSON in the body.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CloudEvent, CloudEventError, Required};
use crate::content_type::check_content_type;
use crate::traceparent;

/// The attributes that matter on the way. Borrowed and not yet read: a hostile value of a megabyte costs nothing.
#[derive(Deserialize)]
struct Attributes<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
}

/// Reads the attributes of an event in structured mode. The body is the payload, as it came; `content_type` is kept, with
/// its parameters.
///
/// # Errors
/// See [`CloudEventError`].
pub fn read_structured(content_type: &str, body: &[u8]) -> Result<CloudEvent, CloudEventError> {
    check_content_type(content_type)
        .map_err(|error| CloudEventError::invalid("content-type", error.to_string()))?;
    // RFC 8259, 8.1: a byte order mark may be ignored.
    let json = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    // An array would be taken for the struct's fields in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(CloudEventError::Json {
            detail: "it does not begin with '{'".to_owned(),
        });
    }
    let attributes: Attributes = serde_json::from_slice(json).map_err(json_error)?;
    let spec_version = text("specversion", attributes.specversion)?;
    let id = text("id", attributes.id)?;
    let source = text("source", attributes.source)?;
    let event_type = text("type", attributes.event_type)?;
    let traceparent = text("traceparent", attributes.traceparent)?.filter(|text| traceparent::is_valid(text));
    let required = Required::check(
        spec_version.as_deref(),
        id.as_deref(),
        source.as_deref(),
        event_type.as_deref(),
    )?;
    Ok(CloudEvent {
        id: required.id,
        source: required.source,
        event_type: required.event_type,
        headers: Vec::new(),
        content_type: content_type.to_owned(),
        traceparent,
    })
}

fn text(attribute: &str, raw: Option<&RawValue>) -> Result<Option<String>, CloudEventError> {
    raw.map(|raw| serde_json::from_str(raw.get()))
        .transpose()
        .map_err(|_| CloudEventError::invalid(attribute, "is not a string"))
}

/// The parser says `duplicate field` of the attributes that are read.
fn json_error(error: serde_json::Error) -> CloudEventError {
    CloudEventError::Json {
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "application/cloudevents+json; charset=UTF-8";

    fn read(body: &str) -> Result<CloudEvent, String> {
        read_structured(TYPE, body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_the_specifications_own_example() {
        let event = read(
            r#"{ "specversion" : "1.0", "type" : "com.github.pull_request.opened",
                "source" : "https://github.com/cloudevents/spec/pull", "subject" : "123",
                "id" : "A234-1234-1234", "time" : "2018-04-05T17:31:00Z", "comexampleextension1" : "value",
                "comexampleothervalue" : 5, "datacontenttype" : "text/xml", "data" : "<much wow=\"xml\"/>" }"#,
        )
        .unwrap();
        assert_eq!(event.id.as_str(), "A234-1234-1234");
        assert_eq!(event.source, "https://github.com/cloudevents/spec/pull");
        assert_eq!(event.event_type.as_str(), "com.github.pull_request.opened");
        assert_eq!(event.content_type, TYPE);
        assert!(event.headers.is_empty());
    }

    #[test]
    fn keeps_a_valid_traceparent_and_drops_another() {
        let with = |traceparent: &str| {
            let body = format!(
                r#"{{"specversion":"1.0","type":"a","source":"/s","id":"1","traceparent":"{traceparent}"}}"#
            );
            read(&body).unwrap().traceparent
        };
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(with(good).as_deref(), Some(good));
        assert_eq!(with("junk"), None);
    }

    #[test]
    fn ignores_a_byte_order_mark_and_takes_null_for_absent() {
        assert!(
            read("\u{feff}{\"specversion\":\"1.0\",\"type\":\"a\",\"source\":\"/s\",\"id\":\"1\"}").is_ok()
        );
        let missing = read(r#"{"specversion":"1.0","type":"a","source":null,"id":"1"}"#).unwrap_err();
        assert_eq!(missing, "the CloudEvents attribute 'source' is missing");
    }

    #[test]
    fn an_error_names_the_attribute() {
        let cases = [
            (
                r#"{"specversion":"1.0","type":"a","source":"/s"}"#,
                "'id' is missing",
            ),
            (
                r#"{"specversion":"1.0","type":"a","source":"/s","id":""}"#,
                "'id' is empty",
            ),
            (
                r#"{"specversion":"1.0","type":"a","source":"/s","id":7}"#,
                "'id' is not a string",
            ),
            (
                r#"{"specversion":"1.0","type":"a","source":"/s","id":"1","id":"2"}"#,
                "duplicate field `id`",
            ),
            (
                r#"{"specversion":"1.0","type":"a b","source":"/s","id":"1"}"#,
                "'type': an event type may hold only",
            ),
            (
                r#"{"specversion":"0.3","type":"a","source":"/s","id":"1"}"#,
                "'specversion' is \"0.3\"",
            ),
            (
                r#"{"type":"a","source":"/s","id":"1"}"#,
                "'specversion' is missing",
            ),
            (
                r#"{"specversion":"1.0","type":"a","source":"/s","id":"\u0007"}"#,
                "'id' holds the control character",
            ),
            (r#"["1.0","1","/s","a",null]"#, "not a JSON object"),
            (
                r#"{"specversion":"1.0","type":"a","source":"/s","id":"1"} x"#,
                "not a JSON object",
            ),
            ("", "not a JSON object"),
        ];
        for (body, expected) in cases {
            let error = read(body).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn deeply_nested_data_is_no_danger() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        let body = format!(r#"{{"data":{deep},"specversion":"1.0","type":"a","source":"/s","id":"1"}}"#);
        assert!(read(&body).is_ok());
    }
}
