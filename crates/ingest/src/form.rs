//! In which form a request carries its event.

use hooklane_types::cloudevent::{Format, format_of};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::answer::Refusal;

/// CloudEvents binary mode is told by this header (HTTP protocol binding 1.0, section 3).
const CE_SPECVERSION: &str = "ce-specversion";

/// The forms that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The Svix API's `MessageIn`.
    Message,
    /// A CloudEvent, its attributes in `ce-*` headers and its data in the body.
    CloudEventBinary,
    /// A CloudEvent, all of it as JSON in the body.
    CloudEventStructured,
}

impl Form {
    /// The metric's label.
    pub(crate) fn way(self) -> &'static str {
        match self {
            Form::Message => "http",
            Form::CloudEventBinary | Form::CloudEventStructured => "cloudevents",
        }
    }
}

/// Tells the form from the headers.
pub(crate) fn of(headers: &HeaderMap) -> Result<Form, Refusal> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(unsupported(
            "a compressed body is not understood: send it without Content-Encoding",
        ));
    }
    let content_type = match headers.get(CONTENT_TYPE) {
        None => None,
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| unsupported("the Content-Type is not ASCII"))?,
        ),
    };
    match content_type.and_then(format_of) {
        Some(Format::Json) => return Ok(Form::CloudEventStructured),
        Some(Format::Batch) => {
            return Err(unsupported(
                "CloudEvents batch mode is not understood: send each event by itself",
            ));
        }
        Some(Format::Foreign) => {
            let detail = "of the formats of CloudEvents only application/cloudevents+json is understood";
            return Err(unsupported(detail));
        }
        None => {}
    }
    if headers.contains_key(CE_SPECVERSION) {
        return Ok(Form::CloudEventBinary);
    }
    match content_type
        .and_then(|text| text.split(';').next())
        .map(str::trim)
    {
        None => Ok(Form::Message),
        Some(media_type) if media_type.eq_ignore_ascii_case("application/json") => Ok(Form::Message),
        Some(_) => Err(unsupported(
            "send the message as application/json, or a CloudEvent",
        )),
    }
}

fn unsupported(detail: &str) -> Refusal {
    Refusal::UnsupportedMediaType {
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&'static str, &str)]) -> Option<Form> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        of(&headers).ok()
    }

    #[test]
    fn tells_the_forms_apart() {
        assert_eq!(form(&[]), Some(Form::Message));
        assert_eq!(
            form(&[("content-type", "Application/JSON; charset=utf-8")]),
            Some(Form::Message)
        );
        let structured = "application/cloudevents+json; charset=UTF-8";
        assert_eq!(
            form(&[("content-type", structured)]),
            Some(Form::CloudEventStructured)
        );
        assert_eq!(
            form(&[("content-type", "text/xml"), ("ce-specversion", "1.0")]),
            Some(Form::CloudEventBinary)
        );
        assert_eq!(form(&[("ce-specversion", "1.0")]), Some(Form::CloudEventBinary));
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for media_type in [
            "application/cloudevents-batch+json",
            "application/cloudevents+avro",
            "text/plain",
            "application/jsonx",
        ] {
            assert_eq!(form(&[("content-type", media_type)]), None, "{media_type}");
        }
        assert_eq!(form(&[("content-encoding", "gzip")]), None);
        assert_eq!(form(&[("content-encoding", "identity")]), Some(Form::Message));
    }
}
