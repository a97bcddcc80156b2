//! History in `history.sqlite`, for one process with a data directory.
//!
//! One thread owns the file. Each part of a batch is one transaction with an `fsync`; what is asked meanwhile waits for it, no longer.

mod file;
mod forget;
mod lists;
#[cfg(test)]
mod plan_tests;
mod rows;
mod thread;
mod write;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use hooklane_sqlite::FileError;
use hooklane_types::{ApplicationId, AttemptId, EndpointId, EventId, UnixMillis};
use rusqlite::{Connection, OptionalExtension, params};

pub use file::{FILE, find, inspect};

use self::file::{HistoryFile, failed};
use self::thread::Owner;
use crate::history::{
    AttemptFilter, AttemptsOf, Destination, EndpointEvent, EndpointEventFilter, EventFilter, FoundAttempt,
    FoundEvent, FoundOutcome, History, HistoryError, PAGE_ROWS_MAX, Page, Position, Range, Record, Recorded,
    Slice, Stats, Status, part_of,
};

/// Most rows that are counted in one go.
const COUNT_ROWS_MAX: usize = 20_000;

/// The history of one process.
pub struct SqliteHistory {
    owner: Owner,
}

impl SqliteHistory {
    /// Opens the file, makes it if there is none, and starts the thread that owns it. The caller holds the directory's lock. To be called
    /// where waiting for a disk does no harm: the whole file is read once. When it is dropped, what was asked for is done first.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(directory: &Path) -> Result<SqliteHistory, FileError> {
        let owner = Owner::start(HistoryFile::open(directory)?, directory)?;
        Ok(SqliteHistory { owner })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, HistoryError> {
        self.owner
            .call(move |file| work(&file.connection).map_err(failed))
            .await
    }
}

#[async_trait]
impl History for SqliteHistory {
    async fn record(&self, batch: Arc<[Record]>, now: UnixMillis) -> Result<Recorded, HistoryError> {
        let mut recorded = Recorded::default();
        let mut first = 0;
        while first < batch.len() {
            let end = first + part_of(&batch[first..]);
            let batch = batch.clone();
            let part = self.owner.call(move |file| {
                file.has_room()?;
                write::record(&mut file.connection, &batch[first..end], first, now).map_err(failed)
            });
            first = end;
            recorded.add(part.await?);
        }
        Ok(recorded)
    }

    async fn event(
        &self,
        application: &ApplicationId,
        event: &EventId,
    ) -> Result<Option<FoundEvent>, HistoryError> {
        let (application, event) = (application.clone(), event.clone());
        let sql = format!(
            "SELECT {} FROM events AS e WHERE application = ?1 AND id = ?2",
            rows::EVENT
        );
        self.read(move |connection| {
            connection
                .prepare_cached(&sql)?
                .query_row(params![application.as_str(), event.as_str()], |row| {
                    rows::event(row, 0, true)
                })
                .optional()
        })
        .await
    }

    async fn events(
        &self,
        application: &ApplicationId,
        filter: &EventFilter,
        page: &Page,
    ) -> Result<Slice<FoundEvent>, HistoryError> {
        let (application, filter, page) = (application.clone(), filter.clone(), page.clone());
        self.read(move |connection| lists::events(connection, &application, &filter, &page))
            .await
    }

    async fn attempt(
        &self,
        application: &ApplicationId,
        event: &EventId,
        attempt: &AttemptId,
    ) -> Result<Option<FoundAttempt>, HistoryError> {
        let (application, event, attempt) = (application.clone(), event.clone(), attempt.clone());
        let sql = format!(
            "SELECT {} FROM attempts AS a CROSS JOIN events AS e ON e.application = a.application AND e.id = a.event \
             WHERE a.application = ?1 AND a.event = ?2 AND a.id = ?3",
            rows::ATTEMPT
        );
        self.read(move |connection| {
            let values = params![application.as_str(), event.as_str(), attempt.as_str()];
            connection
                .prepare_cached(&sql)?
                .query_row(values, |row| rows::attempt(row, true))
                .optional()
        })
        .await
    }

    async fn attempts(
        &self,
        application: &ApplicationId,
        of: &AttemptsOf,
        filter: &AttemptFilter,
        page: &Page,
    ) -> Result<Slice<FoundAttempt>, HistoryError> {
        let (application, of, filter, page) = (application.clone(), of.clone(), filter.clone(), page.clone());
        self.read(move |connection| lists::attempts(connection, &application, &of, &filter, &page))
            .await
    }

    async fn endpoint_events(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        filter: &EndpointEventFilter,
        page: &Page,
    ) -> Result<Slice<EndpointEvent>, HistoryError> {
        let (application, endpoint, filter, page) = (
            application.clone(),
            endpoint.clone(),
            filter.clone(),
            page.clone(),
        );
        self.read(move |connection| {
            lists::endpoint_events(connection, &application, &endpoint, &filter, &page)
        })
        .await
    }

    async fn destinations(
        &self,
        application: &ApplicationId,
        event: &EventId,
        page: &Page,
    ) -> Result<Slice<Destination>, HistoryError> {
        let (application, event, page) = (application.clone(), event.clone(), page.clone());
        self.read(move |connection| lists::destinations(connection, &application, &event, &page))
            .await
    }

    async fn outcomes(
        &self,
        application: &ApplicationId,
        event: &EventId,
        endpoint: &EndpointId,
    ) -> Result<Vec<FoundOutcome>, HistoryError> {
        let (application, event, endpoint) = (application.clone(), event.clone(), endpoint.clone());
        let sql = format!(
            "SELECT run, target, {} FROM deliveries WHERE application = ?1 AND event = ?2 AND endpoint = ?3 \
             ORDER BY run DESC, target DESC LIMIT {PAGE_ROWS_MAX}",
            rows::RUN
        );
        self.read(move |connection| {
            let values = params![application.as_str(), event.as_str(), endpoint.as_str()];
            connection
                .prepare_cached(&sql)?
                .query_map(values, |row| {
                    Ok(FoundOutcome {
                        run: row.get(0)?,
                        target: row.get(1)?,
                        state: rows::run(row, 2)?,
                    })
                })?
                .collect()
        })
        .await
    }

    async fn stats(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        range: Range,
    ) -> Result<Stats, HistoryError> {
        let mut stats = Stats::default();
        for status in Status::ALL {
            // What is written meanwhile waits for one step, not for all.
            let mut behind = None;
            loop {
                let (application, endpoint) = (application.clone(), endpoint.clone());
                let from = behind.take();
                let counted = self.read(move |connection| {
                    count(connection, (&application, &endpoint, status), range, from)
                });
                let (rows, last) = counted.await?;
                *stats.of(status) += rows as u64;
                if rows < COUNT_ROWS_MAX {
                    break;
                }
                behind = last;
            }
        }
        Ok(stats)
    }

    async fn expunge_payload(
        &self,
        application: &ApplicationId,
        event: &EventId,
    ) -> Result<bool, HistoryError> {
        let (application, event) = (application.clone(), event.clone());
        self.owner
            .call(move |file| forget::expunge_payload(file, &application, &event).map_err(failed))
            .await
    }

    async fn expunge_answer(
        &self,
        application: &ApplicationId,
        event: &EventId,
        attempt: &AttemptId,
    ) -> Result<bool, HistoryError> {
        let (application, event, attempt) = (application.clone(), event.clone(), attempt.clone());
        self.owner
            .call(move |file| forget::expunge_answer(file, &application, &event, &attempt).map_err(failed))
            .await
    }

    async fn forget(&self, before: UnixMillis, rows_max: usize) -> Result<bool, HistoryError> {
        self.owner
            .call(move |file| forget::forget(&mut file.connection, before, rows_max).map_err(failed))
            .await
    }
}

/// How many, up to [`COUNT_ROWS_MAX`], and the place of the last one.
fn count(
    connection: &Connection,
    (application, endpoint, status): (&ApplicationId, &EndpointId, Status),
    range: Range,
    behind: Option<Position>,
) -> rusqlite::Result<(usize, Option<Position>)> {
    let page = Page {
        behind,
        direction: crate::catalog::Direction::Ascending,
        limit: 0,
    };
    let (low, high) = page.bounds(range.after, range.before);
    let mut statement = connection.prepare_cached(lists::STATS)?;
    let mut found = statement.query(params![
        application.as_str(),
        low.at.0,
        low.id,
        high.at.0,
        high.id,
        endpoint.as_str(),
        rows::status_number(status),
        COUNT_ROWS_MAX as i64,
    ])?;
    let mut rows = 0;
    while let Some(row) = found.next()? {
        rows += 1;
        if rows == COUNT_ROWS_MAX {
            let at = UnixMillis(row.get(0)?);
            return Ok((rows, Some(Position { at, id: row.get(1)? })));
        }
    }
    Ok((rows, None))
}
