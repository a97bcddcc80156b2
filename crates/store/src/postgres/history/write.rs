//! Records become rows: what is known is read, the batch is added to it, and what is another now is written.

use std::borrow::Cow;

use deadpool_postgres::{Client, Transaction};
use hooklane_types::{AttemptOutcome, Channel, UnixMillis};

use super::batch::Batch;
use super::days;
use super::read::{self, Values, event_columns};
use super::rows::{status_number, wrong};
use crate::history::{ANSWER_BYTES_MAX, Decision, Record, Recorded, Refused, StatusClass, Trigger, checked};
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
    read::attempts(&transaction, &mut batch).await?;
    read::runs(&transaction, &mut batch).await?;
    read::standings(&transaction, &mut batch).await?;
    batch.play();
    write_events(&transaction, &batch).await?;
    write_attempts(&transaction, &batch).await?;
    write_runs(&transaction, &batch).await?;
    write_standings(&transaction, &batch).await?;
    recorded.late_outcomes = batch.late_outcomes;
    transaction.commit().await?;
    Ok(recorded)
}

/// No statement looks a row up that it changes: an insertion finds what is there already along the primary key.
async fn write_events(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    let (mut contents, mut times, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
    for (at, event) in batch.events.iter().enumerate() {
        let is_earlier = event.was_at.is_some_and(|was_at| event.known.at < was_at);
        if event.content.is_some() {
            contents.push(at);
        }
        let is_stub = event.was_at.is_none() && event.content.is_none();
        if is_earlier || is_stub {
            times.push(at);
        }
        if is_earlier {
            earlier.push(at);
        }
    }
    write_contents(transaction, batch, &contents).await?;
    if !times.is_empty() {
        let (day, application, id) = event_columns(batch, times.iter().copied());
        let at_ms = times_of(batch, &times);
        let sql = "INSERT INTO events (day, application, id, at_ms, expunged) SELECT day, application, id, at_ms, false \
                   FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS k(day, application, id, at_ms) \
                   ON CONFLICT (application, id, day) DO UPDATE SET at_ms = excluded.at_ms";
        write(transaction, sql, &[&day, &application, &id, &at_ms]).await?;
    }
    if !earlier.is_empty() {
        let (day, application, event) = event_columns(batch, earlier.iter().copied());
        let at_ms = times_of(batch, &earlier);
        let sql = "UPDATE destinations AS d SET event_at_ms = k.at_ms \
                   FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS k(day, application, event, at_ms) \
                   WHERE d.day = k.day AND d.application = k.application AND d.event = k.event";
        write(transaction, sql, &[&day, &application, &event, &at_ms]).await?;
    }
    Ok(())
}

fn times_of(batch: &Batch<'_>, of: &[usize]) -> Vec<i64> {
    of.iter().map(|at| batch.events[*at].known.at.0).collect()
}

async fn write_contents(transaction: &Transaction<'_>, batch: &Batch<'_>, of: &[usize]) -> Result<(), Fault> {
    let events = || of.iter().map(|at| &batch.events[*at]);
    let contents = || events().filter_map(|event| event.content);
    if of.is_empty() {
        return Ok(());
    }
    let (day, application, id) = event_columns(batch, of.iter().copied());
    let at_ms = times_of(batch, of);
    let (content_at_ms, fingerprint): (Vec<i64>, Vec<i64>) = events()
        .filter_map(|event| event.known.rank)
        .map(|rank| (rank.accepted_at.0, rank.fingerprint))
        .unzip();
    let producer_id: Vec<Option<&str>> = contents()
        .map(|content| content.producer_id.as_ref().map(|id| id.as_str()))
        .collect();
    let event_type: Vec<&str> = contents().map(|content| content.event_type.as_str()).collect();
    let channels =
        contents().map(|content| json(content.channels.iter().map(Channel::as_str).collect::<Vec<_>>()));
    let channels = channels.collect::<Result<Vec<Option<String>>, Fault>>()?;
    let content_type: Vec<&str> = contents().map(|content| &content.content_type[..]).collect();
    let traceparent: Vec<Option<&str>> = contents().map(|content| content.traceparent.as_deref()).collect();
    let headers = contents().map(|content| json(content.headers.iter().collect::<Vec<_>>()));
    let headers = headers.collect::<Result<Vec<Option<String>>, Fault>>()?;
    let payload: Vec<Option<&[u8]>> = events()
        .filter_map(|event| Some((event.known.is_expunged, event.content?)))
        .map(|(is_expunged, content)| (!is_expunged).then_some(&content.payload[..]))
        .collect();
    let columns = "content_at_ms, fingerprint, producer_id, event_type, channels, content_type, traceparent, headers, payload";
    let sql = format!(
        "INSERT INTO events (day, application, id, at_ms, expunged, {columns}) SELECT day, application, id, at_ms, false, {columns} \
         FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], \
         $10::text[], $11::text[], $12::text[], $13::bytea[]) AS k(day, application, id, at_ms, {columns}) \
         ON CONFLICT (application, id, day) DO UPDATE SET content_at_ms = excluded.content_at_ms, fingerprint = excluded.fingerprint, \
         producer_id = excluded.producer_id, event_type = excluded.event_type, channels = excluded.channels, \
         content_type = excluded.content_type, traceparent = excluded.traceparent, headers = excluded.headers, payload = excluded.payload"
    );
    let values: Values<'_> = &[
        &day,
        &application,
        &id,
        &at_ms,
        &content_at_ms,
        &fingerprint,
        &producer_id,
        &event_type,
        &channels,
        &content_type,
        &traceparent,
        &headers,
        &payload,
    ];
    write(transaction, &sql, values).await
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

/// An attempt's columns.
#[derive(Default)]
struct Attempts<'a> {
    id: Vec<&'a str>,
    endpoint: Vec<&'a str>,
    target: Vec<i32>,
    run: Vec<i64>,
    at_ms: Vec<i64>,
    duration_ms: Vec<i64>,
    code: Vec<Option<i32>>,
    retry_after_ms: Vec<Option<i64>>,
    failure: Vec<Option<&'static str>>,
    manual: Vec<bool>,
    delivered: Vec<bool>,
    failed: Vec<bool>,
    again_at_ms: Vec<Option<i64>>,
    dead: Vec<Option<&'static str>>,
    url: Vec<&'a str>,
    answer: Vec<&'a [u8]>,
}

async fn write_attempts(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    if batch.attempts.is_empty() {
        return Ok(());
    }
    let (day, application, event) = event_columns(batch, batch.attempts.iter().map(|(event, _)| *event));
    let mut of = Attempts::default();
    for (_, attempt) in &batch.attempts {
        let (code, retry_after_ms, failure) = match attempt.outcome {
            AttemptOutcome::Status { code, retry_after_ms } => (Some(code), retry_after_ms, None),
            AttemptOutcome::Failed(kind) => (None, None, Some(kind.name())),
        };
        let (again_at_ms, dead) = match attempt.decision {
            Decision::Delivered => (None, None),
            Decision::Again(at) => (Some(at.0), None),
            Decision::Dead(reason) => (None, Some(reason.name())),
        };
        let is_delivered = attempt.decision == Decision::Delivered;
        of.id.push(attempt.id.as_str());
        of.endpoint.push(attempt.delivery.endpoint.as_str());
        of.target.push(i32::from(attempt.delivery.target));
        of.run.push(i64::from(attempt.delivery.run));
        of.at_ms.push(attempt.at.0);
        of.duration_ms.push(i64::from(attempt.duration_ms));
        of.code.push(code.map(i32::from));
        of.retry_after_ms
            .push(retry_after_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)));
        of.failure.push(failure);
        of.manual.push(attempt.trigger == Trigger::Manual);
        of.delivered.push(is_delivered);
        of.failed
            .push(!is_delivered || StatusClass::of_code(code) != Some(StatusClass::Success));
        of.again_at_ms.push(again_at_ms);
        of.dead.push(dead);
        of.url.push(&attempt.url);
        of.answer
            .push(&attempt.answer[..attempt.answer.len().min(ANSWER_BYTES_MAX)]);
    }
    let columns = "day, application, event, id, endpoint, target, run, at_ms, duration_ms, code, retry_after_ms, failure, manual, delivered, \
                   failed, again_at_ms, dead, url, answer";
    let sql = format!(
        "INSERT INTO attempts ({columns}, answer_expunged) SELECT {columns}, false FROM unnest($1::integer[], $2::text[], $3::text[], \
         $4::text[], $5::text[], $6::integer[], $7::bigint[], $8::bigint[], $9::bigint[], $10::integer[], $11::bigint[], $12::text[], \
         $13::boolean[], $14::boolean[], $15::boolean[], $16::bigint[], $17::text[], $18::text[], $19::bytea[]) AS k({columns})"
    );
    let values: Values<'_> = &[
        &day,
        &application,
        &event,
        &of.id,
        &of.endpoint,
        &of.target,
        &of.run,
        &of.at_ms,
        &of.duration_ms,
        &of.code,
        &of.retry_after_ms,
        &of.failure,
        &of.manual,
        &of.delivered,
        &of.failed,
        &of.again_at_ms,
        &of.dead,
        &of.url,
        &of.answer,
    ];
    write(transaction, &sql, values).await
}

async fn write_runs(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    let mut changed = Vec::new();
    for (name, targets) in &batch.runs {
        let of_run = targets.0.iter().filter(|(_, (_, is_changed))| *is_changed);
        changed.extend(of_run.map(|(target, (run, _))| (name, *target, run)));
    }
    if changed.is_empty() {
        return Ok(());
    }
    let (day, application, event) = event_columns(batch, changed.iter().map(|(name, ..)| name.event));
    let endpoint: Vec<&str> = changed.iter().map(|(name, ..)| name.endpoint).collect();
    let run: Vec<i64> = changed.iter().map(|(name, ..)| i64::from(name.run)).collect();
    let target: Vec<i32> = changed.iter().map(|(_, target, _)| i32::from(*target)).collect();
    let states = || changed.iter().map(|(.., run)| *run);
    let (last_at_ms, last_id): (Vec<Option<i64>>, Vec<Option<&str>>) = states()
        .map(|run| run.last.as_ref().map(|(at, id)| (at.0, id.as_str())).unzip())
        .unzip();
    let again_at_ms: Vec<Option<i64>> = states().map(|run| run.again.map(|at| at.0)).collect();
    let ended = || states().map(|run| run.terminal.as_ref());
    let ended_at_ms: Vec<Option<i64>> = ended().map(|ended| ended.map(|ended| ended.at.0)).collect();
    let ended_by: Vec<Option<&str>> = ended()
        .map(|ended| ended?.attempt.as_ref().map(|attempt| attempt.as_str()))
        .collect();
    let dead: Vec<Option<&str>> = ended()
        .map(|ended| ended?.dead.map(|reason| reason.name()))
        .collect();
    let columns = "day, application, event, endpoint, run, target, last_at_ms, last_id, again_at_ms, ended_at_ms, ended_by, dead";
    let sql = format!(
        "INSERT INTO deliveries ({columns}) SELECT {columns} FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::bigint[], \
         $6::integer[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::text[]) AS k({columns}) \
         ON CONFLICT (application, event, endpoint, run, target, day) DO UPDATE SET last_at_ms = excluded.last_at_ms, \
         last_id = excluded.last_id, again_at_ms = excluded.again_at_ms, ended_at_ms = excluded.ended_at_ms, ended_by = excluded.ended_by, \
         dead = excluded.dead"
    );
    let values: Values<'_> = &[
        &day,
        &application,
        &event,
        &endpoint,
        &run,
        &target,
        &last_at_ms,
        &last_id,
        &again_at_ms,
        &ended_at_ms,
        &ended_by,
        &dead,
    ];
    write(transaction, &sql, values).await
}

async fn write_standings(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    let moved = batch.moved();
    if moved.is_empty() {
        return Ok(());
    }
    let (day, application, event) = event_columns(batch, moved.iter().map(|((event, _), _)| *event));
    let endpoint: Vec<&str> = moved.iter().map(|((_, endpoint), _)| *endpoint).collect();
    let run: Vec<i64> = moved.iter().map(|(_, to)| i64::from(to.run)).collect();
    let event_at_ms: Vec<i64> = moved
        .iter()
        .map(|((event, _), _)| batch.events[*event].known.at.0)
        .collect();
    let status: Vec<i16> = moved.iter().map(|(_, to)| status_number(to.status)).collect();
    let next_at_ms: Vec<Option<i64>> = moved.iter().map(|(_, to)| to.next.map(|at| at.0)).collect();
    let columns = "day, application, event, endpoint, run, event_at_ms, status, next_at_ms";
    let sql = format!(
        "INSERT INTO destinations ({columns}) SELECT {columns} FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::bigint[], \
         $6::bigint[], $7::smallint[], $8::bigint[]) AS k({columns}) \
         ON CONFLICT (application, event, endpoint, day) DO UPDATE SET run = excluded.run, status = excluded.status, \
         next_at_ms = excluded.next_at_ms"
    );
    let values: Values<'_> = &[
        &day,
        &application,
        &event,
        &endpoint,
        &run,
        &event_at_ms,
        &status,
        &next_at_ms,
    ];
    write(transaction, &sql, values).await
}

async fn write(transaction: &Transaction<'_>, sql: &str, values: Values<'_>) -> Result<(), Fault> {
    let sql = transaction.prepare_cached(sql).await?;
    transaction.execute(&sql, values).await?;
    Ok(())
}
