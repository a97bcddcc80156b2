//! What an endpoint wants: event types, patterns over them, and channels.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{IdError, check_text};

/// Longest event type, in bytes (the Svix API's bound).
pub const EVENT_TYPE_BYTES_MAX: usize = 256;
/// Longest channel, in bytes (the Svix API's bound).
pub const CHANNEL_BYTES_MAX: usize = 128;
/// Most channels of one event (the Svix API's bound).
pub const EVENT_CHANNELS_MAX: usize = 5;

/// An event's type, like `invoice.paid`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventType(String);

impl EventType {
    /// Reads an event type.
    ///
    /// # Errors
    /// When it is empty, too long, or outside `[a-zA-Z0-9\-_.]`.
    pub fn parse(text: &str) -> Result<EventType, IdError> {
        check_text("an event type", text, EVENT_TYPE_BYTES_MAX)?;
        Ok(EventType(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A free-form identifier that endpoints can filter by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Channel(String);

impl Channel {
    /// Reads a channel.
    ///
    /// # Errors
    /// When it is empty, too long, or outside `[a-zA-Z0-9\-_.]`.
    pub fn parse(text: &str) -> Result<Channel, IdError> {
        check_text("a channel", text, CHANNEL_BYTES_MAX)?;
        Ok(Channel(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which event types an endpoint wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypePattern {
    /// `*`: all.
    Any,
    /// `invoice.paid`: this one.
    Exact(EventType),
    /// `invoice.*`: every type that begins with `invoice.`, at any depth. Holds the prefix with its final dot.
    Below(String),
}

impl TypePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is neither `*`, nor a type, nor a type followed by `.*`.
    pub fn parse(text: &str) -> Result<TypePattern, IdError> {
        if text == "*" {
            return Ok(TypePattern::Any);
        }
        match text.strip_suffix(".*") {
            Some(prefix) => {
                check_text("an event type pattern", prefix, EVENT_TYPE_BYTES_MAX)?;
                Ok(TypePattern::Below(format!("{prefix}.")))
            }
            None => Ok(TypePattern::Exact(EventType::parse(text)?)),
        }
    }

    /// Whether an event of this type is wanted.
    pub fn matches(&self, event_type: &EventType) -> bool {
        match self {
            TypePattern::Any => true,
            TypePattern::Exact(wanted) => wanted == event_type,
            TypePattern::Below(prefix) => event_type.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TypePattern::Any => f.write_str("*"),
            TypePattern::Exact(event_type) => event_type.fmt(f),
            TypePattern::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, event_type: &str) -> bool {
        TypePattern::parse(pattern)
            .unwrap()
            .matches(&EventType::parse(event_type).unwrap())
    }

    #[test]
    fn a_pattern_matches_at_any_depth_and_not_its_own_stem() {
        assert!(matches("invoice.*", "invoice.paid"));
        assert!(matches("invoice.*", "invoice.paid.late"));
        assert!(!matches("invoice.*", "invoice"));
        assert!(!matches("invoice.*", "invoices.paid"));
        assert!(matches("*", "anything"));
        assert!(matches("invoice.paid", "invoice.paid"));
        assert!(!matches("invoice.paid", "invoice.paid.late"));
    }

    #[test]
    fn a_pattern_is_shown_as_it_was_written() {
        for text in ["*", "invoice.paid", "invoice.*"] {
            assert_eq!(TypePattern::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_stars_elsewhere() {
        for bad in ["", "*.paid", "inv*", "invoice.**", ".*", "a.*.b"] {
            assert!(TypePattern::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
