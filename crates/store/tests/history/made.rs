//! Records to try.

use bytes::Bytes;
use hooklane_store::history::{Attempt, Decision, DeliveryKey, EventRef, Record, Settled, Trigger};
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, Channel, DeadReason, EndpointId, Event, EventId, EventType,
    FailureKind, ProducerId, UnixMillis,
};
use proptest::prelude::*;

pub const NOW_MS: i64 = 1_700_000_000_000;

pub fn now() -> UnixMillis {
    UnixMillis(NOW_MS)
}

pub fn at(ms: i64) -> UnixMillis {
    UnixMillis(NOW_MS + ms)
}

pub fn application(id: &str) -> ApplicationId {
    ApplicationId::parse(id).unwrap()
}

pub fn endpoint(id: &str) -> EndpointId {
    EndpointId::parse(id).unwrap()
}

pub fn event_id(id: &str) -> EventId {
    EventId::parse(id).unwrap()
}

pub fn attempt_id(id: &str) -> AttemptId {
    AttemptId::parse(id).unwrap()
}

pub fn event_type(name: &str) -> EventType {
    EventType::parse(name).unwrap()
}

pub fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

/// Accepted at this time, of `app`.
pub fn event(id: &str, ms: i64) -> Event {
    Event {
        id: event_id(id),
        producer_id: None,
        application: application("app"),
        event_type: event_type("invoice.paid"),
        channels: Vec::new(),
        accepted_at: at(ms),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::from_static(b"{}"),
    }
}

/// To `ep`, of an event that was accepted at this time.
pub fn delivery(event: &str, accepted_ms: i64, run: u32) -> DeliveryKey {
    DeliveryKey {
        event: EventRef {
            application: application("app"),
            id: event_id(event),
            accepted_at: at(accepted_ms),
        },
        endpoint: endpoint("ep"),
        target: 0,
        run,
    }
}

/// Begun at this time.
pub fn attempt(id: &str, delivery: DeliveryKey, ms: i64, decision: Decision) -> Attempt {
    let code = if decision == Decision::Delivered { 200 } else { 500 };
    Attempt {
        id: attempt_id(id),
        delivery,
        at: at(ms),
        duration_ms: 12,
        outcome: AttemptOutcome::Status {
            code,
            retry_after_ms: None,
        },
        url: "https://example.com/hook".to_owned(),
        answer: Bytes::from_static(b"answer"),
        trigger: Trigger::Schedule,
        decision,
    }
}

pub fn settled(delivery: DeliveryKey, ms: i64, reason: DeadReason) -> Settled {
    Settled {
        delivery,
        at: at(ms),
        reason,
    }
}

/// Few of each, so that they meet.
pub const APPLICATIONS: [&str; 2] = ["app", "other"];
pub const EVENTS: [&str; 4] = ["msg_1", "msg_2", "msg_h3", "msg_h4"];
pub const ENDPOINTS: [&str; 3] = ["ep", "ep_2", "ep_3"];
pub const TYPES: [&str; 3] = ["invoice.paid", "invoice", "user.made"];
pub const CHANNELS: [&str; 2] = ["one", "two"];

fn any_application() -> impl Strategy<Value = ApplicationId> {
    prop_oneof![3 => Just(application("app")), 1 => Just(application("other"))]
}

fn any_time() -> impl Strategy<Value = UnixMillis> {
    (0..6i64).prop_map(at)
}

fn any_event() -> impl Strategy<Value = Event> {
    let what = (
        proptest::sample::select(&TYPES[..]).prop_map(event_type),
        proptest::sample::subsequence(CHANNELS.map(channel).to_vec(), 0..=2),
        proptest::option::of(Just(ProducerId::parse("order 17\n\u{1f389}").unwrap())),
        proptest::option::of(Just("00-trace".to_owned())),
        proptest::collection::vec(Just(("ce-id".to_owned(), "7".to_owned())), 0..2),
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from),
    );
    let which = (
        any_application(),
        proptest::sample::select(&EVENTS[..]),
        any_time(),
    );
    (which, what).prop_map(
        |(
            (application, id, accepted_at),
            (event_type, channels, producer_id, traceparent, headers, payload),
        )| {
            Event {
                application,
                event_type,
                channels,
                accepted_at,
                producer_id,
                traceparent,
                headers,
                payload,
                ..event(id, 0)
            }
        },
    )
}

fn any_delivery() -> impl Strategy<Value = DeliveryKey> {
    let events = proptest::sample::select(&EVENTS[..]);
    let endpoints = proptest::sample::select(&ENDPOINTS[..]);
    (any_application(), events, any_time(), endpoints, 0..2u16, 0..3u32).prop_map(
        |(application, event, accepted_at, id, target, run)| DeliveryKey {
            event: EventRef {
                application,
                id: event_id(event),
                accepted_at,
            },
            endpoint: endpoint(id),
            target,
            run,
        },
    )
}

fn any_reason() -> impl Strategy<Value = DeadReason> {
    proptest::sample::select(&DeadReason::ALL[..])
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    let outcome = prop_oneof![
        (100..700u16, proptest::option::of(0..9u64))
            .prop_map(|(code, retry_after_ms)| AttemptOutcome::Status { code, retry_after_ms }),
        proptest::sample::select(&FailureKind::ALL[..]).prop_map(AttemptOutcome::Failed),
    ];
    let decision = prop_oneof![
        Just(Decision::Delivered),
        any_time().prop_map(Decision::Again),
        any_reason().prop_map(Decision::Dead),
    ];
    let trigger = prop_oneof![Just(Trigger::Schedule), Just(Trigger::Manual)];
    (
        any_delivery(),
        any_time(),
        outcome,
        decision,
        trigger,
        "[a-z]{0,3}",
    )
        .prop_map(|(delivery, at, outcome, decision, trigger, answer)| Attempt {
            at,
            outcome,
            trigger,
            answer: Bytes::from(answer),
            ..attempt("atmpt_x", delivery, 0, decision)
        })
}

/// Attempts have an id each.
pub fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let settled = (any_delivery(), any_time(), any_reason())
        .prop_map(|(delivery, at, reason)| Record::Settled(Settled { delivery, at, reason }));
    let record = prop_oneof![
        2 => any_event().prop_map(Record::Event),
        5 => any_attempt().prop_map(Record::Attempt),
        1 => settled,
    ];
    proptest::collection::vec(record, 0..40).prop_map(|mut records| {
        for (n, record) in records.iter_mut().enumerate() {
            if let Record::Attempt(attempt) = record {
                // Not in the order of their making.
                attempt.id = attempt_id(&format!("atmpt_{}", n * 7 % 41));
            }
        }
        records
    })
}
