use hooklane_types::{ApplicationId, EventId, UnixMillis};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn read(body: impl Into<Vec<u8>>) -> Result<Message, Refusal> {
    parse(&Bytes::from(body.into()))
}

fn invalid(body: &str) -> Vec<(String, String)> {
    match read(body) {
        Err(Refusal::Invalid(problems)) => problems
            .into_iter()
            .map(|problem| (problem.loc.join("."), problem.msg))
            .collect(),
        other => panic!("{body} gave {other:?}"),
    }
}

fn malformed(body: &[u8]) -> String {
    match read(body) {
        Err(Refusal::MalformedJson { detail }) => detail,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(body)),
    }
}

#[test]
fn the_payload_is_the_exact_text_between_its_braces() {
    for payload in [
        "{}",
        "{ }",
        "{\"b\":1.0,\"a\":1e2,\n\t\"a\" : -0.0 }",
        "{\"u\":\"\\u00e9é\\/\", \"\\ud800\":null}",
        "{\"n\":123456789012345678901234567890.10}",
    ] {
        let body = format!(" {{ \"payload\" : {payload} , \"eventType\":\"a.b\" }} ");
        let message = read(body.clone()).unwrap();
        assert_eq!(message.payload, payload.as_bytes(), "{body}");
    }
}

#[test]
fn reads_every_field() {
    let message =
        read(r#"{"eventType":"invoice.paid","payload":{},"eventId":"e-1","channels":["a","b"]}"#).unwrap();
    assert_eq!(message.event_type.as_str(), "invoice.paid");
    assert_eq!(message.event_id.unwrap().as_str(), "e-1");
    let channels: Vec<&str> = message.channels.iter().map(Channel::as_str).collect();
    assert_eq!(channels, ["a", "b"]);
}

#[test]
fn names_with_escapes_are_the_same_names() {
    let message = read(r#"{"event\u0054ype":"a","payload":{}}"#).unwrap();
    assert_eq!(message.event_type.as_str(), "a");
}

#[test]
fn null_is_absent_where_the_field_is_optional() {
    let message = read(
        r#"{"eventType":"a","payload":{},"eventId":null,"channels":null,"application":null,"tags":null}"#,
    );
    let message = message.unwrap();
    assert_eq!((message.event_id, message.channels.len()), (None, 0));
    assert_eq!(invalid(r#"{"eventType":null,"payload":null}"#).len(), 2);
}

#[test]
fn every_wrong_field_is_named() {
    let problems =
        invalid(r#"{"payload":[1],"channels":["a","a",1,"x y"],"eventId":"a b","tags":["x"],"colour":1}"#);
    let places: Vec<&str> = problems.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(
        places,
        [
            "body.tags",
            "body.colour",
            "body.eventType",
            "body.payload",
            "body.eventId",
            "body.channels.1",
            "body.channels.2",
            "body.channels.3",
        ]
    );
}

#[test]
fn fields_that_are_not_honoured_are_named() {
    for name in NOT_HONOURED {
        let problems = invalid(&format!(
            r#"{{"eventType":"a","payload":{{}},"{name}":{{"x":1}}}}"#
        ));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].0, format!("body.{name}"));
        assert!(problems[0].1.contains("not honoured yet"));
    }
}

#[test]
fn a_field_given_twice_is_refused_even_with_the_same_value() {
    for name in ["payload", "eventType", "eventId", "channels"] {
        let body = r#"{"eventType":"a","payload":{},"eventId":"e","channels":["c"]"#;
        let again = match name {
            "payload" => "{}",
            "channels" => "[\"c\"]",
            _ => "\"a\"",
        };
        let problems = invalid(&format!("{body},\"{name}\":{again}}}"));
        assert_eq!(
            problems,
            [(format!("body.{name}"), "this field is given twice".to_owned())]
        );
    }
}

#[test]
fn bounds_of_the_api_hold() {
    let body = |field: &str| format!(r#"{{"eventType":"a","payload":{{}},{field}}}"#);
    for field in [
        r#""channels":[]"#.to_owned(),
        r#""channels":["1","2","3","4","5","6"]"#.to_owned(),
        r#""channels":"a""#.to_owned(),
        r#""channels":[["a"]]"#.to_owned(),
        r#""eventId":"""#.to_owned(),
        r#""eventId":1"#.to_owned(),
        format!(r#""eventId":"{}""#, "a".repeat(257)),
        format!(r#""channels":["{}"]"#, "a".repeat(129)),
    ] {
        invalid(&body(&field));
    }
    invalid(&format!(
        r#"{{"eventType":"{}","payload":{{}}}}"#,
        "a".repeat(257)
    ));
}

#[test]
fn what_is_no_json_is_told_with_its_place() {
    for body in [
        "",
        "{",
        "{\"eventType\":\"a\",}",
        "{} x",
        "{\"payload\":{\"a\":01}}",
        "{\"payload\":{\"a\":\"\n\"}}",
        "{'a':1}",
    ] {
        let detail = malformed(body.as_bytes());
        assert!(detail.contains("line") && detail.contains("column"), "{detail}");
    }
    assert!(malformed(b"{\"eventType\":\"\xff\"}").contains("byte 14"));
}

#[test]
fn json_that_is_no_object_is_invalid() {
    for body in ["[]", "1", "null", "\"x\"", "[{\"eventType\":\"a\"}]"] {
        assert_eq!(invalid(body)[0].0, "body");
    }
}

#[test]
fn deep_nesting_neither_crashes_nor_changes_the_payload() {
    let depth = 100_000;
    let payload = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let message = read(format!(r#"{{"eventType":"a","payload":{payload}}}"#)).unwrap();
    assert_eq!(message.payload, payload.as_bytes());
    invalid(&format!(
        r#"{{"eventType":{}{},"payload":{{}}}}"#,
        "[".repeat(depth),
        "]".repeat(depth)
    ));
    invalid(&format!(
        r#"{{"eventType":"a","payload":{{}},"channels":[{}{}]}}"#,
        "[".repeat(depth),
        "]".repeat(depth)
    ));
    invalid(&"[".repeat(depth));
    malformed(format!("{{\"payload\":{}", "{\"a\":".repeat(depth)).as_bytes());
}

#[test]
fn thousands_of_problems_give_a_short_answer() {
    let many: Vec<String> = (0..10_000)
        .map(|n| format!("\"{}{n}\":1", "x".repeat(100)))
        .collect();
    let problems = invalid(&format!("{{{}}}", many.join(",")));
    assert_eq!(problems.len(), PROBLEMS_MAX);
    assert!(problems.iter().all(|(place, _)| place.len() < 100));
}

#[test]
fn the_answer_is_message_out_with_the_payload_as_it_came() {
    let event = Event {
        id: EventId::parse("msg_1").unwrap(),
        producer_id: Some(ProducerId::parse("a\"b").unwrap()),
        application: ApplicationId::parse("acme").unwrap(),
        event_type: EventType::parse("a.b").unwrap(),
        channels: vec![Channel::parse("c").unwrap()],
        accepted_at: UnixMillis(1_700_000_000_123),
        content_type: "application/json".into(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::from_static(b"{ \"n\":1.0 }"),
    };
    let text = String::from_utf8(answer(&event, &event.payload)).unwrap();
    assert!(text.contains("\"payload\":{ \"n\":1.0 }"), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["id"], "msg_1");
    assert_eq!(value["eventId"], "a\"b");
    assert_eq!(value["eventType"], "a.b");
    assert_eq!(value["channels"], serde_json::json!(["c"]));
    assert_eq!(value["timestamp"], "2023-11-14T22:13:20.123Z");
}

/// JSON text as people and programs write it: spaces, doubled keys, odd numbers, escapes.
fn json_text() -> impl Strategy<Value = String> {
    let space = || prop::sample::select(vec!["", " ", "\n", "\t ", "\r\n"]);
    let string = || {
        prop_oneof![
            "[a-z]{0,6}".prop_map(|text| format!("\"{text}\"")),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just("\"\\u0041\\/\\ud83d\"".to_owned()),
        ]
    };
    let number = prop::sample::select(vec![
        "0",
        "-0",
        "1.0",
        "1E+400",
        "-12.50e-3",
        "99999999999999999999999",
    ]);
    let leaf = prop_oneof![
        string(),
        number.prop_map(str::to_owned),
        prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        let item = (space(), inner.clone(), space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (space(), string(), space(), inner, space())
            .prop_map(|(a, name, b, value, c)| format!("{a}{name}{b}:{value}{c}"));
        prop_oneof![
            prop::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_is_published_byte_for_byte(value in json_text(), before in "[ \n\t]{0,3}", after in "[ \n\t]{0,3}") {
        let payload = format!("{{\"x\":{value}}}");
        let body = Bytes::from(format!("{{\"eventType\":\"a\",\"payload\":{before}{payload}{after}}}"));
        let message = parse(&body).unwrap();
        prop_assert_eq!(&message.payload[..], payload.as_bytes());
        // The same memory: nothing was copied.
        prop_assert!(body.as_ptr_range().contains(&message.payload.as_ptr()));
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&Bytes::from(body));
    }

    #[test]
    fn broken_messages_do_not_make_it_panic(value in json_text(), cut in 0usize..200) {
        let body = format!("{{\"eventType\":{value},\"channels\":{value},\"eventId\":{value},\"payload\":{value}}}");
        let mut bytes = body.into_bytes();
        bytes.truncate(cut);
        let _ = parse(&Bytes::from(bytes));
    }
}
