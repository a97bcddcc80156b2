//! From a message in the form that producers publish to an event, or to the reason why it is a fault. Pure.
//!
//! Nothing in such a message is believed but what the broker verified (`exchange`, `user_id`); headers of ours on it mean
//! nothing.

use hooklane_broker::{SUBSTITUTE, UNREADABLE_HEADER};
use hooklane_types::cloudevent::{self, CloudEvent, Format};
use hooklane_types::content_type::{CONTENT_TYPE_DEFAULT, check_content_type};
use hooklane_types::{
    ApplicationId, Event, EventId, EventType, FaultReason, HeaderValue, ProducerId, RawMessage, UnixMillis,
    traceparent,
};

use crate::settings::DispatcherSettings;

const APPLICATION_HEADER: &str = "application";
const TRACEPARENT_HEADER: &str = "traceparent";

/// A `timestamp` further in the past is not taken for the time of acceptance: producers also put the time of what happened
/// there, and a delivery's deadline counts from acceptance.
const TIMESTAMP_AGE_MAX_MS: i64 = 3_600_000;

/// Why a message is a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: FaultReason,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) fn new(reason: FaultReason, detail: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            detail: detail.into(),
        }
    }

    fn malformed(detail: impl Into<String>) -> Refusal {
        Refusal::new(FaultReason::Malformed, detail)
    }
}

/// The event in an external message. Without a producer's id it gets a fresh one, from `now` and `random`. `id_of` puts an application's
/// id in the place of another name of it: the event's id is derived from that.
pub(crate) fn read(
    message: &RawMessage,
    settings: &DispatcherSettings,
    id_of: impl Fn(ApplicationId) -> ApplicationId,
    now: UnixMillis,
    random: [u8; 10],
) -> Result<Event, Refusal> {
    check_size(message.body.len(), settings)?;
    check_readable(message)?;
    let application = id_of(application(message, settings)?);
    check_user(message, settings, &application)?;
    match cloud_event(message)? {
        Some(read) => Ok(from_cloud_event(message, read, application, now)),
        None => plain(message, application, now, random),
    }
}

/// The CloudEvent that the message says it is: in structured mode by its content type, in binary mode by its headers.
fn cloud_event(message: &RawMessage) -> Result<Option<CloudEvent>, Refusal> {
    let content_type = message.properties.content_type.as_deref().unwrap_or_default();
    let read = match cloudevent::format_of(content_type) {
        Some(Format::Json) => cloudevent::read_structured(content_type, &message.body),
        Some(Format::Batch) => {
            return Err(Refusal::malformed(
                "a batch of CloudEvents; each needs a message of its own",
            ));
        }
        Some(Format::Foreign) => {
            let detail = "of CloudEvents' structured formats only application/cloudevents+json is understood";
            return Err(Refusal::malformed(detail));
        }
        None if cloudevent::is_amqp_binary(&message.properties) => {
            cloudevent::read_amqp_binary(&message.properties)
        }
        None => return Ok(None),
    };
    read.map(Some)
        .map_err(|error| Refusal::malformed(error.to_string()))
}

fn from_cloud_event(
    message: &RawMessage,
    read: CloudEvent,
    application: ApplicationId,
    now: UnixMillis,
) -> Event {
    let traceparent = || traceparent_in(message.properties.header(TRACEPARENT_HEADER));
    Event {
        id: read.event_id(&application),
        application,
        event_type: read.event_type,
        channels: Vec::new(),
        accepted_at: accepted_at(message.properties.timestamp_s, now),
        content_type: read.content_type,
        traceparent: read.traceparent.or_else(traceparent),
        headers: read.headers,
        payload: message.body.clone(),
        producer_id: Some(read.id),
    }
}

/// The size limit, also for messages that ingest let in when the limit was another.
pub(crate) fn check_size(bytes: usize, settings: &DispatcherSettings) -> Result<(), Refusal> {
    let limit = settings.event_bytes_max;
    if bytes > limit {
        let detail = format!("the body has {bytes} bytes, more than the event limit of {limit}");
        return Err(Refusal::new(FaultReason::TooLarge, detail));
    }
    Ok(())
}

/// What the broker crate could not hand on as it was published. Event types and content types with its mark are refused by
/// their own rules, and names of headers that nobody knows mean nothing; but two ids must not become one.
fn check_readable(message: &RawMessage) -> Result<(), Refusal> {
    if let Some(why) = message.properties.header(UNREADABLE_HEADER) {
        return Err(Refusal::malformed(
            why.as_text().unwrap_or("the headers cannot be read"),
        ));
    }
    match &message.properties.message_id {
        Some(id) if id.as_bytes().contains(&SUBSTITUTE) => {
            Err(Refusal::malformed("`message_id` is not UTF-8"))
        }
        _ => Ok(()),
    }
}

fn application(message: &RawMessage, settings: &DispatcherSettings) -> Result<ApplicationId, Refusal> {
    match message.properties.header(APPLICATION_HEADER) {
        Some(HeaderValue::Text(text)) => ApplicationId::parse(text)
            .map_err(|error| Refusal::malformed(format!("header `application`: {error}"))),
        Some(_) => Err(Refusal::malformed("header `application` is not text")),
        None => settings.default_application.clone().ok_or_else(|| {
            Refusal::malformed("there is no header `application`, and no default application is set")
        }),
    }
}

fn check_user(
    message: &RawMessage,
    settings: &DispatcherSettings,
    application: &ApplicationId,
) -> Result<(), Refusal> {
    if settings.broker_users.is_empty() {
        return Ok(());
    }
    let wrong = |detail| Err(Refusal::new(FaultReason::WrongApplication, detail));
    let Some(user) = message
        .properties
        .user_id
        .as_deref()
        .filter(|user| !user.is_empty())
    else {
        return wrong("broker users are mapped to applications, and the message has no `user_id`".to_owned());
    };
    match settings.broker_users.get(user) {
        Some(applications) if applications.include(application) => Ok(()),
        _ => wrong(format!(
            "broker user {user:?} may not publish for application {application}"
        )),
    }
}

fn plain(
    message: &RawMessage,
    application: ApplicationId,
    now: UnixMillis,
    random: [u8; 10],
) -> Result<Event, Refusal> {
    let properties = &message.properties;
    let event_type = filled(properties.kind.as_deref()).unwrap_or(&message.routing_key);
    let event_type = EventType::parse(event_type).map_err(|error| Refusal::malformed(error.to_string()))?;
    let producer_id = filled(properties.message_id.as_deref())
        .map(ProducerId::parse)
        .transpose()
        .map_err(|error| Refusal::malformed(error.to_string()))?;
    let id = match &producer_id {
        Some(producer_id) => EventId::derived(&application, None, producer_id),
        None => EventId::fresh(now, random),
    };
    Ok(Event {
        id,
        producer_id,
        application,
        event_type,
        channels: Vec::new(),
        accepted_at: accepted_at(properties.timestamp_s, now),
        content_type: content_type(properties.content_type.as_deref())?,
        traceparent: traceparent_in(properties.header(TRACEPARENT_HEADER)),
        headers: Vec::new(),
        payload: message.body.clone(),
    })
}

/// An empty property is as good as none: some clients always send all of them.
fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn content_type(text: Option<&str>) -> Result<String, Refusal> {
    let text = filled(text).unwrap_or(CONTENT_TYPE_DEFAULT);
    check_content_type(text).map_err(|error| Refusal::malformed(format!("`content_type`: {error}")))?;
    Ok(text.to_owned())
}

/// Trace context helps people; a broken one is left out and harms nothing.
fn traceparent_in(header: Option<&HeaderValue>) -> Option<String> {
    header?
        .as_text()
        .filter(|text| traceparent::is_valid(text))
        .map(str::to_owned)
}

fn accepted_at(timestamp_s: Option<u64>, now: UnixMillis) -> UnixMillis {
    timestamp_s
        .and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1000))
        .filter(|at_ms| (now.0 - TIMESTAMP_AGE_MAX_MS..=now.0).contains(at_ms))
        .map_or(now, UnixMillis)
}

#[cfg(test)]
mod tests;
