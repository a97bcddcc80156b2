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
        timestamp: event.accepted_at.rfc3339(),
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

#[cfg(test)]
mod tests;
