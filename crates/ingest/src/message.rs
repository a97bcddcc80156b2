//! The Svix API's `MessageIn`, read so that the payload stays the exact text of the request, and `MessageOut`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use hooklane_types::filter::EVENT_CHANNELS_MAX;
use hooklane_types::id::ID_BYTES_MAX;
use hooklane_types::{Channel, Event, EventType, ProducerId};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::answer::{Problem, Refusal};

/// Most problems that one answer lists.
const PROBLEMS_MAX: usize = 20;
/// Most characters of a publisher's field name that an answer repeats.
const NAME_CHARS_MAX: usize = 64;

/// Fields of the Svix API that would change what happens, and that we cannot honour: silence would be a lie.
const NOT_HONOURED: [&str; 6] = [
    "application",
    "payloadRetentionPeriod",
    "payloadRetentionHours",
    "tags",
    "transformationsParams",
    "deliverAt",
];

/// A message as it was published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) event_type: EventType,
    pub(crate) event_id: Option<ProducerId>,
    pub(crate) channels: Vec<Channel>,
    /// A part of the request's body.
    pub(crate) payload: Bytes,
}

/// Reads a request's body.
///
/// # Errors
/// `MalformedJson` with line and column, or `Invalid` with every field that is wrong.
pub(crate) fn parse(body: &Bytes) -> Result<Message, Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| Refusal::MalformedJson {
        detail: format!("the body is not UTF-8 from byte {} on", error.valid_up_to()),
    })?;
    let Top(members) = serde_json::from_str::<Top<'_>>(text).map_err(not_json)?;
    let mut fields = Fields {
        body,
        problems: Vec::new(),
    };
    let read = fields.read(members);
    match (read, fields.problems.is_empty()) {
        (Some(message), true) => Ok(message),
        _ => Err(Refusal::Invalid(fields.problems)),
    }
}

fn not_json(error: serde_json::Error) -> Refusal {
    if error.is_data() {
        // The text is JSON, only not an object.
        return Refusal::Invalid(vec![problem(
            &["body"],
            "the body must be a JSON object",
            "type_error",
        )]);
    }
    Refusal::MalformedJson {
        detail: format!("the body is not JSON: {error}"),
    }
}

/// The members of the body's object in their order, values unread. Reading them does not recurse, however deep they nest.
struct Top<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Top<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Top<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
                let mut members = Vec::with_capacity(4);
                while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                    members.push((name, map.next_value::<&'de RawValue>()?));
                }
                Ok(Top(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A member's name, borrowed unless it holds escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

        Borrowed::deserialize(deserializer).map(|Borrowed(name)| Name(name))
    }
}

struct Fields<'a> {
    body: &'a Bytes,
    problems: Vec<Problem>,
}

impl Fields<'_> {
    fn read(&mut self, members: Vec<(Cow<'_, str>, &RawValue)>) -> Option<Message> {
        let (mut event_type, mut payload, mut event_id, mut channels) = (None, None, None, None);
        for (name, value) in members {
            let slot = match name.as_ref() {
                "eventType" => &mut event_type,
                "payload" => &mut payload,
                "eventId" => &mut event_id,
                "channels" => &mut channels,
                other => {
                    self.refuse_other(other, value);
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                self.add(
                    &["body", &name],
                    "this field is given twice",
                    "value_error.duplicate",
                );
            }
        }
        let event_type = self.event_type(event_type);
        let payload = self.payload(payload);
        let event_id = self.event_id(given(event_id));
        let channels = self.channels(given(channels));
        Some(Message {
            event_type: event_type?,
            payload: payload?,
            event_id,
            channels,
        })
    }

    fn refuse_other(&mut self, name: &str, value: &RawValue) {
        if !NOT_HONOURED.contains(&name) {
            let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
            self.add(&["body", &shown], "unknown field", "value_error.unknown");
        } else if given(Some(value)).is_some() {
            self.add(
                &["body", name],
                "not honoured yet: leave this field out",
                "value_error.not_honoured",
            );
        }
    }

    fn event_type(&mut self, value: Option<&RawValue>) -> Option<EventType> {
        let text = self.required_text("eventType", value)?;
        EventType::parse(&text)
            .map_err(|error| self.add(&["body", "eventType"], &error.to_string(), "value_error"))
            .ok()
    }

    fn payload(&mut self, value: Option<&RawValue>) -> Option<Bytes> {
        let Some(value) = value else {
            self.add(&["body", "payload"], "field required", "value_error.missing");
            return None;
        };
        if !value.get().starts_with('{') {
            self.add(
                &["body", "payload"],
                "the payload must be a JSON object",
                "type_error",
            );
            return None;
        }
        Some(self.body.slice_ref(value.get().as_bytes()))
    }

    fn event_id(&mut self, value: Option<&RawValue>) -> Option<ProducerId> {
        let text = self.text(&["body", "eventId"], value?)?;
        let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > ID_BYTES_MAX || !text.chars().all(safe) {
            let rule = format!("an event id has 1 to {ID_BYTES_MAX} letters, digits, '-', '_' and '.'");
            self.add(&["body", "eventId"], &rule, "value_error");
            return None;
        }
        ProducerId::parse(&text)
            .map_err(|error| self.add(&["body", "eventId"], &error.to_string(), "value_error"))
            .ok()
    }

    fn channels(&mut self, value: Option<&RawValue>) -> Vec<Channel> {
        let Some(value) = value else {
            return Vec::new();
        };
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
            self.add(
                &["body", "channels"],
                "the channels must be a list of strings",
                "type_error",
            );
            return Vec::new();
        };
        if items.is_empty() || items.len() > EVENT_CHANNELS_MAX {
            let rule = format!("there must be 1 to {EVENT_CHANNELS_MAX} channels");
            self.add(&["body", "channels"], &rule, "value_error");
            return Vec::new();
        }
        let mut channels = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let index = index.to_string();
            let loc = ["body", "channels", index.as_str()];
            let Some(text) = self.text(&loc, item) else {
                continue;
            };
            match Channel::parse(&text) {
                Ok(channel) if channels.contains(&channel) => {
                    self.add(&loc, "this channel is given twice", "value_error.duplicate");
                }
                Ok(channel) => channels.push(channel),
                Err(error) => self.add(&loc, &error.to_string(), "value_error"),
            }
        }
        channels
    }

    fn required_text(&mut self, name: &str, value: Option<&RawValue>) -> Option<String> {
        match value {
            Some(value) => self.text(&["body", name], value),
            None => {
                self.add(&["body", name], "field required", "value_error.missing");
                None
            }
        }
    }

    fn text(&mut self, loc: &[&str], value: &RawValue) -> Option<String> {
        let text = serde_json::from_str(value.get());
        text.map_err(|_| self.add(loc, "this must be a string", "type_error"))
            .ok()
    }

    fn add(&mut self, loc: &[&str], msg: &str, kind: &'static str) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem(loc, msg, kind));
        }
    }
}

/// The value, unless it is `null`: the API's optional fields are nullable, and `null` asks for nothing.
fn given(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

pub(crate) fn problem(loc: &[&str], msg: &str, kind: &'static str) -> Problem {
    Problem {
        loc: loc.iter().map(|part| (*part).to_owned()).collect(),
        msg: msg.to_owned(),
        kind,
    }
}

/// `MessageOut`. `payload` is JSON, and stands in the answer as it is.
///
/// # Panics
/// Never: what is serialised here are strings.
pub(crate) fn answer(event: &Event, payload: &[u8]) -> Vec<u8> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        channels: &'a [Channel],
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<&'a str>,
        event_type: &'a str,
        id: &'a str,
        timestamp: String,
    }

    /// Room for the fields beside the payload.
    const HEAD_BYTES: usize = 256;

    let head = Head {
        channels: &event.channels,
        event_id: event.producer_id.as_ref().map(ProducerId::as_str),
        event_type: event.event_type.as_str(),
        id: event.id.as_str(),
        timestamp: timestamp(event),
    };
    let mut out = Vec::with_capacity(payload.len() + HEAD_BYTES);
    serde_json::to_writer(&mut out, &head).expect("strings serialise, and writing to memory does not fail");
    // The head's closing brace gives way to the payload.
    out.pop();
    out.extend_from_slice(b",\"payload\":");
    out.extend_from_slice(payload);
    out.push(b'}');
    out
}

/// RFC 3339 in UTC.
fn timestamp(event: &Event) -> String {
    let time = jiff::Timestamp::from_millisecond(event.accepted_at.0);
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
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
            read(r#"{"eventType":"invoice.paid","payload":{},"eventId":"e-1","channels":["a","b"]}"#)
                .unwrap();
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
        let problems = invalid(
            r#"{"payload":[1],"channels":["a","a",1,"x y"],"eventId":"a b","tags":["x"],"colour":1}"#,
        );
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
}
