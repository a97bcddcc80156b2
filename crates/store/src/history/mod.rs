//! The port: what became of every event. Events, attempts and outcomes: millions of them, written in batches, never changed, gone after a while.
//!
//! What is kept follows from the set of records alone: any of them may come late, twice, in another order, or never. So:
//! - of two contents of one event the one that was accepted first stays, and an event's time is the earliest that any of its records knows;
//! - an outcome of an event whose content is unknown makes a stub, which the content fills when it comes;
//! - of a delivery's terminal outcomes the earliest stays, but delivered goes before dead;
//! - what was expunged, or forgotten, does not come back.
//!
//! [`merge`] holds these rules, for every implementation.

mod check;
pub mod merge;
mod page;
mod part;
mod query;
mod record;

use std::sync::Arc;

use async_trait::async_trait;
use hooklane_types::{ApplicationId, AttemptId, EndpointId, EventId, UnixMillis};

pub use hooklane_types::record::{
    ANSWER_BYTES_MAX, Attempt, Decision, DeliveryKey, EventRef, Record, Settled, Trigger,
};

pub use check::{FUTURE_MAX_MS, Problem, TIME_MAX, TIME_MIN, checked};
pub use page::{PAGE_BYTES_MAX, PAGE_ROWS_MAX, Page, Position, SCAN_ROWS_MAX, Slice};
pub(crate) use part::part_of;
pub use query::{
    AttemptFilter, AttemptsOf, Destination, EndpointEvent, EndpointEventFilter, EventFilter, FoundAttempt,
    FoundContent, FoundEvent, FoundOutcome, Payload, Range, Stats, Status, StatusClass,
};
pub use record::{Recorded, Refused};

/// Why nothing was written, or nothing found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The store has no room. Nothing of the batch, or its last part only, is missing; it can be tried again.
    #[error("the history takes nothing now ({0}): free some room; what was not written can be tried again")]
    NoRoom(String),
    /// The store cannot be asked now, in words. It can be tried again.
    #[error("the history cannot be asked: {0}")]
    Unavailable(String),
}

/// Where history is kept. What was recorded is durable, and seen by every later query of any process, before it is answered.
#[async_trait]
pub trait History: Send + Sync {
    /// Writes records, in steps of a bounded size. Writing any of them again, in any order, changes nothing. What cannot be kept is told
    /// by its index, and stops no other. `now` bounds the times in them, see [`checked`].
    ///
    /// # Errors
    /// [`HistoryError`]; some of it may have been written then.
    async fn record(&self, batch: Arc<[Record]>, now: UnixMillis) -> Result<Recorded, HistoryError>;

    /// An event; a stub too.
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn event(
        &self,
        application: &ApplicationId,
        event: &EventId,
    ) -> Result<Option<FoundEvent>, HistoryError>;

    /// Events of an application, by acceptance and id. Stubs are not among them: nobody knows their type.
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn events(
        &self,
        application: &ApplicationId,
        filter: &EventFilter,
        page: &Page,
    ) -> Result<Slice<FoundEvent>, HistoryError>;

    /// An attempt of an event.
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn attempt(
        &self,
        application: &ApplicationId,
        event: &EventId,
        attempt: &AttemptId,
    ) -> Result<Option<FoundAttempt>, HistoryError>;

    /// Attempts of an event or at an endpoint, by time and id.
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn attempts(
        &self,
        application: &ApplicationId,
        of: &AttemptsOf,
        filter: &AttemptFilter,
        page: &Page,
    ) -> Result<Slice<FoundAttempt>, HistoryError>;

    /// Events that have an attempt or outcome at an endpoint, by acceptance and id; stubs too.
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn endpoint_events(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        filter: &EndpointEventFilter,
        page: &Page,
    ) -> Result<Slice<EndpointEvent>, HistoryError>;

    /// Endpoints at which an event has an attempt or outcome, by their id. The time of their [`Position`] is 0.
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn destinations(
        &self,
        application: &ApplicationId,
        event: &EventId,
        page: &Page,
    ) -> Result<Slice<Destination>, HistoryError>;

    /// How the deliveries of an event to an endpoint ended, or stand, by run and target, the newest first; at most [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn outcomes(
        &self,
        application: &ApplicationId,
        event: &EventId,
        endpoint: &EndpointId,
    ) -> Result<Vec<FoundOutcome>, HistoryError>;

    /// How many events accepted in a time have which status at an endpoint. What changes meanwhile may be counted as before or after.
    ///
    /// # Errors
    /// [`HistoryError::Unavailable`].
    async fn stats(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        range: Range,
    ) -> Result<Stats, HistoryError>;

    /// Takes an event's payload away for good; a record that comes late does not bring it back. Whether there is such an event, or stub.
    ///
    /// # Errors
    /// [`HistoryError`].
    async fn expunge_payload(
        &self,
        application: &ApplicationId,
        event: &EventId,
    ) -> Result<bool, HistoryError>;

    /// Takes the body of an attempt's answer away for good. Whether there is such an attempt.
    ///
    /// # Errors
    /// [`HistoryError`].
    async fn expunge_answer(
        &self,
        application: &ApplicationId,
        event: &EventId,
        attempt: &AttemptId,
    ) -> Result<bool, HistoryError>;

    /// Retention: forgets events accepted before `before`, with all that became of them, up to so many rows. Whether there may be more to
    /// forget. From the first step on, records of such events are not kept any more; a smaller `before` ends that for the others. To be a multiple
    /// of [`History::forgotten_together_ms`], or some of that time stay until all of it is old.
    ///
    /// # Errors
    /// [`HistoryError`].
    async fn forget(&self, before: UnixMillis, rows_max: usize) -> Result<bool, HistoryError>;

    /// What is forgotten together: all of a stretch of so many milliseconds, from a multiple of it on. Of one that is not over nothing may go.
    fn forgotten_together_ms(&self) -> i64 {
        1
    }
}
