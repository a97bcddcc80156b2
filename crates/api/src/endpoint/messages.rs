//! `…/msg`: the messages of an endpoint, and how each stands there.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{EndpointEvent, EndpointEventFilter, EventFilter, Slice};
use http::Method;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::Refusal;
use crate::auth::Caller;
use crate::filter::StatusFilter;
use crate::history::{application_id, endpoint_id};
use crate::list::List;
use crate::message::out::{MessageOut, There};
use crate::operation::Operation;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;

/// A message of an endpoint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct EndpointMessageOut {
    #[serde(flatten)]
    message: MessageOut,
    #[serde(flatten)]
    there: There,
}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/endpoint/{endpoint_id}/msg";
    vec![
        Operation::new(
            Method::GET,
            PATH,
            "v1.message-attempt.list-attempted-messages",
            "List the messages of an endpoint, the newest first",
            list,
        )
        .limits()
        .chooses()
        .chooses_status()
        .with_content("Whether payloads are shown")
        .answers::<List<EndpointMessageOut>>(200),
    ]
}

async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    mut query: Query,
) -> Result<Out<List<EndpointMessageOut>>, Refusal> {
    let application = caller.application(&api, &application).await?;
    let part = query.places(Direction::Descending);
    let status = query.status();
    query.flag("expanded_statuses");
    let filter = EndpointEventFilter {
        status: match status {
            StatusFilter::Is(status) => Some(status),
            StatusFilter::Any | StatusFilter::Never => None,
        },
        event: EventFilter {
            range: query.range(),
            event_types: query.event_types(),
            channel: query.channel(),
            with_payload: query.flag_or("with_content", true),
        },
    };
    query.finish()?;
    let endpoint = endpoint_id(&api.endpoint(&application, &endpoint).await?.document)?;
    let application = application_id(&application)?;
    let history = api.history()?;
    let found = match status {
        StatusFilter::Never => Slice {
            rows: Vec::new(),
            more: None,
        },
        _ => {
            history
                .endpoint_events(&application, &endpoint, &filter, &part.page())
                .await?
        }
    };
    let shown = found.rows.iter().map(|row| EndpointMessageOut {
        message: MessageOut::of(&row.event),
        there: There::new(row.status, row.next_attempt),
    });
    let place = |row: &EndpointEvent| row.event.position();
    Ok(Out(List::places(&part, &found, shown.collect(), place)))
}
