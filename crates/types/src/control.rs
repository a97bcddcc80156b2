//! Messages of the fanout `control`: soft state that processes tell each other, as JSON. Lost, it is asked for again.
//! Whoever does not know a message ignores it.

use serde::{Deserialize, Serialize};

use crate::id::EndpointId;
use crate::time::UnixMillis;

/// The version that this code writes.
pub const CONTROL_VERSION: u32 = 1;
/// Most endpoints in one reply: with ids of the largest size a message stays under 256 KiB. More go into further parts.
pub const STATUS_ENDPOINTS_MAX: usize = 500;

/// What travels on `control`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// [`CONTROL_VERSION`] of the writer.
    pub v: u32,
    /// The message.
    #[serde(flatten)]
    pub message: ControlMessage,
}

impl Control {
    /// A message of this version.
    pub fn new(message: ControlMessage) -> Control {
        Control {
            v: CONTROL_VERSION,
            message,
        }
    }
}

/// The messages, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ControlMessage {
    /// Asks every dispatcher for its [`StatusReply`].
    StatusRequest {
        /// Repeated in the replies.
        id: String,
    },
    /// One part of a dispatcher's answer.
    StatusReply(StatusReply),
    /// Something of another version.
    #[serde(other)]
    Unknown,
}

/// What one dispatcher knows of its endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The request's id.
    pub id: String,
    /// Which process answers.
    pub pod: String,
    /// Since when it runs.
    pub since: UnixMillis,
    /// This part, from 0.
    pub part: u32,
    /// How many parts the answer has, at least 1.
    pub parts: u32,
    /// The endpoints that it has had to do with.
    pub endpoints: Vec<EndpointStatus>,
}

/// One endpoint, as one dispatcher sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Which.
    pub id: EndpointId,
    /// How it stands.
    pub state: EndpointCondition,
    /// Attempts in flight.
    pub in_flight: u32,
    /// The last attempt's outcome, as in the metric `hooklane_attempts_total`.
    pub last_outcome: Option<String>,
    /// When that was.
    pub last_at: Option<UnixMillis>,
}

/// How an endpoint stands with one dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointCondition {
    /// It is served.
    Ok,
    /// Attempts hang: nothing new on the fast path.
    Sick,
    /// It asked for a pause (`Retry-After`).
    Paused,
    /// It answered 410.
    Gone,
    /// Disabled by configuration.
    Disabled,
}
