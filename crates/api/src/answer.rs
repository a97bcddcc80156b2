//! What a client is told: `HttpErrorOut` and `HTTPValidationError` of the API's description.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

/// While the store or the broker is away, or a shelf is read: mostly that is over within seconds.
const RETRY_AFTER_S: u32 = 5;

/// One thing that is wrong in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ValidationErrorItem")]
pub(crate) struct Problem {
    /// Where: `["body", "url"]`.
    loc: Vec<String>,
    /// What, in words.
    msg: String,
    /// A word for programs.
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Problem {
    pub(crate) fn new(
        loc: impl IntoIterator<Item = impl Into<String>>,
        msg: impl Into<String>,
        kind: &'static str,
    ) -> Problem {
        Problem {
            loc: loc.into_iter().map(Into::into).collect(),
            msg: msg.into(),
            kind,
        }
    }
}

/// The body of most refusals.
#[derive(Serialize, JsonSchema)]
pub(crate) struct HttpErrorOut<'a> {
    /// A word for programs.
    code: &'a str,
    /// What is wrong, in words.
    detail: &'a str,
}

/// The body of a refusal that names what is wrong with each field.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "HTTPValidationError")]
pub(crate) struct HttpValidationError<'a> {
    detail: &'a [Problem],
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No token, or one that is not taken.
    Unauthorized,
    /// The token speaks for an application, and this is the organisation's.
    Forbidden,
    /// The token does not speak for whoever runs Hooklane, and this is theirs.
    NotTheOperator,
    /// There is no such thing, or it is another's.
    NotFound,
    /// Another method.
    MethodNotAllowed,
    /// It exists already, or was changed meanwhile.
    Conflict(&'static str),
    /// Somebody else reads the shelf: who, for whom that may be told.
    Held(String),
    /// A rule that depends on what is there.
    Rule { code: &'static str, detail: String },
    /// Over the limit, in bytes.
    TooLarge(usize),
    /// The body did not come in time.
    BodyTimeout,
    /// The body did not come whole.
    BodyBroken,
    /// Not JSON.
    MalformedJson(String),
    /// JSON, but not what is asked for.
    Invalid(Vec<Problem>),
    /// Nothing is recorded here.
    NothingRecorded,
    /// What delivers does not take it now; why is for the log.
    NotTaken(String),
    /// The broker does not let a shelf be read; why is for the log.
    ShelfAway(String),
    /// The store does not answer; why is for the log.
    Unavailable(String),
    /// What is stored cannot be used; why is for the log.
    Broken(String),
}

impl Refusal {
    /// One wrong field.
    pub(crate) fn field(
        loc: impl IntoIterator<Item = impl Into<String>>,
        msg: impl Into<String>,
        kind: &'static str,
    ) -> Refusal {
        Refusal::Invalid(vec![Problem::new(loc, msg, kind)])
    }

    fn shape(&self) -> (StatusCode, &'static str, String) {
        match self {
            Refusal::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "authentication_failed",
                "send a valid token as 'Authorization: Bearer …'".to_owned(),
            ),
            Refusal::Forbidden => (
                StatusCode::FORBIDDEN,
                "insufficient_access",
                "this needs a token of the organisation".to_owned(),
            ),
            Refusal::NotTheOperator => (
                StatusCode::FORBIDDEN,
                "insufficient_access",
                "this needs a token of the organisation that runs Hooklane".to_owned(),
            ),
            Refusal::NotFound => (StatusCode::NOT_FOUND, "not_found", "Entity not found".to_owned()),
            Refusal::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this method is not served here".to_owned(),
            ),
            Refusal::Conflict(detail) => (StatusCode::CONFLICT, "conflict", (*detail).to_owned()),
            Refusal::Held(detail) => (StatusCode::CONFLICT, "shelf_held", detail.clone()),
            Refusal::Rule { code, detail } => (StatusCode::BAD_REQUEST, code, detail.clone()),
            Refusal::TooLarge(limit) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                format!("the body has more than {limit} bytes"),
            ),
            Refusal::BodyTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "the body was not complete in time".to_owned(),
            ),
            Refusal::BodyBroken => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "the body could not be read".to_owned(),
            ),
            Refusal::MalformedJson(detail) => (StatusCode::BAD_REQUEST, "invalid_json", detail.clone()),
            Refusal::Invalid(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "validation_error",
                String::new(),
            ),
            Refusal::NothingRecorded => (
                StatusCode::NOT_FOUND,
                "not_found",
                "no history is kept here: an operator can set `history` in [store]".to_owned(),
            ),
            Refusal::NotTaken(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "service_unavailable",
                "it cannot be delivered now; whether it was taken is not known, and it can be sent again"
                    .to_owned(),
            ),
            Refusal::ShelfAway(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "service_unavailable",
                "the broker does not answer now; what was not taken off is still on the shelf".to_owned(),
            ),
            Refusal::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "service_unavailable",
                "the store does not answer now; whether a change was made is not known".to_owned(),
            ),
            Refusal::Broken(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "what is stored cannot be used; an operator must act".to_owned(),
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match &self {
            Refusal::NotTaken(why) => tracing::warn!("deliveries of the API are not taken: {why}"),
            Refusal::ShelfAway(why) => tracing::warn!("the API cannot read a shelf: {why}"),
            Refusal::Unavailable(why) => tracing::warn!("the store does not answer the API: {why}"),
            Refusal::Broken(why) => tracing::error!("the API cannot use what is stored: {why}"),
            _ => {}
        }
        let (status, code, detail) = self.shape();
        let body = match &self {
            Refusal::Invalid(problems) => serde_json::to_vec(&HttpValidationError { detail: problems }),
            _ => serde_json::to_vec(&HttpErrorOut {
                code,
                detail: &detail,
            }),
        };
        let mut response = (status, body.expect("strings and lists of strings serialise")).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Refusal::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Refusal::Held(_) | Refusal::ShelfAway(_) | Refusal::Unavailable(_) | Refusal::NotTaken(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            _ => {}
        }
        response
    }
}
