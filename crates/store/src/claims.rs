//! The port: which events were taken lately, so that a repeat is noticed.

use async_trait::async_trait;
use hooklane_types::{ApplicationId, EventId};

/// Ids in the window, unless set otherwise: about 20 MB of memory.
pub const CLAIM_ENTRIES_DEFAULT: usize = 200_000;

/// What a claim says about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before, or this very message again: process it.
    Ours,
    /// Another message with this id is in work or was settled.
    Duplicate,
}

/// The claims cannot be asked now, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claims cannot be asked: {0}")]
pub struct ClaimError(pub String);

/// How long the window really is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClaimWindow {
    /// Ids in it; about as many, where counting them would take long.
    pub entries: u64,
    /// Age of the oldest, in seconds: how far back a repeat is noticed.
    pub seconds: f64,
}

/// Where claims are kept. An answer that is late or an error leads to the delivery all the same: a repeat is better than a loss.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Claims an event, first-hand. A redelivered message is no duplicate of itself, unless its claim says settled. `now_ms` is the
    /// process's monotonic clock, which begins about when the claims were made.
    ///
    /// # Errors
    /// When that cannot be found out; the event is processed.
    async fn claim(
        &self,
        application: &ApplicationId,
        event: &EventId,
        redelivered: bool,
        now_ms: u64,
    ) -> Result<Verdict, ClaimError>;

    /// All that follows from the event is confirmed: from now on any message with its id is a repeat. Ends when that is kept as
    /// well as it ever will be; whoever does not wait for that (but polls it once) loses nothing else.
    async fn settle(&self, application: &ApplicationId, event: &EventId);

    /// The event was given back, or became a fault: its next message is no repeat. A settled claim stays. Does not wait.
    fn release(&self, application: &ApplicationId, event: &EventId);

    /// The window's size and real length.
    fn window(&self, now_ms: u64) -> ClaimWindow;
}
