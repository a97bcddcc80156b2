//! How SQLite goes about it.

use rusqlite::Connection;

use super::{file, forget, lists};
use crate::catalog::Direction;
use crate::history::AttemptsOf;
use hooklane_types::{EndpointId, EventId};

#[test]
fn every_list_walks_along_an_index_and_sorts_nothing() {
    // Goal: a page costs its rows, however long the list is. Method: SQLite says for each statement how it would be carried out.
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(&file::schema()).unwrap();
    let event = AttemptsOf::Event(EventId::parse("msg_1").unwrap(), None);
    let endpoint = AttemptsOf::Endpoint(EndpointId::parse("ep_1").unwrap());
    let mut expected = vec![
        (
            lists::STATS.to_owned(),
            "COVERING INDEX destinations_by_status (application=? AND endpoint=? AND status=? AND (event_at_ms,event)",
        ),
        (forget::OLDEST.to_owned(), "INDEX events_by_age (at_ms<?)"),
    ];
    for direction in [Direction::Ascending, Direction::Descending] {
        expected.extend([
            (lists::events_sql(false, direction), "INDEX events_by_time (application=? AND (at_ms,id)"),
            (lists::events_sql(true, direction), "INDEX events_by_type (application=? AND event_type=? AND (at_ms,id)"),
            (lists::attempts_sql(&event, false, direction), "INDEX attempts_by_event (application=? AND event=? AND (at_ms,id)"),
            (lists::attempts_sql(&endpoint, false, direction), "INDEX attempts_by_endpoint (application=? AND endpoint=? AND (at_ms,id)"),
            (lists::attempts_sql(&endpoint, true, direction), "INDEX attempts_failed (application=? AND endpoint=? AND (at_ms,id)"),
            (lists::endpoint_events_sql(false, direction), "INDEX destinations_by_time (application=? AND endpoint=? AND (event_at_ms,event)"),
            (lists::endpoint_events_sql(true, direction), "INDEX destinations_by_status (application=? AND endpoint=? AND status=? AND (event_at_ms,event)"),
            (lists::destinations_sql(direction), "PRIMARY KEY (application=? AND event=? AND endpoint>? AND endpoint<?)"),
        ]);
    }
    for (sql, index) in expected {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = statement.parameter_count();
        let steps: Vec<String> = statement
            .query_map(rusqlite::params_from_iter(vec![0; count]), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(steps[0].contains(index), "{steps:?} for {sql}");
        for step in &steps {
            assert!(step.starts_with("SEARCH "), "{steps:?} for {sql}");
        }
        // Both ends of the page are ends of the walk.
        assert!(steps[0].contains('<'), "{steps:?} for {sql}");
    }
}
