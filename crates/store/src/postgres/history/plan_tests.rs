//! How PostgreSQL goes about it.

use hooklane_testkit::postgres::shared;
use hooklane_types::{EndpointId, EventId, UnixMillis};
use tokio_postgres::types::Type;

use super::{PostgresHistory, forget, lists};
use crate::catalog::Direction;
use crate::history::{AttemptsOf, History};
use crate::postgres::PostgresSettings;

#[tokio::test]
async fn every_list_walks_along_an_index_and_sorts_nothing() {
    // Goal: a page costs its rows, however long the list is. Method: PostgreSQL says for each statement how it would be carried out, over several
    // days that have nothing yet: its worst guess.
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
    let event = AttemptsOf::Event(EventId::parse("msg_1").unwrap(), None);
    let endpoint = AttemptsOf::Endpoint(EndpointId::parse("ep_1").unwrap());
    let mut expected = vec![
        (lists::STATS.to_owned(), "application_endpoint_status_event_at_"),
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
                lists::attempts_sql(&event, false, direction),
                "application_event_at_ms_id",
            ),
            (
                lists::attempts_sql(&endpoint, false, direction),
                "application_endpoint_at_ms_id",
            ),
            (
                lists::attempts_sql(&endpoint, true, direction),
                "application_endpoint_at_ms_id",
            ),
            (
                lists::endpoint_events_sql(false, direction),
                "application_endpoint_event_at_ms",
            ),
            (
                lists::endpoint_events_sql(true, direction),
                "application_endpoint_status_event_at_",
            ),
            (lists::destinations_sql(direction), "pkey"),
        ]);
    }
    let client = history.connections.get().await.unwrap();
    for (n, (sql, index)) in expected.into_iter().enumerate() {
        client
            .batch_execute(&format!("PREPARE list_{n} AS {sql}"))
            .await
            .unwrap();
        let types: Vec<Type> = client.prepare(&sql).await.unwrap().params().to_vec();
        let nulls = vec!["NULL"; types.len()].join(", ");
        let explained = client
            .query(&format!("EXPLAIN EXECUTE list_{n}({nulls})"), &[])
            .await
            .unwrap();
        let steps: Vec<String> = explained.iter().map(|row| row.get(0)).collect();
        let plan = steps.join("\n");
        assert!(plan.contains(index), "{plan}\nfor {sql}");
        assert!(plan.contains("Merge Append"), "{plan}\nfor {sql}");
        for bad in ["Seq Scan", "Sort  ", "Hash Join", "Merge Join", "Bitmap"] {
            assert!(!plan.contains(bad), "{plan}\nfor {sql}");
        }
    }
}
