//! `/app/{app_id}/msg`: messages.

mod create;
pub(crate) mod out;

use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{EventFilter, FoundEvent};
use http::{Method, StatusCode};

use self::out::MessageOut;
use crate::answer::Refusal;
use crate::auth::{Caller, Organisation};
use crate::history::application_id;
use crate::list::List;
use crate::operation::{Need, Operation};
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;

const ALL: &str = "/app/{app_id}/msg";
const ONE: &str = "/app/{app_id}/msg/{msg_id}";
const CONTENT: &str = "/app/{app_id}/msg/{msg_id}/content";

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::GET,
            ALL,
            "v1.message.list",
            "List messages, the newest first",
            list,
        )
        .limits()
        .chooses()
        .with_content("Whether payloads are shown")
        .answers::<List<MessageOut>>(200),
        create::operation(),
        Operation::new(Method::GET, ONE, "v1.message.get", "Get a message", get)
            .with_content("Whether the payload is shown")
            .answers::<MessageOut>(200),
        Operation::new(
            Method::DELETE,
            CONTENT,
            "v1.message.expunge-content",
            "Delete a message's payload for good",
            expunge,
        )
        .needs(Need::Organisation)
        .answers_nothing(204),
    ]
}

async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(application): Path<String>,
    mut query: Query,
) -> Result<Out<List<MessageOut>>, Refusal> {
    let application = application_id(&caller.application(&api, &application).await?)?;
    let part = query.places(Direction::Descending);
    let filter = EventFilter {
        range: query.range(),
        event_types: query.event_types(),
        channel: query.channel(),
        with_payload: query.flag_or("with_content", true),
    };
    query.finish()?;
    let found = api.history()?.events(&application, &filter, &part.page()).await?;
    let shown = found.rows.iter().map(MessageOut::of).collect();
    Ok(Out(List::places(&part, &found, shown, FoundEvent::position)))
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, message)): Path<(String, String)>,
    mut query: Query,
) -> Result<Out<MessageOut>, Refusal> {
    let application = application_id(&caller.application(&api, &application).await?)?;
    let with_content = query.flag_or("with_content", true);
    query.finish()?;
    let found = api.event(&application, &message).await?;
    Ok(Out(match with_content {
        true => MessageOut::of(&found),
        false => MessageOut::head(&found),
    }))
}

async fn expunge(
    State(api): State<Arc<Api>>,
    organisation: Organisation,
    Path((application, message)): Path<(String, String)>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    let caller = Caller::from(organisation);
    let application = application_id(&caller.application(&api, &application).await?)?;
    query.finish()?;
    let found = api.event(&application, &message).await?;
    match api.history()?.expunge_payload(&application, &found.id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NotFound),
    }
}
