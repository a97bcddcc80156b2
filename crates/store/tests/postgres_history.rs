//! History on PostgreSQL, in ways that SQLite does not know: days, several processes, rows that only the server refuses.

#[path = "history/made.rs"]
#[expect(dead_code, reason = "the suite needs more of it")]
mod made;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_store::catalog::{Catalog, Direction, Kind};
use hooklane_store::history::{
    Decision, EndpointEventFilter, EventFilter, History, HistoryError, Page, Problem, Range, Record, Recorded,
};
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::postgres::history::PostgresHistory;
use hooklane_testkit::postgres::{Database, Server, shared};
use hooklane_types::{Event, EventId};
use made::{application, at, attempt, delivery, endpoint, event, event_id};

const DAY_MS: i64 = 24 * 3600 * 1000;

async fn open(database: &Database) -> Result<PostgresHistory> {
    let mut settings = PostgresSettings::parse(database.url())?;
    settings.call_max = Duration::from_secs(2);
    Ok(PostgresHistory::open(&settings).await?)
}

/// At a day of the process's clock.
async fn record(history: &PostgresHistory, records: Vec<Record>, day: i64) -> Result<Recorded> {
    Ok(history.record(Arc::from(records), at(day * DAY_MS)).await?)
}

fn all() -> Page {
    Page {
        behind: None,
        direction: Direction::Ascending,
        limit: 1_000,
    }
}

fn made_at(day: i64) -> [Record; 2] {
    let (id, ms) = (format!("msg_{day}"), day * DAY_MS);
    [
        Record::Event(event(&id, ms)),
        Record::Attempt(attempt(
            &format!("atmpt_{day}"),
            delivery(&id, ms, 0),
            ms,
            Decision::Delivered,
        )),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_are_made_as_time_comes_to_them_and_a_day_that_is_forgotten_is_dropped() -> Result<()> {
    let database = shared().await?.database().await?;
    let history = open(&database).await?;
    for day in [0, 1, 2, 5] {
        record(&history, made_at(day).to_vec(), day).await?;
    }
    let tables = "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                  WHERE i.inhparent = 'hooklane.events'::regclass";
    // NOW_MS is in the evening of 2023-11-14; each has the day after it.
    let dates = ["14", "15", "16", "17", "19", "20"].map(|date| format!("events_202311{date}"));
    ensure!(database.psql(tables).await? == dates.join(" "));
    // From a day of which there is none, and from long before the first: a batch with hundreds of days makes no table.
    let old = (-400..0).map(|day| Record::Event(event(&format!("msg_old{}", -day), day * DAY_MS)));
    ensure!(record(&history, old.collect(), 5).await? == Recorded::default());
    record(&history, made_at(3).to_vec(), 5).await?;
    ensure!(database.psql(tables).await? == dates.join(" "));
    let (app, ep) = (application("app"), endpoint("ep"));
    let list = history.events(&app, &EventFilter::default(), &all()).await?;
    ensure!(list.rows.len() == 405 && list.rows[0].id == event_id("msg_old400"));
    // Everything before the third day goes: the days that are over with their tables, the rest of the third by its rows.
    while history.forget(at(2 * DAY_MS), 10_000).await? {}
    ensure!(database.psql(tables).await? == dates[2..].join(" "));
    let list = history.events(&app, &EventFilter::default(), &all()).await?;
    let ids: Vec<&str> = list.rows.iter().map(|found| found.id.as_str()).collect();
    ensure!(ids == ["msg_2", "msg_3", "msg_5"], "{ids:?}");
    let filter = EndpointEventFilter::default();
    ensure!(
        history
            .endpoint_events(&app, &ep, &filter, &all())
            .await?
            .rows
            .len()
            == 3
    );
    ensure!(history.stats(&app, &ep, Range::default()).await?.delivered == 3);
    ensure!(record(&history, made_at(1).to_vec(), 5).await?.forgotten == 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_published_again_on_another_day_stays_one_event() -> Result<()> {
    // Goal: one event, one attempt, at the earliest time that is known, whichever day is told first.
    for turned in [false, true] {
        let database = shared().await?.database().await?;
        let history = open(&database).await?;
        let mut days = [0, 3];
        if turned {
            days.reverse();
        }
        for now in [3, 4] {
            for day in days {
                let ms = day * DAY_MS;
                let again = vec![
                    Record::Event(event("msg_1", ms)),
                    Record::Attempt(attempt(
                        "atmpt_1",
                        delivery("msg_1", ms, 0),
                        9,
                        Decision::Delivered,
                    )),
                ];
                record(&history, again, now).await?;
            }
        }
        let (app, ep) = (application("app"), endpoint("ep"));
        let list = history.events(&app, &EventFilter::default(), &all()).await?;
        ensure!(
            list.rows.len() == 1 && list.rows[0].accepted_at == at(0),
            "{list:?}"
        );
        ensure!(history.stats(&app, &ep, Range::default()).await?.delivered == 1);
        ensure!(database.psql("SELECT count(*) FROM hooklane.attempts").await? == "1");
        while history.forget(at(DAY_MS), 10).await? {}
        ensure!(history.event(&app, &event_id("msg_1")).await?.is_none());
        ensure!(database.psql("SELECT count(*) FROM hooklane.attempts").await? == "0");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_id_carries_its_time_is_found_on_whatever_day_it_stands() -> Result<()> {
    // Goal: it is not looked for on every day, and found all the same: also when its own day has no tables, and when its maker's
    // clock runs ahead. Method: each record is told on another day.
    let database = shared().await?.database().await?;
    let history = open(&database).await?;
    // There are the days 3, 4, 7 and 8.
    for day in [3, 7] {
        record(&history, made_at(day).to_vec(), day).await?;
    }
    for (n, accepted, told) in [
        (1, 3, [3, 7, 9]),
        (2, 5, [7, 8, 9]),
        (3, 1, [7, 8, 9]),
        (4, 20, [7, 9, 21]),
    ] {
        let ms = accepted * DAY_MS;
        let id = EventId::fresh(at(ms), [n; 10]);
        let content = Record::Event(event(id.as_str(), ms));
        let tried = |decision, run| {
            let delivery = delivery(id.as_str(), ms, run);
            Record::Attempt(attempt(&format!("atmpt_{n}{run}"), delivery, ms, decision))
        };
        record(&history, vec![tried(Decision::Delivered, 0)], told[0]).await?;
        record(&history, vec![content.clone()], told[1]).await?;
        record(&history, vec![content, tried(Decision::Delivered, 1)], told[2]).await?;
    }
    let stats = history
        .stats(&application("app"), &endpoint("ep"), Range::default())
        .await?;
    ensure!(stats.delivered == 2 + 4, "{stats:?}");
    for (table, count) in [("events", 2 + 4), ("attempts", 2 + 8)] {
        let found = database
            .psql(&format!("SELECT count(*) FROM hooklane.{table}"))
            .await?;
        ensure!(found == count.to_string(), "{found} {table}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_only_the_server_refuses_is_found_and_stops_no_other() -> Result<()> {
    // Method: rules of the tables that records break here and there.
    let database = shared().await?.database().await?;
    let history = open(&database).await?;
    database
        .psql("ALTER TABLE hooklane.attempts ADD CHECK (url <> 'bad'); ALTER TABLE hooklane.events ADD CHECK (content_type <> 'bad')")
        .await?;
    let mut records = Vec::new();
    let bad = [0, 17, 18, 499, 500, 799];
    for n in 0..800 {
        let id = format!("msg_{n}");
        let content_type = if bad.contains(&n) { "bad" } else { "text/plain" }.to_owned();
        records.push(Record::Event(Event {
            content_type: content_type.clone(),
            ..event(&id, 0)
        }));
        let mut made = attempt(&format!("atmpt_{n}"), delivery(&id, 0, 0), 0, Decision::Delivered);
        made.url = content_type;
        records.push(Record::Attempt(made));
    }
    let recorded = record(&history, records, 0).await?;
    let refused: Vec<usize> = recorded.refused.iter().map(|refused| refused.index).collect();
    let expected: Vec<usize> = bad.iter().flat_map(|n| [2 * n, 2 * n + 1]).collect();
    ensure!(refused == expected, "{refused:?}");
    let is_told =
        |problem: &Problem| matches!(problem, Problem::Row(why) if why.contains("check constraint"));
    ensure!(
        recorded.refused.iter().all(|refused| is_told(&refused.problem)),
        "{recorded:?}"
    );
    let stats = history
        .stats(&application("app"), &endpoint("ep"), Range::default())
        .await?;
    ensure!(stats.delivered == 794, "{stats:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_record_the_same_at_once_keep_it_once() -> Result<()> {
    // Goal: also where each has a part of what the other has not, on a first day that both would make.
    let database = shared().await?.database().await?;
    let histories = [open(&database).await?, open(&database).await?];
    let made = |day| {
        let again = delivery(&format!("msg_{day}"), day * DAY_MS, 1);
        let id = format!("atmpt_{day}_again");
        let again = attempt(&id, again, day * DAY_MS, Decision::Delivered);
        made_at(day).into_iter().chain([Record::Attempt(again)])
    };
    let records: Vec<Record> = (0..40).flat_map(made).collect();
    let record_all = async |history: &PostgresHistory, turned: bool| {
        let mut parts: Vec<&[Record]> = records.chunks(7).collect();
        if turned {
            parts.reverse();
        }
        for part in parts {
            ensure!(record(history, part.to_vec(), 40).await? == Recorded::default());
        }
        anyhow::Ok(())
    };
    let (one, other) = tokio::join!(record_all(&histories[0], false), record_all(&histories[1], true));
    one?;
    other?;
    for (table, count) in [
        ("events", 40),
        ("attempts", 80),
        ("deliveries", 40),
        ("destinations", 40),
    ] {
        let found = database
            .psql(&format!("SELECT count(*) FROM hooklane.{table}"))
            .await?;
        ensure!(found == count.to_string(), "{found} {table}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_has_what_was_answered_and_takes_the_rest_again() -> Result<()> {
    let server = Server::start().await?;
    let database = server.database().await?;
    let history = open(&database).await?;
    let made = |n: usize| {
        let id = format!("msg_{n}");
        let made = attempt(&format!("atmpt_{n}"), delivery(&id, 0, 0), 0, Decision::Delivered);
        vec![Record::Event(event(&id, 0)), Record::Attempt(made)]
    };
    let answered = AtomicUsize::new(0);
    let recording = async {
        loop {
            let n = answered.load(Ordering::Relaxed);
            match history.record(Arc::from(made(n)), at(0)).await {
                Ok(_) => answered.store(n + 1, Ordering::Relaxed),
                Err(HistoryError::Unavailable(_)) => return anyhow::Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let kill = async {
        hooklane_testkit::eventually("some to be answered", Duration::from_secs(30), || async {
            ensure!(answered.load(Ordering::Relaxed) >= 20);
            Ok(())
        })
        .await?;
        server.kill9().await
    };
    let (recorded, killed) = tokio::join!(recording, kill);
    recorded?;
    killed?;
    let answered = answered.into_inner();
    server.restart().await?;
    for n in answered / 2..answered + 5 {
        hooklane_testkit::eventually("the store", Duration::from_secs(10), || async {
            Ok(history.record(Arc::from(made(n)), at(0)).await?)
        })
        .await?;
    }
    let stats = history
        .stats(&application("app"), &endpoint("ep"), Range::default())
        .await?;
    ensure!(stats.delivered == answered as u64 + 5, "{stats:?} of {answered}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_the_version_before_are_brought_up_to_date_with_what_is_in_them() -> Result<()> {
    let database = shared().await?.database().await?;
    let first = include_str!("../src/postgres/migrations/0001_catalog.sql");
    database
        .psql(&format!(
            "CREATE SCHEMA hooklane; SET search_path = hooklane; {first}; \
             CREATE TABLE migrations (number integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); \
             INSERT INTO migrations (number) VALUES (1); UPDATE catalog SET revision = 1; \
             INSERT INTO documents VALUES ('application', 'org', 'app_1', NULL, 1, 1, 1, '{{}}')"
        ))
        .await?;
    let history = open(&database).await?;
    record(&history, made_at(0).to_vec(), 0).await?;
    let catalog = PostgresCatalog::open(&PostgresSettings::parse(database.url())?).await?;
    let kept = catalog.get(Kind::Application, "org", "app_1").await?;
    kept.context("the application is gone")?;
    Ok(())
}
