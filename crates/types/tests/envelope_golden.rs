//! The bytes of version 1, pinned: what one release wrote, every later one reads.
//!
//! They were computed apart from this code, from postcard's specification. A test here that fails says that
//! the wire form changed. After the first release that takes a new version, not new bytes.

use bytes::Bytes;
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, AttemptSummary, Channel, DeadLetter, DeadReason, Delivery,
    EndpointId, Event, EventId, EventType, FailureKind, Fault, FaultReason, HeaderValue, Internal, Origin,
    Original, ProducerId, Properties, RawMessage, Suspect, UnixMillis,
};

fn event() -> Event {
    Event {
        id: EventId::parse("msg_01").unwrap(),
        producer_id: Some(ProducerId::parse("p\n").unwrap()),
        application: ApplicationId::parse("acme").unwrap(),
        event_type: EventType::parse("invoice.paid").unwrap(),
        channels: vec![Channel::parse("eu").unwrap()],
        accepted_at: UnixMillis(1_700_000_000_123),
        content_type: "application/json".to_owned(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        headers: vec![("ce-id".to_owned(), "p%0A".to_owned())],
        payload: Bytes::from_static(b"{\"a\": 1.0}"),
    }
}

fn delivery() -> Delivery {
    let attempt = |outcome| AttemptSummary {
        id: AttemptId::parse("atmpt_1").unwrap(),
        at: UnixMillis(-1),
        duration_ms: 300,
        outcome,
    };
    Delivery {
        event: Event {
            producer_id: None,
            traceparent: None,
            channels: vec![],
            headers: vec![],
            ..event()
        },
        endpoints: vec![
            EndpointId::parse("ep_1").unwrap(),
            EndpointId::parse("shop").unwrap(),
        ],
        target: 1,
        run: 2,
        attempts_made: 3,
        parks: 4,
        remaining_ms: 500,
        deadline: Some(UnixMillis(1_700_000_000_124)),
        history: vec![
            attempt(AttemptOutcome::Status {
                code: 503,
                retry_after_ms: Some(1000),
            }),
            attempt(AttemptOutcome::Failed(FailureKind::Timeout)),
            attempt(AttemptOutcome::Failed(FailureKind::Configuration)),
        ],
    }
}

fn original() -> Original {
    let text = |text: &str| Some(text.to_owned());
    let header = |name: &str, value| (name.to_owned(), value);
    Original {
        origin: Origin::Deliveries,
        message: RawMessage {
            exchange: "hooklane.events".to_owned(),
            routing_key: "key".to_owned(),
            properties: Properties {
                content_type: text("a"),
                content_encoding: text("b"),
                message_id: text("c"),
                correlation_id: text("d"),
                reply_to: text("e"),
                expiration: text("f"),
                kind: text("g"),
                user_id: text("h"),
                app_id: text("i"),
                timestamp_s: Some(300),
                priority: Some(9),
                headers: vec![
                    header("text", HeaderValue::Text("é".to_owned())),
                    header("bytes", HeaderValue::Bytes(vec![255])),
                    header("integer", HeaderValue::Integer(-2)),
                    header("float", HeaderValue::Float(1.5)),
                    header("bool", HeaderValue::Bool(true)),
                    header("timestamp", HeaderValue::Timestamp(4)),
                    header(
                        "list",
                        HeaderValue::List(vec![HeaderValue::Integer(1), HeaderValue::Void]),
                    ),
                    header(
                        "table",
                        HeaderValue::Table(vec![header("k", HeaderValue::Bool(false))]),
                    ),
                    header("void", HeaderValue::Void),
                ],
            },
            body: Bytes::from_static(b"body"),
        },
    }
}

#[track_caller]
fn pinned(message: Internal, expected: &str) {
    let encoded = hex::encode(message.encode());
    assert_eq!(
        encoded,
        expected.replace(char::is_whitespace, ""),
        "the wire form changed"
    );
    let read = Internal::decode(hex::decode(encoded).unwrap().into());
    assert_eq!(read, Ok(message));
}

#[test]
fn an_event() {
    pinned(
        Internal::Event(event()),
        "
         484c010000007e00066d73675f30310102700a0461636d650c696e766f6963652e7061696401026575f6a1abfe
         f962106170706c69636174696f6e2f6a736f6e013730302d306166373635313931366364343364643834343865
         62323131633830333139632d623761643662373136393230333333312d3031010563652d696404702530417b22
         61223a20312e307d",
    );
}

#[test]
fn a_delivery() {
    pinned(
        Internal::Delivery(delivery()),
        "
         484c010000007901066d73675f3031000461636d650c696e766f6963652e7061696400f6a1abfef96210617070
         6c69636174696f6e2f6a736f6e0000020465705f310473686f7001020304f40301f8a1abfef962030761746d70
         745f3101ac0200f70301e8070761746d70745f3101ac0201000761746d70745f3101ac0201077b2261223a2031
         2e307d",
    );
}

#[test]
fn a_suspect() {
    let suspect = Suspect {
        original: original(),
        deaths: 2,
        since: UnixMillis(5),
    };
    pinned(
        Internal::Suspect(suspect),
        "
         484c010000009302020f686f6f6b6c616e652e6576656e7473036b657901016101016201016301016401016501
         016601016701016801016901ac0201090904746578740002c3a90562797465730101ff07696e74656765720203
         05666c6f617403000000000000f83f04626f6f6c04010974696d657374616d700504046c697374060202020805
         7461626c650701016b040004766f696408020a626f6479",
    );
}

#[test]
fn a_dead_letter() {
    let dead = DeadLetter {
        delivery: delivery(),
        reason: DeadReason::Gone,
        at: UnixMillis(6),
    };
    pinned(
        Internal::Dead(dead),
        "
         484c010000007b03066d73675f3031000461636d650c696e766f6963652e7061696400f6a1abfef96210617070
         6c69636174696f6e2f6a736f6e0000020465705f310473686f7001020304f40301f8a1abfef962030761746d70
         745f3101ac0200f70301e8070761746d70745f3101ac0201000761746d70745f3101ac020107020c7b2261223a
         20312e307d",
    );
}

#[test]
fn a_fault() {
    let fault = Fault::new(FaultReason::Poison, "why", UnixMillis(7), original());
    pinned(
        Internal::Fault(fault),
        "
         484c01000000970404037768790e020f686f6f6b6c616e652e6576656e7473036b657901016101016201016301
         016401016501016601016701016801016901ac0201090904746578740002c3a90562797465730101ff07696e74
         65676572020305666c6f617403000000000000f83f04626f6f6c04010974696d657374616d700504046c697374
         0602020208057461626c650701016b040004766f696408626f6479",
    );
}

/// Goal: nobody reorders a set whose members are written as their numbers.
#[test]
fn the_numbers_of_closed_sets() {
    let written = |bytes: Result<Vec<u8>, postcard::Error>| bytes.unwrap();
    assert_eq!(written(postcard::to_stdvec(&DeadReason::ALL)), [0, 1, 2, 3]);
    assert_eq!(
        DeadReason::ALL.map(DeadReason::name),
        ["exhausted", "expired", "gone", "endpoint_removed"]
    );
    assert_eq!(
        written(postcard::to_stdvec(&FaultReason::ALL)),
        [0, 1, 2, 3, 4, 5, 6]
    );
    let faults = [
        "malformed",
        "too_large",
        "unknown_application",
        "wrong_application",
        "poison",
        "unroutable",
        "unrecordable",
    ];
    assert_eq!(FaultReason::ALL.map(FaultReason::name), faults);
    let origins = [
        Origin::Events,
        Origin::Ordered,
        Origin::Deliveries,
        Origin::Suspects,
    ];
    assert_eq!(written(postcard::to_stdvec(&origins)), [0, 1, 2, 3]);
    let failures = [
        FailureKind::Timeout,
        FailureKind::Dns,
        FailureKind::Connect,
        FailureKind::Tls,
        FailureKind::Blocked,
        FailureKind::Closed,
        FailureKind::Protocol,
        FailureKind::Configuration,
    ];
    assert_eq!(written(postcard::to_stdvec(&failures)), [0, 1, 2, 3, 4, 5, 6, 7]);
}
