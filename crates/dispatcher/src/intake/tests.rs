use bytes::Bytes;
use hooklane_types::Properties;

use super::*;
use crate::settings::UserApplications;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn text(name: &str, value: &str) -> (String, HeaderValue) {
    (name.to_owned(), HeaderValue::Text(value.to_owned()))
}

fn message(change: impl FnOnce(&mut RawMessage)) -> RawMessage {
    let mut message = RawMessage {
        exchange: "hooklane.events".to_owned(),
        routing_key: "invoice.paid".to_owned(),
        properties: Properties {
            message_id: Some("order-1".to_owned()),
            headers: vec![text("application", "app_a")],
            ..Properties::default()
        },
        body: Bytes::from_static(b" {\"a\": 1.0}"),
    };
    change(&mut message);
    message
}

fn read_default(message: &RawMessage) -> Result<Event, Refusal> {
    read(message, &DispatcherSettings::default(), |name| name, NOW, [7; 10])
}

#[test]
fn the_smallest_message_becomes_an_event() {
    // Goal: type from the routing key, id derived from application and message_id, bytes untouched, JSON by default.
    let event = read_default(&message(|_| {})).unwrap();
    let application = ApplicationId::parse("app_a").unwrap();
    assert_eq!(
        event.id,
        EventId::derived(&application, None, &ProducerId::parse("order-1").unwrap())
    );
    assert_eq!(event.event_type.as_str(), "invoice.paid");
    assert_eq!(event.content_type, "application/json");
    assert_eq!(event.payload, " {\"a\": 1.0}");
    assert_eq!(event.accepted_at, NOW);
}

#[test]
fn properties_decide_what_they_decide_and_nothing_else_travels_on() {
    // Goal: `type` beats the routing key; expiration, priority, reply_to and headers of ours change nothing.
    let plain = read_default(&message(|m| m.properties.kind = Some("invoice.void".to_owned()))).unwrap();
    assert_eq!(plain.event_type.as_str(), "invoice.void");
    let forged = read_default(&message(|m| {
        m.properties.kind = Some("invoice.void".to_owned());
        m.properties.expiration = Some("1".to_owned());
        m.properties.priority = Some(9);
        m.properties.reply_to = Some("hooklane.dead".to_owned());
        m.properties.headers.extend([
            text("webhook-id", "msg_forged"),
            text("x-hooklane-attempt", "9"),
            text("x-hooklane-endpoint", "ep_other"),
            ("x-death".to_owned(), HeaderValue::List(vec![])),
        ]);
    }))
    .unwrap();
    assert_eq!(plain, forged);
}

#[test]
fn any_message_id_is_an_id_and_never_a_header() {
    // Goal: 300 bytes, CR LF and the like derive a safe id; the same one each time; none or an empty one gives a fresh id.
    for id in [
        "a".repeat(300),
        "a.b\r\n".to_owned(),
        "ümläut".to_owned(),
        "\u{0}".to_owned(),
    ] {
        let message = message(|m| m.properties.message_id = Some(id.clone()));
        let event = read_default(&message).unwrap();
        EventId::parse(event.id.as_str()).unwrap();
        assert!(hooklane_signing::is_signable_id(event.id.as_str()));
        assert_eq!(
            event.producer_id.as_ref().map(ProducerId::as_str),
            Some(id.as_str())
        );
        assert_eq!(
            event.id,
            read(
                &message,
                &DispatcherSettings::default(),
                |name| name,
                NOW,
                [8; 10]
            )
            .unwrap()
            .id
        );
    }
    for id in [None, Some(String::new())] {
        let event = read_default(&message(|m| m.properties.message_id = id)).unwrap();
        assert_eq!(event.id, EventId::fresh(NOW, [7; 10]));
        assert_eq!(event.producer_id, None);
    }
}

#[test]
fn what_cannot_be_understood_is_malformed() {
    // Goal: each broken message is a fault of that kind and says where.
    type Change = Box<dyn FnOnce(&mut RawMessage)>;
    let cases: Vec<(&str, Change)> = vec![
        ("event type", Box::new(|m| m.routing_key.clear())),
        ("event type", Box::new(|m| m.routing_key = "a.b\r\n".to_owned())),
        (
            "event type",
            Box::new(|m| m.properties.kind = Some("a b".to_owned())),
        ),
        ("event type", Box::new(|m| m.routing_key = "x".repeat(257))),
        ("application", Box::new(|m| m.properties.headers.clear())),
        (
            "application",
            Box::new(|m| m.properties.headers = vec![text("application", "a/b")]),
        ),
        (
            "application",
            Box::new(|m| m.properties.headers[0].1 = HeaderValue::Integer(5)),
        ),
        (
            "producer's id",
            Box::new(|m| m.properties.message_id = Some("x".repeat(1_025))),
        ),
        (
            "content_type",
            Box::new(|m| m.properties.content_type = Some("a/b\r\nx: y".to_owned())),
        ),
        // What the broker crate makes of text that is no UTF-8, and of headers that cannot be kept.
        (
            "message_id",
            Box::new(|m| m.properties.message_id = Some("caf\u{1a}".to_owned())),
        ),
        ("event type", Box::new(|m| m.routing_key = "caf\u{1a}".to_owned())),
        (
            "event type",
            Box::new(|m| m.properties.kind = Some("caf\u{1a}".to_owned())),
        ),
        (
            "content_type",
            Box::new(|m| m.properties.content_type = Some("caf\u{1a}".to_owned())),
        ),
        (
            "too large",
            Box::new(|m| m.properties.headers = vec![text(UNREADABLE_HEADER, "the headers are too large")]),
        ),
    ];
    for (part, change) in cases {
        let refusal = read_default(&message(change)).unwrap_err();
        assert_eq!(refusal.reason, FaultReason::Malformed, "{refusal:?}");
        assert!(refusal.detail.contains(part), "{part}: {refusal:?}");
    }
}

#[test]
fn a_body_over_the_limit_is_too_large() {
    // Goal: the limit itself passes, one byte more does not.
    let settings = DispatcherSettings {
        event_bytes_max: 5,
        ..DispatcherSettings::default()
    };
    let with = |bytes| message(|m| m.body = Bytes::from(vec![b'x'; bytes]));
    assert!(read(&with(5), &settings, |name| name, NOW, [7; 10]).is_ok());
    assert_eq!(
        read(&with(6), &settings, |name| name, NOW, [7; 10])
            .unwrap_err()
            .reason,
        FaultReason::TooLarge
    );
}

#[test]
fn a_producer_speaks_only_for_its_applications() {
    // Goal: with a mapping, the verified user decides; without `user_id` or with another application it is a fault.
    let application = ApplicationId::parse("app_a").unwrap();
    let other = ApplicationId::parse("app_b").unwrap();
    let settings = DispatcherSettings {
        broker_users: [
            ("ours".to_owned(), UserApplications::These(vec![application])),
            ("theirs".to_owned(), UserApplications::These(vec![other])),
            ("root".to_owned(), UserApplications::All),
        ]
        .into(),
        ..DispatcherSettings::default()
    };
    for (user, allowed) in [
        (Some("ours"), true),
        (Some("root"), true),
        (Some("theirs"), false),
        (Some("who"), false),
        (None, false),
    ] {
        let message = message(|m| m.properties.user_id = user.map(str::to_owned));
        let read = read(&message, &settings, |name| name, NOW, [7; 10]);
        assert_eq!(read.is_ok(), allowed, "{user:?}");
        assert!(allowed || read.is_err_and(|refusal| refusal.reason == FaultReason::WrongApplication));
    }
}

#[test]
fn the_default_application_serves_messages_that_name_none() {
    // Goal: it steps in for a missing header only.
    let application = ApplicationId::parse("app_default").unwrap();
    let settings = DispatcherSettings {
        default_application: Some(application.clone()),
        ..DispatcherSettings::default()
    };
    let event = read(
        &message(|m| m.properties.headers.clear()),
        &settings,
        |name| name,
        NOW,
        [7; 10],
    )
    .unwrap();
    assert_eq!(event.application, application);
    let event = read(&message(|_| {}), &settings, |name| name, NOW, [7; 10]).unwrap();
    assert_eq!(event.application.as_str(), "app_a");
}

#[test]
fn only_a_recent_timestamp_is_the_time_of_acceptance() {
    // Goal: an hour back counts; older, future and absurd ones do not shorten or lengthen a delivery's life.
    let now_s = (NOW.0 / 1000) as u64;
    for (timestamp_s, expected) in [
        (Some(now_s - 60), UnixMillis(NOW.0 - 60_000)),
        (Some(now_s - 3_601), NOW),
        (Some(now_s + 10), NOW),
        (Some(0), NOW),
        (Some(u64::MAX), NOW),
    ] {
        let event = read_default(&message(|m| m.properties.timestamp_s = timestamp_s)).unwrap();
        assert_eq!(event.accepted_at, expected, "{timestamp_s:?}");
    }
}

#[test]
fn trace_context_is_passed_on_when_it_is_one() {
    // Goal: a W3C traceparent travels on; what could break a header does not, and is no fault.
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (value, expected) in [(good, Some(good)), ("x\r\ny: z", None), ("", None)] {
        let event = read_default(&message(|m| {
            m.properties.headers.push(text("traceparent", value))
        }))
        .unwrap();
        assert_eq!(event.traceparent.as_deref(), expected);
    }
}

#[test]
fn a_cloud_event_in_binary_mode_is_its_data_with_its_attributes_as_headers() {
    // Goal: both spellings of the headers; id from source and id, payload untouched, `ce-*` headers to send on.
    for prefix in ["cloudEvents:", "cloudEvents_"] {
        let event = read_default(&message(|m| {
            for (name, value) in [
                ("specversion", "1.0"),
                ("id", "7"),
                ("source", "/shop"),
                ("type", "invoice.paid"),
            ] {
                m.properties.headers.push(text(&format!("{prefix}{name}"), value));
            }
            m.routing_key = "other.key".to_owned();
            m.properties.content_type = Some("text/plain".to_owned());
        }))
        .unwrap();
        let application = ApplicationId::parse("app_a").unwrap();
        let id = EventId::derived(&application, Some("/shop"), &ProducerId::parse("7").unwrap());
        assert_eq!((event.id, event.event_type.as_str()), (id, "invoice.paid"));
        assert_eq!(event.content_type, "text/plain");
        assert_eq!(event.payload, " {\"a\": 1.0}");
        assert!(
            event
                .headers
                .contains(&("ce-source".to_owned(), "/shop".to_owned())),
            "{:?}",
            event.headers
        );
    }
}

#[test]
fn a_cloud_event_in_structured_mode_is_sent_as_it_came() {
    // Goal: attributes from the body, the whole body as payload with its content type; a batch and a broken one are faults.
    let body = br#"{"specversion":"1.0","id":"7","source":"/shop","type":"invoice.paid","data":{"a":1}}"#;
    let structured = |content_type: &str, body: &'static [u8]| {
        read_default(&message(|m| {
            m.properties.content_type = Some(content_type.to_owned());
            m.body = Bytes::from_static(body);
        }))
    };
    let event = structured("application/cloudevents+json; charset=utf-8", body).unwrap();
    assert_eq!(
        (event.event_type.as_str(), event.payload.as_ref()),
        ("invoice.paid", &body[..])
    );
    assert!(event.headers.is_empty());
    for (content_type, body) in [
        ("application/cloudevents-batch+json", &b"[]"[..]),
        ("application/cloudevents+json", b"{}"),
        ("application/cloudevents+avro", b"x"),
    ] {
        assert_eq!(
            structured(content_type, body).unwrap_err().reason,
            FaultReason::Malformed,
            "{content_type}"
        );
    }
}
