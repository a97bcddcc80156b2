//! Rows become what they were.

use bytes::Bytes;
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, Channel, DeadReason, EndpointId, Event, EventId, EventType,
    FailureKind, ProducerId, UnixMillis,
};
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

use crate::history::merge::{Run, Terminal};
use crate::history::{
    Attempt, Decision, DeliveryKey, EventRef, FoundAttempt, FoundContent, FoundEvent, Payload, Status,
    Trigger,
};
use crate::postgres::error::Fault;

/// What [`event`] reads of `events AS e`, in its order. The payload is read apart: its length says whether there is room for it.
pub(super) const EVENT: &str = "e.day, e.id, e.at_ms, e.expunged, e.producer_id, e.event_type, e.channels, e.content_type, e.traceparent, \
                                e.headers, octet_length(e.payload)";
/// How many that are, and the places of some of them.
pub(super) const EVENT_COLUMNS: usize = 11;
pub(super) const EVENT_TYPE: usize = 5;
pub(super) const CHANNELS: usize = 6;
pub(super) const PAYLOAD_BYTES: usize = 10;

/// What [`attempt`] reads of `attempts AS a` and its event, in its order. The answer is read apart too.
pub(super) const ATTEMPT: &str = "a.day, a.event, a.id, a.endpoint, a.target, a.run, a.at_ms, a.duration_ms, a.code, a.retry_after_ms, \
                                  a.failure, a.manual, a.delivered, a.again_at_ms, a.dead, a.url, a.answer_expunged, \
                                  octet_length(a.answer), e.at_ms, e.event_type, e.channels";
/// The places of some of them.
pub(super) const ANSWER_BYTES: usize = 17;
pub(super) const ATTEMPT_EVENT_TYPE: usize = 19;
pub(super) const ATTEMPT_CHANNELS: usize = 20;

/// What [`run`] reads of `deliveries AS d`, or of `destinations AS d`, in its order.
pub(super) const RUN: &str = "d.last_at_ms, d.last_attempt, d.again_at_ms, d.ended_at_ms, d.ended_by, d.dead";

pub(super) fn event(row: &Row, application: &ApplicationId) -> Result<FoundEvent, Fault> {
    let text = |at: usize| row.try_get::<_, Option<&str>>(at);
    let event_id = id(EventId::parse, row.try_get(1)?)?;
    let accepted_at = UnixMillis(row.try_get(2)?);
    let is_expunged = row.try_get(3)?;
    let Some(event_type) = text(EVENT_TYPE)? else {
        return Ok(FoundEvent {
            application: application.clone(),
            id: event_id,
            accepted_at,
            content: None,
            is_expunged,
        });
    };
    let event = Event {
        id: event_id.clone(),
        producer_id: text(4)?.map(|text| id(ProducerId::parse, text)).transpose()?,
        application: application.clone(),
        event_type: id(EventType::parse, event_type)?,
        channels: channels(row, CHANNELS)?,
        accepted_at,
        content_type: row.try_get(7)?,
        traceparent: row.try_get(8)?,
        headers: text(9)?.map(of_json).transpose()?.unwrap_or_default(),
        payload: Bytes::new(),
    };
    let payload = match is_expunged {
        true => Payload::Expunged,
        false => Payload::NotRead,
    };
    Ok(FoundEvent {
        application: application.clone(),
        id: event_id,
        accepted_at,
        content: Some(FoundContent { event, payload }),
        is_expunged,
    })
}

pub(super) fn attempt(row: &Row, application: &ApplicationId) -> Result<FoundAttempt, Fault> {
    let outcome = match (
        row.try_get::<_, Option<i32>>(8)?,
        row.try_get::<_, Option<&str>>(10)?,
    ) {
        (Some(code), None) => AttemptOutcome::Status {
            code: number(code)?,
            retry_after_ms: row.try_get::<_, Option<i64>>(9)?.map(number).transpose()?,
        },
        (None, Some(name)) => {
            let kind = FailureKind::ALL.into_iter().find(|kind| kind.name() == name);
            AttemptOutcome::Failed(kind.ok_or_else(|| wrong(format!("{name:?} is no kind of failure")))?)
        }
        _ => return Err(wrong("an attempt has a status or a failure".to_owned())),
    };
    let decision = match (row.try_get(12)?, row.try_get(13)?, reason(row, 14)?) {
        (true, None, None) => Decision::Delivered,
        (false, Some(at), None) => Decision::Again(UnixMillis(at)),
        (false, None, Some(reason)) => Decision::Dead(reason),
        _ => return Err(wrong("an attempt has one decision".to_owned())),
    };
    let attempt = Attempt {
        id: id(AttemptId::parse, row.try_get(2)?)?,
        delivery: DeliveryKey {
            event: EventRef {
                application: application.clone(),
                id: id(EventId::parse, row.try_get(1)?)?,
                accepted_at: UnixMillis(row.try_get(18)?),
            },
            endpoint: id(EndpointId::parse, row.try_get(3)?)?,
            target: number(row.try_get::<_, i32>(4)?)?,
            run: number(row.try_get::<_, i64>(5)?)?,
        },
        at: UnixMillis(row.try_get(6)?),
        duration_ms: number(row.try_get::<_, i64>(7)?)?,
        outcome,
        url: row.try_get(15)?,
        answer: Bytes::new(),
        trigger: match row.try_get(11)? {
            true => Trigger::Manual,
            false => Trigger::Schedule,
        },
        decision,
    };
    Ok(FoundAttempt {
        attempt,
        is_answer_expunged: row.try_get(16)?,
    })
}

pub(super) fn run(row: &Row, first: usize) -> Result<Run, Fault> {
    let attempt_id = |at: usize| -> Result<Option<AttemptId>, Fault> {
        let text: Option<&str> = row.try_get(first + at)?;
        text.map(|text| id(AttemptId::parse, text)).transpose()
    };
    let time = |at: usize| -> Result<Option<UnixMillis>, Fault> {
        Ok(row.try_get::<_, Option<i64>>(first + at)?.map(UnixMillis))
    };
    let terminal = match time(3)? {
        None => None,
        Some(at) => Some(Terminal {
            dead: reason(row, first + 5)?,
            at,
            attempt: attempt_id(4)?,
        }),
    };
    Ok(Run {
        last: time(0)?.zip(attempt_id(1)?),
        again: time(2)?,
        terminal,
    })
}

/// Never changed.
pub(super) fn status_number(status: Status) -> i16 {
    match status {
        Status::Delivered => 0,
        Status::Pending => 1,
        Status::Dead => 2,
    }
}

pub(super) fn status(row: &Row, at: usize) -> Result<Status, Fault> {
    let number: i16 = row.try_get(at)?;
    let found = Status::ALL
        .into_iter()
        .find(|status| status_number(*status) == number);
    found.ok_or_else(|| wrong(format!("{number} is no status")))
}

pub(super) fn channels(row: &Row, at: usize) -> Result<Vec<Channel>, Fault> {
    let names: Vec<String> = match row.try_get(at)? {
        None => return Ok(Vec::new()),
        Some(text) => of_json(text)?,
    };
    names.iter().map(|name| id(Channel::parse, name)).collect()
}

pub(super) fn id<T, E: std::fmt::Display>(
    parse: impl FnOnce(&str) -> Result<T, E>,
    text: &str,
) -> Result<T, Fault> {
    parse(text).map_err(|error| wrong(error.to_string()))
}

pub(super) fn number<T, U: TryFrom<T>>(number: T) -> Result<U, Fault>
where
    U::Error: std::fmt::Display,
{
    U::try_from(number).map_err(|error| wrong(error.to_string()))
}

fn of_json<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| wrong(error.to_string()))
}

fn reason(row: &Row, at: usize) -> Result<Option<DeadReason>, Fault> {
    let name: Option<&str> = row.try_get(at)?;
    let of_name = |name: &str| {
        let found = DeadReason::ALL.into_iter().find(|reason| reason.name() == name);
        found.ok_or_else(|| wrong(format!("{name:?} is no reason")))
    };
    name.map(of_name).transpose()
}

pub(super) fn wrong(why: String) -> Fault {
    Fault::Foreign(why)
}
