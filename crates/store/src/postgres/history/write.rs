//! Records become rows: what is known is read, the batch is added to it, and what is another now is written.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use deadpool_postgres::{Client, Transaction};
use hooklane_types::{AttemptOutcome, Channel, UnixMillis};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::{Batch, EventName, Known, Standing, name_of};
use super::days::{self, Days};
use super::rows::{self, number, status_number, wrong};
use crate::history::merge::ContentRank;
use crate::history::{ANSWER_BYTES_MAX, Decision, Record, Recorded, Refused, StatusClass, Trigger, checked};
use crate::postgres::error::Fault;

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

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
    let known = read_events(&transaction, &kept, &days).await?;
    let mut batch = Batch::new(kept, known, |at| days.home_of(at));
    read_attempts(&transaction, &mut batch).await?;
    read_runs(&transaction, &mut batch).await?;
    read_standings(&transaction, &mut batch).await?;
    batch.play();
    write_events(&transaction, &batch).await?;
    write_attempts(&transaction, &batch).await?;
    write_runs(&transaction, &batch).await?;
    write_standings(&transaction, &batch).await?;
    recorded.late_outcomes = batch.late_outcomes;
    transaction.commit().await?;
    Ok(recorded)
}

/// What is known of the records' events. Most stand where a new one would; the others are looked for on every day.
async fn read_events(
    transaction: &Transaction<'_>,
    records: &[&Record],
    days: &Days,
) -> Result<HashMap<(String, String), Known>, Fault> {
    let mut missing: BTreeSet<(i32, EventName<'_>)> = records
        .iter()
        .map(|record| (days.home_of(record.event().2), name_of(record)))
        .collect();
    let mut known = HashMap::new();
    for operator in ["=", "<>"] {
        if missing.is_empty() {
            break;
        }
        let sql = format!(
            "SELECT e.application, e.id, e.day, e.at_ms, e.expunged, e.content_at_ms, e.fingerprint \
             FROM unnest($1::integer[], $2::text[], $3::text[]) AS k(day, application, id) \
             JOIN events AS e ON e.day {operator} k.day AND e.application = k.application AND e.id = k.id"
        );
        let (home, names): (Vec<i32>, Vec<EventName<'_>>) = missing.iter().copied().unzip();
        let (application, id): (Vec<&str>, Vec<&str>) = names.into_iter().unzip();
        for row in read(transaction, &sql, &[&home, &application, &id]).await? {
            let rank = match row.try_get(5)? {
                None => None,
                Some(at) => Some(ContentRank {
                    accepted_at: UnixMillis(at),
                    fingerprint: row.try_get(6)?,
                }),
            };
            let event = Known {
                day: row.try_get(2)?,
                at: UnixMillis(row.try_get(3)?),
                is_expunged: row.try_get(4)?,
                rank,
            };
            known.insert((row.try_get(0)?, row.try_get(1)?), event);
        }
        let is_known = |name: &EventName<'_>| known.contains_key(&(name.0.to_owned(), name.1.to_owned()));
        missing.retain(|(_, name)| !is_known(name));
    }
    Ok(known)
}

/// The columns that name an event, for rows of which each has its event's place.
fn event_columns<'a>(
    batch: &Batch<'a>,
    of: impl Iterator<Item = usize>,
) -> (Vec<i32>, Vec<&'a str>, Vec<&'a str>) {
    let (mut day, mut application, mut event) = (Vec::new(), Vec::new(), Vec::new());
    for at in of {
        let state = &batch.events[at];
        day.push(state.known.day);
        application.push(state.name.0);
        event.push(state.name.1);
    }
    (day, application, event)
}

async fn read_attempts(transaction: &Transaction<'_>, batch: &mut Batch<'_>) -> Result<(), Fault> {
    let named: Vec<(usize, &str)> = batch.named_attempts().collect();
    // Of an event that was unknown there is nothing.
    let named: Vec<_> = named
        .into_iter()
        .filter(|(event, _)| batch.events[*event].was_at.is_some())
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let (day, application, event) = event_columns(batch, named.iter().map(|(event, _)| *event));
    let id: Vec<&str> = named.iter().map(|(_, id)| *id).collect();
    let sql = "SELECT k.n FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS k(day, application, event, id, n) \
               JOIN attempts AS a ON a.day = k.day AND a.application = k.application AND a.event = k.event AND a.id = k.id";
    for row in read(transaction, sql, &[&day, &application, &event, &id]).await? {
        batch.seen.insert(named[place(&row)?]);
    }
    Ok(())
}

async fn read_runs(transaction: &Transaction<'_>, batch: &mut Batch<'_>) -> Result<(), Fault> {
    let names: Vec<_> = batch
        .runs
        .keys()
        .filter(|name| batch.events[name.event].was_at.is_some())
        .copied()
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let (day, application, event) = event_columns(batch, names.iter().map(|name| name.event));
    let endpoint: Vec<&str> = names.iter().map(|name| name.endpoint).collect();
    let run: Vec<i64> = names.iter().map(|name| i64::from(name.run)).collect();
    let sql = format!(
        "SELECT k.n, d.target, {} FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
         WITH ORDINALITY AS k(day, application, event, endpoint, run, n) \
         JOIN deliveries AS d ON d.day = k.day AND d.application = k.application AND d.event = k.event AND d.endpoint = k.endpoint AND d.run = k.run",
        rows::RUN
    );
    for row in read(transaction, &sql, &[&day, &application, &event, &endpoint, &run]).await? {
        let target = number(row.try_get::<_, i32>(1)?)?;
        let targets = batch.runs.entry(names[place(&row)?]).or_default();
        targets.0.insert(target, (rows::run(&row, 2)?, false));
    }
    Ok(())
}

async fn read_standings(transaction: &Transaction<'_>, batch: &mut Batch<'_>) -> Result<(), Fault> {
    let places: BTreeSet<(usize, &str)> = batch
        .runs
        .keys()
        .map(|name| (name.event, name.endpoint))
        .filter(|(event, _)| batch.events[*event].was_at.is_some())
        .collect();
    if places.is_empty() {
        return Ok(());
    }
    let places: Vec<(usize, &str)> = places.into_iter().collect();
    let (day, application, event) = event_columns(batch, places.iter().map(|(event, _)| *event));
    let endpoint: Vec<&str> = places.iter().map(|(_, endpoint)| *endpoint).collect();
    let sql = "SELECT k.n, d.run, d.status, d.next_at_ms FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[]) \
               WITH ORDINALITY AS k(day, application, event, endpoint, n) \
               JOIN destinations AS d ON d.day = k.day AND d.application = k.application AND d.event = k.event AND d.endpoint = k.endpoint";
    for row in read(transaction, sql, &[&day, &application, &event, &endpoint]).await? {
        let standing = Standing {
            run: number(row.try_get::<_, i64>(1)?)?,
            status: rows::status(&row, 2)?,
            next: row.try_get::<_, Option<i64>>(3)?.map(UnixMillis),
        };
        batch.standings.insert(places[place(&row)?], standing);
    }
    Ok(())
}

async fn write_events(transaction: &Transaction<'_>, batch: &Batch<'_>) -> Result<(), Fault> {
    let (mut stubs, mut new, mut filled, mut earlier) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (at, event) in batch.events.iter().enumerate() {
        match (event.was_at, event.content) {
            (None, None) => stubs.push(at),
            (None, Some(_)) => new.push(at),
            (Some(_), Some(_)) => filled.push(at),
            (Some(_), None) => {}
        }
        if event.was_at.is_some_and(|was_at| event.known.at < was_at) {
            earlier.push(at);
        }
    }
    if !stubs.is_empty() {
        let (day, application, id) = event_columns(batch, stubs.iter().copied());
        let at_ms = times(batch, &stubs);
        let sql = "INSERT INTO events (day, application, id, at_ms, expunged) SELECT day, application, id, at_ms, false \
                   FROM unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS k(day, application, id, at_ms)";
        write(transaction, sql, &[&day, &application, &id, &at_ms]).await?;
    }
    let insert = "INSERT INTO events (day, application, id, at_ms, expunged, content_at_ms, fingerprint, producer_id, event_type, channels, \
                  content_type, traceparent, headers, payload) \
                  SELECT day, application, id, at_ms, false, content_at_ms, fingerprint, producer_id, event_type, channels, content_type, \
                  traceparent, headers, payload FROM";
    write_contents(transaction, batch, &new, insert, "").await?;
    let update = "UPDATE events AS e SET content_at_ms = k.content_at_ms, fingerprint = k.fingerprint, producer_id = k.producer_id, \
                  event_type = k.event_type, channels = k.channels, content_type = k.content_type, traceparent = k.traceparent, \
                  headers = k.headers, payload = k.payload FROM";
    let which = "WHERE e.day = k.day AND e.application = k.application AND e.id = k.id";
    write_contents(transaction, batch, &filled, update, which).await?;
    if !earlier.is_empty() {
        let (day, application, id) = event_columns(batch, earlier.iter().copied());
        let at_ms = times(batch, &earlier);
        let keys =
            "unnest($1::integer[], $2::text[], $3::text[], $4::bigint[]) AS k(day, application, id, at_ms)";
        for (table, column, event) in [
            ("events", "at_ms", "id"),
            ("destinations", "event_at_ms", "event"),
        ] {
            let sql = format!(
                "UPDATE {table} AS t SET {column} = k.at_ms FROM {keys} \
                 WHERE t.day = k.day AND t.application = k.application AND t.{event} = k.id"
            );
            write(transaction, &sql, &[&day, &application, &id, &at_ms]).await?;
        }
    }
    Ok(())
}

fn times(batch: &Batch<'_>, of: &[usize]) -> Vec<i64> {
    of.iter().map(|at| batch.events[*at].known.at.0).collect()
}

async fn write_contents(
    transaction: &Transaction<'_>,
    batch: &Batch<'_>,
    of: &[usize],
    what: &str,
    which: &str,
) -> Result<(), Fault> {
    let events = || of.iter().map(|at| &batch.events[*at]);
    let contents = || events().filter_map(|event| event.content);
    if of.is_empty() {
        return Ok(());
    }
    let (day, application, id) = event_columns(batch, of.iter().copied());
    let at_ms = times(batch, of);
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
    let sql = format!(
        "{what} unnest($1::integer[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], \
         $10::text[], $11::text[], $12::text[], $13::bytea[]) AS k(day, application, id, at_ms, content_at_ms, fingerprint, producer_id, \
         event_type, channels, content_type, traceparent, headers, payload) {which}"
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

async fn read(transaction: &Transaction<'_>, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Fault> {
    let sql = transaction.prepare_cached(sql).await?;
    Ok(transaction.query(&sql, values).await?)
}

async fn write(transaction: &Transaction<'_>, sql: &str, values: Values<'_>) -> Result<(), Fault> {
    let sql = transaction.prepare_cached(sql).await?;
    transaction.execute(&sql, values).await?;
    Ok(())
}

/// The row's first column is a place, from 1.
fn place(row: &Row) -> Result<usize, Fault> {
    Ok(number::<i64, usize>(row.try_get(0)?)?.saturating_sub(1))
}
