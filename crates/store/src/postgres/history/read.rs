//! What is known of a batch's events, read before the batch is added to it.

use std::collections::{BTreeSet, HashMap, HashSet};

use deadpool_postgres::Transaction;
use hooklane_types::UnixMillis;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::{Batch, EventName, FIRST, Known, Place, RunName, Standing, name_of};
use super::by_key;
use super::days::{Days, day_of};
use super::rows::{self, number};
use crate::history::Record;
use crate::history::merge::{ContentRank, Run};
use crate::postgres::error::Fault;

pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) fn events_sql(operator: &str) -> String {
    let event = by_key::event(&format!("e.day {operator} k.day"), "k.application", "k.id");
    format!(
        "SELECT e.application, e.id, e.day, e.at_ms, e.expunged, e.content_at_ms, e.fingerprint \
         FROM unnest($1::integer[], $2::text[], $3::text[]) AS k(day, application, id) CROSS JOIN LATERAL ({event}) AS e"
    )
}

pub(super) fn attempts_sql() -> String {
    let attempt = by_key::attempt("a.day = k.day", "k.application", "k.event", "k.id");
    format!(
        "SELECT k.n FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS k(day, application, event, id, n) \
         CROSS JOIN LATERAL ({attempt}) AS a"
    )
}

pub(super) fn standings_sql() -> String {
    format!(
        "SELECT k.n, d.run, d.status, d.next_at_ms, {} FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[]) \
         WITH ORDINALITY AS k(day, application, event, endpoint, n) CROSS JOIN LATERAL ({}) AS d",
        rows::RUN,
        by_key::DESTINATION
    )
}

/// Whether the record's event may stand on another day than the record says. With an id that carries its time it does not: whoever makes one says
/// in the same moment when the event was accepted, and every record repeats that. An id that is made from a producer's comes again on any day.
fn may_stand_elsewhere(record: &Record, days: &Days, now: UnixMillis) -> bool {
    let (_, id, at) = record.event();
    // A time ahead of the clock is taken for another one each time.
    let is_fixed = id.made_at().is_some_and(|made_at| made_at <= now);
    !(is_fixed && days.home_of(at) == day_of(at))
}

/// What is known of the records' events. Most stand where a new one would; the others are looked for on every day, which costs a look at each.
pub(super) async fn events(
    transaction: &Transaction<'_>,
    records: &[&Record],
    days: &Days,
    now: UnixMillis,
) -> Result<HashMap<(String, String), Known>, Fault> {
    let elsewhere: HashSet<EventName<'_>> = records
        .iter()
        .filter(|record| may_stand_elsewhere(record, days, now))
        .map(|record| name_of(record))
        .collect();
    let mut missing: BTreeSet<(i32, EventName<'_>)> = records
        .iter()
        .map(|record| (days.home_of(record.event().2), name_of(record)))
        .collect();
    let mut known = HashMap::new();
    for operator in ["=", "<>"] {
        if missing.is_empty() {
            break;
        }
        let (home, names): (Vec<i32>, Vec<EventName<'_>>) = missing.iter().copied().unzip();
        let (application, id): (Vec<&str>, Vec<&str>) = names.into_iter().unzip();
        for row in read(transaction, &events_sql(operator), &[&home, &application, &id]).await? {
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
        missing.retain(|(_, name)| elsewhere.contains(name) && !is_known(name));
    }
    Ok(known)
}

/// The columns that name an event, for rows of which each has its event's place.
pub(super) fn event_columns<'a>(
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

pub(super) async fn attempts(transaction: &Transaction<'_>, batch: &mut Batch<'_>) -> Result<(), Fault> {
    // Of an event that was unknown there is nothing.
    let named: Vec<(usize, &str)> = batch
        .named_attempts()
        .filter(|(event, _)| batch.events[*event].was_at.is_some())
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let (day, application, event) = event_columns(batch, named.iter().map(|(event, _)| *event));
    let id: Vec<&str> = named.iter().map(|(_, id)| *id).collect();
    for row in read(transaction, &attempts_sql(), &[&day, &application, &event, &id]).await? {
        batch.seen.insert(named[place(&row)?]);
    }
    Ok(())
}

pub(super) async fn runs(transaction: &Transaction<'_>, batch: &mut Batch<'_>) -> Result<(), Fault> {
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

pub(super) async fn standings(transaction: &Transaction<'_>, batch: &mut Batch<'_>) -> Result<(), Fault> {
    let places: BTreeSet<Place<'_>> = batch
        .runs
        .keys()
        .map(|name| (name.event, name.endpoint))
        .filter(|(event, _)| batch.events[*event].was_at.is_some())
        .collect();
    if places.is_empty() {
        return Ok(());
    }
    let places: Vec<Place<'_>> = places.into_iter().collect();
    let (day, application, event) = event_columns(batch, places.iter().map(|(event, _)| *event));
    let endpoint: Vec<&str> = places.iter().map(|(_, endpoint)| *endpoint).collect();
    for row in read(
        transaction,
        &standings_sql(),
        &[&day, &application, &event, &endpoint],
    )
    .await?
    {
        let standing = Standing {
            run: number(row.try_get::<_, i64>(1)?)?,
            status: rows::status(&row, 2)?,
            next: row.try_get::<_, Option<i64>>(3)?.map(UnixMillis),
            first: rows::run(&row, 4)?,
        };
        let (event, endpoint) = places[place(&row)?];
        let first = RunName {
            event,
            endpoint,
            run: FIRST.0,
        };
        if let Some(targets) = batch.runs.get_mut(&first)
            && standing.first != Run::default()
        {
            targets.0.insert(FIRST.1, (standing.first.clone(), false));
        }
        batch.standings.insert((event, endpoint), standing);
    }
    Ok(())
}

async fn read(transaction: &Transaction<'_>, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Fault> {
    let sql = transaction.prepare_cached(sql).await?;
    Ok(transaction.query(&sql, values).await?)
}

/// The row's first column is a place, from 1.
fn place(row: &Row) -> Result<usize, Fault> {
    Ok(number::<i64, usize>(row.try_get(0)?)?.saturating_sub(1))
}
