//! What is asked. Each list walks along one index, from where the page begins, and stops when the page is full. Payloads and answers are read
//! apart, when it is known which of them have room.

use std::collections::HashMap;

use bytes::Bytes;
use deadpool_postgres::Client;
use hooklane_types::{ApplicationId, AttemptId, Channel, EndpointId, EventId, EventType, UnixMillis};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::FIRST;
use super::by_key;
use super::rows::{self, number, status_number};
use crate::catalog::Direction;
use crate::history::{
    AttemptFilter, AttemptsOf, Destination, EndpointEvent, EndpointEventFilter, EventFilter, FoundAttempt,
    FoundEvent, FoundOutcome, PAGE_BYTES_MAX, PAGE_ROWS_MAX, Page, Payload, Position, Range, SCAN_ROWS_MAX,
    Slice, Status, StatusClass,
};
use crate::postgres::error::Fault;

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Most rows that are counted in one go.
const COUNT_ROWS_MAX: i64 = 20_000;
/// Rows that are looked at together where a filter leaves few.
const CHUNK: usize = 1_000;

/// Parameters 1 to 5 are the application and the places between which the page lies, 6 is how many; 7 and 8 say whose list it is.
fn between(at: &str, id: &str, direction: Direction) -> String {
    let order = order(direction);
    format!(
        "({at}, {id}) > ($2, $3) AND ({at}, {id}) < ($4, $5) ORDER BY {at} {order}, {id} {order} LIMIT $6"
    )
}

fn order(direction: Direction) -> &'static str {
    match direction {
        Direction::Ascending => "ASC",
        Direction::Descending => "DESC",
    }
}

pub(super) fn events_sql(of_one_type: bool, direction: Direction) -> String {
    let (events, between) = (rows::EVENT, between("e.at_ms", "e.id", direction));
    let whose = match of_one_type {
        true => "e.event_type IS NOT NULL AND e.event_type = $7",
        false => "e.event_type IS NOT NULL",
    };
    format!("SELECT {events} FROM events AS e WHERE e.application = $1 AND {whose} AND {between}")
}

/// Those of an endpoint have an order by time; those of an event get it here.
pub(super) fn attempts_sql(of: &AttemptsOf, failed: bool, direction: Direction) -> String {
    let whose = match (of, failed) {
        (AttemptsOf::Event(_, None), _) => format!("({}) AS a WHERE true", by_key::attempts("$1", "$7")),
        (AttemptsOf::Event(_, Some(_)), _) => {
            format!("({}) AS a WHERE a.endpoint = $8", by_key::attempts("$1", "$7"))
        }
        (AttemptsOf::Endpoint(_), false) => {
            "attempts AS a WHERE a.application = $1 AND a.endpoint = $7".to_owned()
        }
        (AttemptsOf::Endpoint(_), true) => {
            "attempts AS a WHERE a.application = $1 AND a.endpoint = $7 AND a.failed".to_owned()
        }
    };
    let (attempts, page) = (rows::ATTEMPT, between("a.at_ms", "a.id", direction));
    let (event, order) = (by_key::event_of("a", "event"), order(direction));
    format!(
        "SELECT {attempts} FROM (SELECT * FROM {whose} AND {page}) AS a {event} ORDER BY a.at_ms {order}, a.id {order}"
    )
}

/// Those of one status, `$8`, or of all: each status has an order by time of its own, and each of them a page.
pub(super) fn endpoint_events_sql(of_one_status: bool, direction: Direction) -> String {
    let page = between("d.event_at_ms", "d.event", direction);
    let of_status = |status: &str| {
        format!(
            "(SELECT d.day, d.application, d.event, d.event_at_ms, d.status, d.next_at_ms FROM destinations AS d \
             WHERE d.application = $1 AND d.endpoint = $7 AND d.status = {status} AND {page})"
        )
    };
    let found = match of_one_status {
        true => of_status("$8"),
        false => {
            let numbers = Status::ALL.map(|status| status_number(status).to_string());
            numbers.map(|number| of_status(&number)).join(" UNION ALL ")
        }
    };
    let (events, order) = (rows::EVENT, order(direction));
    let event = by_key::event_of("d", "event");
    format!(
        "SELECT {events}, d.status, d.next_at_ms FROM ({found}) AS d {event} ORDER BY d.event_at_ms {order}, d.event {order} \
         LIMIT $6"
    )
}

/// The event stands in the comparison, so that no other index fits.
pub(super) fn destinations_sql(direction: Direction) -> String {
    let order = order(direction);
    format!(
        "SELECT endpoint, status, next_at_ms FROM destinations WHERE application = $1 AND (event, endpoint) > ($2, $3) \
         AND (event, endpoint) < ($2, $4) ORDER BY event {order}, endpoint {order} LIMIT $5"
    )
}

pub(super) fn event_sql() -> String {
    let event = by_key::event("events", "true", "$1", "$2");
    format!("SELECT {}, e.payload FROM ({event}) AS e", rows::EVENT)
}

pub(super) fn attempt_sql() -> String {
    let attempt = by_key::attempt("attempts", "true", "$1", "$2", "$3");
    let event = by_key::event_of("a", "event");
    format!("SELECT {}, a.answer FROM ({attempt}) AS a {event}", rows::ATTEMPT)
}

/// Of events that are named by day and id.
pub(super) fn payloads_sql() -> String {
    let event = by_key::event("events", "e.day = k.day", "$1", "k.id");
    format!(
        "SELECT e.id, e.payload FROM unnest($2::integer[], $3::text[]) AS k(day, id) CROSS JOIN LATERAL ({event}) AS e \
         WHERE e.payload IS NOT NULL"
    )
}

/// Of attempts that are named by day, event and id.
pub(super) fn answers_sql() -> String {
    let attempt = by_key::attempt("attempts", "a.day = k.day", "$1", "k.event", "k.id");
    format!(
        "SELECT a.event, a.id, a.answer FROM unnest($2::integer[], $3::text[], $4::text[]) AS k(day, event, id) \
         CROSS JOIN LATERAL ({attempt}) AS a WHERE a.answer IS NOT NULL"
    )
}

pub(super) fn outcomes_sql() -> String {
    let (run, destination) = (rows::RUN, by_key::destination("destinations", "$1", "$2", "$3"));
    let (first, target) = FIRST;
    format!(
        "SELECT d.run, d.target, {run} FROM deliveries AS d WHERE d.application = $1 AND d.event = $2 AND d.endpoint = $3 \
         UNION ALL SELECT {first}::bigint, {target}, {run} FROM ({destination}) AS d \
         WHERE d.last_at_ms IS NOT NULL OR d.ended_at_ms IS NOT NULL ORDER BY 1 DESC, 2 DESC LIMIT {PAGE_ROWS_MAX}"
    )
}

/// Counted along the index alone.
pub(super) const STATS: &str = "SELECT event_at_ms, event FROM destinations WHERE application = $1 AND endpoint = $7 AND status = $8 \
    AND (event_at_ms, event) > ($2, $3) AND (event_at_ms, event) < ($4, $5) ORDER BY event_at_ms, event LIMIT $6";

pub(super) async fn event(
    client: &Client,
    application: &ApplicationId,
    event: &EventId,
) -> Result<Option<FoundEvent>, Fault> {
    let sql = event_sql();
    let found = read(client, &sql, &[&application.as_str(), &event.as_str()]).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let mut found = rows::event(row, application)?;
    let payload: Option<Vec<u8>> = row.try_get(rows::EVENT_COLUMNS)?;
    fill(&mut found, payload.map(Bytes::from));
    Ok(Some(found))
}

pub(super) async fn events(
    client: &Client,
    application: &ApplicationId,
    filter: &EventFilter,
    page: &Page,
) -> Result<Slice<FoundEvent>, Fault> {
    let one_type = match &filter.event_types[..] {
        [one] => Some(one.as_str()),
        _ => None,
    };
    let sql = events_sql(one_type.is_some(), page.direction);
    let whose: Vec<&(dyn ToSql + Sync)> = one_type.iter().map(|one| one as _).collect();
    let scan = Scan {
        page,
        range: filter.range,
        at: 2,
        id: 1,
        bytes: filter.with_payload.then_some(rows::PAYLOAD_BYTES),
    };
    let keeps = |row: &Row| {
        is_of(
            row,
            rows::EVENT_TYPE,
            rows::CHANNELS,
            &filter.event_types,
            &filter.channel,
        )
    };
    let (found, more) = scan.run(client, &sql, application, &whose, keeps).await?;
    let mut rows = found
        .iter()
        .map(|row| rows::event(row, application))
        .collect::<Result<Vec<_>, Fault>>()?;
    if filter.with_payload {
        let mut payloads = payloads(client, application, &found).await?;
        rows.iter_mut().for_each(|event| {
            let payload = payloads.remove(event.id.as_str());
            fill(event, payload);
        });
    }
    Ok(Slice { rows, more })
}

pub(super) async fn attempt(
    client: &Client,
    application: &ApplicationId,
    event: &EventId,
    attempt: &AttemptId,
) -> Result<Option<FoundAttempt>, Fault> {
    let sql = attempt_sql();
    let values: Values<'_> = &[&application.as_str(), &event.as_str(), &attempt.as_str()];
    let found = read(client, &sql, values).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let mut found = rows::attempt(row, application)?;
    let answer: Option<Vec<u8>> = row.try_get(rows::ATTEMPT_CHANNELS + 1)?;
    found.attempt.answer = answer.map(Bytes::from).unwrap_or_default();
    Ok(Some(found))
}

pub(super) async fn attempts(
    client: &Client,
    application: &ApplicationId,
    of: &AttemptsOf,
    filter: &AttemptFilter,
    page: &Page,
) -> Result<Slice<FoundAttempt>, Fault> {
    let names: Vec<&str> = match of {
        AttemptsOf::Endpoint(endpoint) => vec![endpoint.as_str()],
        AttemptsOf::Event(event, None) => vec![event.as_str()],
        AttemptsOf::Event(event, Some(endpoint)) => vec![event.as_str(), endpoint.as_str()],
    };
    let whose: Vec<&(dyn ToSql + Sync)> = names.iter().map(|whose| whose as _).collect();
    let is_unsuccess = |class| class != StatusClass::Success;
    let failed = filter.delivered == Some(false) || filter.status_class.is_some_and(is_unsuccess);
    let sql = attempts_sql(of, failed, page.direction);
    let scan = Scan {
        page,
        range: filter.range,
        at: 6,
        id: 2,
        bytes: filter.with_answer.then_some(rows::ANSWER_BYTES),
    };
    let keeps =
        |row: &Row| {
            let has_status = match filter.delivered {
                None => true,
                Some(delivered) => row.try_get::<_, bool>(12)? == delivered,
            };
            let has_class = match filter.status_class {
                None => true,
                Some(class) => {
                    let code = row.try_get::<_, Option<i32>>(8)?.map(number).transpose()?;
                    StatusClass::of_code(code) == Some(class)
                }
            };
            let (event_type, channels) = (rows::ATTEMPT_EVENT_TYPE, rows::ATTEMPT_CHANNELS);
            Ok(has_status
                && has_class
                && is_of(row, event_type, channels, &filter.event_types, &filter.channel)?)
        };
    let (found, more) = scan.run(client, &sql, application, &whose, keeps).await?;
    let mut rows = found
        .iter()
        .map(|row| rows::attempt(row, application))
        .collect::<Result<Vec<_>, Fault>>()?;
    if filter.with_answer {
        let mut answers = answers(client, application, &found).await?;
        for found in &mut rows {
            let key = (
                found.attempt.delivery.event.id.as_str().to_owned(),
                found.attempt.id.as_str().to_owned(),
            );
            found.attempt.answer = answers.remove(&key).unwrap_or_default();
        }
    }
    Ok(Slice { rows, more })
}

pub(super) async fn endpoint_events(
    client: &Client,
    application: &ApplicationId,
    endpoint: &EndpointId,
    filter: &EndpointEventFilter,
    page: &Page,
) -> Result<Slice<EndpointEvent>, Fault> {
    let event = &filter.event;
    let status = filter.status.map(status_number);
    let endpoint = endpoint.as_str();
    let sql = endpoint_events_sql(status.is_some(), page.direction);
    let mut whose: Vec<&(dyn ToSql + Sync)> = vec![&endpoint];
    whose.extend(status.iter().map(|status| status as &(dyn ToSql + Sync)));
    let scan = Scan {
        page,
        range: event.range,
        at: 2,
        id: 1,
        bytes: event.with_payload.then_some(rows::PAYLOAD_BYTES),
    };
    let keeps = |row: &Row| {
        is_of(
            row,
            rows::EVENT_TYPE,
            rows::CHANNELS,
            &event.event_types,
            &event.channel,
        )
    };
    let (found, more) = scan.run(client, &sql, application, &whose, keeps).await?;
    let mut payloads = match event.with_payload {
        true => payloads(client, application, &found).await?,
        false => HashMap::new(),
    };
    let read = |row: &Row| {
        let mut found = rows::event(row, application)?;
        if event.with_payload {
            let payload = payloads.remove(found.id.as_str());
            fill(&mut found, payload);
        }
        Ok(EndpointEvent {
            event: found,
            status: rows::status(row, rows::EVENT_COLUMNS)?,
            next_attempt: row
                .try_get::<_, Option<i64>>(rows::EVENT_COLUMNS + 1)?
                .map(UnixMillis),
        })
    };
    let rows = found.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    Ok(Slice { rows, more })
}

pub(super) async fn destinations(
    client: &Client,
    application: &ApplicationId,
    event: &EventId,
    page: &Page,
) -> Result<Slice<Destination>, Fault> {
    let behind = page.behind.as_ref().map(|place| place.id.as_str());
    let (low, high) = match page.direction {
        Direction::Ascending => (behind.unwrap_or(""), "~"),
        Direction::Descending => ("", behind.unwrap_or("~")),
    };
    let limit = page.limit();
    let asked = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let values: Values<'_> = &[&application.as_str(), &event.as_str(), &low, &high, &asked];
    let mut found = read(client, &destinations_sql(page.direction), values).await?;
    let is_more = found.len() > limit;
    found.truncate(limit);
    let read = |row: &Row| {
        Ok(Destination {
            endpoint: rows::id(EndpointId::parse, row.try_get(0)?)?,
            status: rows::status(row, 1)?,
            next_attempt: row.try_get::<_, Option<i64>>(2)?.map(UnixMillis),
        })
    };
    let rows = found.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
    let more = rows.last().filter(|_| is_more).map(Destination::position);
    Ok(Slice { rows, more })
}

pub(super) async fn outcomes(
    client: &Client,
    application: &ApplicationId,
    event: &EventId,
    endpoint: &EndpointId,
) -> Result<Vec<FoundOutcome>, Fault> {
    let values: Values<'_> = &[&application.as_str(), &event.as_str(), &endpoint.as_str()];
    let found = read(client, &outcomes_sql(), values).await?;
    let mut outcomes: Vec<FoundOutcome> = Vec::with_capacity(found.len());
    for row in &found {
        let outcome = FoundOutcome {
            run: number(row.try_get::<_, i64>(0)?)?,
            target: number(row.try_get::<_, i32>(1)?)?,
            state: rows::run(row, 2)?,
        };
        match outcomes.last_mut() {
            // Of a delivery that stands in both tables.
            Some(last) if (last.run, last.target) == (outcome.run, outcome.target) => {
                last.state.add(outcome.state)
            }
            _ => outcomes.push(outcome),
        }
    }
    Ok(outcomes)
}

/// How many, up to [`COUNT_ROWS_MAX`], and the place of the last one where there may be more.
pub(super) async fn count(
    client: &Client,
    (application, endpoint, status): (&ApplicationId, &EndpointId, Status),
    range: Range,
    behind: Option<Position>,
) -> Result<(u64, Option<Position>), Fault> {
    let page = Page {
        behind,
        direction: Direction::Ascending,
        limit: 0,
    };
    let (low, high) = page.bounds(range.after, range.before);
    let sql = format!(
        "SELECT number, event_at_ms, event FROM (SELECT row_number() OVER () AS number, event_at_ms, event FROM ({STATS}) AS found) AS counted \
         ORDER BY number DESC LIMIT 1"
    );
    let (application, endpoint, status) = (application.as_str(), endpoint.as_str(), status_number(status));
    let values: Values<'_> = &[
        &application,
        &low.at.0,
        &low.id,
        &high.at.0,
        &high.id,
        &COUNT_ROWS_MAX,
        &endpoint,
        &status,
    ];
    let found = read(client, &sql, values).await?;
    let Some(row) = found.first() else {
        return Ok((0, None));
    };
    let rows: i64 = row.try_get(0)?;
    let more = match rows < COUNT_ROWS_MAX {
        true => None,
        false => Some(Position {
            at: UnixMillis(row.try_get(1)?),
            id: row.try_get(2)?,
        }),
    };
    Ok((number(rows)?, more))
}

/// Whether the row's event is of one of these types, or any where there are none, and of the channel, if there is one. A stub has neither.
fn is_of(
    row: &Row,
    event_type: usize,
    channels: usize,
    types: &[EventType],
    channel: &Option<Channel>,
) -> Result<bool, Fault> {
    if !types.is_empty() {
        let found: Option<&str> = row.try_get(event_type)?;
        if !types.iter().any(|wanted| Some(wanted.as_str()) == found) {
            return Ok(false);
        }
    }
    match channel {
        None => Ok(true),
        Some(channel) => Ok(rows::channels(row, channels)?.contains(channel)),
    }
}

/// A payload that is not there any more was expunged, or its event forgotten, between the two looks.
fn fill(event: &mut FoundEvent, payload: Option<Bytes>) {
    let is_expunged = payload.is_none() || event.is_expunged;
    if let Some(content) = &mut event.content {
        event.is_expunged = is_expunged;
        content.payload = match payload {
            Some(payload) if !is_expunged => Payload::Kept(payload),
            _ => Payload::Expunged,
        };
    }
}

/// By the event's id.
async fn payloads(
    client: &Client,
    application: &ApplicationId,
    of: &[Row],
) -> Result<HashMap<String, Bytes>, Fault> {
    let (mut day, mut id) = (Vec::new(), Vec::new());
    for row in of {
        day.push(row.try_get::<_, i32>(0)?);
        id.push(row.try_get::<_, &str>(1)?);
    }
    let found = read(client, &payloads_sql(), &[&application.as_str(), &day, &id]).await?;
    let payload = |row: &Row| Ok((row.try_get(0)?, Bytes::from(row.try_get::<_, Vec<u8>>(1)?)));
    found.iter().map(payload).collect()
}

/// By the event's and the attempt's id.
async fn answers(
    client: &Client,
    application: &ApplicationId,
    of: &[Row],
) -> Result<HashMap<(String, String), Bytes>, Fault> {
    let (mut day, mut event, mut id) = (Vec::new(), Vec::new(), Vec::new());
    for row in of {
        day.push(row.try_get::<_, i32>(0)?);
        event.push(row.try_get::<_, &str>(1)?);
        id.push(row.try_get::<_, &str>(2)?);
    }
    let values: Values<'_> = &[&application.as_str(), &day, &event, &id];
    let found = read(client, &answers_sql(), values).await?;
    let answer = |row: &Row| {
        let key = (row.try_get(0)?, row.try_get(1)?);
        Ok((key, Bytes::from(row.try_get::<_, Vec<u8>>(2)?)))
    };
    found.iter().map(answer).collect()
}

async fn read(client: &Client, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Fault> {
    let sql = client.prepare_cached(sql).await?;
    Ok(client.query(&sql, values).await?)
}

/// A walk.
struct Scan<'a> {
    page: &'a Page,
    range: Range,
    /// The column of a row's time.
    at: usize,
    /// The column of its id.
    id: usize,
    /// The column that says how long what will be read for it is.
    bytes: Option<usize>,
}

impl Scan<'_> {
    /// The page's rows, and behind which place there may be more.
    async fn run(
        &self,
        client: &Client,
        sql: &str,
        application: &ApplicationId,
        whose: Values<'_>,
        keeps: impl Fn(&Row) -> Result<bool, Fault>,
    ) -> Result<(Vec<Row>, Option<Position>), Fault> {
        let sql = client.prepare_cached(sql).await?;
        let application = application.as_str();
        let (mut low, mut high) = self.page.bounds(self.range.after, self.range.before);
        let (mut rows, mut bytes, mut scanned) = (Vec::new(), 0, 0);
        let mut last: Option<Position> = None;
        let limit = self.page.limit();
        let mut chunk = limit + 1;
        loop {
            let asked = chunk.min(SCAN_ROWS_MAX - scanned + 1);
            let asked_rows = i64::try_from(asked).unwrap_or(i64::MAX);
            let mut values: Vec<&(dyn ToSql + Sync)> = vec![
                &application,
                &low.at.0,
                &low.id,
                &high.at.0,
                &high.id,
                &asked_rows,
            ];
            values.extend(whose);
            let found = client.query(&sql, &values).await?;
            let is_end = found.len() < asked;
            for row in found {
                let is_wanted = keeps(&row)?;
                // Told only where there is a row behind it that is wanted, or that nobody has looked at.
                if scanned == SCAN_ROWS_MAX || is_wanted && (rows.len() == limit || bytes >= PAGE_BYTES_MAX) {
                    return Ok((rows, last));
                }
                scanned += 1;
                last = Some(Position {
                    at: UnixMillis(row.try_get(self.at)?),
                    id: row.try_get(self.id)?,
                });
                if is_wanted {
                    if let Some(column) = self.bytes {
                        let more: Option<i32> = row.try_get(column)?;
                        bytes += usize::try_from(more.unwrap_or_default()).unwrap_or_default();
                    }
                    rows.push(row);
                }
            }
            if is_end {
                return Ok((rows, None));
            }
            match (&last, self.page.direction) {
                (None, _) => {}
                (Some(last), Direction::Ascending) => low = last.clone(),
                (Some(last), Direction::Descending) => high = last.clone(),
            }
            chunk = CHUNK;
        }
    }
}
