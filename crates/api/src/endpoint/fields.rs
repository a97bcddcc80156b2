//! Values of an endpoint's fields.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use hooklane_signing::{Scheme, Secret};
use hooklane_types::endpoint::check_url;
use hooklane_types::{Channel, EventType};
use serde::Deserialize;
use url::Url;

use crate::text::described;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 65_536;
/// Most channels.
const CHANNELS_MAX: usize = 10;
/// Event types and channels, as a regular expression.
const NAME: &str = r"^[a-zA-Z0-9\-_.]+$";
/// Most event types: a bound, not a rule of the API.
const EVENT_TYPES_MAX: usize = 1_000;
/// Bytes of a fresh secret.
const SECRET_BYTES: usize = 32;
/// Longest secret of a format that takes any text, in bytes.
const VERBATIM_BYTES_MAX: usize = 256;
/// What `version` always is.
pub(super) const VERSION: u16 = 1;

/// An endpoint's URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Target(Url);

described!(Target: {"type": "string", "format": "uri", "minLength": 1, "maxLength": URL_BYTES_MAX, "pattern": r"^https?://[^\s#@]+$"});

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Target, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("this has more than {URL_BYTES_MAX} bytes"));
        }
        let url = Url::parse(&text).map_err(|error| format!("this is no URL: {error}"))?;
        // Whether http is allowed, the settings say.
        check_url(&url, false).map_err(|error| error.to_string())?;
        Ok(Target(url))
    }
}

impl Target {
    /// Whether it is not encrypted.
    pub(super) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl From<Target> for Url {
    fn from(target: Target) -> Url {
        target.0
    }
}

/// The event types that an endpoint wants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct EventTypes(Vec<EventType>);

described!(EventTypes: {
    "type": "array", "minItems": 1, "maxItems": EVENT_TYPES_MAX, "uniqueItems": true,
    "items": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": NAME},
});

impl TryFrom<Vec<String>> for EventTypes {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<EventTypes, String> {
        set(&texts, EVENT_TYPES_MAX, EventType::parse).map(EventTypes)
    }
}

impl From<EventTypes> for Vec<EventType> {
    fn from(types: EventTypes) -> Vec<EventType> {
        types.0
    }
}

/// The channels that an endpoint wants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct Channels(Vec<Channel>);

described!(Channels: {
    "type": "array", "minItems": 1, "maxItems": CHANNELS_MAX, "uniqueItems": true,
    "items": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": NAME},
});

impl TryFrom<Vec<String>> for Channels {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Channels, String> {
        set(&texts, CHANNELS_MAX, Channel::parse).map(Channels)
    }
}

impl From<Channels> for Vec<Channel> {
    fn from(channels: Channels) -> Vec<Channel> {
        channels.0
    }
}

/// Some values, each once.
fn set<T: Hash + Eq + Clone, E: fmt::Display>(
    texts: &[String],
    most: usize,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, String> {
    if !(1..=most).contains(&texts.len()) {
        return Err(format!("this has 1 to {most} items; null or nothing means all"));
    }
    let mut seen = HashSet::new();
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        let value = parse(text).map_err(|error| format!("{text:?}: {error}"))?;
        if !seen.insert(value.clone()) {
            return Err(format!("{text:?} is given twice"));
        }
        values.push(value);
    }
    Ok(values)
}

/// A signing secret, as text; whether it goes with the endpoint's format is seen by [`SecretText::checked`]. It does not show itself in
/// `Debug`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct SecretText(String);

described!(SecretText: {
    "type": "string",
    "minLength": 1,
    "maxLength": VERBATIM_BYTES_MAX,
    "description": "For standard signatures base64 of 32 to 100 characters, with whsec_ in front or without; for others any text, which \
        is the key as it stands",
});

impl SecretText {
    /// A fresh one, which goes with every format.
    pub(super) fn fresh() -> SecretText {
        let bytes: [u8; SECRET_BYTES] = rand::random();
        let secret = Secret::symmetric_from_bytes(&bytes).expect("32 bytes are a secret");
        SecretText(secret.expose())
    }

    /// The text as it is kept, if it is a secret of this scheme; the error never quotes it. Standard ones are read as Svix's API does,
    /// without a prefix as well.
    pub(super) fn checked(self, scheme: &Scheme) -> Result<String, String> {
        if scheme.takes_verbatim() {
            return match (1..=VERBATIM_BYTES_MAX).contains(&self.0.len()) {
                true => Ok(self.0),
                false => Err(format!("this has 1 to {VERBATIM_BYTES_MAX} bytes")),
            };
        }
        let text = match self.0.contains('_') {
            true => self.0,
            false => format!("whsec_{}", self.0),
        };
        let secret = Secret::parse(&text).map_err(|error| error.to_string())?;
        if secret.kind() == hooklane_signing::SecretKind::Ed25519Public {
            return Err("a public key cannot sign".to_owned());
        }
        let chars = text.rsplit('_').next().unwrap_or_default().len();
        match (32..=100).contains(&chars) {
            true => Ok(secret.expose()),
            false => Err("a secret has 32 to 100 characters of base64 behind its prefix".to_owned()),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// A field of older clients, which always has the same value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Option<u16>")]
pub(crate) struct Version;

described!(Version: {"enum": [VERSION, null], "default": VERSION, "deprecated": true});

impl TryFrom<Option<u16>> for Version {
    type Error = String;

    fn try_from(version: Option<u16>) -> Result<Version, String> {
        match version {
            None | Some(VERSION) => Ok(Version),
            Some(_) => Err(format!(
                "the version of an endpoint is {VERSION}: leave this field out"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads<T: for<'de> Deserialize<'de>>(json: &str) -> bool {
        serde_json::from_str::<T>(json).is_ok()
    }

    #[test]
    fn urls_that_cannot_be_delivered_to_are_refused() {
        for right in ["\"https://example.com/a?b=c\"", "\"http://127.0.0.1:1/\""] {
            assert!(reads::<Target>(right), "{right}");
        }
        for wrong in [
            "\"\"",
            "\"example.com\"",
            "\"ftp://example.com/\"",
            "\"https://user@example.com/\"",
            "\"https://:password@example.com/\"",
            "\"https://example.com/#fragment\"",
            "\"https://\"",
            "null",
        ] {
            assert!(!reads::<Target>(wrong), "{wrong}");
        }
        let long = format!("\"https://example.com/{}\"", "a".repeat(URL_BYTES_MAX));
        assert!(!reads::<Target>(&long));
    }

    #[test]
    fn secrets_are_read_with_and_without_their_prefix() {
        let standard = Scheme::Standard(hooklane_signing::HeaderFamily::Svix);
        let bare = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for right in [bare.to_owned(), format!("whsec_{bare}"), SecretText::fresh().0] {
            let secret = SecretText(right);
            assert!(secret.clone().checked(&standard).unwrap().starts_with("whsec_"));
            assert!(!format!("{secret:?}").contains("whsec"));
        }
        for wrong in [
            "",
            "whsec_",
            "whsec_short",
            "not base64 at all, and long enough",
            "whpk_AAAA",
        ] {
            let error = SecretText(wrong.to_owned()).checked(&standard).unwrap_err();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
            let verbatim = SecretText(wrong.to_owned()).checked(&Scheme::GitHub);
            assert_eq!(
                verbatim.ok().as_deref(),
                Some(wrong).filter(|text| !text.is_empty())
            );
        }
    }

    #[test]
    fn lists_hold_something_and_each_thing_once() {
        assert!(reads::<Channels>("[\"a\"]"));
        for wrong in ["[]", "[\"a\", \"a\"]", "[\"a b\"]", "[1]", "\"a\""] {
            assert!(
                !reads::<Channels>(wrong) && !reads::<EventTypes>(wrong),
                "{wrong}"
            );
        }
        assert!(
            !reads::<EventTypes>("[\"invoice.*\"]"),
            "a pattern is no event type of the API"
        );
        let eleven: Vec<String> = (0..11).map(|n| format!("c{n}")).collect();
        assert!(!reads::<Channels>(&serde_json::to_string(&eleven).unwrap()));
    }
}
