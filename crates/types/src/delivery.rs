//! One event on its way to one endpoint, its attempts, and how it ended.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::id::{AttemptId, EndpointId};
use crate::time::UnixMillis;

/// Most endpoints served by one message: a crash repeats at most as many attempts.
pub const SLICE_ENDPOINTS_MAX: usize = 16;
/// Most attempts kept in a delivery's history; the oldest but the first yield.
pub const HISTORY_ENTRIES_MAX: usize = 16;

/// A delivery, or a slice of an event's first attempts (then with several endpoints).
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What is delivered.
    pub event: Event,
    /// To whom: 1 to [`SLICE_ENDPOINTS_MAX`]. More than one only before the first attempt.
    pub endpoints: Vec<EndpointId>,
    /// Which of the endpoint's targets.
    pub target: u16,
    /// 0 for the first run; a replay, resend or recovery is the next one.
    pub run: u32,
    /// Attempts made in this run.
    pub attempts_made: u32,
    /// How often it was parked without an attempt, for want of room at its endpoint.
    pub parks: u32,
    /// What is left of its delay after the hop of the ladder that it is on, in milliseconds; 0 when it is due.
    pub remaining_ms: u64,
    /// When it is given up. None in a slice: then it follows from the endpoint.
    pub deadline: Option<UnixMillis>,
    /// The attempts of this run, oldest first, bounded by [`HISTORY_ENTRIES_MAX`].
    pub history: Vec<AttemptSummary>,
}

impl Delivery {
    /// Adds an attempt; when the history is full, the second oldest yields, so that the first stays.
    pub fn remember(&mut self, attempt: AttemptSummary) {
        if self.history.len() >= HISTORY_ENTRIES_MAX {
            self.history.remove(1);
        }
        self.history.push(attempt);
    }
}

/// One attempt, as short as an operator needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptSummary {
    /// Its id.
    pub id: AttemptId,
    /// When it began.
    pub at: UnixMillis,
    /// How long it took.
    pub duration_ms: u32,
    /// What came of it.
    pub outcome: AttemptOutcome,
}

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptOutcome {
    /// The endpoint answered with this status. The status decides, however the body ended.
    Status {
        /// The HTTP status.
        code: u16,
        /// `Retry-After`, from the time of the answer, where there was a valid one.
        retry_after_ms: Option<u64>,
    },
    /// No status came.
    Failed(FailureKind),
}

/// Why no status came. A closed set: it is a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// The attempt's deadline passed.
    Timeout,
    /// The name could not be resolved.
    Dns,
    /// No connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The address lies inside: private, loopback, link-local or otherwise special.
    Blocked,
    /// The connection ended before a status.
    Closed,
    /// What came was not HTTP.
    Protocol,
    /// The request could not be made from the endpoint's configuration (unreadable certificate, `http` under `https_only`).
    Configuration,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [FailureKind; 8] = [
        FailureKind::Timeout,
        FailureKind::Dns,
        FailureKind::Connect,
        FailureKind::Tls,
        FailureKind::Blocked,
        FailureKind::Closed,
        FailureKind::Protocol,
        FailureKind::Configuration,
    ];

    /// Its name in logs, metrics and commands.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::Timeout => "timeout",
            FailureKind::Dns => "dns",
            FailureKind::Connect => "connect",
            FailureKind::Tls => "tls",
            FailureKind::Blocked => "blocked",
            FailureKind::Closed => "closed",
            FailureKind::Protocol => "protocol",
            FailureKind::Configuration => "configuration",
        }
    }
}

/// Why a delivery will not be retried. A closed set: it is a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadReason {
    /// The last attempt of its schedule failed.
    Exhausted,
    /// Its deadline passed.
    Expired,
    /// The endpoint answered 410.
    Gone,
    /// The endpoint was removed.
    EndpointRemoved,
}

impl DeadReason {
    /// All reasons.
    pub const ALL: [DeadReason; 4] = [
        DeadReason::Exhausted,
        DeadReason::Expired,
        DeadReason::Gone,
        DeadReason::EndpointRemoved,
    ];

    /// Its name in logs, metrics and commands.
    pub fn name(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "exhausted",
            DeadReason::Expired => "expired",
            DeadReason::Gone => "gone",
            DeadReason::EndpointRemoved => "endpoint_removed",
        }
    }
}

/// A delivery that will not be retried.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The delivery, with one endpoint.
    pub delivery: Delivery,
    /// Why.
    pub reason: DeadReason,
    /// When it died.
    pub at: UnixMillis,
}
