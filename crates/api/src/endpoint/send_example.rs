//! `…/send-example`: a message that nobody published goes to one endpoint.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use bytes::Bytes;
use futures_util::future::try_join;
use hooklane_store::catalog::Kind;
use hooklane_store::items;
use hooklane_types::{Event, EventId, EventType};
use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::auth::Caller;
use crate::body::Json;
use crate::history::{application_id, endpoint_id};
use crate::message::out::MessageOut;
use crate::operation::Operation;
use crate::outbox;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;
use crate::text::{NotHonoured, Uid};

/// Needs no schema.
const PING: &str = "svix.ping";

/// `EventExampleIn`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub(crate) struct EventExampleIn {
    event_type: Uid,
    /// Which of the schema's `examples`; the first, unless this says otherwise.
    #[serde(default)]
    example_index: Option<u16>,
    #[serde(default, rename = "payload")]
    _payload: NotHonoured,
}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/endpoint/{endpoint_id}/send-example";
    vec![
        Operation::new(
            Method::POST,
            PATH,
            "v1.endpoint.send-example",
            "Send an example of an event type to an endpoint",
            send,
        )
        .takes::<EventExampleIn>()
        .answers::<MessageOut>(200),
    ]
}

async fn send(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
    Json(body): Json<EventExampleIn>,
) -> Result<Out<MessageOut>, Refusal> {
    let application = caller.application(&api, &application).await?;
    query.finish()?;
    let endpoint = endpoint_id(&api.endpoint(&application, &endpoint).await?.document)?;
    let name = String::from(body.event_type);
    let example = example(&api, &caller, &name, body.example_index.unwrap_or(0)).await?;
    let event_type = EventType::parse(&name)
        .map_err(|error| Refusal::field(["body", "eventType"], error.to_string(), "value_error"))?;
    let now = api.now();
    let event = Event {
        id: EventId::fresh(now, rand::random()),
        producer_id: None,
        application: application_id(&application)?,
        event_type,
        channels: Vec::new(),
        accepted_at: now,
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::from(example.to_string()),
    };
    let delivery = outbox::run(event.clone(), endpoint, 0);
    try_join(api.outbox.record(event.clone()), api.outbox.deliver(delivery)).await?;
    Ok(Out(MessageOut::published(&event)))
}

/// An example by the newest schema of an event type.
async fn example(api: &Api, caller: &Caller, name: &str, index: u16) -> Result<Value, Refusal> {
    if name == PING && index == 0 {
        return Ok(json!({"success": true}));
    }
    let found = api
        .read::<items::EventType>(Kind::EventType, &caller.organisation, name)
        .await?
        .item;
    // As in the list: what has a flag is not for everybody.
    if !caller.is_shown(found.feature_flag.as_deref()) {
        return Err(Refusal::NotFound);
    }
    let newest = found.schemas.and_then(|schemas| {
        let by_version = |(version, _): &(String, Value)| version.parse::<u64>().unwrap_or(0);
        schemas.into_iter().max_by_key(by_version)
    });
    let example = newest.and_then(|(_, schema)| schema.get("examples")?.get(usize::from(index)).cloned());
    example.filter(Value::is_object).ok_or_else(|| Refusal::Rule {
        code: "invalid_scheme",
        detail: format!(
            "the newest schema of {name} has no object as number {index} of its `examples`, counted from 0"
        ),
    })
}
