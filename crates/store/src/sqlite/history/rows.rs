//! Rows become what they were.

use bytes::Bytes;
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, Channel, DeadReason, EndpointId, Event, EventId, EventType,
    FailureKind, IdError, ProducerId, UnixMillis,
};
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::history::merge::{Run, Terminal};
use crate::history::{
    Attempt, Decision, DeliveryKey, EventRef, FoundAttempt, FoundContent, FoundEvent, Payload, Status,
    Trigger,
};

/// What [`event`] reads of `events AS e`, in its order.
pub(super) const EVENT: &str = "e.application, e.id, e.at_ms, e.expunged, e.producer_id, e.event_type, e.channels, e.content_type, \
                                e.traceparent, e.headers, e.payload";
/// How many that are.
pub(super) const EVENT_COLUMNS: usize = 11;
/// The places of some of them.
pub(super) const EVENT_TYPE: usize = 5;
pub(super) const CHANNELS: usize = 6;

/// What [`attempt`] reads of `attempts AS a` and its event, in its order.
pub(super) const ATTEMPT: &str = "a.application, a.event, a.id, a.endpoint, a.target, a.run, a.at_ms, a.duration_ms, a.code, \
                                  a.retry_after_ms, a.failure, a.manual, a.delivered, a.again_at_ms, a.dead, a.url, a.answer_expunged, \
                                  a.answer, e.at_ms, e.event_type, e.channels";
/// The places of the last two.
pub(super) const ATTEMPT_EVENT_TYPE: usize = 19;
pub(super) const ATTEMPT_CHANNELS: usize = 20;

/// What [`run`] reads of `deliveries`, in its order.
pub(super) const RUN: &str = "last_at_ms, last_id, again_at_ms, ended_at_ms, ended_by, dead";
/// How many that are.
pub(super) const RUN_COLUMNS: usize = 6;

pub(super) fn event(row: &Row<'_>, first: usize, with_payload: bool) -> Result<FoundEvent> {
    let text = |at: usize| row.get_ref(first + at)?.as_str_or_null().map_err(Error::from);
    let application = id(ApplicationId::parse, &row.get::<_, String>(first)?)?;
    let event_id = id(EventId::parse, &row.get::<_, String>(first + 1)?)?;
    let accepted_at = UnixMillis(row.get(first + 2)?);
    let is_expunged = row.get(first + 3)?;
    let Some(event_type) = text(EVENT_TYPE)? else {
        return Ok(FoundEvent {
            application,
            id: event_id,
            accepted_at,
            content: None,
            is_expunged,
        });
    };
    let payload = match (is_expunged, with_payload) {
        (true, _) => Payload::Expunged,
        (false, false) => Payload::NotRead,
        (false, true) => Payload::Kept(Bytes::from(row.get::<_, Vec<u8>>(first + 10)?)),
    };
    let event = Event {
        id: event_id.clone(),
        producer_id: text(4)?.map(|text| id(ProducerId::parse, text)).transpose()?,
        application: application.clone(),
        event_type: id(EventType::parse, event_type)?,
        channels: channels(row, first + CHANNELS)?,
        accepted_at,
        content_type: row.get(first + 7)?,
        traceparent: row.get(first + 8)?,
        headers: text(9)?.map(of_json).transpose()?.unwrap_or_default(),
        payload: Bytes::new(),
    };
    Ok(FoundEvent {
        application,
        id: event_id,
        accepted_at,
        content: Some(FoundContent { event, payload }),
        is_expunged,
    })
}

pub(super) fn attempt(row: &Row<'_>, with_answer: bool) -> Result<FoundAttempt> {
    let outcome = match (row.get(8)?, row.get::<_, Option<String>>(10)?) {
        (Some(code), None) => AttemptOutcome::Status {
            code,
            retry_after_ms: row.get(9)?,
        },
        (None, Some(name)) => {
            let kind = FailureKind::ALL.into_iter().find(|kind| kind.name() == name);
            AttemptOutcome::Failed(kind.ok_or_else(|| wrong(format!("{name:?} is no kind of failure")))?)
        }
        _ => return Err(wrong("an attempt has a status or a failure".to_owned())),
    };
    let decision = match (row.get(12)?, row.get(13)?, reason(row, 14)?) {
        (true, None, None) => Decision::Delivered,
        (false, Some(at), None) => Decision::Again(UnixMillis(at)),
        (false, None, Some(reason)) => Decision::Dead(reason),
        _ => return Err(wrong("an attempt has one decision".to_owned())),
    };
    let answer: Option<Vec<u8>> = if with_answer { row.get(17)? } else { None };
    let attempt = Attempt {
        id: id(AttemptId::parse, &row.get::<_, String>(2)?)?,
        delivery: DeliveryKey {
            event: EventRef {
                application: id(ApplicationId::parse, &row.get::<_, String>(0)?)?,
                id: id(EventId::parse, &row.get::<_, String>(1)?)?,
                accepted_at: UnixMillis(row.get(18)?),
            },
            endpoint: id(EndpointId::parse, &row.get::<_, String>(3)?)?,
            target: row.get(4)?,
            run: row.get(5)?,
        },
        at: UnixMillis(row.get(6)?),
        duration_ms: row.get(7)?,
        outcome,
        url: row.get(15)?,
        answer: answer.map(Bytes::from).unwrap_or_default(),
        trigger: match row.get(11)? {
            true => Trigger::Manual,
            false => Trigger::Schedule,
        },
        decision,
    };
    Ok(FoundAttempt {
        attempt,
        is_answer_expunged: row.get(16)?,
    })
}

pub(super) fn run(row: &Row<'_>, first: usize) -> Result<Run> {
    let attempt_id = |at: usize| -> Result<Option<AttemptId>> {
        let text: Option<String> = row.get(first + at)?;
        text.map(|text| id(AttemptId::parse, &text)).transpose()
    };
    let time = |at: usize| -> Result<Option<UnixMillis>> {
        Ok(row.get::<_, Option<i64>>(first + at)?.map(UnixMillis))
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
pub(super) fn status_number(status: Status) -> u8 {
    match status {
        Status::Delivered => 0,
        Status::Pending => 1,
        Status::Dead => 2,
    }
}

pub(super) fn status(row: &Row<'_>, at: usize) -> Result<Status> {
    let number: u8 = row.get(at)?;
    let found = Status::ALL
        .into_iter()
        .find(|status| status_number(*status) == number);
    found.ok_or_else(|| wrong(format!("{number} is no status")))
}

pub(super) fn channels(row: &Row<'_>, at: usize) -> Result<Vec<Channel>> {
    let names: Vec<String> = match row.get_ref(at)?.as_str_or_null()? {
        None => return Ok(Vec::new()),
        Some(text) => of_json(text)?,
    };
    names.iter().map(|name| id(Channel::parse, name)).collect()
}

pub(super) fn id<T>(parse: impl FnOnce(&str) -> std::result::Result<T, IdError>, text: &str) -> Result<T> {
    parse(text).map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))
}

fn of_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

fn reason(row: &Row<'_>, at: usize) -> Result<Option<DeadReason>> {
    let name: Option<String> = row.get(at)?;
    let of_name = |name: String| {
        let found = DeadReason::ALL.into_iter().find(|reason| reason.name() == name);
        found.ok_or_else(|| wrong(format!("{name:?} is no reason")))
    };
    name.map(of_name).transpose()
}

fn wrong(why: String) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, why.into())
}
