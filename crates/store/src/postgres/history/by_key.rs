//! A row by its key, found along the primary key and no other index.
//!
//! A day's tables are empty when statements about them are planned, and until somebody has counted their rows every index that begins with the
//! application is as good to the planner as the primary key. A look-up along one of those walks through all of the day: so each asks for an
//! order that the primary key alone has. The other indexes of attempts and destinations begin with the
//! endpoint, and tempt only where that is known as well.

/// Of `events` or a partition of it, the event with this application and id, on a day of which this is true.
pub(super) fn event(events: &str, day: &str, application: &str, id: &str) -> String {
    format!(
        "SELECT * FROM {events} AS e WHERE {day} AND e.application = {application} AND e.id >= {id} AND e.id <= {id} \
         ORDER BY e.id LIMIT 1"
    )
}

/// Of `attempts` or a partition of it, an event's attempt with this id, on a day of which this is true.
pub(super) fn attempt(attempts: &str, day: &str, application: &str, event: &str, id: &str) -> String {
    format!(
        "SELECT * FROM {attempts} AS a WHERE {day} AND a.application = {application} AND a.event = {event} AND a.id >= {id} AND a.id <= {id} \
         ORDER BY a.id LIMIT 1"
    )
}

/// All attempts of an event.
pub(super) fn attempts(application: &str, event: &str) -> String {
    format!(
        "SELECT * FROM attempts AS a WHERE a.application = {application} AND a.event >= {event} AND a.event <= {event} ORDER BY a.event, a.id"
    )
}

/// Of `destinations` or a partition of it, where this event stands at this endpoint.
pub(super) fn destination(destinations: &str, application: &str, event: &str, endpoint: &str) -> String {
    format!(
        "SELECT * FROM {destinations} AS d WHERE d.application = {application} AND d.event >= {event} AND d.event <= {event} \
         AND d.endpoint = {endpoint} ORDER BY d.event LIMIT 1"
    )
}

/// A row's event; `of` is the row, and `id` the column that names the event.
pub(super) fn event_of(of: &str, id: &str) -> String {
    let event = event(
        "events",
        &format!("e.day = {of}.day"),
        &format!("{of}.application"),
        &format!("{of}.{id}"),
    );
    format!("CROSS JOIN LATERAL ({event}) AS e")
}
