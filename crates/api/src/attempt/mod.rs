//! `/app/{app_id}/attempt` and `/app/{app_id}/msg/{msg_id}/attempt`: attempts.

mod destinations;
mod out;
pub(crate) mod resend;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json as Out;
use axum::extract::State;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{AttemptFilter, AttemptsOf, FoundAttempt, Slice, Status};
use hooklane_types::{ApplicationId, AttemptId, EventId};
use http::{Method, StatusCode};
use serde_json::json;

use self::out::MessageAttemptOut;
use crate::answer::Refusal;
use crate::auth::{Caller, Organisation};
use crate::filter::StatusFilter;
use crate::history::{application_id, endpoint_id};
use crate::list::List;
use crate::message::out::MessageOut;
use crate::operation::{Need, Operation};
use crate::path::Path;
use crate::query::{Places, Query};
use crate::state::Api;

const OF_ENDPOINT: &str = "/app/{app_id}/attempt/endpoint/{endpoint_id}";
const OF_MESSAGE: &str = "/app/{app_id}/attempt/msg/{msg_id}";
const ONE: &str = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}";
const CONTENT: &str = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content";

pub(crate) fn operations() -> Vec<Operation> {
    let mut all = vec![
        chooses(Operation::new(
            Method::GET,
            OF_ENDPOINT,
            "v1.message-attempt.list-by-endpoint",
            "List attempts at an endpoint, the newest first",
            list_of_endpoint,
        ))
        .flag("with_msg", "Whether the message is shown, without its payload"),
        chooses(Operation::new(
            Method::GET,
            OF_MESSAGE,
            "v1.message-attempt.list-by-msg",
            "List attempts of a message, the newest first",
            list_of_message,
        ))
        .field(
            "endpoint_id",
            "At this endpoint, by its id or uid",
            json!({"type": "string"}),
        ),
        Operation::new(Method::GET, ONE, "v1.message-attempt.get", "Get an attempt", get)
            .flag(
                "expanded_statuses",
                "Whether what is cancelled is called so. Nothing is",
            )
            .answers::<MessageAttemptOut>(200),
        Operation::new(
            Method::DELETE,
            CONTENT,
            "v1.message-attempt.expunge-content",
            "Delete the body of an attempt's answer for good",
            expunge,
        )
        .needs(Need::Organisation)
        .answers_nothing(204),
    ];
    all.extend(destinations::operations());
    all.extend(resend::operations());
    all
}

fn chooses(operation: Operation) -> Operation {
    operation
        .limits()
        .chooses()
        .chooses_status()
        .field(
            "status_code_class",
            "Answered with such a status; 0 where no answer came",
            json!({"type": "integer", "enum": [0, 100, 200, 300, 400, 500]}),
        )
        .with_content("Whether answers' bodies are shown")
        .answers::<List<MessageAttemptOut>>(200)
}

/// Which attempts are asked for; none where none can be meant.
fn filter(query: &mut Query) -> Option<AttemptFilter> {
    let status = query.status();
    query.flag("expanded_statuses");
    let filter = AttemptFilter {
        range: query.range(),
        delivered: match status {
            StatusFilter::Is(status) => Some(status == Status::Delivered),
            StatusFilter::Any | StatusFilter::Never => None,
        },
        status_class: query.status_class(),
        event_types: query.event_types(),
        channel: query.channel(),
        with_answer: query.flag_or("with_content", true),
    };
    // An attempt that is there is over.
    let is_possible = !matches!(status, StatusFilter::Never | StatusFilter::Is(Status::Pending));
    is_possible.then_some(filter)
}

async fn list_of_endpoint(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    mut query: Query,
) -> Result<Out<List<MessageAttemptOut>>, Refusal> {
    let application = caller.application(&api, &application).await?;
    let endpoint = endpoint_id(&api.endpoint(&application, &endpoint).await?.document)?;
    let application = application_id(&application)?;
    let part = query.places(Direction::Descending);
    let filter = filter(&mut query);
    let with_msg = query.flag("with_msg");
    query.finish()?;
    let of = AttemptsOf::Endpoint(endpoint);
    let (found, with_content) = read(&api, &application, &of, filter, &part).await?;
    let messages = match with_msg {
        true => messages(&api, &application, &found.rows).await?,
        false => HashMap::new(),
    };
    let shown = found.rows.iter().map(|row| {
        let message = messages.get(&row.attempt.delivery.event.id).cloned();
        MessageAttemptOut::of(row, with_content, message)
    });
    Ok(Out(List::places(
        &part,
        &found,
        shown.collect(),
        FoundAttempt::position,
    )))
}

async fn list_of_message(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, message)): Path<(String, String)>,
    mut query: Query,
) -> Result<Out<List<MessageAttemptOut>>, Refusal> {
    let document = caller.application(&api, &application).await?;
    let application = application_id(&document)?;
    let part = query.places(Direction::Descending);
    let filter = filter(&mut query);
    let endpoint = query.take("endpoint_id");
    query.finish()?;
    let message = api.event(&application, &message).await?.id;
    let endpoint = match endpoint {
        Some(name) => Some(endpoint_id(&api.endpoint(&document, &name).await?.document)?),
        None => None,
    };
    let of = AttemptsOf::Event(message, endpoint);
    let (found, with_content) = read(&api, &application, &of, filter, &part).await?;
    let shown = found
        .rows
        .iter()
        .map(|row| MessageAttemptOut::of(row, with_content, None));
    Ok(Out(List::places(
        &part,
        &found,
        shown.collect(),
        FoundAttempt::position,
    )))
}

/// What is asked for, and whether answers' bodies are among it.
async fn read(
    api: &Api,
    application: &ApplicationId,
    of: &AttemptsOf,
    filter: Option<AttemptFilter>,
    part: &Places,
) -> Result<(Slice<FoundAttempt>, bool), Refusal> {
    let history = api.history()?;
    let Some(filter) = filter else {
        let nothing = Slice {
            rows: Vec::new(),
            more: None,
        };
        return Ok((nothing, false));
    };
    let found = history.attempts(application, of, &filter, &part.page()).await?;
    Ok((found, filter.with_answer))
}

/// The messages of these attempts.
async fn messages(
    api: &Api,
    application: &ApplicationId,
    attempts: &[FoundAttempt],
) -> Result<HashMap<EventId, MessageOut>, Refusal> {
    let history = api.history()?;
    let mut messages = HashMap::new();
    for attempt in attempts {
        let id = &attempt.attempt.delivery.event.id;
        if !messages.contains_key(id)
            && let Some(found) = history.event(application, id).await?
        {
            messages.insert(id.clone(), MessageOut::head(&found));
        }
    }
    Ok(messages)
}

async fn get(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, message, attempt)): Path<(String, String, String)>,
    mut query: Query,
) -> Result<Out<MessageAttemptOut>, Refusal> {
    let application = application_id(&caller.application(&api, &application).await?)?;
    query.flag("expanded_statuses");
    query.finish()?;
    let message = api.event(&application, &message).await?.id;
    let attempt = AttemptId::parse(&attempt).map_err(|_| Refusal::NotFound)?;
    let found = api.history()?.attempt(&application, &message, &attempt).await?;
    let found = found.ok_or(Refusal::NotFound)?;
    Ok(Out(MessageAttemptOut::of(&found, true, None)))
}

async fn expunge(
    State(api): State<Arc<Api>>,
    organisation: Organisation,
    Path((application, message, attempt)): Path<(String, String, String)>,
    query: Query,
) -> Result<StatusCode, Refusal> {
    let caller = Caller::from(organisation);
    let application = application_id(&caller.application(&api, &application).await?)?;
    query.finish()?;
    let message = api.event(&application, &message).await?.id;
    let attempt = AttemptId::parse(&attempt).map_err(|_| Refusal::NotFound)?;
    let history = api.history()?;
    match history.expunge_answer(&application, &message, &attempt).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refusal::NotFound),
    }
}
