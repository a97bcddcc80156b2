//! Records become rows.

use hooklane_types::{ApplicationId, AttemptOutcome, Event, EventId, UnixMillis};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Result, TransactionBehavior, params};

use super::rows::{self, status_number};
use crate::history::merge::{ContentRank, News, Run, status_of_targets};
use crate::history::{
    ANSWER_BYTES_MAX, Attempt, Decision, DeliveryKey, Problem, Record, Recorded, Refused, StatusClass,
    Trigger, checked,
};

/// Writes a part of a batch, that begins at this index of it, in one transaction.
pub(super) fn record(
    connection: &mut Connection,
    records: &[Record],
    first_index: usize,
    now: UnixMillis,
) -> Result<Recorded> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "SELECT forgotten_before_ms FROM history";
    let forgotten_before: i64 = transaction.query_row(sql, [], |row| row.get(0))?;
    let mut recorded = Recorded::default();
    for (at, record) in records.iter().enumerate() {
        let index = first_index + at;
        let record = match checked(record, now) {
            Ok(record) => record,
            Err(problem) => {
                recorded.refused.push(Refused { index, problem });
                continue;
            }
        };
        if record.event().2.0 < forgotten_before {
            recorded.forgotten += 1;
            continue;
        }
        // Whatever of a bad row was written is taken back, and nothing else.
        let row = transaction.savepoint()?;
        match write(&row, &record) {
            Ok(is_late) => {
                row.commit()?;
                recorded.late_outcomes += usize::from(is_late);
            }
            Err(error) if is_of_the_row(&error) => {
                let problem = Problem::Row(error.to_string());
                recorded.refused.push(Refused { index, problem });
            }
            Err(error) => return Err(error),
        }
    }
    transaction.commit()?;
    Ok(recorded)
}

fn is_of_the_row(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
        ),
        None => matches!(error, rusqlite::Error::ToSqlConversionFailure(_)),
    }
}

/// Whether it was a terminal outcome beside the one that stays.
fn write(row: &Connection, record: &Record) -> Result<bool> {
    match record {
        Record::Event(event) => write_event(row, event).map(|()| false),
        Record::Attempt(attempt) => {
            let event_at = write_stub(row, &attempt.delivery)?;
            match write_attempt(row, attempt)? {
                true => write_news(row, &attempt.delivery, News::from(attempt), event_at),
                false => Ok(false),
            }
        }
        Record::Settled(settled) => {
            let event_at = write_stub(row, &settled.delivery)?;
            write_news(row, &settled.delivery, News::from(settled), event_at)
        }
    }
}

/// What is known of an event.
struct Known {
    number: i64,
    at: UnixMillis,
    is_expunged: bool,
    rank: Option<ContentRank>,
}

fn known(row: &Connection, application: &ApplicationId, id: &EventId) -> Result<Option<Known>> {
    let sql = "SELECT number, at_ms, expunged, content_at_ms, fingerprint FROM events WHERE application = ?1 AND id = ?2";
    row.prepare_cached(sql)?
        .query_row(params![application.as_str(), id.as_str()], |row| {
            let rank = match row.get(3)? {
                None => None,
                Some(at) => Some(ContentRank {
                    accepted_at: UnixMillis(at),
                    fingerprint: row.get(4)?,
                }),
            };
            Ok(Known {
                number: row.get(0)?,
                at: UnixMillis(row.get(1)?),
                is_expunged: row.get(2)?,
                rank,
            })
        })
        .optional()
}

/// Makes a stub where the event is unknown. The event's time.
fn write_stub(row: &Connection, delivery: &DeliveryKey) -> Result<UnixMillis> {
    let event = &delivery.event;
    match known(row, &event.application, &event.id)? {
        Some(known) => earlier(row, &event.application, &event.id, &known, event.accepted_at),
        None => {
            let sql = "INSERT INTO events (application, id, at_ms, expunged) VALUES (?1, ?2, ?3, 0)";
            let (application, id) = (event.application.as_str(), event.id.as_str());
            row.prepare_cached(sql)?
                .execute(params![application, id, event.accepted_at.0])?;
            Ok(event.accepted_at)
        }
    }
}

/// An event's time is the earliest that is known.
fn earlier(
    row: &Connection,
    application: &ApplicationId,
    id: &EventId,
    known: &Known,
    at: UnixMillis,
) -> Result<UnixMillis> {
    if at >= known.at {
        return Ok(known.at);
    }
    row.prepare_cached("UPDATE events SET at_ms = ?2 WHERE number = ?1")?
        .execute(params![known.number, at.0])?;
    let sql = "UPDATE destinations SET event_at_ms = ?3 WHERE application = ?1 AND event = ?2";
    row.prepare_cached(sql)?
        .execute(params![application.as_str(), id.as_str(), at.0])?;
    Ok(at)
}

fn write_event(row: &Connection, event: &Event) -> Result<()> {
    let rank = ContentRank::of(event);
    let (application, id) = (event.application.as_str(), event.id.as_str());
    let channels: Vec<&str> = event.channels.iter().map(|channel| channel.as_str()).collect();
    let channels = (!channels.is_empty())
        .then(|| rows::json(&channels))
        .transpose()?;
    let headers = (!event.headers.is_empty())
        .then(|| rows::json(&event.headers))
        .transpose()?;
    let producer_id = event.producer_id.as_ref().map(|id| id.as_str());
    let (event_type, content_type) = (event.event_type.as_str(), &event.content_type);
    let Some(known) = known(row, &event.application, &event.id)? else {
        let sql = "INSERT INTO events (application, id, at_ms, expunged, content_at_ms, fingerprint, producer_id, event_type, channels, \
                   content_type, traceparent, headers, payload) VALUES (?1, ?2, ?3, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        row.prepare_cached(sql)?.execute(params![
            application,
            id,
            rank.accepted_at.0,
            rank.fingerprint,
            producer_id,
            event_type,
            channels,
            content_type,
            event.traceparent,
            headers,
            &event.payload[..],
        ])?;
        return Ok(());
    };
    earlier(row, &event.application, &event.id, &known, event.accepted_at)?;
    if known.rank.is_some_and(|known| known <= rank) {
        return Ok(());
    }
    let payload = (!known.is_expunged).then_some(&event.payload[..]);
    let sql = "UPDATE events SET content_at_ms = ?2, fingerprint = ?3, producer_id = ?4, event_type = ?5, channels = ?6, \
               content_type = ?7, traceparent = ?8, headers = ?9, payload = ?10 WHERE number = ?1";
    row.prepare_cached(sql)?.execute(params![
        known.number,
        rank.accepted_at.0,
        rank.fingerprint,
        producer_id,
        event_type,
        channels,
        content_type,
        event.traceparent,
        headers,
        payload,
    ])?;
    Ok(())
}

/// Whether it is new.
fn write_attempt(row: &Connection, attempt: &Attempt) -> Result<bool> {
    let (code, retry_after_ms, failure) = match attempt.outcome {
        AttemptOutcome::Status { code, retry_after_ms } => (Some(code), retry_after_ms, None),
        AttemptOutcome::Failed(kind) => (None, None, Some(kind.name())),
    };
    let retry_after_ms = retry_after_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let (again_at_ms, dead) = match attempt.decision {
        Decision::Delivered => (None, None),
        Decision::Again(at) => (Some(at.0), None),
        Decision::Dead(reason) => (None, Some(reason.name())),
    };
    let is_delivered = attempt.decision == Decision::Delivered;
    let DeliveryKey {
        event,
        endpoint,
        target,
        run,
    } = &attempt.delivery;
    let answer = &attempt.answer[..attempt.answer.len().min(ANSWER_BYTES_MAX)];
    let sql = "INSERT INTO attempts (application, event, id, endpoint, target, run, at_ms, duration_ms, code, retry_after_ms, failure, manual, \
               delivered, failed, again_at_ms, dead, url, answer_expunged, answer) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 0, ?18) \
               ON CONFLICT (application, event, id) DO NOTHING";
    let written = row.prepare_cached(sql)?.execute(params![
        event.application.as_str(),
        event.id.as_str(),
        attempt.id.as_str(),
        endpoint.as_str(),
        target,
        run,
        attempt.at.0,
        attempt.duration_ms,
        code,
        retry_after_ms,
        failure,
        attempt.trigger == Trigger::Manual,
        is_delivered,
        !is_delivered || StatusClass::of_code(code) != Some(StatusClass::Success),
        again_at_ms,
        dead,
        attempt.url,
        answer,
    ])?;
    Ok(written > 0)
}

/// What a record says of its delivery, and so of the event at the endpoint.
fn write_news(row: &Connection, delivery: &DeliveryKey, news: News, event_at: UnixMillis) -> Result<bool> {
    let DeliveryKey {
        event,
        endpoint,
        target,
        run,
    } = delivery;
    let (application, id, endpoint) = (event.application.as_str(), event.id.as_str(), endpoint.as_str());
    let sql = format!(
        "SELECT {} FROM deliveries WHERE application = ?1 AND event = ?2 AND endpoint = ?3 AND run = ?4 AND target = ?5",
        rows::RUN
    );
    let old: Option<Run> = row
        .prepare_cached(&sql)?
        .query_row(params![application, id, endpoint, run, target], |row| {
            rows::run(row, 0)
        })
        .optional()?;
    let mut new = old.clone().unwrap_or_default();
    let is_late = new.take(news);
    if old.as_ref() == Some(&new) {
        return Ok(is_late);
    }
    let (last_at, last_id) = new.last.as_ref().map(|(at, id)| (at.0, id.as_str())).unzip();
    let ended = new.terminal.as_ref();
    let sql = "INSERT OR REPLACE INTO deliveries (application, event, endpoint, run, target, last_at_ms, last_id, again_at_ms, ended_at_ms, \
               ended_by, dead) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    row.prepare_cached(sql)?.execute(params![
        application,
        id,
        endpoint,
        run,
        target,
        last_at,
        last_id,
        new.again.map(|at| at.0),
        ended.map(|ended| ended.at.0),
        ended
            .and_then(|ended| ended.attempt.as_ref())
            .map(|attempt| attempt.as_str()),
        ended.and_then(|ended| ended.dead).map(|reason| reason.name()),
    ])?;
    write_destination(row, delivery, event_at)?;
    Ok(is_late)
}

fn write_destination(row: &Connection, delivery: &DeliveryKey, event_at: UnixMillis) -> Result<()> {
    let (event, endpoint) = (&delivery.event, delivery.endpoint.as_str());
    let (application, id) = (event.application.as_str(), event.id.as_str());
    let sql = format!(
        "SELECT {}, run FROM deliveries WHERE application = ?1 AND event = ?2 AND endpoint = ?3 ORDER BY run DESC",
        rows::RUN
    );
    let mut statement = row.prepare_cached(&sql)?;
    let mut found = statement.query(params![application, id, endpoint])?;
    let (mut targets, mut newest): (Vec<Run>, Option<u32>) = (Vec::new(), None);
    while let Some(row) = found.next()? {
        let run = row.get(rows::RUN_COLUMNS)?;
        if *newest.get_or_insert(run) != run {
            break;
        }
        targets.push(rows::run(row, 0)?);
    }
    let (status, next) = status_of_targets(&targets);
    let sql = "INSERT INTO destinations (application, event, endpoint, event_at_ms, status, next_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT DO UPDATE SET status = ?5, next_at_ms = ?6 WHERE status <> ?5 OR next_at_ms IS NOT ?6";
    row.prepare_cached(sql)?.execute(params![
        application,
        id,
        endpoint,
        event_at.0,
        status_number(status),
        next.map(|at| at.0),
    ])?;
    Ok(())
}
