//! What is asked for, and what is found.

use hooklane_types::{ApplicationId, Channel, EndpointId, Event, EventId, EventType, UnixMillis};

use super::merge::{Run, Terminal};
use super::page::Position;
use hooklane_types::record::Attempt;

/// A time, its ends not included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// What happened later than this.
    pub after: Option<UnixMillis>,
    /// What happened earlier than this.
    pub before: Option<UnixMillis>,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Accepted in this time.
    pub range: Range,
    /// Of one of these types; of any when there is none here.
    pub event_types: Vec<EventType>,
    /// Of this channel.
    pub channel: Option<Channel>,
    /// Whether payloads are read too.
    pub with_payload: bool,
}

/// Whose attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptsOf {
    /// All at an endpoint.
    Endpoint(EndpointId),
    /// All of an event, perhaps at one endpoint only.
    Event(EventId, Option<EndpointId>),
}

/// Which attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptFilter {
    /// Begun in this time.
    pub range: Range,
    /// Whether the attempt delivered: by its own decision, whatever else became of the delivery.
    pub delivered: Option<bool>,
    /// Answered with such a status.
    pub status_class: Option<StatusClass>,
    /// Of events of one of these types; a stub is of none.
    pub event_types: Vec<EventType>,
    /// Of events of this channel.
    pub channel: Option<Channel>,
    /// Whether answers' bodies are read too.
    pub with_answer: bool,
}

/// Which events of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointEventFilter {
    /// What their status there is.
    pub status: Option<Status>,
    /// What they are.
    pub event: EventFilter,
}

/// Classes of statuses, as the Svix API has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// No status came.
    None,
    /// 100 to 199.
    Informational,
    /// 200 to 299.
    Success,
    /// 300 to 399.
    Redirection,
    /// 400 to 499.
    ClientError,
    /// 500 to 599.
    ServerError,
}

impl StatusClass {
    /// The class of a status, or of there being none; none for a status outside them all.
    pub fn of_code(code: Option<u16>) -> Option<StatusClass> {
        let Some(code) = code else {
            return Some(StatusClass::None);
        };
        match code / 100 {
            1 => Some(StatusClass::Informational),
            2 => Some(StatusClass::Success),
            3 => Some(StatusClass::Redirection),
            4 => Some(StatusClass::ClientError),
            5 => Some(StatusClass::ServerError),
            _ => None,
        }
    }
}

/// Where an event stands at an endpoint: in its newest run there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It is there.
    Delivered,
    /// It will be tried again.
    Pending,
    /// It was given up.
    Dead,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 3] = [Status::Delivered, Status::Pending, Status::Dead];
}

/// An event's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// As it was published.
    Kept(bytes::Bytes),
    /// It was taken away.
    Expunged,
    /// It was not asked for.
    NotRead,
}

/// An event, or a stub of one.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundEvent {
    /// Whose it is.
    pub application: ApplicationId,
    /// Its id.
    pub id: EventId,
    /// When it was accepted: by what came first, if it was accepted repeatedly.
    pub accepted_at: UnixMillis,
    /// What it is; none in a stub.
    pub content: Option<FoundContent>,
    /// Whether the payload was taken away; of a stub, whether it will be.
    pub is_expunged: bool,
}

/// What an event is.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundContent {
    /// As it was recorded. Its payload is empty, for what there is is in `payload`, and `accepted_at` is the event's.
    pub event: Event,
    /// Its payload.
    pub payload: Payload,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundAttempt {
    /// As it was recorded, with the event's time of acceptance as it is known now. The body is empty where it was not asked for.
    pub attempt: Attempt,
    /// Whether the answer's body was taken away.
    pub is_answer_expunged: bool,
}

/// An event at an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointEvent {
    /// Which event.
    pub event: FoundEvent,
    /// Where it stands there.
    pub status: Status,
    /// When it is tried again.
    pub next_attempt: Option<UnixMillis>,
}

/// An endpoint of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Which.
    pub endpoint: EndpointId,
    /// Where the event stands there.
    pub status: Status,
    /// When it is tried again.
    pub next_attempt: Option<UnixMillis>,
}

/// How a delivery ended, or stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundOutcome {
    /// Which run.
    pub run: u32,
    /// Which target.
    pub target: u16,
    /// What is known of it.
    pub state: Run,
}

/// How many events have which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Delivered.
    pub delivered: u64,
    /// To be tried again.
    pub pending: u64,
    /// Given up.
    pub dead: u64,
}

impl Stats {
    /// The number for a status.
    pub fn of(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Delivered => &mut self.delivered,
            Status::Pending => &mut self.pending,
            Status::Dead => &mut self.dead,
        }
    }
}

impl FoundOutcome {
    /// How it ended; none while it has not.
    pub fn terminal(&self) -> Option<&Terminal> {
        self.state.terminal.as_ref()
    }
}

impl FoundEvent {
    /// Its place in lists of events.
    pub fn position(&self) -> Position {
        Position {
            at: self.accepted_at,
            id: self.id.as_str().to_owned(),
        }
    }
}

impl FoundAttempt {
    /// Its place in lists of attempts.
    pub fn position(&self) -> Position {
        Position {
            at: self.attempt.at,
            id: self.attempt.id.as_str().to_owned(),
        }
    }
}

impl Destination {
    /// Its place in lists of destinations.
    pub fn position(&self) -> Position {
        Position {
            at: UnixMillis(0),
            id: self.endpoint.as_str().to_owned(),
        }
    }
}
