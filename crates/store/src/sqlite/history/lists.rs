//! Lists: each walks along one index, from where the page begins, and stops when the page is full.

use hooklane_types::{ApplicationId, Channel, EndpointId, EventId, EventType, UnixMillis};
use rusqlite::{Connection, Result, Row, ToSql, params};

use super::rows::{self, status_number};
use crate::catalog::Direction;
use crate::history::{
    AttemptFilter, AttemptsOf, Destination, EndpointEvent, EndpointEventFilter, EventFilter, FoundAttempt,
    FoundEvent, PAGE_BYTES_MAX, Page, Payload, Position, SCAN_ROWS_MAX, Slice, StatusClass,
};

/// Parameters 1 to 5 are the application and the places between which the page lies; 6 and 7 say whose list it is.
fn between(at: &str, id: &str, direction: Direction) -> String {
    let order = order(direction);
    format!("({at}, {id}) > (?2, ?3) AND ({at}, {id}) < (?4, ?5) ORDER BY {at} {order}, {id} {order}")
}

fn order(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => "ASC",
        Direction::Descending => "DESC",
    }
}

pub(super) fn events_sql(of_one_type: bool, direction: Direction) -> String {
    let (events, between) = (rows::EVENT, between("e.at_ms", "e.id", direction));
    let (index, whose) = match of_one_type {
        true => ("events_by_type", "e.event_type = ?6"),
        false => ("events_by_time", "e.event_type IS NOT NULL"),
    };
    format!(
        "SELECT {events} FROM events AS e INDEXED BY {index} WHERE e.application = ?1 AND {whose} AND {between}"
    )
}

pub(super) fn attempts_sql(of: &AttemptsOf, failed: bool, direction: Direction) -> String {
    let (attempts, between) = (rows::ATTEMPT, between("a.at_ms", "a.id", direction));
    let (index, whose) = match (of, failed) {
        (AttemptsOf::Event(..), _) => ("attempts_by_event", "a.event = ?6"),
        (AttemptsOf::Endpoint(_), false) => ("attempts_by_endpoint", "a.endpoint = ?6"),
        (AttemptsOf::Endpoint(_), true) => ("attempts_failed", "a.endpoint = ?6 AND a.failed = 1"),
    };
    format!(
        "SELECT {attempts} FROM attempts AS a INDEXED BY {index} CROSS JOIN events AS e ON e.application = a.application AND e.id = a.event \
         WHERE a.application = ?1 AND {whose} AND {between}"
    )
}

pub(super) fn endpoint_events_sql(of_one_status: bool, direction: Direction) -> String {
    let (events, between) = (rows::EVENT, between("d.event_at_ms", "d.event", direction));
    let (index, status) = match of_one_status {
        true => ("destinations_by_status", "AND d.status = ?7"),
        false => ("destinations_by_time", ""),
    };
    format!(
        "SELECT {events}, d.status, d.next_at_ms FROM destinations AS d INDEXED BY {index} CROSS JOIN events AS e \
         ON e.application = d.application AND e.id = d.event WHERE d.application = ?1 AND d.endpoint = ?6 {status} AND {between}"
    )
}

pub(super) fn destinations_sql(direction: Direction) -> String {
    let order = order(direction);
    format!(
        "SELECT endpoint, status, next_at_ms FROM destinations WHERE application = ?1 AND event = ?2 AND endpoint > ?3 AND endpoint < ?4 \
         ORDER BY endpoint {order}"
    )
}

/// Counted along the index alone.
pub(super) const STATS: &str = "SELECT event_at_ms, event FROM destinations INDEXED BY destinations_by_status \
                                WHERE application = ?1 AND endpoint = ?6 AND status = ?7 \
                                AND (event_at_ms, event) > (?2, ?3) AND (event_at_ms, event) < (?4, ?5) ORDER BY event_at_ms, event LIMIT ?8";

pub(super) fn events(
    connection: &Connection,
    application: &ApplicationId,
    filter: &EventFilter,
    page: &Page,
) -> Result<Slice<FoundEvent>> {
    let (low, high) = page.bounds(filter.range.after, filter.range.before);
    let one_type = match &filter.event_types[..] {
        [one] => Some(one.as_str()),
        _ => None,
    };
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let application = application.as_str();
    values.extend::<[&dyn ToSql; 5]>([&application, &low.at.0, &low.id, &high.at.0, &high.id]);
    values.extend(one_type.as_ref().map(|one| one as &dyn ToSql));
    let scan = Scan {
        page,
        place: |row: &Row<'_>| place(row, 2, 1),
        keeps: |row: &Row<'_>| {
            is_of(
                row,
                rows::EVENT_TYPE,
                rows::CHANNELS,
                &filter.event_types,
                &filter.channel,
            )
        },
        read: |row: &Row<'_>| rows::event(row, 0, filter.with_payload),
        bytes: event_bytes,
    };
    scan.run(
        connection,
        &events_sql(one_type.is_some(), page.direction),
        &values,
    )
}

pub(super) fn attempts(
    connection: &Connection,
    application: &ApplicationId,
    of: &AttemptsOf,
    filter: &AttemptFilter,
    page: &Page,
) -> Result<Slice<FoundAttempt>> {
    let (low, high) = page.bounds(filter.range.after, filter.range.before);
    let (whose, endpoint) = match of {
        AttemptsOf::Endpoint(endpoint) => (endpoint.as_str(), None),
        AttemptsOf::Event(event, endpoint) => (event.as_str(), endpoint.as_ref()),
    };
    let is_unsuccess = |class| class != StatusClass::Success;
    let failed = filter.delivered == Some(false) || filter.status_class.is_some_and(is_unsuccess);
    let scan = Scan {
        page,
        place: |row: &Row<'_>| place(row, 6, 2),
        keeps: |row: &Row<'_>| {
            let is_of_endpoint = match endpoint {
                None => true,
                Some(endpoint) => row.get_ref(3)?.as_str()? == endpoint.as_str(),
            };
            let has_status = match filter.delivered {
                None => true,
                Some(delivered) => row.get::<_, bool>(12)? == delivered,
            };
            let has_class = match filter.status_class {
                None => true,
                Some(class) => StatusClass::of_code(row.get(8)?) == Some(class),
            };
            let (types, channel) = (&filter.event_types, &filter.channel);
            Ok(is_of_endpoint
                && has_status
                && has_class
                && is_of(
                    row,
                    rows::ATTEMPT_EVENT_TYPE,
                    rows::ATTEMPT_CHANNELS,
                    types,
                    channel,
                )?)
        },
        read: |row: &Row<'_>| rows::attempt(row, filter.with_answer),
        bytes: |found: &FoundAttempt| found.attempt.answer.len() + found.attempt.url.len(),
    };
    let values = params![application.as_str(), low.at.0, low.id, high.at.0, high.id, whose];
    scan.run(connection, &attempts_sql(of, failed, page.direction), values)
}

pub(super) fn endpoint_events(
    connection: &Connection,
    application: &ApplicationId,
    endpoint: &EndpointId,
    filter: &EndpointEventFilter,
    page: &Page,
) -> Result<Slice<EndpointEvent>> {
    let event = &filter.event;
    let (low, high) = page.bounds(event.range.after, event.range.before);
    let status = filter.status.map(status_number);
    let (application, endpoint) = (application.as_str(), endpoint.as_str());
    let mut values: Vec<&dyn ToSql> = Vec::new();
    values.extend::<[&dyn ToSql; 6]>([&application, &low.at.0, &low.id, &high.at.0, &high.id, &endpoint]);
    values.extend(status.as_ref().map(|status| status as &dyn ToSql));
    let scan = Scan {
        page,
        place: |row: &Row<'_>| place(row, 2, 1),
        keeps: |row: &Row<'_>| {
            is_of(
                row,
                rows::EVENT_TYPE,
                rows::CHANNELS,
                &event.event_types,
                &event.channel,
            )
        },
        read: |row: &Row<'_>| {
            Ok(EndpointEvent {
                event: rows::event(row, 0, event.with_payload)?,
                status: rows::status(row, rows::EVENT_COLUMNS)?,
                next_attempt: row
                    .get::<_, Option<i64>>(rows::EVENT_COLUMNS + 1)?
                    .map(UnixMillis),
            })
        },
        bytes: |found: &EndpointEvent| event_bytes(&found.event),
    };
    scan.run(
        connection,
        &endpoint_events_sql(status.is_some(), page.direction),
        &values,
    )
}

pub(super) fn destinations(
    connection: &Connection,
    application: &ApplicationId,
    event: &EventId,
    page: &Page,
) -> Result<Slice<Destination>> {
    let behind = page.behind.as_ref().map(|place| place.id.as_str());
    let (low, high) = match page.direction {
        Direction::Ascending => (behind.unwrap_or(""), "~"),
        Direction::Descending => ("", behind.unwrap_or("~")),
    };
    let scan = Scan {
        page,
        place: |row: &Row<'_>| {
            Ok(Position {
                at: UnixMillis(0),
                id: row.get(0)?,
            })
        },
        keeps: |_: &Row<'_>| Ok(true),
        read: |row: &Row<'_>| {
            Ok(Destination {
                endpoint: rows::id(EndpointId::parse, &row.get::<_, String>(0)?)?,
                status: rows::status(row, 1)?,
                next_attempt: row.get::<_, Option<i64>>(2)?.map(UnixMillis),
            })
        },
        bytes: |_: &Destination| 0,
    };
    let values = params![application.as_str(), event.as_str(), low, high];
    scan.run(connection, &destinations_sql(page.direction), values)
}

fn place(row: &Row<'_>, at: usize, id: usize) -> Result<Position> {
    Ok(Position {
        at: UnixMillis(row.get(at)?),
        id: row.get(id)?,
    })
}

/// Whether the row's event is of one of these types, or any where there are none, and of the channel, if there is one. A stub has neither.
fn is_of(
    row: &Row<'_>,
    event_type: usize,
    channels: usize,
    types: &[EventType],
    channel: &Option<Channel>,
) -> Result<bool> {
    if !types.is_empty() {
        let found = row.get_ref(event_type)?.as_str_or_null()?;
        if !types.iter().any(|wanted| Some(wanted.as_str()) == found) {
            return Ok(false);
        }
    }
    match channel {
        None => Ok(true),
        Some(channel) => Ok(rows::channels(row, channels)?.contains(channel)),
    }
}

fn event_bytes(event: &FoundEvent) -> usize {
    match event.content.as_ref().map(|content| &content.payload) {
        Some(Payload::Kept(payload)) => payload.len(),
        _ => 0,
    }
}

/// A walk.
struct Scan<'a, P, K, R, B> {
    page: &'a Page,
    /// Where the row stands in the list.
    place: P,
    /// Whether it is wanted.
    keeps: K,
    read: R,
    /// How long what was read is, beside what every row has.
    bytes: B,
}

impl<P, K, R, B> Scan<'_, P, K, R, B> {
    fn run<T>(self, connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Slice<T>>
    where
        P: Fn(&Row<'_>) -> Result<Position>,
        K: Fn(&Row<'_>) -> Result<bool>,
        R: Fn(&Row<'_>) -> Result<T>,
        B: Fn(&T) -> usize,
    {
        let mut statement = connection.prepare_cached(sql)?;
        let mut found = statement.query(values)?;
        let (mut rows, mut bytes, mut scanned) = (Vec::new(), 0, 0);
        let mut last = None;
        let limit = self.page.limit();
        while let Some(row) = found.next()? {
            let is_wanted = (self.keeps)(row)?;
            // Told only where there is a row behind it that is wanted, or that nobody has looked at.
            if scanned == SCAN_ROWS_MAX || is_wanted && (rows.len() == limit || bytes >= PAGE_BYTES_MAX) {
                return Ok(Slice { rows, more: last });
            }
            scanned += 1;
            last = Some((self.place)(row)?);
            if is_wanted {
                let read = (self.read)(row)?;
                bytes += (self.bytes)(&read);
                rows.push(read);
            }
        }
        Ok(Slice { rows, more: None })
    }
}
