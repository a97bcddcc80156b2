use hooklane_types::{ApplicationId, Delivery, Event, EventId, Properties};

use super::*;

fn names() -> Names {
    Names::new("hooklane").unwrap()
}

fn event() -> Event {
    Event {
        id: EventId::parse("msg_1").unwrap(),
        producer_id: None,
        application: ApplicationId::parse("acme").unwrap(),
        event_type: EventType::parse("invoice.paid").unwrap(),
        channels: vec![],
        accepted_at: UnixMillis(1),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: vec![],
        payload: Bytes::from_static(b"{}"),
    }
}

fn delivery() -> Internal {
    Internal::Delivery(Delivery {
        event: event(),
        endpoints: vec![EndpointId::parse("ep_1").unwrap()],
        target: 0,
        run: 0,
        attempts_made: 3,
        parks: 0,
        remaining_ms: 0,
        deadline: Some(UnixMillis(9)),
        history: vec![],
    })
}

fn message(exchange: &str, routing_key: &str, body: Bytes) -> RawMessage {
    RawMessage {
        exchange: format!("hooklane.{exchange}"),
        routing_key: routing_key.to_owned(),
        properties: Properties {
            headers: vec![(
                APPLICATION_HEADER.to_owned(),
                HeaderValue::Text("other".to_owned()),
            )],
            ..Properties::default()
        },
        body,
    }
}

fn fault(origin: Origin, original: RawMessage) -> RawMessage {
    let fault = Internal::Fault(Fault {
        reason: FaultReason::Poison,
        detail: "three deaths".to_owned(),
        at: UnixMillis(7),
        original: Original {
            origin,
            message: original,
        },
    });
    message("internal", "faults", fault.encode())
}

fn read(message: RawMessage) -> FaultEntry {
    FaultEntry::read(message, &names())
}

/// What a replay publishes: to `deliveries`, decoded.
fn replayed(message: RawMessage) -> Internal {
    let replay = read(message).replay().unwrap();
    assert_eq!(replay.to, Destination::Internal(Queue::Deliveries));
    assert_eq!(replay.message.properties, Properties::default());
    Internal::decode(replay.message.body).unwrap()
}

#[test]
fn an_event_goes_through_intake_again_with_its_original_unchanged() {
    // Goal: external and ingested originals travel whole within our envelope, not as their contents.
    for (exchange, body) in [
        ("events", Bytes::from_static(b"{")),
        ("ingest", Internal::Event(event()).encode()),
    ] {
        let original = message(exchange, "invoice.paid", body);
        let Internal::Suspect(suspect) = replayed(fault(Origin::Events, original.clone())) else {
            panic!("{exchange}")
        };
        assert_eq!((suspect.deaths, suspect.original.origin), (0, Origin::Events));
        assert_eq!(suspect.original.message, original);
    }
}

#[test]
fn an_internal_message_goes_back_in_internal_form() {
    // Goal: a delivery keeps its run, attempts and deadline, whether it became a fault itself or in a trial.
    let original = message("lanes", "deliveries", delivery().encode());
    assert_eq!(replayed(fault(Origin::Deliveries, original.clone())), delivery());
    let suspect = Suspect {
        original: Original {
            origin: Origin::Deliveries,
            message: original.clone(),
        },
        deaths: 2,
        since: UnixMillis(0),
    };
    let tried = message("internal", "suspects", Internal::Suspect(suspect).encode());
    assert_eq!(replayed(fault(Origin::Suspects, tried)), delivery());
    // Put aside by the broker, for want of the queue.
    assert_eq!(replayed(original), delivery());
}

#[test]
fn bytes_of_a_producer_are_never_taken_for_an_envelope() {
    // Goal: an envelope forged by a producer, put aside by expiration or an alternate exchange, is replayed as that producer's payload.
    for exchange in ["events", "faults", "ordered"] {
        let forged = message(exchange, "invoice.paid", delivery().encode());
        let entry = read(forged.clone());
        assert_eq!(entry.facts().application.as_deref(), Some("other"), "{exchange}");
        assert_eq!(entry.facts().endpoint, None);
        let Internal::Suspect(suspect) = replayed(forged.clone()) else {
            panic!("{exchange}")
        };
        assert!(matches!(
            suspect.original.origin,
            Origin::Events | Origin::Ordered
        ));
        assert_eq!(suspect.original.message, forged);
    }
    let claims_to_be_a_fault = fault(
        Origin::Deliveries,
        message("lanes", "deliveries", delivery().encode()),
    );
    let forged = RawMessage {
        exchange: "hooklane.events".to_owned(),
        ..claims_to_be_a_fault
    };
    assert_eq!(read(forged).facts().reason, Some(FaultReason::Unroutable));
}

#[test]
fn what_a_fault_is_about_is_found_in_envelopes_and_properties() {
    // Goal: filters by application, type and endpoint work on faults.
    let inner = message("lanes", "deliveries", delivery().encode());
    let facts = read(fault(Origin::Deliveries, inner)).facts();
    assert_eq!(facts.application.as_deref(), Some("acme"));
    assert_eq!(facts.endpoint, EndpointId::parse("ep_1").ok());
    assert_eq!(
        (facts.reason, facts.at),
        (Some(FaultReason::Poison), Some(UnixMillis(7)))
    );
    let facts = read(fault(
        Origin::Events,
        message("events", "order.sent", Bytes::new()),
    ))
    .facts();
    assert_eq!(facts.application.as_deref(), Some("other"));
    assert_eq!(facts.event_type, EventType::parse("order.sent").ok());
}

#[test]
fn garbage_of_any_kind_is_shown_and_has_the_same_id_at_every_look() {
    // Goal: no bytes stop the reading, and `show` finds what `list` showed although the broker counts in a header.
    for body in [
        &b""[..],
        b"HL",
        b"HL\x01\x00\x00\x00\x05abcde",
        b"HL\x09\x00\x00\x00\x00",
        b"\xff\xfe",
    ] {
        for exchange in ["internal", "events", "delay.100", "elsewhere"] {
            let first = message(exchange, "faults", Bytes::copy_from_slice(body));
            let mut later = first.clone();
            later
                .properties
                .headers
                .push(("x-delivery-count".to_owned(), HeaderValue::Integer(3)));
            let (first, later) = (read(first), read(later));
            assert_eq!(first.facts().id, later.facts().id);
            assert_eq!(first.row(UnixMillis(0)).reason, "unroutable");
            first.detail(10);
        }
    }
}

#[test]
fn faults_that_differ_in_anything_have_different_ids() {
    // Goal: purging one by its id takes no other with it: not one of another application, nor one that was published again.
    let id = |application: &str, at| {
        let mut original = message("events", "invoice.paid", Bytes::from_static(b"{}"));
        original.properties.headers[0].1 = HeaderValue::Text(application.to_owned());
        let fault = Fault {
            reason: FaultReason::UnknownApplication,
            detail: String::new(),
            at: UnixMillis(at),
            original: Original {
                origin: Origin::Events,
                message: original,
            },
        };
        read(message("internal", "faults", Internal::Fault(fault).encode()))
            .facts()
            .id
    };
    assert_eq!(id("a", 1), id("a", 1));
    assert_ne!(id("a", 1), id("b", 1));
    assert_ne!(id("a", 1), id("a", 2));
}

#[test]
fn the_brokers_note_says_why_and_when_a_message_was_put_aside() {
    // Goal: an expired message names queue and reason, and can be filtered by age.
    let mut expired = message("faults", "invoice.paid", Bytes::new());
    let death = vec![
        ("reason".to_owned(), HeaderValue::Text("expired".to_owned())),
        (
            "queue".to_owned(),
            HeaderValue::Text("hooklane.events".to_owned()),
        ),
        ("time".to_owned(), HeaderValue::Timestamp(1_700_000_000)),
    ];
    expired.properties.headers.push((
        "x-death".to_owned(),
        HeaderValue::List(vec![HeaderValue::Table(death)]),
    ));
    let entry = read(expired);
    assert_eq!(entry.detail(0).detail, "expired in queue hooklane.events");
    assert_eq!(entry.facts().at, Some(UnixMillis(1_700_000_000_000)));
}
