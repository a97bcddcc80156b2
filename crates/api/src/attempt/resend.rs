//! `…/resend`: a message goes to an endpoint once more.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::history::{FoundContent, FoundEvent, Payload};
use hooklane_types::{ApplicationId, EndpointId, Event, EventId};
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::Refusal;
use crate::auth::Caller;
use crate::history::{application_id, endpoint_id};
use crate::operation::Operation;
use crate::outbox;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;

/// `EmptyResponse`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EmptyResponse")]
pub(crate) struct Empty {}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend";
    vec![
        Operation::new(
            Method::POST,
            PATH,
            "v1.message-attempt.resend",
            "Deliver a message to an endpoint once more",
            resend,
        )
        .answers::<Empty>(202),
    ]
}

async fn resend(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, message, endpoint)): Path<(String, String, String)>,
    query: Query,
) -> Result<(StatusCode, Out<Empty>), Refusal> {
    let document = caller.application(&api, &application).await?;
    query.finish()?;
    let endpoint = endpoint_id(&api.endpoint(&document, &endpoint).await?.document)?;
    let application = application_id(&document)?;
    let found = api.event(&application, &message).await?;
    let event = content(found).ok_or_else(|| Refusal::Rule {
        code: "missing_payload",
        detail: "the payload of this message is not there any more, so it cannot be sent again".to_owned(),
    })?;
    let run = next_run(&api, &application, &event.id, &endpoint).await?;
    api.outbox.deliver(outbox::run(event, endpoint, run)).await?;
    Ok((StatusCode::ACCEPTED, Out(Empty {})))
}

/// The event as it was published, if its payload is there.
pub(crate) fn content(found: FoundEvent) -> Option<Event> {
    let FoundContent { event, payload } = found.content?;
    match payload {
        Payload::Kept(payload) => Some(Event { payload, ..event }),
        Payload::Expunged | Payload::NotRead => None,
    }
}

/// The run that comes behind all that are known. The first belongs to whoever published the event, recorded or not.
pub(crate) async fn next_run(
    api: &Api,
    application: &ApplicationId,
    event: &EventId,
    endpoint: &EndpointId,
) -> Result<u32, Refusal> {
    let outcomes = api.history()?.outcomes(application, event, endpoint).await?;
    let newest = outcomes.iter().map(|outcome| outcome.run).max();
    Ok(newest.unwrap_or(0).saturating_add(1))
}
