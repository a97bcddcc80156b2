//! Dead letters: deliveries that were given up.

use bytes::Bytes;
use hooklane_broker::topology::Names;
use hooklane_broker::{Destination, Outgoing, Queue, ShelfName};
use hooklane_types::{DeadLetter, DeadReason, Delivery, EnvelopeError, Internal, RawMessage, UnixMillis};
use serde::Serialize;

use crate::entry::{Entry, NotReplayable, Replay};
use crate::filter::Facts;
use crate::fingerprint;
use crate::present::{self, Attempt, Payload};

/// A message of the shelf `dead`.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadEntry {
    /// A dead letter.
    Letter(DeadLetter),
    /// Something that is none, or that a newer Hooklane wrote. It is shown, and nothing else than purging works on it.
    Unreadable {
        /// What lies there.
        message: RawMessage,
        /// Why it could not be read.
        error: EnvelopeError,
    },
}

/// A dead letter as one line of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeadRow {
    /// The event's id, which is the `webhook-id`.
    pub id: String,
    /// The letter's own id: an event may be dead at several endpoints.
    pub dead_letter: Option<String>,
    /// Whose.
    pub application: Option<String>,
    /// The event's type.
    pub event_type: Option<String>,
    /// To whom.
    pub endpoint: Option<String>,
    /// Why it was given up, or `unreadable`.
    pub reason: &'static str,
    /// Attempts of its last run.
    pub attempts: u32,
    /// Which run it was; 0 is the first.
    pub run: u32,
    /// The last attempt's status or failure.
    pub last_outcome: Option<String>,
    /// When it was given up.
    #[serde(serialize_with = "present::time_field")]
    pub died_at: Option<UnixMillis>,
    /// How long ago that is.
    pub age_s: Option<u64>,
}

/// A dead letter with everything that is known of it: enough to publish it again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeadDetail {
    /// The event's id, which is the `webhook-id`.
    pub id: String,
    /// The letter's own id: an event may be dead at several endpoints.
    pub dead_letter: Option<String>,
    /// Why it was given up, or `unreadable`.
    pub reason: &'static str,
    /// When.
    #[serde(serialize_with = "present::time_field")]
    pub died_at: Option<UnixMillis>,
    /// Where it could not be read: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Option<DeliveryDetail>,
    /// The payload.
    #[serde(flatten)]
    pub payload: Payload,
}

/// A delivery with its event and its attempts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeliveryDetail {
    /// Whose.
    pub application: String,
    /// The event's type.
    pub event_type: String,
    /// The producer's own id.
    pub producer_id: Option<String>,
    /// The event's channels.
    pub channels: Vec<String>,
    /// When Hooklane accepted the event.
    pub accepted_at: String,
    /// The payload's media type.
    pub content_type: String,
    /// Trace context.
    pub traceparent: Option<String>,
    /// `ce-*` headers.
    pub headers: Vec<(String, String)>,
    /// To whom.
    pub endpoints: Vec<String>,
    /// Which of the endpoint's targets.
    pub target: u16,
    /// Which run it was; 0 is the first.
    pub run: u32,
    /// Attempts of this run.
    pub attempts: u32,
    /// How often it was parked without an attempt.
    pub parks: u32,
    /// Until when it would have been tried.
    #[serde(serialize_with = "present::time_field")]
    pub deadline: Option<UnixMillis>,
    /// The attempts, oldest first; of many the first and the last ones.
    pub history: Vec<Attempt>,
}

impl From<&Delivery> for DeliveryDetail {
    fn from(delivery: &Delivery) -> DeliveryDetail {
        let event = &delivery.event;
        DeliveryDetail {
            application: event.application.to_string(),
            event_type: event.event_type.to_string(),
            producer_id: event.producer_id.as_ref().map(ToString::to_string),
            channels: event
                .channels
                .iter()
                .map(|channel| channel.as_str().to_owned())
                .collect(),
            accepted_at: present::time(event.accepted_at),
            content_type: event.content_type.clone(),
            traceparent: event.traceparent.clone(),
            headers: event.headers.clone(),
            endpoints: delivery.endpoints.iter().map(ToString::to_string).collect(),
            target: delivery.target,
            run: delivery.run,
            attempts: delivery.attempts_made,
            parks: delivery.parks,
            deadline: delivery.deadline,
            history: delivery.history.iter().map(Attempt::from).collect(),
        }
    }
}

/// Its reason's name where it has none.
const UNREADABLE: &str = "unreadable";
const ID_PREFIX: &str = "dead_";
const UNREADABLE_PREFIX: &str = "unr_";

impl Entry for DeadEntry {
    type Reason = DeadReason;
    type Row = DeadRow;
    type Detail = DeadDetail;
    const SHELF: ShelfName = ShelfName::Dead;

    fn read(message: RawMessage, _: &Names) -> DeadEntry {
        let error = match Internal::decode(message.body.clone()) {
            Ok(Internal::Dead(letter)) => return DeadEntry::Letter(letter),
            Ok(_) => EnvelopeError::Broken("it holds no dead letter".to_owned()),
            Err(error) => error,
        };
        DeadEntry::Unreadable { message, error }
    }

    fn facts(&self) -> Facts<DeadReason> {
        match self {
            DeadEntry::Letter(letter) => {
                let event = &letter.delivery.event;
                Facts {
                    id: event.id.to_string(),
                    own_id: Some(own_id(&letter.delivery)),
                    application: Some(event.application.to_string()),
                    endpoint: letter.delivery.endpoints.first().cloned(),
                    event_type: Some(event.event_type.clone()),
                    reason: Some(letter.reason),
                    at: Some(letter.at),
                }
            }
            DeadEntry::Unreadable { message, .. } => Facts {
                id: fingerprint::of(UNREADABLE_PREFIX, message, 0),
                own_id: None,
                application: None,
                endpoint: None,
                event_type: None,
                reason: None,
                at: None,
            },
        }
    }

    fn row(&self, now: UnixMillis) -> DeadRow {
        let facts = self.facts();
        let delivery = match self {
            DeadEntry::Letter(letter) => Some(&letter.delivery),
            DeadEntry::Unreadable { .. } => None,
        };
        DeadRow {
            id: facts.id,
            dead_letter: facts.own_id,
            application: facts.application,
            event_type: facts.event_type.map(|found| found.to_string()),
            endpoint: facts.endpoint.map(|found| found.to_string()),
            reason: facts.reason.map_or(UNREADABLE, DeadReason::name),
            attempts: delivery.map_or(0, |delivery| delivery.attempts_made),
            run: delivery.map_or(0, |delivery| delivery.run),
            last_outcome: delivery
                .and_then(|delivery| delivery.history.last())
                .map(|attempt| present::outcome(&attempt.outcome)),
            died_at: facts.at,
            age_s: facts.at.map(|at| now.since(at).as_secs()),
        }
    }

    fn detail(&self, payload_bytes_max: usize) -> DeadDetail {
        let facts = self.facts();
        let (delivery, error) = match self {
            DeadEntry::Letter(letter) => (Some(DeliveryDetail::from(&letter.delivery)), None),
            DeadEntry::Unreadable { error, .. } => (None, Some(error.to_string())),
        };
        DeadDetail {
            id: facts.id,
            dead_letter: facts.own_id,
            reason: facts.reason.map_or(UNREADABLE, DeadReason::name),
            died_at: facts.at,
            error,
            delivery,
            payload: Payload::new(self.payload(), payload_bytes_max),
        }
    }

    fn payload(&self) -> &Bytes {
        match self {
            DeadEntry::Letter(letter) => &letter.delivery.event.payload,
            DeadEntry::Unreadable { message, .. } => &message.body,
        }
    }

    fn replay(&self) -> Result<Replay, NotReplayable> {
        match self {
            DeadEntry::Letter(letter) => Ok(Replay {
                to: Destination::Internal(Queue::Deliveries),
                message: Outgoing::internal(Internal::Delivery(next_run(&letter.delivery)).encode()),
            }),
            DeadEntry::Unreadable { error, .. } => Err(NotReplayable(error.to_string())),
        }
    }
}

/// By what makes it a delivery. A letter that a crash put there twice has the same name twice.
fn own_id(delivery: &Delivery) -> String {
    let event = &delivery.event;
    let endpoint = delivery
        .endpoints
        .first()
        .map_or("", |endpoint| endpoint.as_str());
    fingerprint::of_parts(
        ID_PREFIX,
        &[
            event.application.as_str().as_bytes(),
            event.id.as_str().as_bytes(),
            endpoint.as_bytes(),
            &delivery.target.to_be_bytes(),
            &delivery.run.to_be_bytes(),
        ],
    )
}

/// The delivery's next run: the same event, a new attempt count, and a deadline by the endpoint's settings of the day.
fn next_run(delivery: &Delivery) -> Delivery {
    Delivery {
        run: delivery.run.saturating_add(1),
        attempts_made: 0,
        parks: 0,
        remaining_ms: 0,
        deadline: None,
        history: Vec::new(),
        ..delivery.clone()
    }
}
