//! CloudEvents from arbitrary and from nearly valid input, by properties.

use proptest::prelude::*;

#[path = "property/cloudevents.rs"]
mod cloudevents;

/// Lines as headers of an event, most of them well formed.
fn header_lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("ce-specversion:1.0".to_owned()),
        Just("ce-id:1".to_owned()),
        Just("ce-source:/s".to_owned()),
        Just("ce-type:a.b".to_owned()),
        "ce-[a-z0-9]{0,6}:[!#$ -~é%]{0,12}",
        "[a-zA-Z-]{0,10}:.{0,10}",
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

/// JSON objects, most of them with the required attributes.
fn objects() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        Just(r#""specversion":"1.0""#.to_owned()),
        Just(r#""id":"1""#.to_owned()),
        Just(r#""source":"/s""#.to_owned()),
        Just(r#""type":"a.b""#.to_owned()),
        r#""(id|type|source|data|[a-z]{1,4})":("[a-z\\u00e9 ]{0,5}"|[0-9]{1,3}|null|\[\]|\{\})"#,
    ];
    proptest::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #[test]
    fn what_is_read_from_any_bytes_can_be_sent(bytes: Vec<u8>) {
        cloudevents::check(&bytes);
    }

    #[test]
    fn what_is_read_from_headers_can_be_sent(lines in header_lines()) {
        cloudevents::check(lines.as_bytes());
    }

    #[test]
    fn what_is_read_from_json_can_be_sent(object in objects()) {
        cloudevents::check(object.as_bytes());
    }
}
