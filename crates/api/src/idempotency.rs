//! `Idempotency-Key`: a POST with a key that was answered before is answered the same way, and not carried out again.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hooklane_store::responses::{Answer, RequestKey, Taken};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::answer::Refusal;
use crate::auth::Caller;
use crate::body::bytes;
use crate::state::Api;

pub(crate) const HEADER: &str = "idempotency-key";
/// Longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 256;
/// A request whose twin is being carried out waits for its answer.
const TWIN_PAUSE: Duration = Duration::from_millis(100);
const TWIN_PAUSES_MAX: usize = 100;

pub(crate) async fn once(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    carried_out_once(&api, request, next)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn carried_out_once(api: &Arc<Api>, request: Request, next: Next) -> Result<Response, Refusal> {
    let (mut head, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut head, api).await?;
    let key = key(&caller, &head)?;
    let body = bytes(body).await?;
    let of_body: [u8; 32] = Sha256::digest(&body).into();
    for _ in 0..TWIN_PAUSES_MAX {
        match api.responses.take(&key, api.now()).await? {
            Taken::Ours => {
                let request = Request::from_parts(head, Body::from(body));
                return carry_out(api, &key, of_body, next.run(request).await).await;
            }
            Taken::Kept(answer) if answer.request != of_body => {
                return Err(Refusal::Conflict(
                    "this idempotency key was used for another request",
                ));
            }
            Taken::Kept(answer) => return again(api, &key, answer),
            Taken::InWork => tokio::time::sleep(TWIN_PAUSE).await,
        }
    }
    Err(Refusal::Conflict(
        "a request with this idempotency key is being carried out",
    ))
}

/// Keeps the answer. One that says nothing about the request itself is not kept: it may be sent again.
async fn carry_out(
    api: &Api,
    key: &RequestKey,
    request: [u8; 32],
    response: Response,
) -> Result<Response, Refusal> {
    let status = response.status();
    if status.is_server_error() || response.headers().contains_key(RETRY_AFTER) {
        api.responses.give_back(key).await?;
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = bytes(body).await?;
    // There may be a secret in it.
    let text = String::from_utf8_lossy(&body);
    let answer = Answer {
        request,
        status: status.as_u16(),
        body: api.vault.seal(&context(key), &text).into_bytes(),
    };
    // What was done is done, whether its answer is kept or not.
    if let Err(error) = api.responses.keep(key, answer, api.now()).await {
        tracing::warn!("the answer of a request is not kept, and would be carried out again: {error}");
    }
    Ok(Response::from_parts(head, Body::from(body)))
}

fn again(api: &Api, key: &RequestKey, answer: Answer) -> Result<Response, Refusal> {
    let sealed = String::from_utf8_lossy(&answer.body);
    let opened = api.vault.open(&context(key), &sealed);
    let text = opened.map_err(|error| Refusal::Broken(format!("a kept answer: {error}")))?;
    let mut response = Response::new(Body::from(text.to_string()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The one place where an answer opens.
fn context(key: &RequestKey) -> String {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("answer {hex}")
}

/// Whose request it is, to where, and its key.
fn key(caller: &Caller, head: &http::request::Parts) -> Result<RequestKey, Refusal> {
    let wrong = |msg: &str| Refusal::field(["header", HEADER], msg, "value_error");
    let mut values = head.headers.get_all(HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(wrong("this header is given twice"));
    };
    let value = value.as_bytes();
    if !(1..=KEY_BYTES_MAX).contains(&value.len()) {
        return Err(wrong("the key has 1 to 256 bytes"));
    }
    let application = caller.application.as_deref().unwrap_or_default();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let mut hash = Sha256::new();
    for part in [
        caller.organisation.as_bytes(),
        application.as_bytes(),
        path.as_bytes(),
        value,
    ] {
        // The length in front: no other parts give the same bytes.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(hash.finalize().into())
}
