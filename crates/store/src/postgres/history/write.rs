//! Records become rows: what is known is read, the batch is added to it, and what is another now is written.

use std::borrow::Cow;

use deadpool_postgres::{Client, Transaction};
use hooklane_types::{AttemptId, AttemptOutcome, Channel, DeadReason, Event, UnixMillis};

use super::batch::{Batch, EventState, Place, Standing};
use super::columns::Rows;
use super::days::{self, Days, by_day};
use super::read;
use super::rows::{status_number, wrong};
use crate::history::merge::Run;
use crate::history::{
    ANSWER_BYTES_MAX, Attempt, Decision, Record, Recorded, Refused, StatusClass, Trigger, checked,
};
use crate::postgres::error::Fault;

/// Writes a part of a batch, that begins at this index of it, in one transaction.
pub(super) async fn record(
    client: &mut Client,
    lock: &str,
    records: &[Record],
    first_index: usize,
    now: UnixMillis,
) -> Result<Recorded, Fault> {
    let transaction = client.transaction().await?;
    let mut days = days::lock(&transaction, lock).await?;
    days.make(&transaction, now).await?;
    let mut recorded = Recorded::default();
    let mut kept: Vec<Cow<'_, Record>> = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        match checked(record, now) {
            Err(problem) => recorded.refused.push(Refused {
                index: first_index + at,
                problem,
            }),
            Ok(record) if record.event().2 < days.forgotten_before => recorded.forgotten += 1,
            Ok(record) => kept.push(record),
        }
    }
    let kept: Vec<&Record> = kept.iter().map(AsRef::as_ref).collect();
    let known = read::events(&transaction, &kept, &days, now).await?;
    let mut batch = Batch::new(kept, known, |at| days.home_of(at));
    read::standings(&transaction, &mut batch, &days).await?;
    read::attempts(&transaction, &mut batch, &days).await?;
    read::runs(&transaction, &mut batch, &days).await?;
    batch.play();
    write_events(&transaction, &batch, &days).await?;
    write_attempts(&transaction, &batch, &days).await?;
    write_deliveries(&transaction, &batch).await?;
    write_destinations(&transaction, &batch, &days).await?;
    recorded.late_outcomes = batch.late_outcomes;
    transaction.commit().await?;
    Ok(recorded)
}

const EVENT_KEY: &[&str] = &["application", "id", "day"];
const ATTEMPT_KEY: &[&str] = &["application", "event", "id", "day"];
const DELIVERY_KEY: &[&str] = &["application", "event", "endpoint", "run", "target", "day"];
const DESTINATION_KEY: &[&str] = &["application", "event", "endpoint", "day"];

async fn write_events(transaction: &Transaction<'_>, batch: &Batch<'_>, days: &Days) -> Result<(), Fault> {
    let (mut new, mut known, mut stubs, mut earlier) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for event in &batch.events {
        match (event.content, event.was_at) {
            (Some(content), None) => new.push((event.known.day, (event, content))),
            (Some(content), Some(_)) => known.push((event, content)),
            (None, None) => stubs.push((event.known.day, event)),
            (None, Some(_)) => {}
        }
        if event.was_at.is_some_and(|was_at| event.known.at < was_at) {
            earlier.push(event);
        }
    }
    for (day, new) in by_day(new) {
        contents(&new)?.copy(transaction, days, day).await?;
    }
    contents(&known)?.put(transaction).await?;
    for (day, stubs) in by_day(stubs) {
        times(&stubs).copy(transaction, days, day).await?;
    }
    if earlier.is_empty() {
        return Ok(());
    }
    times(&earlier).put(transaction).await?;
    let day: Vec<i32> = earlier.iter().map(|event| event.known.day).collect();
    let (application, event): (Vec<&str>, Vec<&str>) = earlier.iter().map(|event| event.name).unzip();
    let at_ms: Vec<i64> = earlier.iter().map(|event| event.known.at.0).collect();
    let sql = transaction.prepare_cached(EARLIER).await?;
    transaction
        .execute(&sql, &[&day, &application, &event, &at_ms])
        .await?;
    Ok(())
}

/// Where events stand that were accepted earlier than was known.
pub(super) const EARLIER: &str = "UPDATE destinations AS d SET event_at_ms = k.at_ms \
    FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS k(day, application, event, at_ms) \
    WHERE d.day = k.day AND d.application = k.application AND d.event = k.event";

/// Of events, what no content says.
fn times<'a>(events: &[&EventState<'a>]) -> Rows<'a> {
    Rows::of("events", EVENT_KEY, events.len())
        .with("day", events.iter().map(|event| event.known.day))
        .with("application", events.iter().map(|event| event.name.0))
        .with("id", events.iter().map(|event| event.name.1))
        .with("at_ms", events.iter().map(|event| event.known.at.0))
        .with("expunged", events.iter().map(|event| event.known.is_expunged))
}

fn contents<'a>(events: &[(&EventState<'a>, &'a Event)]) -> Result<Rows<'a>, Fault> {
    let states: Vec<&EventState<'a>> = events.iter().map(|(state, _)| *state).collect();
    let ranks = || states.iter().map(|state| state.known.rank);
    let contents = || events.iter().map(|(_, content)| *content);
    let channels =
        contents().map(|content| json(content.channels.iter().map(Channel::as_str).collect::<Vec<_>>()));
    let headers = contents().map(|content| json(content.headers.iter().collect::<Vec<_>>()));
    let payload = |(state, content): &(&EventState<'a>, &'a Event)| {
        (!state.known.is_expunged).then_some(&content.payload[..])
    };
    Ok(times(&states)
        .with(
            "content_at_ms",
            ranks().map(|rank| rank.map(|rank| rank.accepted_at.0)),
        )
        .with(
            "fingerprint",
            ranks().map(|rank| rank.map(|rank| rank.fingerprint)),
        )
        .with(
            "producer_id",
            contents().map(|content| content.producer_id.as_ref().map(|id| id.as_str())),
        )
        .with(
            "event_type",
            contents().map(|content| content.event_type.as_str()),
        )
        .with(
            "channels",
            channels.collect::<Result<Vec<Option<String>>, Fault>>()?,
        )
        .with(
            "content_type",
            contents().map(|content| &content.content_type[..]),
        )
        .with(
            "traceparent",
            contents().map(|content| content.traceparent.as_deref()),
        )
        .with(
            "headers",
            headers.collect::<Result<Vec<Option<String>>, Fault>>()?,
        )
        .with("payload", events.iter().map(payload)))
}

/// None for nothing.
fn json<T: serde::Serialize>(list: Vec<T>) -> Result<Option<String>, Fault> {
    match list.is_empty() {
        true => Ok(None),
        false => serde_json::to_string(&list)
            .map(Some)
            .map_err(|error| wrong(error.to_string())),
    }
}

/// Rows of which each is about an event at this place of the batch.
fn about<'a>(
    table: &'static str,
    key: &'static [&'static str],
    batch: &Batch<'a>,
    events: &[usize],
) -> Rows<'a> {
    let states = || events.iter().map(|at| &batch.events[*at]);
    Rows::of(table, key, events.len())
        .with("day", states().map(|state| state.known.day))
        .with("application", states().map(|state| state.name.0))
        .with("event", states().map(|state| state.name.1))
}

async fn write_attempts(transaction: &Transaction<'_>, batch: &Batch<'_>, days: &Days) -> Result<(), Fault> {
    let dated = batch
        .attempts
        .iter()
        .map(|(event, attempt)| (batch.events[*event].known.day, (*event, *attempt)));
    for (day, new) in by_day(dated) {
        attempts(batch, &new).copy(transaction, days, day).await?;
    }
    Ok(())
}

fn attempts<'a>(batch: &Batch<'a>, of: &[(usize, &'a Attempt)]) -> Rows<'a> {
    let events: Vec<usize> = of.iter().map(|(event, _)| *event).collect();
    let attempts = || of.iter().map(|(_, attempt)| *attempt);
    let is_delivered = |attempt: &Attempt| attempt.decision == Decision::Delivered;
    let is_failed = |attempt: &Attempt| {
        !is_delivered(attempt) || StatusClass::of_code(code(attempt)) != Some(StatusClass::Success)
    };
    let answer = |attempt: &'a Attempt| &attempt.answer[..attempt.answer.len().min(ANSWER_BYTES_MAX)];
    about("attempts", ATTEMPT_KEY, batch, &events)
        .with("id", attempts().map(|attempt| attempt.id.as_str()))
        .with(
            "endpoint",
            attempts().map(|attempt| attempt.delivery.endpoint.as_str()),
        )
        .with(
            "target",
            attempts().map(|attempt| i32::from(attempt.delivery.target)),
        )
        .with("run", attempts().map(|attempt| i64::from(attempt.delivery.run)))
        .with("at_ms", attempts().map(|attempt| attempt.at.0))
        .with(
            "duration_ms",
            attempts().map(|attempt| i64::from(attempt.duration_ms)),
        )
        .with("code", attempts().map(|attempt| code(attempt).map(i32::from)))
        .with("retry_after_ms", attempts().map(retry_after_ms))
        .with("failure", attempts().map(failure))
        .with(
            "manual",
            attempts().map(|attempt| attempt.trigger == Trigger::Manual),
        )
        .with("delivered", attempts().map(is_delivered))
        .with("failed", attempts().map(is_failed))
        .with("again_at_ms", attempts().map(again_at_ms))
        .with("dead", attempts().map(dead))
        .with("url", attempts().map(|attempt| &attempt.url[..]))
        .with("answer_expunged", attempts().map(|_| false))
        .with("answer", attempts().map(answer))
}

fn code(attempt: &Attempt) -> Option<u16> {
    match attempt.outcome {
        AttemptOutcome::Status { code, .. } => Some(code),
        AttemptOutcome::Failed(_) => None,
    }
}

fn retry_after_ms(attempt: &Attempt) -> Option<i64> {
    match attempt.outcome {
        AttemptOutcome::Status { retry_after_ms, .. } => {
            retry_after_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX))
        }
        AttemptOutcome::Failed(_) => None,
    }
}

fn failure(attempt: &Attempt) -> Option<&'static str> {
    match attempt.outcome {
        AttemptOutcome::Status { .. } => None,
        AttemptOutcome::Failed(kind) => Some(kind.name()),
    }
}

fn again_at_ms(attempt: &Attempt) -> Option<i64> {
    match attempt.decision {
        Decision::Again(at) => Some(at.0),
        Decision::Delivered | Decision::Dead(_) => None,
    }
}

fn dead(attempt: &Attempt) -> Option<&'static str> {
    match attempt.decision {
        Decision::Dead(reason) => Some(reason.name()),
        Decision::Delivered | Decision::Again(_) => None,
    }
}

/// Of deliveries, how they stand.
fn with_runs<'a>(rows: Rows<'a>, runs: &[&'a Run]) -> Rows<'a> {
    let last = || runs.iter().map(|run| run.last.as_ref());
    let ended = || runs.iter().map(|run| run.terminal.as_ref());
    rows.with("last_at_ms", last().map(|last| last.map(|(at, _)| at.0)))
        .with("last_attempt", last().map(|last| last.map(|(_, id)| id.as_str())))
        .with("again_at_ms", runs.iter().map(|run| run.again.map(|at| at.0)))
        .with("ended_at_ms", ended().map(|ended| ended.map(|ended| ended.at.0)))
        .with(
            "ended_by",
            ended().map(|ended| ended?.attempt.as_ref().map(AttemptId::as_str)),
        )
        .with("dead", ended().map(|ended| ended?.dead.map(DeadReason::name)))
}

async fn write_deliveries(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    let changed = batch.later_deliveries();
    let events: Vec<usize> = changed.iter().map(|(name, ..)| name.event).collect();
    let runs: Vec<&Run> = changed.iter().map(|(.., run)| *run).collect();
    let rows = about("deliveries", DELIVERY_KEY, batch, &events)
        .with("endpoint", changed.iter().map(|(name, ..)| name.endpoint))
        .with("run", changed.iter().map(|(name, ..)| i64::from(name.run)))
        .with("target", changed.iter().map(|(_, target, _)| i32::from(*target)));
    with_runs(rows, &runs).put(transaction).await
}

async fn write_destinations(
    transaction: &Transaction<'_>,
    batch: &Batch<'_>,
    days: &Days,
) -> Result<(), Fault> {
    let moved = batch.moved().into_iter();
    let (known, new): (Vec<_>, Vec<_>) = moved.partition(|(place, _)| batch.standings.contains_key(place));
    let dated = new
        .into_iter()
        .map(|(place, standing)| (batch.events[place.0].known.day, (place, standing)));
    for (day, new) in by_day(dated) {
        destinations(batch, &new).copy(transaction, days, day).await?;
    }
    destinations(batch, &known).put(transaction).await
}

fn destinations<'a>(batch: &Batch<'a>, moved: &'a [(Place<'a>, Standing)]) -> Rows<'a> {
    let events: Vec<usize> = moved.iter().map(|((event, _), _)| *event).collect();
    let standings = || moved.iter().map(|(_, standing)| standing);
    let first: Vec<&Run> = standings().map(|standing| &standing.first).collect();
    let rows = about("destinations", DESTINATION_KEY, batch, &events)
        .with("endpoint", moved.iter().map(|((_, endpoint), _)| *endpoint))
        .with("run", standings().map(|standing| i64::from(standing.run)))
        .with(
            "event_at_ms",
            events.iter().map(|event| batch.events[*event].known.at.0),
        )
        .with(
            "status",
            standings().map(|standing| status_number(standing.status)),
        )
        .with(
            "next_at_ms",
            standings().map(|standing| standing.next.map(|at| at.0)),
        );
    with_runs(rows, &first)
}
