//! Binary mode: the attributes beside the body, as HTTP headers or AMQP headers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{
    ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_MAX, CloudEvent, CloudEventError, HEADERS_BYTES_MAX, Required,
    check_value, percent, shorten,
};
use crate::content_type::{CONTENT_TYPE_DEFAULT, check_content_type};
use crate::header_value::HeaderValue;
use crate::message::Properties;
use crate::traceparent;

const HTTP_PREFIX: &str = "ce-";
/// Both are in the AMQP binding: the colon is the older one, and some libraries cannot write it.
const AMQP_PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

/// Reads an event in binary mode over HTTP from all headers of its request; those without `ce-` in front are passed over.
///
/// # Errors
/// See [`CloudEventError`].
pub fn read_http_binary<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    content_type: Option<&str>,
) -> Result<CloudEvent, CloudEventError> {
    let mut attributes = Attributes::default();
    for (header, value) in headers {
        let (Some(prefix), Some(name)) = (header.get(..HTTP_PREFIX.len()), header.get(HTTP_PREFIX.len()..))
        else {
            continue;
        };
        if prefix.eq_ignore_ascii_case(HTTP_PREFIX) {
            let name = name.to_ascii_lowercase();
            let value =
                percent::decode(value).ok_or_else(|| CloudEventError::invalid(&name, "is not UTF-8"))?;
            attributes.add(&name, value)?;
        }
    }
    attributes.finish(content_type)
}

/// Whether an AMQP message says that it is a CloudEvent in binary mode.
pub fn is_amqp_binary(properties: &Properties) -> bool {
    AMQP_PREFIXES.iter().any(|prefix| {
        properties
            .headers
            .iter()
            .any(|(name, _)| name.strip_prefix(prefix) == Some("specversion"))
    })
}

/// Reads an event in binary mode over AMQP; headers without the prefix are passed over.
///
/// # Errors
/// See [`CloudEventError`].
pub fn read_amqp_binary(properties: &Properties) -> Result<CloudEvent, CloudEventError> {
    let mut attributes = Attributes::default();
    for (header, value) in &properties.headers {
        let Some(name) = AMQP_PREFIXES
            .iter()
            .find_map(|prefix| header.strip_prefix(prefix))
        else {
            continue;
        };
        if let Some(value) = canonical(name, value)? {
            attributes.add(name, value.into_owned())?;
        }
    }
    attributes.finish(properties.content_type.as_deref())
}

/// An attribute's value in the canonical text form of its type (specification, "Type System"). A header without a value is
/// an attribute that isn't there.
fn canonical<'a>(name: &str, value: &'a HeaderValue) -> Result<Option<Cow<'a, str>>, CloudEventError> {
    let unfit = |kind: &str| {
        Err(CloudEventError::invalid(
            name,
            format!("is {kind}, which no attribute can be"),
        ))
    };
    match value {
        HeaderValue::Text(text) => Ok(Some(Cow::Borrowed(text))),
        HeaderValue::Integer(number) => Ok(Some(number.to_string().into())),
        HeaderValue::Bool(truth) => Ok(Some(truth.to_string().into())),
        HeaderValue::Bytes(bytes) => Ok(Some(BASE64.encode(bytes).into())),
        HeaderValue::Timestamp(seconds) => {
            let time = i64::try_from(*seconds)
                .ok()
                .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
            let time = time.ok_or_else(|| CloudEventError::invalid(name, "is no time"))?;
            Ok(Some(time.to_string().into()))
        }
        HeaderValue::Void => Ok(None),
        HeaderValue::Float(_) => unfit("a floating point number"),
        HeaderValue::List(_) => unfit("an array"),
        HeaderValue::Table(_) => unfit("a table"),
    }
}

fn is_attribute_name(name: &str) -> bool {
    (1..=ATTRIBUTE_NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Checks that headers are what reading in binary mode yields: known by their names, safe to send, bounded.
pub(crate) fn check_headers(headers: &[(String, String)]) -> Result<(), CloudEventError> {
    if headers.len() > ATTRIBUTES_MAX {
        return Err(CloudEventError::TooLarge {
            limit: ATTRIBUTES_MAX,
            unit: "attributes",
        });
    }
    for (header, value) in headers {
        if !header.strip_prefix(HTTP_PREFIX).is_some_and(is_attribute_name) {
            return Err(CloudEventError::invalid(header, "is no header of an attribute"));
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CloudEventError::invalid(header, "is not percent-encoded"));
        }
    }
    let bytes: usize = headers
        .iter()
        .map(|(header, value)| header.len() + value.len())
        .sum();
    if bytes > HEADERS_BYTES_MAX {
        return Err(CloudEventError::TooLarge {
            limit: HEADERS_BYTES_MAX,
            unit: "bytes",
        });
    }
    Ok(())
}

/// Attributes by name.
#[derive(Default)]
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    fn add(&mut self, name: &str, value: String) -> Result<(), CloudEventError> {
        if !is_attribute_name(name) {
            let reason =
                format!("is no attribute name: only a-z and 0-9, at most {ATTRIBUTE_NAME_BYTES_MAX}");
            return Err(CloudEventError::invalid(name, reason));
        }
        check_value(name, &value)?;
        if self.0.len() >= ATTRIBUTES_MAX {
            return Err(CloudEventError::TooLarge {
                limit: ATTRIBUTES_MAX,
                unit: "attributes",
            });
        }
        match self.0.insert(name.to_owned(), value) {
            Some(_) => Err(CloudEventError::Twice {
                attribute: shorten(name),
            }),
            None => Ok(()),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn finish(mut self, content_type: Option<&str>) -> Result<CloudEvent, CloudEventError> {
        // In binary mode this attribute is the content type, and must not stand beside it.
        let attribute = self.0.remove("datacontenttype");
        let content_type = content_type
            .or(attribute.as_deref())
            .unwrap_or(CONTENT_TYPE_DEFAULT)
            .to_owned();
        check_content_type(&content_type)
            .map_err(|error| CloudEventError::invalid("datacontenttype", error.to_string()))?;
        if let Some(time) = self.get("time") {
            time.parse::<jiff::Timestamp>()
                .map_err(|_| CloudEventError::invalid("time", "is no RFC 3339 timestamp"))?;
        }
        let required = Required::check(
            self.get("specversion"),
            self.get("id"),
            self.get("source"),
            self.get("type"),
        )?;
        let traceparent = self
            .get("traceparent")
            .filter(|text| traceparent::is_valid(text))
            .map(str::to_owned);
        let headers: Vec<_> = self
            .0
            .into_iter()
            .map(|(name, value)| (format!("{HTTP_PREFIX}{name}"), percent::encode(&value)))
            .collect();
        check_headers(&headers)?;
        Ok(CloudEvent {
            id: required.id,
            source: required.source,
            event_type: required.event_type,
            headers,
            content_type,
            traceparent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: [(&str, &str); 4] = [
        ("ce-specversion", "1.0"),
        ("Ce-Id", "1"),
        ("ce-source", "/shop"),
        ("ce-type", "order.paid"),
    ];

    fn http(more: &[(&str, &str)]) -> Result<CloudEvent, String> {
        let headers = REQUIRED
            .iter()
            .chain(more)
            .map(|(name, value)| (*name, value.as_bytes()));
        read_http_binary(headers, Some("text/plain")).map_err(|error| error.to_string())
    }

    fn amqp(more: Vec<(&str, HeaderValue)>) -> Result<CloudEvent, String> {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let mut headers = vec![
            ("cloudEvents:specversion", text("1.0")),
            ("cloudEvents:id", text("1")),
            ("cloudEvents:source", text("/shop")),
            ("cloudEvents_type", text("order.paid")),
            ("application", text("acme")),
        ];
        headers.extend(more);
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let properties = Properties {
            headers,
            ..Properties::default()
        };
        assert!(is_amqp_binary(&properties));
        read_amqp_binary(&properties).map_err(|error| error.to_string())
    }

    fn header<'a>(event: &'a CloudEvent, name: &str) -> Option<&'a str> {
        event
            .headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }

    #[test]
    fn http_attributes_travel_on_and_other_headers_do_not() {
        let event = http(&[
            ("ce-subject", "a%20%E2%82%AC"),
            ("host", "x"),
            ("x", ""),
            ("ce-myext", "5"),
        ])
        .unwrap();
        assert_eq!(event.id.as_str(), "1");
        assert_eq!(event.event_type.as_str(), "order.paid");
        assert_eq!(event.content_type, "text/plain");
        assert_eq!(header(&event, "ce-subject"), Some("a%20%E2%82%AC"));
        assert_eq!(header(&event, "ce-myext"), Some("5"));
        assert_eq!(header(&event, "ce-id"), Some("1"));
        assert_eq!(event.headers.len(), 6);
    }

    #[test]
    fn a_line_break_cannot_leave_its_header() {
        assert!(
            http(&[("ce-subject", "a%0D%0Ax-evil: 1")])
                .unwrap_err()
                .contains("'subject' holds the control")
        );
    }

    #[test]
    fn amqp_values_of_every_type_become_their_canonical_text() {
        let event = amqp(vec![
            ("cloudEvents:sequence", HeaderValue::Integer(-5)),
            ("cloudEvents_final", HeaderValue::Bool(true)),
            ("cloudEvents:blob", HeaderValue::Bytes(vec![0, 255])),
            ("cloudEvents:time", HeaderValue::Timestamp(1_700_000_000)),
            ("cloudEvents:nothing", HeaderValue::Void),
        ])
        .unwrap();
        assert_eq!(header(&event, "ce-sequence"), Some("-5"));
        assert_eq!(header(&event, "ce-final"), Some("true"));
        assert_eq!(header(&event, "ce-blob"), Some("AP8="));
        assert_eq!(header(&event, "ce-time"), Some("2023-11-14T22:13:20Z"));
        assert_eq!(header(&event, "ce-nothing"), None);
        assert_eq!(event.content_type, "application/json");
    }

    #[test]
    fn an_error_names_the_attribute() {
        let cases = [
            (http(&[("ce-id", "2")]), "'id' stands twice"),
            (http(&[("ce-my-ext", "2")]), "'my-ext' is no attribute name"),
            (http(&[("ce-", "2")]), "'' is no attribute name"),
            (http(&[("ce-subject", "")]), "'subject' is empty"),
            (http(&[("ce-time", "yesterday")]), "'time' is no RFC 3339"),
            (http(&[("ce-subject", "%ff")]), "'subject' is not UTF-8"),
            (http(&[("ce-big", &"x".repeat(2049))]), "'big' has 2049 bytes"),
            (
                amqp(vec![("cloudEvents_id", HeaderValue::Integer(2))]),
                "'id' stands twice",
            ),
            (
                amqp(vec![("cloudEvents:ratio", HeaderValue::Float(0.5))]),
                "'ratio' is a floating point",
            ),
            (
                amqp(vec![("cloudEvents:time", HeaderValue::Timestamp(u64::MAX))]),
                "'time' is no time",
            ),
        ];
        for (outcome, expected) in cases {
            let error = outcome.unwrap_err();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
        let none = read_http_binary([("ce-specversion", b"1.0".as_slice())], None);
        assert_eq!(none, Err(CloudEventError::Missing { attribute: "id" }));
    }

    #[test]
    fn attributes_are_bounded_in_number_and_size() {
        let names: Vec<String> = (0..70).map(|n| format!("ce-x{n}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert!(http(&many).unwrap_err().contains("more than 64 attributes"));
        let big = "€".repeat(600);
        assert!(
            http(&[("ce-a", &big), ("ce-b", &big)])
                .unwrap_err()
                .contains("more than 6144 bytes")
        );
    }
}
