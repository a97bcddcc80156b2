//! What a publisher is told: each refusal has one status, one code and one reason for the metric.

use axum::body::Body;
use axum::response::Response;
use hooklane_broker::BrokerError;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tracing::Level;

/// While the broker is away: reconnecting takes seconds.
const RETRY_AFTER_BROKER_S: u32 = 5;
/// While the process waits for its store, which it looks for each second.
const RETRY_AFTER_OPENING_S: u32 = 5;
/// While others' bodies fill the memory: they are gone as soon as they are confirmed.
const RETRY_AFTER_BUSY_S: u32 = 1;

/// One thing that is wrong in a request: an item of the API's `HTTPValidationError`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// Where: `["body", "eventType"]`.
    pub(crate) loc: Vec<String>,
    /// What, in words.
    pub(crate) msg: String,
    /// A word for programs.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

/// Why a request is refused.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// The peer's address is not on the list.
    AddressNotAllowed,
    /// No token, or a wrong one.
    Unauthorized,
    /// A token that may not publish.
    Forbidden,
    /// No such path.
    NoSuchPath,
    /// Another method.
    MethodNotAllowed,
    /// No such application.
    UnknownApplication { application: String },
    /// A body of another kind.
    UnsupportedMediaType { detail: String },
    /// Over the limit.
    TooLarge { limit_bytes: usize },
    /// The body did not come in time.
    BodyTimeout { waited_ms: u128 },
    /// The body ended early, or its transfer coding is broken.
    BodyBroken { detail: String },
    /// Not JSON, or not UTF-8.
    MalformedJson { detail: String },
    /// Not a CloudEvent.
    MalformedCloudEvent { detail: String },
    /// JSON, but not a message.
    Invalid(Vec<Problem>),
    /// Another event was published with its `eventId`.
    EventIdUsed,
    /// The process holds as many bytes of bodies as it may.
    Busy,
    /// The process waits for what it works with.
    NotYet,
    /// The application, or the key, may be newer than what the process knows.
    NotKnownYet,
    /// The broker did not take it.
    Broker(BrokerError),
}

/// A refusal on the wire.
struct Shape {
    status: StatusCode,
    code: &'static str,
    reason: &'static str,
    level: Level,
    detail: String,
    retry_after_s: Option<u32>,
}

impl Shape {
    fn new(status: StatusCode, code: &'static str, reason: &'static str, detail: impl Into<String>) -> Shape {
        Shape {
            status,
            code,
            reason,
            level: Level::INFO,
            detail: detail.into(),
            retry_after_s: None,
        }
    }

    /// A refusal that passes: 503 with the time to wait.
    fn later(reason: &'static str, retry_after_s: u32, detail: impl Into<String>) -> Shape {
        Shape {
            level: Level::WARN,
            retry_after_s: Some(retry_after_s),
            ..Shape::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "service_unavailable",
                reason,
                detail,
            )
        }
    }
}

impl Refusal {
    fn shape(&self) -> Shape {
        match self {
            Refusal::AddressNotAllowed => Shape::new(
                StatusCode::FORBIDDEN,
                "permission_denied",
                "address",
                "your address may not connect here",
            ),
            Refusal::Unauthorized => {
                let detail = "send the token as 'Authorization: Bearer …'";
                Shape::new(
                    StatusCode::UNAUTHORIZED,
                    "authentication_failed",
                    "unauthorized",
                    detail,
                )
            }
            Refusal::Forbidden => Shape::new(
                StatusCode::FORBIDDEN,
                "insufficient_access",
                "forbidden",
                "this needs a token of the organisation",
            ),
            Refusal::NoSuchPath => Shape::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "path",
                "no such path; events are published with POST /api/v1/app/{application}/msg",
            ),
            Refusal::MethodNotAllowed => Shape::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "method",
                "this method is not served here; events are published with POST",
            ),
            Refusal::UnknownApplication { application } => Shape::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "unknown_application",
                format!("there is no application {application:?}"),
            ),
            Refusal::UnsupportedMediaType { detail } => Shape::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "media_type",
                detail,
            ),
            Refusal::TooLarge { limit_bytes } => Shape::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "too_large",
                format!("the body has more than {limit_bytes} bytes"),
            ),
            Refusal::BodyTimeout { waited_ms } => Shape::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "body_timeout",
                format!("the body was not complete after {waited_ms} ms"),
            ),
            Refusal::BodyBroken { detail } => Shape::new(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "body_broken",
                format!("the body could not be read: {detail}"),
            ),
            Refusal::MalformedJson { detail } => {
                Shape::new(StatusCode::BAD_REQUEST, "invalid_json", "malformed", detail)
            }
            Refusal::MalformedCloudEvent { detail } => Shape::new(
                StatusCode::BAD_REQUEST,
                "invalid_cloud_event",
                "malformed",
                detail,
            ),
            Refusal::Invalid(problems) => {
                let words: Vec<String> = problems
                    .iter()
                    .map(|problem| format!("{}: {}", problem.loc.join("."), problem.msg))
                    .collect();
                Shape::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "validation_error",
                    "invalid",
                    words.join("; "),
                )
            }
            Refusal::EventIdUsed => Shape::new(
                StatusCode::CONFLICT,
                "conflict",
                "event_id",
                "an event with this eventId was published already",
            ),
            Refusal::Busy => Shape::later(
                "busy",
                RETRY_AFTER_BUSY_S,
                "too many bytes of events are being published; try again",
            ),
            Refusal::NotYet => Shape::later(
                "not_yet",
                RETRY_AFTER_OPENING_S,
                "this process waits for its store; `/readyz` says why",
            ),
            Refusal::NotKnownYet => Shape::later(
                "not_known_yet",
                RETRY_AFTER_OPENING_S,
                "this application or key is not known here, and may be newer than what is: the store does not answer; try again",
            ),
            Refusal::Broker(error) => of_broker(error),
        }
    }

    /// The metric's label.
    pub(crate) fn reason(&self) -> &'static str {
        self.shape().reason
    }

    /// How much it matters to the operator, and why it is refused, in words; never the event's content.
    pub(crate) fn log(&self) -> (Level, StatusCode, String) {
        let shape = self.shape();
        let detail = match self {
            // What the broker said is for whoever reads the log, not for publishers.
            Refusal::Broker(error) => error.to_string(),
            _ => shape.detail,
        };
        (shape.level, shape.status, detail)
    }

    /// Whether what is left of the request's body is not wanted: the connection ends with the answer.
    pub(crate) fn closes_connection(&self) -> bool {
        matches!(
            self,
            Refusal::TooLarge { .. }
                | Refusal::BodyTimeout { .. }
                | Refusal::BodyBroken { .. }
                | Refusal::Busy
        )
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response {
        #[derive(Serialize)]
        struct HttpError<'a> {
            code: &'a str,
            detail: &'a str,
        }
        #[derive(Serialize)]
        struct ValidationError<'a> {
            detail: &'a [Problem],
        }

        const PLAIN: &str = "strings and lists of strings serialise";
        let shape = self.shape();
        let body = match self {
            Refusal::Invalid(problems) => serde_json::to_vec(&ValidationError { detail: problems }),
            _ => serde_json::to_vec(&HttpError {
                code: shape.code,
                detail: &shape.detail,
            }),
        };
        let mut response = Response::new(Body::from(body.expect(PLAIN)));
        *response.status_mut() = shape.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = shape.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Refusal::Unauthorized) {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// After every one of these but `Refused` the same request can be sent again as it is; with an `eventId` it gets the same
/// webhook-id, so that a message that did arrive is not delivered under two names.
fn of_broker(error: &BrokerError) -> Shape {
    let broker = RETRY_AFTER_BROKER_S;
    match error {
        BrokerError::Unconfirmed { waited, .. } => Shape::later(
            "unconfirmed",
            broker,
            format!(
                "the broker did not confirm within {} ms; the event may still arrive",
                waited.as_millis()
            ),
        ),
        BrokerError::Lost(_) => Shape::later(
            "unconfirmed",
            broker,
            "the broker did not confirm; the event may still arrive",
        ),
        BrokerError::Full => Shape::later("full", broker, "the queue of events is full"),
        BrokerError::Unavailable(_) => Shape::later("unavailable", broker, "the broker is not connected"),
        BrokerError::ShutDown => Shape::later("shut_down", broker, "this process is stopping"),
        // The broker's text names exchanges and rights: it is for the log, not for publishers.
        BrokerError::Refused(_) => Shape {
            level: Level::ERROR,
            ..Shape::later(
                "broker_refused",
                broker,
                "the broker refuses to publish; an operator must act",
            )
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_brokers_trouble_is_a_503_that_says_when_to_come_again() {
        let unconfirmed = BrokerError::Unconfirmed {
            waited: Duration::from_secs(10),
            last_error: "x".into(),
        };
        let errors = [
            unconfirmed,
            BrokerError::Lost("x".into()),
            BrokerError::Full,
            BrokerError::Unavailable("x".into()),
            BrokerError::ShutDown,
            BrokerError::Refused("ACCESS_REFUSED hooklane.ingest".into()),
        ];
        for error in errors {
            let refusal = Refusal::Broker(error);
            let response = refusal.response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{refusal:?}");
            let seconds: u32 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!(seconds > 0);
        }
    }

    #[test]
    fn what_the_broker_says_about_rights_stays_inside() {
        let refusal = Refusal::Broker(BrokerError::Refused("ACCESS_REFUSED hooklane.ingest".into()));
        assert!(!refusal.shape().detail.contains("ACCESS_REFUSED"));
        let (level, _, logged) = refusal.log();
        assert_eq!(level, Level::ERROR);
        assert!(logged.contains("ACCESS_REFUSED"));
    }
}
