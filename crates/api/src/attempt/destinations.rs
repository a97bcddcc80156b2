//! `/app/{app_id}/msg/{msg_id}/endpoint`: where a message went.

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::catalog::{Direction, Kind};
use hooklane_store::history::{Destination, Slice};
use hooklane_store::items;
use http::Method;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::Refusal;
use crate::auth::Caller;
use crate::endpoint::EndpointOut;
use crate::history::application_id;
use crate::list::List;
use crate::message::out::There;
use crate::operation::Operation;
use crate::path::Path;
use crate::query::Query;
use crate::state::{Api, Read};

/// An endpoint of a message.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct MessageEndpointOut {
    #[serde(flatten)]
    endpoint: EndpointOut,
    #[serde(flatten)]
    there: There,
}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/msg/{msg_id}/endpoint";
    vec![
        Operation::new(
            Method::GET,
            PATH,
            "v1.message-attempt.list-attempted-destinations",
            "List the endpoints that a message went to",
            list,
        )
        .limits()
        .answers::<List<MessageEndpointOut>>(200),
    ]
}

/// Endpoints that were deleted since are left out: there is nothing to show of them but their id, which attempts show.
async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, message)): Path<(String, String)>,
    mut query: Query,
) -> Result<Out<List<MessageEndpointOut>>, Refusal> {
    let document = caller.application(&api, &application).await?;
    let application = application_id(&document)?;
    let part = query.places(Direction::Ascending);
    query.finish()?;
    let message = api.event(&application, &message).await?.id;
    let found = api
        .history()?
        .destinations(&application, &message, &part.page())
        .await?;
    let (mut rows, mut shown) = (Vec::new(), Vec::new());
    for row in found.rows {
        let id = row.endpoint.as_str();
        if let Some(endpoint) = api.catalog.get(Kind::Endpoint, &document.address.id, id).await? {
            let endpoint: Read<items::Endpoint> = endpoint.try_into()?;
            shown.push(MessageEndpointOut {
                endpoint: endpoint.into(),
                there: There::new(row.status, row.next_attempt),
            });
            rows.push(row);
        }
    }
    let more = found.more;
    let found = Slice { rows, more };
    Ok(Out(List::places(&part, &found, shown, Destination::position)))
}
