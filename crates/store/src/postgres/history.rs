//! History in PostgreSQL, for any number of processes.
//!
//! - Tables that grow are partitioned by day (see `days`). Partitions are made when a record of their day may come, one day ahead.
//! - Who writes holds one lock: what is kept follows from what is there, see [`crate::history::merge`]. Readers hold none, and wait for nobody.
//! - A part of a batch is one transaction. Each of its statements reads or writes all of it that is of one day, and a part has few days.
//! - A row that the server refuses is found by halving.

mod batch;
mod by_key;
mod columns;
mod days;
mod forget;
mod lists;
#[cfg(test)]
mod plan_tests;
mod read;
mod rows;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use hooklane_types::{ApplicationId, AttemptId, EndpointId, EventId, UnixMillis};

use super::error::{Fault, PostgresError};
use super::migrations;
use super::pool::Connections;
use super::settings::PostgresSettings;
use crate::history::{
    AttemptFilter, AttemptsOf, Destination, EndpointEvent, EndpointEventFilter, EventFilter, FoundAttempt,
    FoundEvent, FoundOutcome, History, HistoryError, Page, Problem, Range, Record, Recorded, Refused, Slice,
    Stats, Status, part_of,
};

/// Every statement walks along an index, whatever the server guesses of partitions that were empty when it looked. A plan is made once for a
/// connection and a set of partitions, not for each call. Whoever waited for the lock sees what was written meanwhile.
const SESSION: &str = "-c default_transaction_isolation=read\\ committed -c plan_cache_mode=force_generic_plan -c jit=off -c enable_seqscan=off -c enable_bitmapscan=off \
                       -c enable_hashjoin=off -c enable_mergejoin=off -c enable_sort=off -c enable_incremental_sort=off";

/// Does something with a connection, within the deadline of a call.
macro_rules! call {
    ($history:ident, mut $client:ident => $work:expr) => {{
        let mut $client = $history.connections.get().await?;
        let done = $history.connections.limit($work).await;
        $history.connections.put_back($client, done)
    }};
    ($history:ident, $client:ident => $work:expr) => {{
        let $client = $history.connections.get().await?;
        let done = $history.connections.limit($work).await;
        $history.connections.put_back($client, done)
    }};
}

/// The history of a schema.
pub struct PostgresHistory {
    connections: Connections,
    /// Whoever writes in this schema holds the lock of this name.
    lock: String,
}

impl PostgresHistory {
    /// Connects, and brings the schema to this version's format. Who records or forgets needs the right to make tables there.
    ///
    /// # Errors
    /// See [`PostgresError`]. [`PostgresError::Unavailable`] may be gone at the next try.
    pub async fn open(settings: &PostgresSettings) -> Result<PostgresHistory, PostgresError> {
        let history = PostgresHistory::later(settings)?;
        migrations::step_to_known(&history.connections, settings).await?;
        Ok(history)
    }

    /// Of a schema that may not be there yet, or not be reached: until it is, every call fails. Brings it to no format.
    ///
    /// # Errors
    /// [`PostgresError::Settings`].
    pub fn later(settings: &PostgresSettings) -> Result<PostgresHistory, PostgresError> {
        Ok(PostgresHistory {
            connections: Connections::with(settings, SESSION)?,
            lock: format!("hooklane history {}", settings.schema()),
        })
    }

    /// Writes a part of a batch, that begins at this index of it. Where the server refuses a row, the part is halved until the row is alone.
    async fn record_part(
        &self,
        (first, part): (usize, &[Record]),
        now: UnixMillis,
    ) -> Result<Recorded, HistoryError> {
        let mut recorded = Recorded::default();
        let mut parts = vec![(first, part)];
        while let Some((first, part)) = parts.pop() {
            let written: Result<Recorded, Fault> =
                call!(self, mut client => write::record(&mut client, &self.lock, part, first, now));
            let refused = match &written {
                Ok(_) => None,
                Err(fault) => fault.of_the_row(),
            };
            match (refused, part) {
                (None, _) => recorded.add(written?),
                (Some(why), [_]) => recorded.refused.push(Refused {
                    index: first,
                    problem: Problem::Row(why),
                }),
                (Some(_), _) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.push((first + left.len(), right));
                    parts.push((first, left));
                }
            }
        }
        Ok(recorded)
    }
}

#[async_trait]
impl History for PostgresHistory {
    async fn record(&self, batch: Arc<[Record]>, now: UnixMillis) -> Result<Recorded, HistoryError> {
        let mut recorded = Recorded::default();
        let mut first = 0;
        while first < batch.len() {
            let end = first + days::few_of(&batch[first..][..part_of(&batch[first..])]);
            recorded.add(self.record_part((first, &batch[first..end]), now).await?);
            first = end;
        }
        Ok(recorded)
    }

    async fn event(
        &self,
        application: &ApplicationId,
        event: &EventId,
    ) -> Result<Option<FoundEvent>, HistoryError> {
        call!(self, client => lists::event(&client, application, event))
    }

    async fn events(
        &self,
        application: &ApplicationId,
        filter: &EventFilter,
        page: &Page,
    ) -> Result<Slice<FoundEvent>, HistoryError> {
        call!(self, client => lists::events(&client, application, filter, page))
    }

    async fn attempt(
        &self,
        application: &ApplicationId,
        event: &EventId,
        attempt: &AttemptId,
    ) -> Result<Option<FoundAttempt>, HistoryError> {
        call!(self, client => lists::attempt(&client, application, event, attempt))
    }

    async fn attempts(
        &self,
        application: &ApplicationId,
        of: &AttemptsOf,
        filter: &AttemptFilter,
        page: &Page,
    ) -> Result<Slice<FoundAttempt>, HistoryError> {
        call!(self, client => lists::attempts(&client, application, of, filter, page))
    }

    async fn endpoint_events(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        filter: &EndpointEventFilter,
        page: &Page,
    ) -> Result<Slice<EndpointEvent>, HistoryError> {
        call!(self, client => lists::endpoint_events(&client, application, endpoint, filter, page))
    }

    async fn destinations(
        &self,
        application: &ApplicationId,
        event: &EventId,
        page: &Page,
    ) -> Result<Slice<Destination>, HistoryError> {
        call!(self, client => lists::destinations(&client, application, event, page))
    }

    async fn outcomes(
        &self,
        application: &ApplicationId,
        event: &EventId,
        endpoint: &EndpointId,
    ) -> Result<Vec<FoundOutcome>, HistoryError> {
        call!(self, client => lists::outcomes(&client, application, event, endpoint))
    }

    async fn stats(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        range: Range,
    ) -> Result<Stats, HistoryError> {
        let mut stats = Stats::default();
        for status in Status::ALL {
            // Each step within the deadline of a call.
            let mut behind = None;
            loop {
                let of = (application, endpoint, status);
                let from = behind.take();
                let counted: Result<_, HistoryError> =
                    call!(self, client => lists::count(&client, of, range, from));
                let (rows, more) = counted?;
                *stats.of(status) += rows;
                match more {
                    None => break,
                    last => behind = last,
                }
            }
        }
        Ok(stats)
    }

    async fn expunge_payload(
        &self,
        application: &ApplicationId,
        event: &EventId,
    ) -> Result<bool, HistoryError> {
        call!(self, mut client => forget::expunge_payload(&mut client, &self.lock, application, event))
    }

    async fn expunge_answer(
        &self,
        application: &ApplicationId,
        event: &EventId,
        attempt: &AttemptId,
    ) -> Result<bool, HistoryError> {
        call!(self, mut client => forget::expunge_answer(&mut client, &self.lock, application, event, attempt))
    }

    async fn forget(&self, before: UnixMillis, rows_max: usize) -> Result<bool, HistoryError> {
        call!(self, mut client => forget::forget(&mut client, &self.lock, before, rows_max))
    }

    fn forgotten_together_ms(&self) -> i64 {
        days::DAY_MS
    }
}
