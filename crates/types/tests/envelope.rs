//! Envelopes: everything that is written is read as it was, and nothing that is read does harm.

use bytes::Bytes;
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, AttemptSummary, Channel, DeadLetter, DeadReason, Delivery,
    EndpointId, EnvelopeError, Event, EventId, EventType, FailureKind, Fault, FaultReason, HeaderValue,
    Internal, Origin, Original, ProducerId, Properties, RawMessage, Suspect, UnixMillis,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

#[path = "property/envelope.rs"]
mod envelope;

const FAILURES: [FailureKind; 8] = [
    FailureKind::Timeout,
    FailureKind::Dns,
    FailureKind::Connect,
    FailureKind::Tls,
    FailureKind::Blocked,
    FailureKind::Closed,
    FailureKind::Protocol,
    FailureKind::Configuration,
];

fn times() -> impl Strategy<Value = UnixMillis> {
    any::<i64>().prop_map(UnixMillis)
}

fn events() -> impl Strategy<Value = Event> {
    let ids =
        (any::<i64>(), any::<[u8; 10]>()).prop_map(|(at, random)| EventId::fresh(UnixMillis(at), random));
    let producer_ids = option::of(".{1,200}".prop_map(|text| ProducerId::parse(&text).unwrap()));
    let channels = vec(
        "[a-z0-9._-]{1,128}".prop_map(|text| Channel::parse(&text).unwrap()),
        0..=5,
    );
    let traceparents = option::of(Just(
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    ));
    let headers = vec(("ce-[a-z0-9]{1,20}", "[!-~]{0,40}"), 0..5);
    (
        (
            ids,
            producer_ids,
            "[a-zA-Z0-9._-]{1,256}",
            "[a-zA-Z0-9._-]{1,256}",
            channels,
        ),
        (
            times(),
            "[!-~]{1,100}",
            traceparents,
            headers,
            vec(any::<u8>(), 0..300),
        ),
    )
        .prop_map(|((id, producer_id, application, event_type, channels), rest)| {
            let (accepted_at, content_type, traceparent, headers, payload) = rest;
            Event {
                id,
                producer_id,
                application: ApplicationId::parse(&application).unwrap(),
                event_type: EventType::parse(&event_type).unwrap(),
                channels,
                accepted_at,
                content_type,
                traceparent,
                headers,
                payload: payload.into(),
            }
        })
}

fn attempts() -> impl Strategy<Value = AttemptSummary> {
    let status = (any::<u16>(), any::<Option<u64>>())
        .prop_map(|(code, retry_after_ms)| AttemptOutcome::Status { code, retry_after_ms });
    let outcomes = prop_oneof![status, select(&FAILURES[..]).prop_map(AttemptOutcome::Failed)];
    (any::<[u8; 10]>(), times(), any::<u32>(), outcomes).prop_map(|(random, at, duration_ms, outcome)| {
        AttemptSummary {
            id: AttemptId::fresh(at, random),
            at,
            duration_ms,
            outcome,
        }
    })
}

fn deliveries() -> impl Strategy<Value = Delivery> {
    let endpoints = vec(
        "[a-z0-9._-]{1,256}".prop_map(|text| EndpointId::parse(&text).unwrap()),
        1..=16,
    );
    let counts = (
        any::<u16>(),
        any::<u32>(),
        any::<u32>(),
        any::<u32>(),
        any::<u64>(),
    );
    (
        events(),
        endpoints,
        counts,
        option::of(times()),
        vec(attempts(), 0..=16),
    )
        .prop_map(
            |(event, endpoints, (target, run, attempts_made, parks, remaining_ms), deadline, history)| {
                Delivery {
                    event,
                    endpoints,
                    target,
                    run,
                    attempts_made,
                    parks,
                    remaining_ms,
                    deadline,
                    history,
                }
            },
        )
}

fn header_values() -> impl Strategy<Value = HeaderValue> {
    let leaf = prop_oneof![
        ".{0,20}".prop_map(HeaderValue::Text),
        vec(any::<u8>(), 0..20).prop_map(HeaderValue::Bytes),
        any::<i64>().prop_map(HeaderValue::Integer),
        any::<f64>().prop_map(HeaderValue::Float),
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<u64>().prop_map(HeaderValue::Timestamp),
        Just(HeaderValue::Void),
    ];
    leaf.prop_recursive(7, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(HeaderValue::List),
            vec((".{0,8}", inner), 0..4).prop_map(HeaderValue::Table),
        ]
    })
}

fn originals() -> impl Strategy<Value = Original> {
    let origins = select(
        &[
            Origin::Events,
            Origin::Ordered,
            Origin::Deliveries,
            Origin::Suspects,
        ][..],
    );
    let text = || option::of(".{0,30}");
    let properties = (
        (text(), text(), text(), text(), text(), text()),
        (text(), text(), text(), any::<Option<u64>>(), any::<Option<u8>>()),
        vec((".{0,20}", header_values()), 0..5),
    )
        .prop_map(|(first, second, headers)| Properties {
            content_type: first.0,
            content_encoding: first.1,
            message_id: first.2,
            correlation_id: first.3,
            reply_to: first.4,
            expiration: first.5,
            kind: second.0,
            user_id: second.1,
            app_id: second.2,
            timestamp_s: second.3,
            priority: second.4,
            headers,
        });
    (
        origins,
        ".{0,40}",
        ".{0,40}",
        properties,
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(origin, exchange, routing_key, properties, body)| Original {
            origin,
            message: RawMessage {
                exchange,
                routing_key,
                properties,
                body: body.into(),
            },
        })
}

fn messages() -> impl Strategy<Value = Internal> {
    prop_oneof![
        events().prop_map(Internal::Event),
        deliveries().prop_map(Internal::Delivery),
        (originals(), any::<u32>(), times()).prop_map(|(original, deaths, since)| Internal::Suspect(
            Suspect {
                original,
                deaths,
                since
            }
        )),
        (deliveries(), select(&DeadReason::ALL[..]), times())
            .prop_map(|(delivery, reason, at)| Internal::Dead(DeadLetter { delivery, reason, at })),
        (select(&FaultReason::ALL[..]), ".{0,200}", times(), originals()).prop_map(
            |(reason, detail, at, original)| Internal::Fault(Fault::new(reason, detail, at, original))
        ),
    ]
}

fn event() -> Event {
    Event {
        id: EventId::fresh(UnixMillis(1), [1; 10]),
        producer_id: None,
        application: ApplicationId::parse("acme").unwrap(),
        event_type: EventType::parse("a").unwrap(),
        channels: Vec::new(),
        accepted_at: UnixMillis(0),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::from_static(b"payload"),
    }
}

fn decode(event: Event) -> Result<Event, EnvelopeError> {
    match Internal::decode(Internal::Event(event).encode())? {
        Internal::Event(event) => Ok(event),
        other => panic!("another kind: {other:?}"),
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(message in messages()) {
        prop_assert_eq!(Internal::decode(message.encode()), Ok(message));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        envelope::check(&bytes);
    }

    /// Goal: bytes that look like an envelope get past the first checks, and do no harm there either.
    #[test]
    fn any_head_is_read_without_panic(head: Vec<u8>) {
        let mut bytes = b"HL\x01".to_vec();
        bytes.extend((head.len() as u32).to_be_bytes());
        bytes.extend(&head);
        envelope::check(&bytes);
    }

    #[test]
    fn an_envelope_with_a_flaw_is_read_without_panic(message in messages(), at: prop::sample::Index, flaw: u8) {
        let mut bytes = message.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = flaw;
        envelope::check(&bytes);
        envelope::check(&bytes[..at]);
    }
}

#[test]
fn a_newer_version_is_told_apart_from_a_broken_one() {
    let mut bytes = Internal::Event(event()).encode().to_vec();
    bytes[2] = 2;
    let newer = Internal::decode(bytes.clone().into());
    assert_eq!(newer, Err(EnvelopeError::Newer { version: 2 }));
    // Nothing but magic and version is taken for known of a newer version; this one has another prefix.
    assert_eq!(
        Internal::decode(Bytes::from_static(b"HL\xff????")),
        Err(EnvelopeError::Newer { version: 255 })
    );
    bytes[2] = 0;
    assert!(matches!(
        Internal::decode(bytes.into()),
        Err(EnvelopeError::Broken(_))
    ));
    assert_eq!(
        Internal::decode(Bytes::from_static(b"{\"a\":1.0}")),
        Err(EnvelopeError::NotOurs)
    );
    assert_eq!(Internal::decode(Bytes::new()), Err(EnvelopeError::NotOurs));
}

#[test]
fn the_payload_is_not_copied() {
    let bytes = Internal::Event(event()).encode();
    let Ok(Internal::Event(read)) = Internal::decode(bytes.clone()) else {
        panic!("not an event")
    };
    assert_eq!(
        read.payload.as_ptr(),
        bytes[bytes.len() - read.payload.len()..].as_ptr()
    );
}

#[test]
fn a_length_that_announces_more_than_is_there_is_refused() {
    // Version 1, an event (variant 0) whose id has 2^63 bytes; then the same number of channels behind valid text.
    let length = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let mut id = vec![0];
    id.extend(length);
    let mut channels = vec![0, 5];
    channels.extend(b"msg_1\x00\x04acme\x01a");
    channels.extend(length);
    for head in [id, channels] {
        let mut bytes = b"HL\x01".to_vec();
        bytes.extend((head.len() as u32).to_be_bytes());
        bytes.extend(&head);
        assert!(matches!(
            Internal::decode(bytes.into()),
            Err(EnvelopeError::Broken(_))
        ));
    }
}

#[test]
fn what_could_break_a_header_or_a_bound_is_refused() {
    assert!(decode(event()).is_ok());
    let flawed: [(&str, Event); 6] = [
        (
            "content type",
            Event {
                content_type: "a\r\nx: 1".to_owned(),
                ..event()
            },
        ),
        (
            "header name",
            Event {
                headers: vec![("host".to_owned(), "x".to_owned())],
                ..event()
            },
        ),
        (
            "header value",
            Event {
                headers: vec![("ce-a".to_owned(), "x\r\n".to_owned())],
                ..event()
            },
        ),
        (
            "headers",
            Event {
                headers: vec![("ce-a".to_owned(), "x".repeat(3000)); 3],
                ..event()
            },
        ),
        (
            "channels",
            Event {
                channels: vec![Channel::parse("c").unwrap(); 6],
                ..event()
            },
        ),
        (
            "long content type",
            Event {
                content_type: "a".repeat(256),
                ..event()
            },
        ),
    ];
    for (flaw, event) in flawed {
        assert!(matches!(decode(event), Err(EnvelopeError::Broken(_))), "{flaw}");
    }
    let junk = Event {
        traceparent: Some("junk\r\n".to_owned()),
        ..event()
    };
    assert_eq!(
        decode(junk).unwrap().traceparent,
        None,
        "left out, for it harms nobody"
    );
}

#[test]
fn a_delivery_has_from_one_to_sixteen_endpoints() {
    let delivery = |endpoints: usize| Delivery {
        event: event(),
        endpoints: vec![EndpointId::parse("e").unwrap(); endpoints],
        target: 0,
        run: 0,
        attempts_made: 0,
        parks: 0,
        remaining_ms: 0,
        deadline: None,
        history: Vec::new(),
    };
    for (endpoints, fits) in [(0, false), (1, true), (16, true), (17, false)] {
        let read = Internal::decode(Internal::Delivery(delivery(endpoints)).encode());
        assert_eq!(read.is_ok(), fits, "{endpoints} endpoints");
    }
}

#[test]
fn a_detail_that_was_set_past_its_constructor_is_cut() {
    let original = Original {
        origin: Origin::Events,
        message: RawMessage::default(),
    };
    let mut fault = Fault::new(FaultReason::Poison, "", UnixMillis(0), original);
    fault.detail = "x".repeat(5000);
    let Ok(Internal::Fault(read)) = Internal::decode(Internal::Fault(fault).encode()) else {
        panic!("not a fault")
    };
    assert_eq!(read.detail.len(), 1024);
}
