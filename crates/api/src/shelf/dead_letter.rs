//! Dead letters as the API shows them.

use hooklane_types::DeadReason;
use schemars::JsonSchema;
use serde::Serialize;

use super::desk::{Desk, Shelves};
use super::payload::PayloadOut;
use super::{Kind, Paths};

/// Deliveries that were given up.
pub enum DeadLetters {}

impl Kind for DeadLetters {
    type Reason = DeadReason;
    type Row = DeadLetterOut;
    type Whole = DeadLetterWholeOut;
    const NAME: &'static str = "DeadLetter";
    const SHELF: &'static str = "dead";
    const IDS: &'static [&'static str] = &["dead_", "msg_", "unr_"];
    const PATHS: Paths = super::paths!("/dead-letter", "v1.dead-letter", "dead_letter_id");
    const IS_OPERATORS: bool = false;
    const REASONS: &'static [DeadReason] = &DeadReason::ALL;

    fn reason_name(reason: DeadReason) -> &'static str {
        reason.name()
    }

    fn desk(shelves: &Shelves) -> &Desk<DeadLetters> {
        &shelves.dead_letters
    }
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterOut {
    /// Its own id.
    pub id: String,
    /// The event's id, which is the `webhook-id`; null where it cannot be read.
    pub msg_id: Option<String>,
    /// Whose event it is.
    pub app_id: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// Whom it was for.
    pub endpoint_id: Option<String>,
    /// exhausted, expired, gone, endpoint_removed; or unreadable, where a newer Hooklane wrote it.
    pub reason: String,
    /// Attempts of its last run.
    pub attempts: u32,
    /// Which run it was; 0 is the first.
    pub run: u32,
    /// The last attempt's status, or why no answer came, in a word.
    pub last_outcome: Option<String>,
    /// When it was given up.
    pub died_at: Option<String>,
}

/// A delivery that was given up, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterWholeOut {
    /// What lists show.
    #[serde(flatten)]
    pub row: DeadLetterOut,
    /// Why it cannot be read, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Option<DeadDeliveryOut>,
    /// The payload.
    #[serde(flatten)]
    pub payload: PayloadOut,
}

/// The delivery of a dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadDeliveryOut {
    /// The producer's own id of the event.
    pub event_id: Option<String>,
    /// The event's channels.
    pub channels: Vec<String>,
    /// When the event was accepted.
    pub accepted_at: String,
    /// The payload's media type.
    pub content_type: String,
    /// Trace context.
    pub traceparent: Option<String>,
    /// `ce-*` headers, each with its value.
    pub headers: Vec<(String, String)>,
    /// Which of the endpoint's targets.
    pub target: u16,
    /// How often it was parked without an attempt.
    pub parks: u32,
    /// Until when it would have been tried.
    pub deadline: Option<String>,
    /// The attempts of its last run, oldest first; of many the first and the last ones.
    pub history: Vec<PastAttemptOut>,
}

/// An attempt of a dead letter.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PastAttemptOut {
    /// Its id.
    pub id: String,
    /// When it began.
    pub at: String,
    /// How long it took.
    pub duration_ms: u32,
    /// The status, or why no answer came, in a word.
    pub outcome: String,
    /// `Retry-After`, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
