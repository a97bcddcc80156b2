//! Values of fields, checked where they are read.

use std::collections::BTreeMap;

use hooklane_types::UnixMillis;
use serde::{Deserialize, Deserializer};

/// Longest uid, in bytes.
const UID_BYTES_MAX: usize = 256;
/// Longest name or description, in bytes.
const LINE_BYTES_MAX: usize = 4096;
/// All keys and values of an item's metadata, in bytes.
const METADATA_BYTES_MAX: usize = 4096;
/// No control character, as a regular expression.
const NO_CONTROL: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// What the API's description says of a value: the schema stands where the value is used.
macro_rules! described {
    ($name:ident: $($schema:tt)+) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($($schema)+)
            }
        }
    };
}
pub(crate) use described;

macro_rules! checked {
    ($(#[$doc:meta])* $name:ident($inner:ty) from $raw:ty, $check:expr, $schema:tt) => {
        described!($name: $schema);

        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $name($inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let raw = <$raw>::deserialize(deserializer)?;
                $name::try_from(raw).map_err(serde::de::Error::custom)
            }
        }

        impl TryFrom<$raw> for $name {
            type Error = String;

            fn try_from(raw: $raw) -> Result<$name, String> {
                let check: fn($raw) -> Result<$inner, String> = $check;
                check(raw).map($name)
            }
        }

        impl From<$name> for $inner {
            fn from(value: $name) -> $inner {
                value.0
            }
        }
    };
}

checked!(
    /// The name that an owner gives something.
    Uid(String) from String, uid,
    {"type": "string", "minLength": 1, "maxLength": UID_BYTES_MAX, "pattern": r"^[a-zA-Z0-9\-_.]+$"}
);

checked!(
    /// A line of text that has to say something.
    Name(String) from String, |text| match text.is_empty() {
        true => Err("this has at least one character".to_owned()),
        false => line(text),
    },
    {"type": "string", "minLength": 1, "maxLength": LINE_BYTES_MAX, "pattern": NO_CONTROL}
);

checked!(
    /// A line of text.
    Line(String) from String, line,
    {"type": "string", "maxLength": LINE_BYTES_MAX, "pattern": NO_CONTROL}
);

checked!(
    /// The platform's own notes.
    Metadata(BTreeMap<String, String>) from BTreeMap<String, String>, metadata,
    {"type": "object", "additionalProperties": {"type": "string"}}
);

impl Name {
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

fn uid(text: String) -> Result<String, String> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match (1..=UID_BYTES_MAX).contains(&text.len()) && text.chars().all(safe) {
        true => Ok(text),
        false => Err(format!(
            "a uid has 1 to {UID_BYTES_MAX} letters, digits, '-', '_' and '.'"
        )),
    }
}

fn line(text: String) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("this holds a control character".to_owned());
    }
    match text.len() <= LINE_BYTES_MAX {
        true => Ok(text),
        false => Err(format!("this has more than {LINE_BYTES_MAX} bytes")),
    }
}

fn metadata(map: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, String> {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    match bytes <= METADATA_BYTES_MAX {
        true => Ok(map),
        false => Err(format!(
            "metadata has at most {METADATA_BYTES_MAX} bytes, keys and values together"
        )),
    }
}

/// A field that we cannot honour yet: only `null` is taken, for silence would be a lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NotHonoured;

described!(NotHonoured: {"type": "null", "description": "Not enforced yet: refused"});

impl<'de> Deserialize<'de> for NotHonoured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NotHonoured, D::Error> {
        match Option::<serde::de::IgnoredAny>::deserialize(deserializer)? {
            None => Ok(NotHonoured),
            Some(_) => Err(serde::de::Error::custom("not enforced yet: leave this field out")),
        }
    }
}

/// A time, as RFC 3339.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Time(pub(crate) UnixMillis);

described!(Time: {"type": "string", "format": "date-time"});

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Time, String> {
        let read = text.parse::<jiff::Timestamp>();
        let read = read.map_err(|_| "this is a time as RFC 3339 has it: 2026-01-31T12:00:00Z".to_owned())?;
        Ok(Time(UnixMillis(read.as_millisecond())))
    }
}

/// RFC 3339 in UTC, as the API writes times.
pub(crate) fn time(at: UnixMillis) -> String {
    at.rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_checked_as_the_api_says() {
        for (json, is_right) in [
            ("\"a-b_c.D9\"", true),
            ("\"\"", false),
            ("\"a b\"", false),
            ("\"\u{e4}\"", false),
            ("5", false),
        ] {
            assert_eq!(serde_json::from_str::<Uid>(json).is_ok(), is_right, "{json}");
        }
        assert!(serde_json::from_str::<Uid>(&format!("\"{}\"", "a".repeat(257))).is_err());
        assert!(serde_json::from_str::<Name>("\"\"").is_err());
        assert!(serde_json::from_str::<Name>("\"a\\u0000\"").is_err());
        assert!(serde_json::from_str::<Line>("\"\"").is_ok());
        let long = format!("{{\"a\":\"{}\"}}", "b".repeat(METADATA_BYTES_MAX));
        assert!(serde_json::from_str::<Metadata>(&long).is_err());
        assert!(serde_json::from_str::<NotHonoured>("null").is_ok());
        assert!(serde_json::from_str::<NotHonoured>("5").is_err());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(UnixMillis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }
}
