//! What is recorded: the history of events, as it travels to whoever keeps it.

mod wire;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::delivery::{AttemptOutcome, DeadReason};
use crate::event::Event;
use crate::id::{ApplicationId, AttemptId, EndpointId, EventId};
use crate::time::UnixMillis;

pub use wire::{Batch, decode};

/// Most bytes that are kept of an answer's body; the rest is cut off.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// An event was accepted.
    Event(Event),
    /// An attempt was made.
    Attempt(Attempt),
    /// A delivery ended without an attempt.
    Settled(Settled),
}

/// Which event, in a record of what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRef {
    /// Whose event it is.
    pub application: ApplicationId,
    /// Its id.
    pub id: EventId,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
}

/// Which delivery: what has one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// What is delivered.
    pub event: EventRef,
    /// To whom.
    pub endpoint: EndpointId,
    /// Which of the endpoint's targets.
    pub target: u16,
    /// Which run.
    pub run: u32,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its id, made once: another attempt recorded under it changes nothing.
    pub id: AttemptId,
    /// Of which delivery.
    pub delivery: DeliveryKey,
    /// When it began.
    pub at: UnixMillis,
    /// How long it took.
    pub duration_ms: u32,
    /// What came of it.
    pub outcome: AttemptOutcome,
    /// Where it went. Shown to whoever may see the attempt: without credentials.
    pub url: String,
    /// The answer's body, or its first part; [`ANSWER_BYTES_MAX`] of it are kept.
    pub answer: Bytes,
    /// Why it was made.
    pub trigger: Trigger,
    /// What was decided.
    pub decision: Decision,
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// It was its time.
    Schedule,
    /// Somebody asked for it.
    Manual,
}

/// What an attempt's outcome means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// It is delivered.
    Delivered,
    /// It is tried again then.
    Again(UnixMillis),
    /// It is given up.
    Dead(DeadReason),
}

/// A delivery that was given up without an attempt: it expired, or its endpoint was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Which.
    pub delivery: DeliveryKey,
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: DeadReason,
}

impl Record {
    /// Whether it says that a delivery was given up.
    pub fn gives_up(&self) -> bool {
        match self {
            Record::Event(_) => false,
            Record::Attempt(attempt) => matches!(attempt.decision, Decision::Dead(_)),
            Record::Settled(_) => true,
        }
    }

    /// Of which event, and when that was accepted.
    pub fn event(&self) -> (&ApplicationId, &EventId, UnixMillis) {
        match self {
            Record::Event(event) => (&event.application, &event.id, event.accepted_at),
            Record::Attempt(Attempt { delivery, .. }) | Record::Settled(Settled { delivery, .. }) => (
                &delivery.event.application,
                &delivery.event.id,
                delivery.event.accepted_at,
            ),
        }
    }
}
