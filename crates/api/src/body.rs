//! A request's JSON body.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::answer::{Problem, Refusal};
use crate::state::{Api, BODY_BYTES_MAX};

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Most unknown fields that an answer names.
const UNKNOWN_MAX: usize = 20;

/// The body, read. A field that nobody reads is refused by its name.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<Api>) -> Result<Json<T>, Refusal> {
        parse(&bytes(request.into_body()).await?).map(Json)
    }
}

/// A body, up to its limits.
pub(crate) async fn bytes(body: Body) -> Result<Bytes, Refusal> {
    let read = timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let read =
        read.map_err(|_| Refusal::BodyTimeout)?
            .map_err(|error| match error.is::<LengthLimitError>() {
                true => Refusal::TooLarge(BODY_BYTES_MAX),
                false => Refusal::BodyBroken,
            })?;
    Ok(read.to_bytes())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // A list of values would be taken for the fields in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Refusal::field(["body"], "this must be an object", "type_error"));
    }
    let mut unknown = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let read: Result<T, _> = serde_ignored::deserialize(tracked, |path| {
        if unknown.len() < UNKNOWN_MAX {
            unknown.push(path.to_string());
        }
    });
    let value = read.map_err(|error| refusal(&error, &track.path().to_string()))?;
    deserializer.end().map_err(|error| refusal(&error, "."))?;
    match unknown.is_empty() {
        true => Ok(value),
        false => Err(Refusal::Invalid(
            unknown.iter().map(|path| unknown_field(path)).collect(),
        )),
    }
}

fn refusal(error: &serde_json::Error, path: &str) -> Refusal {
    let text = error.to_string();
    if !error.is_data() {
        return Refusal::MalformedJson(format!("the body is not JSON: {text}"));
    }
    // Where in the text it stands is said by the path already.
    let words = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(words, _)| words);
    let kind = match words.starts_with("missing field") {
        true => "value_error.missing",
        false => "value_error",
    };
    Refusal::field(loc(path), words, kind)
}

fn unknown_field(path: &str) -> Problem {
    Problem::new(loc(path), "unknown field", "value_error.unknown")
}

fn loc(path: &str) -> Vec<String> {
    let parts = path.split('.').filter(|part| !part.is_empty() && *part != "?");
    std::iter::once("body").chain(parts).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        url: String,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Option<Inner>,
    }

    fn problems(body: &str) -> serde_json::Value {
        let Err(Refusal::Invalid(problems)) = parse::<Outer>(body.as_bytes()) else {
            panic!("{body} is not refused as invalid");
        };
        serde_json::to_value(problems).unwrap()
    }

    #[test]
    fn each_mistake_names_its_field() {
        let found = problems(r#"{"name": "a", "nam": 1, "inner": {"url": "x", "deep": {"er": 1}}}"#);
        assert_eq!(found[0]["loc"], serde_json::json!(["body", "nam"]));
        assert_eq!(found[1]["loc"], serde_json::json!(["body", "inner", "deep"]));
        let found = problems(r#"{"name": "a", "inner": {"url": 5}}"#);
        assert_eq!(found[0]["loc"], serde_json::json!(["body", "inner", "url"]));
        assert!(!found[0]["msg"].as_str().unwrap().contains("line"), "{found}");
        assert_eq!(problems("{}")[0]["type"], "value_error.missing");
        for list in ["[]", r#" ["a", null]"#] {
            assert_eq!(problems(list)[0]["loc"], serde_json::json!(["body"]), "{list}");
        }
    }

    #[test]
    fn what_is_no_json_says_where() {
        for body in ["", "{", r#"{"name": "a"} x"#, "\u{0}"] {
            let error = parse::<Outer>(body.as_bytes()).unwrap_err();
            assert!(matches!(error, Refusal::MalformedJson(_)), "{body:?}: {error:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(parse::<Outer>(format!("{{\"x\":{deep}").as_bytes()).is_err());
    }
}
