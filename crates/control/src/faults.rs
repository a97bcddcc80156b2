//! Faults: messages that the pipeline itself could not handle, and messages that the broker put aside.

use bytes::Bytes;
use hooklane_broker::topology::{Exchange, Names};
use hooklane_broker::{Destination, Outgoing, Queue, ShelfName};
use hooklane_types::record::{Attempt, Settled};
use hooklane_types::{
    EndpointId, EventType, Fault, FaultReason, HeaderValue, Internal, Origin, Original, RawMessage, Record,
    Suspect, UnixMillis, record,
};
use serde::Serialize;
use serde_json::Value;

use crate::entry::{Entry, NotReplayable, Replay};
use crate::filter::Facts;
use crate::fingerprint;
use crate::present::{self, Payload};

const ID_PREFIX: &str = "flt_";
const APPLICATION_HEADER: &str = "application";
/// How deep envelopes are looked into: a replayed event that became a fault again lies two deep.
const DEPTH_MAX: usize = 4;

/// A message of the shelf `faults`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultEntry {
    id: String,
    reason: FaultReason,
    detail: String,
    at: Option<UnixMillis>,
    original: Original,
    subject: Subject,
}

/// Whether the original may be taken for a message of ours: only where nobody else may write. A stranger's bytes that look
/// like an envelope are a stranger's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Ours,
    Foreign,
}

/// What it is about, as far as it can be read.
#[derive(Clone, Debug, Default, PartialEq)]
struct Subject {
    event_id: Option<String>,
    application: Option<String>,
    event_type: Option<EventType>,
    endpoint: Option<EndpointId>,
}

/// A fault as one line of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultRow {
    /// Its name: a hash over its content.
    pub id: String,
    /// Why it lies here.
    pub reason: &'static str,
    /// In words.
    pub detail: String,
    /// The queue that it came from.
    pub origin: &'static str,
    /// Whose event it is, as the message says it.
    pub application: Option<String>,
    /// The event's type, as the message says it.
    pub event_type: Option<String>,
    /// Our id of the event, where it had one.
    pub event_id: Option<String>,
    /// Size of its body.
    pub bytes: usize,
    /// When it became a fault.
    #[serde(serialize_with = "present::time_field")]
    pub at: Option<UnixMillis>,
    /// How long ago that is.
    pub age_s: Option<u64>,
}

/// A fault with its original: enough to publish it again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultDetail {
    /// Its name: a hash over its content.
    pub id: String,
    /// Why it lies here.
    pub reason: &'static str,
    /// In words.
    pub detail: String,
    /// When it became a fault.
    #[serde(serialize_with = "present::time_field")]
    pub at: Option<UnixMillis>,
    /// The queue that it came from.
    pub origin: &'static str,
    /// Whose event it is, as the message says it.
    pub application: Option<String>,
    /// The event's type, as the message says it.
    pub event_type: Option<String>,
    /// To whom, where it was on its way to one endpoint.
    pub endpoint: Option<String>,
    /// Our id of the event, where it had one.
    pub event_id: Option<String>,
    /// The exchange that the original was published to.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// Its properties.
    pub properties: Value,
    /// Its body.
    #[serde(flatten)]
    pub payload: Payload,
}

impl Entry for FaultEntry {
    type Reason = FaultReason;
    type Row = FaultRow;
    type Detail = FaultDetail;
    const SHELF: ShelfName = ShelfName::Faults;

    fn read(message: RawMessage, names: &Names) -> FaultEntry {
        let is_written_by_us = message.exchange == names.exchange(Exchange::Internal)
            && message.routing_key == Queue::Faults.name();
        if is_written_by_us && let Ok(Internal::Fault(fault)) = Internal::decode(message.body.clone()) {
            let trust = trust(fault.original.origin, &fault.original.message, names);
            return FaultEntry::new(fault, None, trust);
        }
        let origin = origin_of_raw(&message, names);
        let fault = Fault {
            reason: FaultReason::Unroutable,
            detail: detail_of_raw(&message),
            at: UnixMillis(0),
            original: Original { origin, message },
        };
        let trust = trust(origin, &fault.original.message, names);
        let since = put_aside_at(&fault.original.message);
        FaultEntry::new(fault, Some(since), trust)
    }

    fn facts(&self) -> Facts<FaultReason> {
        Facts {
            id: self.id.clone(),
            own_id: None,
            application: self.subject.application.clone(),
            endpoint: self.subject.endpoint.clone(),
            event_type: self.subject.event_type.clone(),
            reason: Some(self.reason),
            at: self.at,
        }
    }

    fn row(&self, now: UnixMillis) -> FaultRow {
        FaultRow {
            id: self.id.clone(),
            reason: self.reason.name(),
            detail: self.detail.clone(),
            origin: origin_name(self.original.origin),
            application: self.subject.application.clone(),
            event_type: self.subject.event_type.as_ref().map(ToString::to_string),
            event_id: self.subject.event_id.clone(),
            bytes: self.original.message.body.len(),
            at: self.at,
            age_s: self.at.map(|at| now.since(at).as_secs()),
        }
    }

    fn detail(&self, payload_bytes_max: usize) -> FaultDetail {
        let message = &self.original.message;
        FaultDetail {
            id: self.id.clone(),
            reason: self.reason.name(),
            detail: self.detail.clone(),
            at: self.at,
            origin: origin_name(self.original.origin),
            application: self.subject.application.clone(),
            event_type: self.subject.event_type.as_ref().map(ToString::to_string),
            endpoint: self.subject.endpoint.as_ref().map(ToString::to_string),
            event_id: self.subject.event_id.clone(),
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            properties: present::properties(&message.properties),
            payload: Payload::new(&message.body, payload_bytes_max),
        }
    }

    fn payload(&self) -> &Bytes {
        &self.original.message.body
    }

    /// Through intake again, and not by way of `events`: there it would be taken for a duplicate of itself.
    fn replay(&self) -> Result<Replay, NotReplayable> {
        let internal = |queue, body| {
            Ok(Replay {
                to: Destination::Internal(queue),
                message: Outgoing::internal(body),
            })
        };
        let again = |original: &Original| {
            // The time of the fault, so that replaying twice gives the same bytes.
            let since = self.at.unwrap_or(UnixMillis(0));
            Internal::Suspect(Suspect {
                original: original.clone(),
                deaths: 0,
                since,
            })
            .encode()
        };
        let body = self.original.message.body.clone();
        match self.original.origin {
            Origin::Events | Origin::Ordered => return internal(Queue::Deliveries, again(&self.original)),
            Origin::Records => return internal(Queue::Records, body),
            Origin::Deliveries | Origin::Suspects => {}
        }
        match Internal::decode(body.clone()) {
            Ok(Internal::Delivery(_)) => internal(Queue::Deliveries, body),
            Ok(Internal::Suspect(suspect)) => match suspect.original.origin {
                Origin::Events | Origin::Ordered => internal(Queue::Deliveries, again(&suspect.original)),
                Origin::Deliveries | Origin::Suspects | Origin::Records => {
                    internal(Queue::Deliveries, suspect.original.message.body)
                }
            },
            Ok(Internal::Dead(_)) => internal(Queue::Dead, body),
            Ok(Internal::Event(_) | Internal::Fault(_)) => Err(NotReplayable(
                "its envelope belongs to no internal queue that it could go back to".to_owned(),
            )),
            Err(error) => Err(NotReplayable(error.to_string())),
        }
    }
}

impl FaultEntry {
    /// `since` says when a raw message was put aside; a fault of ours carries its time.
    fn new(fault: Fault, since: Option<Option<UnixMillis>>, trust: Trust) -> FaultEntry {
        let subject = subject(&fault.original.message, trust, DEPTH_MAX);
        FaultEntry {
            id: fingerprint::of(ID_PREFIX, &fault.original.message, fault.at.0),
            reason: fault.reason,
            detail: fault.detail,
            at: since.unwrap_or(Some(fault.at)),
            original: fault.original,
            subject,
        }
    }
}

/// Only Hooklane and the broker may write to these exchanges (docs/TOPOLOGY.md, Rights).
fn is_ours(exchange: &str, names: &Names) -> bool {
    [
        Exchange::Ingest,
        Exchange::Internal,
        Exchange::Records,
        Exchange::Lanes,
    ]
    .iter()
    .any(|ours| names.exchange(*ours) == exchange)
        || exchange
            .strip_prefix(names.prefix())
            .is_some_and(|name| name.starts_with(".delay."))
}

fn trust(origin: Origin, message: &RawMessage, names: &Names) -> Trust {
    let from_inner_queue = matches!(origin, Origin::Deliveries | Origin::Suspects | Origin::Records);
    if from_inner_queue || is_ours(&message.exchange, names) {
        Trust::Ours
    } else {
        Trust::Foreign
    }
}

/// Where a message that the broker put aside belongs. What was dead-lettered bears the exchange `faults`, and its way before
/// that stands in headers that a producer may have forged: it counts as foreign.
fn origin_of_raw(message: &RawMessage, names: &Names) -> Origin {
    let exchange = &message.exchange;
    if *exchange == names.exchange(Exchange::Ordered) {
        Origin::Ordered
    } else if *exchange == names.exchange(Exchange::Ingest) || !is_ours(exchange, names) {
        Origin::Events
    } else {
        Origin::Deliveries
    }
}

/// The broker's latest note on dead-lettering.
fn latest_death(message: &RawMessage) -> Option<&[(String, HeaderValue)]> {
    match message.properties.header("x-death")? {
        HeaderValue::List(deaths) => match deaths.first()? {
            HeaderValue::Table(death) => Some(death),
            _ => None,
        },
        _ => None,
    }
}

fn detail_of_raw(message: &RawMessage) -> String {
    let field = |death: &[(String, HeaderValue)], name| {
        death
            .iter()
            .find(|(found, _)| found == name)
            .and_then(|(_, value)| value.as_text())
            .map(str::to_owned)
    };
    let death = latest_death(message);
    match death.map(|death| (field(death, "reason"), field(death, "queue"))) {
        Some((Some(reason), Some(queue))) => format!("{reason} in queue {queue}"),
        _ => format!(
            "exchange {} had no queue for routing key {:?}",
            message.exchange, message.routing_key
        ),
    }
}

fn put_aside_at(message: &RawMessage) -> Option<UnixMillis> {
    let (_, time) = latest_death(message)?.iter().find(|(name, _)| name == "time")?;
    match time {
        HeaderValue::Timestamp(seconds) => i64::try_from(*seconds).ok()?.checked_mul(1000).map(UnixMillis),
        _ => None,
    }
}

fn subject(message: &RawMessage, trust: Trust, depth: usize) -> Subject {
    if trust == Trust::Ours
        && let Ok(internal) = Internal::decode(message.body.clone())
    {
        return subject_of_internal(&internal, depth);
    }
    if trust == Trust::Ours
        && let Ok(records) = record::decode(message.body.clone())
        && let [only] = &records[..]
    {
        return subject_of_record(only);
    }
    let properties = &message.properties;
    let event_type = properties
        .kind
        .as_deref()
        .filter(|kind| !kind.is_empty())
        .unwrap_or(&message.routing_key);
    Subject {
        event_id: None,
        application: properties
            .header(APPLICATION_HEADER)
            .and_then(HeaderValue::as_text)
            .map(str::to_owned),
        event_type: EventType::parse(event_type).ok(),
        endpoint: None,
    }
}

fn subject_of_internal(internal: &Internal, depth: usize) -> Subject {
    let of_event = |event: &hooklane_types::Event, endpoint: Option<&EndpointId>| Subject {
        event_id: Some(event.id.to_string()),
        application: Some(event.application.to_string()),
        event_type: Some(event.event_type.clone()),
        endpoint: endpoint.cloned(),
    };
    match internal {
        Internal::Event(event) => of_event(event, None),
        Internal::Delivery(delivery) => of_event(&delivery.event, delivery.endpoints.first()),
        Internal::Dead(dead) => of_event(&dead.delivery.event, dead.delivery.endpoints.first()),
        Internal::Suspect(Suspect { original, .. }) | Internal::Fault(Fault { original, .. })
            if depth > 0 =>
        {
            // Our own envelope says where the original came from; what came from a producer is a payload, whatever it looks like.
            let is_foreign = matches!(original.origin, Origin::Events | Origin::Ordered)
                && !original.message.exchange.ends_with(".ingest");
            let trust = if is_foreign { Trust::Foreign } else { Trust::Ours };
            subject(&original.message, trust, depth - 1)
        }
        Internal::Suspect(_) | Internal::Fault(_) => Subject::default(),
    }
}

fn subject_of_record(record: &Record) -> Subject {
    let (application, event, _) = record.event();
    Subject {
        event_id: Some(event.to_string()),
        application: Some(application.to_string()),
        event_type: None,
        endpoint: match record {
            Record::Event(_) => None,
            Record::Attempt(Attempt { delivery, .. }) | Record::Settled(Settled { delivery, .. }) => {
                Some(delivery.endpoint.clone())
            }
        },
    }
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Events => "events",
        Origin::Ordered => "ordered",
        Origin::Deliveries => "deliveries",
        Origin::Suspects => "suspects",
        Origin::Records => "records",
    }
}

#[cfg(test)]
mod tests;
