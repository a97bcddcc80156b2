//! Partitions: a day each, of every table that grows.
//!
//! Days are made when time comes to them, one ahead. So there are about as many as retention has, whatever times records bear: what is older than
//! the oldest stands on that one, and is forgotten by its rows.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::Transaction;
use hooklane_types::UnixMillis;

use crate::history::Record;
use crate::postgres::error::Fault;

pub(super) const DAY_MS: i64 = 24 * 3600 * 1000;
/// Most days of a transaction.
const DAYS_MAX: usize = 8;
/// What is partitioned.
const TABLES: [&str; 4] = ["events", "attempts", "deliveries", "destinations"];

/// The days that have partitions, and their dates, while the lock is held.
pub(super) struct Days {
    days: BTreeMap<i32, String>,
    pub(super) forgotten_before: UnixMillis,
}

/// How many records, from the first on, are of few enough days for one transaction: each day has statements of its own.
pub(super) fn few_of(records: &[Record]) -> usize {
    let mut days = BTreeSet::new();
    let few = records.iter().take_while(|record| {
        days.insert(day_of(record.event().2));
        days.len() <= DAYS_MAX
    });
    few.count()
}

/// What is of which day. Mostly there is one day.
pub(super) fn by_day<T>(items: impl IntoIterator<Item = (i32, T)>) -> BTreeMap<i32, Vec<T>> {
    let mut days: BTreeMap<i32, Vec<T>> = BTreeMap::new();
    items
        .into_iter()
        .for_each(|(day, item)| days.entry(day).or_default().push(item));
    days
}

/// The day of a time, since 1970.
pub(super) fn day_of(at: UnixMillis) -> i32 {
    i32::try_from(at.0.div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

/// Takes the lock, which the transaction's end gives back.
pub(super) async fn lock(transaction: &Transaction<'_>, name: &str) -> Result<Days, Fault> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    let sql = transaction.prepare_cached(sql).await?;
    transaction.query(&sql, &[&name]).await?;
    // What it sees begins after the wait.
    let sql = "SELECT forgotten_before_ms, ARRAY(SELECT day FROM days ORDER BY day), \
               ARRAY(SELECT to_char('1970-01-01'::date + day, 'YYYYMMDD') FROM days ORDER BY day) FROM history";
    let sql = transaction.prepare_cached(sql).await?;
    let row = transaction.query_one(&sql, &[]).await?;
    let (days, dates): (Vec<i32>, Vec<String>) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Days {
        days: days.into_iter().zip(dates).collect(),
        forgotten_before: UnixMillis(row.try_get(0)?),
    })
}

impl Days {
    /// Makes today and tomorrow, where they are missing. No time of a record lies behind tomorrow.
    pub(super) async fn make(&mut self, transaction: &Transaction<'_>, now: UnixMillis) -> Result<(), Fault> {
        let today = day_of(now);
        for day in [today, today.saturating_add(1)] {
            if let Entry::Vacant(missing) = self.days.entry(day) {
                missing.insert(make(transaction, day).await?);
            }
        }
        Ok(())
    }

    /// The day on which an event stands that was accepted then, if it is new.
    pub(super) fn home_of(&self, at: UnixMillis) -> i32 {
        let there = self.days.range(day_of(at)..).next();
        there.or(self.days.last_key_value()).map_or(0, |(day, _)| *day)
    }

    /// The table that has a day of this one: a statement about a partition costs the same however many there are.
    pub(super) fn partition(&self, table: &str, day: i32) -> String {
        // A day without a table is a mistake of ours, and the server says so.
        let date = self.days.get(&day).map_or("none", |date| date);
        format!("{table}_{date}")
    }

    /// Drops a day. Waits a moment for who reads in it.
    pub(super) async fn drop(&self, transaction: &Transaction<'_>, day: i32) -> Result<(), Fault> {
        transaction.batch_execute("SET LOCAL lock_timeout = '1s'").await?;
        for table in TABLES {
            let sql = format!("DROP TABLE {}", self.partition(table, day));
            transaction.batch_execute(&sql).await?;
        }
        transaction
            .execute("DELETE FROM days WHERE day = $1", &[&day])
            .await?;
        Ok(())
    }

    /// The oldest day that is over by this time.
    pub(super) fn over(&self, before: UnixMillis) -> Option<i32> {
        let (first, _) = self.days.first_key_value()?;
        Some(*first).filter(|day| *day < day_of(before))
    }
}

/// The date. A table that is made alone and attached holds up nobody who reads or writes the others.
async fn make(transaction: &Transaction<'_>, day: i32) -> Result<String, Fault> {
    let name = name(transaction, day).await?;
    for table in TABLES {
        let sql = format!(
            "CREATE TABLE {table}_{name} (LIKE {table} INCLUDING ALL); \
             ALTER TABLE {table} ATTACH PARTITION {table}_{name} FOR VALUES IN ({day})"
        );
        transaction.batch_execute(&sql).await?;
    }
    transaction
        .execute("INSERT INTO days (day) VALUES ($1)", &[&day])
        .await?;
    Ok(name)
}

/// What stands behind a table's name: the date.
async fn name(transaction: &Transaction<'_>, day: i32) -> Result<String, Fault> {
    let sql = "SELECT to_char('1970-01-01'::date + $1::integer, 'YYYYMMDD')";
    Ok(transaction.query_one(sql, &[&day]).await?.try_get(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stands_on_its_day_or_the_next_one_that_there_is() {
        let days = Days {
            days: [10, 12, 13].map(|day| (day, String::new())).into(),
            forgotten_before: UnixMillis(0),
        };
        for (at, home) in [
            (0, 10),
            (10 * DAY_MS, 10),
            (11 * DAY_MS - 1, 10),
            (11 * DAY_MS, 12),
            (13 * DAY_MS, 13),
        ] {
            assert_eq!(days.home_of(UnixMillis(at)), home, "{at}");
        }
        assert_eq!(days.over(UnixMillis(11 * DAY_MS)), Some(10));
        assert_eq!(days.over(UnixMillis(11 * DAY_MS - 1)), None);
    }
}
