//! Values of AMQP headers.

use serde::{Deserialize, Serialize};

use crate::sequence;

/// How deep lists and tables may lie in each other on the wire. Producers write what they like, and a value of thousands of
/// levels would overflow the stack of whoever reads it. No client is known to go beyond two.
pub const HEADER_LEVELS_MAX: usize = 8;

/// A header's value, as far as AMQP 0-9-1 fields can be kept apart by what they mean to us.
///
/// Written out (in envelopes and JSON), what lies deeper than [`HEADER_LEVELS_MAX`] becomes [`HeaderValue::Void`]; read in,
/// it is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Outermost", into = "Outermost")]
pub enum HeaderValue {
    /// A long or short string that is UTF-8.
    Text(String),
    /// A byte array, or a string that is not UTF-8.
    Bytes(Vec<u8>),
    /// Any integer.
    Integer(i64),
    /// Any floating point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A time, in seconds since 1970.
    Timestamp(u64),
    /// An array.
    List(Vec<HeaderValue>),
    /// A table.
    Table(Vec<(String, HeaderValue)>),
    /// No value.
    Void,
}

impl HeaderValue {
    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            HeaderValue::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The written form of a value whose parts are one level deeper: the type itself bounds the depth, so that no reader can
/// forget to count.
#[derive(Serialize, Deserialize)]
#[serde(rename = "HeaderValue", bound(deserialize = "Inner: Deserialize<'de>"))]
enum Level<Inner> {
    Text(String),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Timestamp(u64),
    List(#[serde(deserialize_with = "sequence::deserialize")] Vec<Inner>),
    Table(#[serde(deserialize_with = "sequence::deserialize")] Vec<(String, Inner)>),
    Void,
}

/// A value that holds no others.
#[derive(Serialize, Deserialize)]
#[serde(rename = "HeaderValue")]
enum Plain {
    Text(String),
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Timestamp(u64),
    /// Keep the places of the two that may not be here.
    List(Never),
    Table(Never),
    Void,
}

/// Cannot be made, and cannot be read.
#[derive(Serialize, Deserialize)]
enum Never {}

/// [`HEADER_LEVELS_MAX`] levels.
type Outermost = Level<Level<Level<Level<Level<Level<Level<Level<Plain>>>>>>>>;

impl From<HeaderValue> for Plain {
    fn from(value: HeaderValue) -> Plain {
        match value {
            HeaderValue::Text(text) => Plain::Text(text),
            HeaderValue::Bytes(bytes) => Plain::Bytes(bytes),
            HeaderValue::Integer(number) => Plain::Integer(number),
            HeaderValue::Float(number) => Plain::Float(number),
            HeaderValue::Bool(truth) => Plain::Bool(truth),
            HeaderValue::Timestamp(seconds) => Plain::Timestamp(seconds),
            HeaderValue::List(_) | HeaderValue::Table(_) | HeaderValue::Void => Plain::Void,
        }
    }
}

impl From<Plain> for HeaderValue {
    fn from(value: Plain) -> HeaderValue {
        match value {
            Plain::Text(text) => HeaderValue::Text(text),
            Plain::Bytes(bytes) => HeaderValue::Bytes(bytes),
            Plain::Integer(number) => HeaderValue::Integer(number),
            Plain::Float(number) => HeaderValue::Float(number),
            Plain::Bool(truth) => HeaderValue::Bool(truth),
            Plain::Timestamp(seconds) => HeaderValue::Timestamp(seconds),
            Plain::List(never) | Plain::Table(never) => match never {},
            Plain::Void => HeaderValue::Void,
        }
    }
}

impl<Inner: From<HeaderValue>> From<HeaderValue> for Level<Inner> {
    fn from(value: HeaderValue) -> Level<Inner> {
        match value {
            HeaderValue::Text(text) => Level::Text(text),
            HeaderValue::Bytes(bytes) => Level::Bytes(bytes),
            HeaderValue::Integer(number) => Level::Integer(number),
            HeaderValue::Float(number) => Level::Float(number),
            HeaderValue::Bool(truth) => Level::Bool(truth),
            HeaderValue::Timestamp(seconds) => Level::Timestamp(seconds),
            HeaderValue::List(items) => Level::List(items.into_iter().map(Inner::from).collect()),
            HeaderValue::Table(entries) => Level::Table(
                entries
                    .into_iter()
                    .map(|(name, value)| (name, Inner::from(value)))
                    .collect(),
            ),
            HeaderValue::Void => Level::Void,
        }
    }
}

impl<Inner> From<Level<Inner>> for HeaderValue
where
    HeaderValue: From<Inner>,
{
    fn from(value: Level<Inner>) -> HeaderValue {
        match value {
            Level::Text(text) => HeaderValue::Text(text),
            Level::Bytes(bytes) => HeaderValue::Bytes(bytes),
            Level::Integer(number) => HeaderValue::Integer(number),
            Level::Float(number) => HeaderValue::Float(number),
            Level::Bool(truth) => HeaderValue::Bool(truth),
            Level::Timestamp(seconds) => HeaderValue::Timestamp(seconds),
            Level::List(items) => HeaderValue::List(items.into_iter().map(HeaderValue::from).collect()),
            Level::Table(entries) => HeaderValue::Table(
                entries
                    .into_iter()
                    .map(|(name, value)| (name, value.into()))
                    .collect(),
            ),
            Level::Void => HeaderValue::Void,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> HeaderValue {
        (0..levels).fold(HeaderValue::Integer(7), |inner, _| HeaderValue::List(vec![inner]))
    }

    fn round_trip(value: &HeaderValue) -> HeaderValue {
        postcard::from_bytes(&postcard::to_stdvec(value).unwrap()).unwrap()
    }

    #[test]
    fn every_level_up_to_the_bound_travels() {
        let value = nested(HEADER_LEVELS_MAX);
        assert_eq!(round_trip(&value), value);
    }

    #[test]
    fn what_lies_deeper_is_written_as_no_value() {
        let deep = round_trip(&nested(HEADER_LEVELS_MAX + 3));
        let expected =
            (0..HEADER_LEVELS_MAX).fold(HeaderValue::Void, |inner, _| HeaderValue::List(vec![inner]));
        assert_eq!(deep, expected);
    }

    #[test]
    fn a_value_of_any_depth_is_refused_without_a_deep_stack() {
        // A list (variant 6) of one element, over and over.
        let bytes = [6, 1].repeat(1_000_000);
        assert!(postcard::from_bytes::<HeaderValue>(&bytes).is_err());
    }
}
