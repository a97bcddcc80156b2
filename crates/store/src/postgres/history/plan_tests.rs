//! How PostgreSQL goes about it.

use deadpool_postgres::Client;
use hooklane_testkit::postgres::{Database, shared};
use hooklane_types::{EndpointId, EventId, UnixMillis};
use tokio_postgres::types::Type;

use super::{PostgresHistory, forget, lists, read, write};
use crate::catalog::Direction;
use crate::history::{AttemptsOf, History};
use crate::postgres::PostgresSettings;

/// A history with several days that have nothing yet: PostgreSQL's worst guesses are about them.
async fn fresh() -> (Database, PostgresHistory) {
    let database = shared().await.unwrap().database().await.unwrap();
    let settings = PostgresSettings::parse(database.url()).unwrap();
    let history = PostgresHistory::open(&settings).await.unwrap();
    for day in 20_000..20_004 {
        let now = UnixMillis(day * super::days::DAY_MS);
        let event = crate::history::Record::Settled(crate::history::Settled {
            delivery: crate::history::DeliveryKey {
                event: crate::history::EventRef {
                    application: hooklane_types::ApplicationId::parse("app").unwrap(),
                    id: EventId::parse("msg_1").unwrap(),
                    accepted_at: now,
                },
                endpoint: EndpointId::parse("ep_1").unwrap(),
                target: 0,
                run: 0,
            },
            at: now,
            reason: hooklane_types::DeadReason::Expired,
        });
        history.record([event].into(), now).await.unwrap();
    }
    (database, history)
}

/// A partition of this table.
fn of_a_day(table: &str) -> String {
    format!("{table}_20241005")
}

/// How PostgreSQL would carry a statement out.
async fn plan(client: &Client, sql: &str) -> String {
    client
        .batch_execute(&format!("PREPARE it AS {sql}"))
        .await
        .unwrap();
    let types: Vec<Type> = client.prepare(sql).await.unwrap().params().to_vec();
    let nulls = vec!["NULL"; types.len()].join(", ");
    let explained = client
        .query(&format!("EXPLAIN EXECUTE it({nulls})"), &[])
        .await
        .unwrap();
    client.batch_execute("DEALLOCATE it").await.unwrap();
    let steps: Vec<String> = explained.iter().map(|row| row.get(0)).collect();
    steps.join("\n")
}

/// Of the indexes that a plan names.
fn indexes(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines()
        .filter_map(|line| line.split_once(" using ")?.1.split(' ').next())
}

#[tokio::test]
async fn a_row_is_looked_up_along_the_primary_key_whatever_is_known_of_a_day() {
    // Goal: what is recorded costs the same however much the day has already. Along another index each look-up would walk through all of it.
    let (_database, history) = fresh().await;
    let client = history.connections.get().await.unwrap();
    let event = AttemptsOf::Event(EventId::parse("msg_1").unwrap(), None);
    let event_at_endpoint = AttemptsOf::Event(
        EventId::parse("msg_1").unwrap(),
        Some(EndpointId::parse("ep_1").unwrap()),
    );
    for sql in [
        read::events_sql(&of_a_day("events")),
        read::events_elsewhere_sql(),
        read::attempts_sql(&of_a_day("attempts")),
        read::runs_sql(&of_a_day("deliveries")),
        read::standings_sql(&of_a_day("destinations")),
        lists::event_sql(),
        lists::attempt_sql(),
        lists::payloads_sql(),
        lists::answers_sql(),
        lists::attempts_sql(&event, false, Direction::Ascending),
        lists::attempts_sql(&event, false, Direction::Descending),
        lists::attempts_sql(&event_at_endpoint, false, Direction::Ascending),
        lists::outcomes_sql(),
        write::EARLIER.to_owned(),
        forget::EXPUNGE_PAYLOAD.to_owned(),
        forget::EXPUNGE_ANSWER.to_owned(),
        forget::ATTEMPTS.to_owned(),
        forget::gone_sql("deliveries", "event"),
        forget::gone_sql("destinations", "event"),
        forget::gone_sql("events", "id"),
    ] {
        let plan = plan(&client, &sql).await;
        let found: Vec<&str> = indexes(&plan).collect();
        assert!(
            !found.is_empty() && found.iter().all(|index| index.ends_with("_pkey")),
            "{plan}\nfor {sql}"
        );
        assert!(!plan.contains("Seq Scan"), "{plan}\nfor {sql}");
    }
}

#[tokio::test]
async fn every_list_walks_along_an_index_and_sorts_nothing() {
    // Goal: a page costs its rows, however long the list is. Method: PostgreSQL says for each statement how it would be carried out.
    let (_database, history) = fresh().await;
    let endpoint = AttemptsOf::Endpoint(EndpointId::parse("ep_1").unwrap());
    let mut expected = vec![
        (lists::STATS.to_owned(), "endpoint_application_status_event_at_"),
        (forget::OLDEST.to_owned(), "at_ms_idx"),
    ];
    for direction in [Direction::Ascending, Direction::Descending] {
        expected.extend([
            (lists::events_sql(false, direction), "application_at_ms_id"),
            (
                lists::events_sql(true, direction),
                "application_event_type_at_ms_id",
            ),
            (
                lists::attempts_sql(&endpoint, false, direction),
                "endpoint_application_at_ms_id",
            ),
            (
                lists::attempts_sql(&endpoint, true, direction),
                "endpoint_application_at_ms_id",
            ),
            (
                lists::endpoint_events_sql(false, direction),
                "endpoint_application_status_event_at_",
            ),
            (
                lists::endpoint_events_sql(true, direction),
                "endpoint_application_status_event_at_",
            ),
            (lists::destinations_sql(direction), "pkey"),
        ]);
    }
    let client = history.connections.get().await.unwrap();
    for (sql, index) in expected {
        let plan = plan(&client, &sql).await;
        assert!(plan.contains(index), "{plan}\nfor {sql}");
        let is_right = |found: &str| found.contains(index) || found.ends_with("_pkey");
        assert!(indexes(&plan).all(is_right), "{plan}\nfor {sql}");
        assert!(plan.contains("Merge Append"), "{plan}\nfor {sql}");
        for bad in ["Seq Scan", "Sort  ", "Hash Join", "Merge Join", "Bitmap"] {
            assert!(!plan.contains(bad), "{plan}\nfor {sql}");
        }
    }
}
