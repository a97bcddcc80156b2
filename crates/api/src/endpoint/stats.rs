//! `…/stats`: how many messages stand how at an endpoint.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::history::Range;
use http::Method;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::Refusal;
use crate::auth::Caller;
use crate::history::{application_id, endpoint_id};
use crate::operation::Operation;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;

/// `EndpointStats`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "EndpointStats")]
pub(crate) struct StatsOut {
    success: u64,
    pending: u64,
    fail: u64,
    /// Always 0: what is being sent is pending.
    sending: u64,
    /// Always 0: nothing is cancelled.
    canceled: u64,
}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/endpoint/{endpoint_id}/stats";
    vec![
        Operation::new(
            Method::GET,
            PATH,
            "v1.endpoint.get-stats",
            "Count an endpoint's messages by their status",
            get,
        )
        .time("since", "Accepted later")
        .time("until", "Accepted earlier")
        .answers::<StatsOut>(200),
    ]
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    mut query: Query,
) -> Result<Out<StatsOut>, Refusal> {
    let application = caller.application(&api, &application).await?;
    let range = Range {
        after: query.time("since"),
        before: query.time("until"),
    };
    query.finish()?;
    let endpoint = endpoint_id(&api.endpoint(&application, &endpoint).await?.document)?;
    let application = application_id(&application)?;
    let found = api.history()?.stats(&application, &endpoint, range).await?;
    Ok(Out(StatsOut {
        success: found.delivered,
        pending: found.pending,
        fail: found.dead,
        sending: 0,
        canceled: 0,
    }))
}
