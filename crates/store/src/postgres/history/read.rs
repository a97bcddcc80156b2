//! What is known of a batch's events, read before the batch is added to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use deadpool_postgres::Transaction;
use hooklane_types::UnixMillis;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::{Batch, EventName, FIRST, Known, Place, RunName, Standing, name_of};
use super::by_key;
use super::days::{Days, by_day, day_of};
use super::rows::{self, number};
use crate::history::Record;
use crate::history::merge::{ContentRank, Run};
use crate::postgres::error::Fault;

pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Of the names `k`, in a partition.
pub(super) fn events_sql(events: &str) -> String {
    let event = by_key::event(events, "true", "k.application", "k.id");
    format!(
        "SELECT {EVENT} FROM unnest($1::text[], $2::text[]) AS k(application, id) CROSS JOIN LATERAL ({event}) AS e"
    )
}

/// Of the names `k`, on every day but `k.day`.
pub(super) fn events_elsewhere_sql() -> String {
    let event = by_key::event("events", "e.day <> k.day", "k.application", "k.id");
    format!(
        "SELECT {EVENT} FROM unnest($1::text[], $2::text[], $3::integer[]) AS k(application, id, day) CROSS JOIN LATERAL ({event}) AS e"
    )
}

const EVENT: &str = "e.application, e.id, e.day, e.at_ms, e.expunged, e.content_at_ms, e.fingerprint";

pub(super) fn attempts_sql(attempts: &str) -> String {
    let attempt = by_key::attempt(attempts, "true", "k.application", "k.event", "k.id");
    format!(
        "SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k(application, event, id, n) \
         CROSS JOIN LATERAL ({attempt}) AS a"
    )
}

pub(super) fn standings_sql(destinations: &str) -> String {
    let destination = by_key::destination(destinations, "k.application", "k.event", "k.endpoint");
    format!(
        "SELECT k.n, d.run, d.status, d.next_at_ms, {} FROM unnest($1::text[], $2::text[], $3::text[]) \
         WITH ORDINALITY AS k(application, event, endpoint, n) CROSS JOIN LATERAL ({destination}) AS d",
        rows::RUN
    )
}

pub(super) fn runs_sql(deliveries: &str) -> String {
    format!(
        "SELECT k.n, d.target, {} FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) \
         WITH ORDINALITY AS k(application, event, endpoint, run, n) \
         JOIN {deliveries} AS d ON d.application = k.application AND d.event = k.event AND d.endpoint = k.endpoint AND d.run = k.run",
        rows::RUN
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
    let wanted: BTreeSet<(i32, EventName<'_>)> = records
        .iter()
        .map(|record| (days.home_of(record.event().2), name_of(record)))
        .collect();
    let mut known = HashMap::new();
    for (day, names) in by_day(wanted.iter().copied()) {
        let (application, id): (Vec<&str>, Vec<&str>) = names.into_iter().unzip();
        let sql = events_sql(&days.partition("events", day));
        add_known(&mut known, &read(transaction, &sql, &[&application, &id]).await?)?;
    }
    let is_known = |name: &EventName<'_>| known.contains_key(&(name.0.to_owned(), name.1.to_owned()));
    let missing = wanted
        .into_iter()
        .filter(|(_, name)| elsewhere.contains(name) && !is_known(name));
    let (home, names): (Vec<i32>, Vec<EventName<'_>>) = missing.unzip();
    if !names.is_empty() {
        let (application, id): (Vec<&str>, Vec<&str>) = names.into_iter().unzip();
        let found = read(transaction, &events_elsewhere_sql(), &[&application, &id, &home]).await?;
        add_known(&mut known, &found)?;
    }
    Ok(known)
}

fn add_known(known: &mut HashMap<(String, String), Known>, rows: &[Row]) -> Result<(), Fault> {
    for row in rows {
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
    Ok(())
}

/// What is to be looked up, by its event's day. Of an event that was unknown there is nothing.
fn known<'a, T>(
    batch: &Batch<'a>,
    items: impl Iterator<Item = T>,
    event: impl Fn(&T) -> usize,
) -> BTreeMap<i32, Vec<T>> {
    let state = |item: &T| &batch.events[event(item)];
    let items = items.filter(|item| state(item).was_at.is_some());
    by_day(items.map(|item| (state(&item).known.day, item)))
}

/// The columns that name an event, for rows of which each has its event's place.
fn names<'a>(batch: &Batch<'a>, of: impl Iterator<Item = usize>) -> (Vec<&'a str>, Vec<&'a str>) {
    of.map(|at| batch.events[at].name).unzip()
}

pub(super) async fn attempts(
    transaction: &Transaction<'_>,
    batch: &mut Batch<'_>,
    days: &Days,
) -> Result<(), Fault> {
    let named = batch.named_attempts();
    let named = named.filter(|(event, attempt)| {
        batch
            .standings
            .contains_key(&(*event, attempt.delivery.endpoint.as_str()))
    });
    for (day, named) in known(batch, named, |(event, _)| *event) {
        let (application, event) = names(batch, named.iter().map(|(event, _)| *event));
        let id: Vec<&str> = named.iter().map(|(_, attempt)| attempt.id.as_str()).collect();
        let sql = attempts_sql(&days.partition("attempts", day));
        for row in read(transaction, &sql, &[&application, &event, &id]).await? {
            let (event, attempt) = named[place(&row)?];
            batch.seen.insert((event, attempt.id.as_str()));
        }
    }
    Ok(())
}

pub(super) async fn runs(
    transaction: &Transaction<'_>,
    batch: &mut Batch<'_>,
    days: &Days,
) -> Result<(), Fault> {
    let named = batch.runs.keys().copied();
    let named = named.filter(|name| batch.standings.contains_key(&(name.event, name.endpoint)));
    for (day, named) in known(batch, named, |name| name.event) {
        let (application, event) = names(batch, named.iter().map(|name| name.event));
        let endpoint: Vec<&str> = named.iter().map(|name| name.endpoint).collect();
        let run: Vec<i64> = named.iter().map(|name| i64::from(name.run)).collect();
        let sql = runs_sql(&days.partition("deliveries", day));
        for row in read(transaction, &sql, &[&application, &event, &endpoint, &run]).await? {
            let target = number(row.try_get::<_, i32>(1)?)?;
            let targets = batch.runs.entry(named[place(&row)?]).or_default();
            let (run, _) = targets.0.entry(target).or_default();
            run.add(rows::run(&row, 2)?);
        }
    }
    Ok(())
}

/// To be read first: where an event stands nowhere at an endpoint, there is neither an attempt nor a delivery.
pub(super) async fn standings(
    transaction: &Transaction<'_>,
    batch: &mut Batch<'_>,
    days: &Days,
) -> Result<(), Fault> {
    let places: BTreeSet<Place<'_>> = batch
        .runs
        .keys()
        .map(|name| (name.event, name.endpoint))
        .collect();
    for (day, places) in known(batch, places.into_iter(), |(event, _)| *event) {
        let (application, event) = names(batch, places.iter().map(|(event, _)| *event));
        let endpoint: Vec<&str> = places.iter().map(|(_, endpoint)| *endpoint).collect();
        let sql = standings_sql(&days.partition("destinations", day));
        for row in read(transaction, &sql, &[&application, &event, &endpoint]).await? {
            let (event, endpoint) = places[place(&row)?];
            let standing = Standing {
                run: number(row.try_get::<_, i64>(1)?)?,
                status: rows::status(&row, 2)?,
                next: row.try_get::<_, Option<i64>>(3)?.map(UnixMillis),
                first: rows::run(&row, 4)?,
            };
            let first = RunName {
                event,
                endpoint,
                run: FIRST.0,
            };
            if let Some(targets) = batch.runs.get_mut(&first)
                && standing.first != Run::default()
            {
                let (run, _) = targets.0.entry(FIRST.1).or_default();
                run.add(standing.first.clone());
            }
            batch.standings.insert((event, endpoint), standing);
        }
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
