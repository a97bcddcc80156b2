//! Identifiers. Each is a newtype over text of a safe alphabet, so that it can stand in a header, a URL and a log line.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::time::UnixMillis;

/// Longest application id, endpoint id or producer's id over HTTP, in bytes (the Svix API's bound for uids and event ids).
pub const ID_BYTES_MAX: usize = 256;

/// Longest producer's id that is kept, in bytes. AMQP short strings end at 255; a CloudEvents id has no bound of its own.
pub const PRODUCER_ID_BYTES_MAX: usize = 1024;

const EVENT_PREFIX: &str = "msg_";
const APPLICATION_PREFIX: &str = "app_";
const ENDPOINT_PREFIX: &str = "ep_";
const ATTEMPT_PREFIX: &str = "atmpt_";

/// In the place of a CloudEvents source, so that a key is never taken for somebody's event id. No source holds a line break.
const IDEMPOTENCY_SOURCE: &str = "\nidempotency-key";

/// Marks an id that was derived by hash: it stands where a time-carrying id has a digit from 0 to 7.
const DERIVED_MARK: char = 'h';

/// Crockford's base 32, as ULIDs use it: no letter is taken for a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 128 bits in base 32.
const ENCODED_CHARS: usize = 26;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("{what} is empty")]
    Empty {
        /// Which id.
        what: &'static str,
    },
    /// Too long.
    #[error("{what} has {bytes} bytes, more than {limit}")]
    TooLong {
        /// Which id.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A character outside the safe alphabet.
    #[error("{what} may hold only letters, digits, '-', '_' and '.'; found {found:?}")]
    Alphabet {
        /// Which id.
        what: &'static str,
        /// The first offending character.
        found: char,
    },
    /// Not made by us.
    #[error("{what} begins with '{prefix}'")]
    Prefix {
        /// Which id.
        what: &'static str,
        /// The prefix it must have.
        prefix: &'static str,
    },
}

/// Checks the alphabet and length that ids, event types and channels share (`^[a-zA-Z0-9\-_.]+$`).
pub(crate) fn check_text(what: &'static str, text: &str, limit: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > limit {
        return Err(IdError::TooLong {
            what,
            bytes: text.len(),
            limit,
        });
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
    {
        Some(found) => Err(IdError::Alphabet { what, found }),
        None => Ok(()),
    }
}

fn encode_base32(bits: u128) -> String {
    (0..ENCODED_CHARS)
        .rev()
        .map(|place| char::from(ALPHABET[((bits >> (place * 5)) & 31) as usize]))
        .collect()
}

fn decode_base32(text: &str) -> Option<u128> {
    if text.len() != ENCODED_CHARS {
        return None;
    }
    text.bytes().try_fold(0u128, |bits, byte| {
        let digit = ALPHABET.iter().position(|letter| *letter == byte)?;
        Some((bits << 5) | digit as u128)
    })
}

/// 48 bits of time and 80 random bits, as a ULID: sorts by time.
fn timed(now: UnixMillis, random: [u8; 10]) -> String {
    let time = (now.0.max(0) as u128) & ((1 << 48) - 1);
    let random = random
        .iter()
        .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    encode_base32((time << 80) | random)
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// An event's id, always ours: `msg_…`. It is the `webhook-id` of every attempt.
    EventId
}

impl EventId {
    /// An id that carries its time, for an event without a producer's id.
    pub fn fresh(now: UnixMillis, random: [u8; 10]) -> EventId {
        EventId(format!("{EVENT_PREFIX}{}", timed(now, random)))
    }

    /// The id of an event that has a producer's id: the same in every pod and at every repeat.
    ///
    /// `source` is the CloudEvents source; other events have none.
    pub fn derived(application: &ApplicationId, source: Option<&str>, producer_id: &ProducerId) -> EventId {
        let mut hash = Sha256::new();
        for part in [application.as_str(), source.unwrap_or(""), producer_id.as_str()] {
            // The length goes in front, so that no two triples give the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let bits = digest[..16]
            .iter()
            .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
        EventId(format!("{EVENT_PREFIX}{DERIVED_MARK}{}", encode_base32(bits)))
    }

    /// The id of an event that has none of the producer's, of a request with this `Idempotency-Key`.
    pub fn of_idempotency_key(application: &ApplicationId, key: &ProducerId) -> EventId {
        EventId::derived(application, Some(IDEMPOTENCY_SOURCE), key)
    }

    /// Reads an id of ours.
    ///
    /// # Errors
    /// When the text has another prefix or alphabet.
    pub fn parse(text: &str) -> Result<EventId, IdError> {
        check_text("an event id", text, ID_BYTES_MAX)?;
        if !text.starts_with(EVENT_PREFIX) {
            return Err(IdError::Prefix {
                what: "an event id",
                prefix: EVENT_PREFIX,
            });
        }
        Ok(EventId(text.to_owned()))
    }

    /// When the id was made. Only ids made by `fresh` carry it.
    pub fn made_at(&self) -> Option<UnixMillis> {
        let bits = decode_base32(self.0.strip_prefix(EVENT_PREFIX)?)?;
        Some(UnixMillis((bits >> 80) as i64 & ((1 << 48) - 1)))
    }
}

text_id! {
    /// An endpoint's id: `ep_…` or the name that the operator gave it in the endpoint file. Never used twice.
    EndpointId
}

impl EndpointId {
    /// An id of our making.
    pub fn fresh(now: UnixMillis, random: [u8; 10]) -> EndpointId {
        EndpointId(format!("{ENDPOINT_PREFIX}{}", timed(now, random)))
    }

    /// Reads an endpoint id.
    ///
    /// # Errors
    /// When it is empty, too long, or outside the safe alphabet.
    pub fn parse(text: &str) -> Result<EndpointId, IdError> {
        check_text("an endpoint id", text, ID_BYTES_MAX)?;
        Ok(EndpointId(text.to_owned()))
    }
}

text_id! {
    /// One attempt's id: `atmpt_…`, made once.
    AttemptId
}

impl AttemptId {
    /// A new attempt's id.
    pub fn fresh(now: UnixMillis, random: [u8; 10]) -> AttemptId {
        AttemptId(format!("{ATTEMPT_PREFIX}{}", timed(now, random)))
    }

    /// Reads an id of ours.
    ///
    /// # Errors
    /// When the text has another prefix or alphabet.
    pub fn parse(text: &str) -> Result<AttemptId, IdError> {
        check_text("an attempt id", text, ID_BYTES_MAX)?;
        if !text.starts_with(ATTEMPT_PREFIX) {
            return Err(IdError::Prefix {
                what: "an attempt id",
                prefix: ATTEMPT_PREFIX,
            });
        }
        Ok(AttemptId(text.to_owned()))
    }
}

text_id! {
    /// One tenant: `app_…`, or the uid that the platform chose.
    ApplicationId
}

impl ApplicationId {
    /// An id of our making.
    pub fn fresh(now: UnixMillis, random: [u8; 10]) -> ApplicationId {
        ApplicationId(format!("{APPLICATION_PREFIX}{}", timed(now, random)))
    }

    /// Reads an application id or uid.
    ///
    /// # Errors
    /// When it is empty, longer than [`ID_BYTES_MAX`], or outside the safe alphabet.
    pub fn parse(text: &str) -> Result<ApplicationId, IdError> {
        check_text("an application id", text, ID_BYTES_MAX)?;
        Ok(ApplicationId(text.to_owned()))
    }
}

text_id! {
    /// The id that a producer gave its event: any text up to [`PRODUCER_ID_BYTES_MAX`]. Never a header.
    ProducerId
}

impl ProducerId {
    /// Takes a producer's id as it came, control characters and all.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn parse(text: &str) -> Result<ProducerId, IdError> {
        let what = "a producer's id";
        if text.is_empty() {
            return Err(IdError::Empty { what });
        }
        if text.len() > PRODUCER_ID_BYTES_MAX {
            return Err(IdError::TooLong {
                what,
                bytes: text.len(),
                limit: PRODUCER_ID_BYTES_MAX,
            });
        }
        Ok(ProducerId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(application: &str, source: Option<&str>, id: &str) -> EventId {
        EventId::derived(
            &ApplicationId::parse(application).unwrap(),
            source,
            &ProducerId::parse(id).unwrap(),
        )
    }

    /// Goal: no change ever gives a repeat another id. The values were computed apart from this code, with Python's hashlib.
    #[test]
    fn derived_ids_are_pinned_so_that_every_version_repeats_the_same_one() {
        assert_eq!(
            derived("acme", None, "order-17").as_str(),
            "msg_h4ybzkw2rwb6rzzzjkn5vngt6mf"
        );
        assert_eq!(
            derived("acme", Some("/shop"), "order-17").as_str(),
            "msg_h658tx3qr0c3wb5jwkgp223hf1r"
        );
        assert_eq!(
            derived("acme", None, "ü\n").as_str(),
            "msg_h6yfzc7t7dgvdm6dt41v7v2t4m7"
        );
    }

    #[test]
    fn derived_ids_differ_by_application_source_and_id() {
        let all = [
            derived("acme", None, "1"),
            derived("other", None, "1"),
            derived("acme", Some("/shop"), "1"),
            derived("acme", None, "2"),
            derived("acme1", None, "a"),
            derived("acme", Some("1"), "a"),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn a_derived_id_is_safe_whatever_the_producer_sent() {
        let id = derived("acme", None, "a.b\r\nx-evil: 1");
        assert!(EventId::parse(id.as_str()).is_ok());
        assert!(!id.as_str().contains('.'));
        assert_eq!(id.made_at(), None);
    }

    #[test]
    fn a_fresh_id_carries_its_time_and_sorts_by_it() {
        let early = EventId::fresh(UnixMillis(1_700_000_000_000), [255; 10]);
        let late = EventId::fresh(UnixMillis(1_700_000_000_001), [0; 10]);
        assert_eq!(early.made_at(), Some(UnixMillis(1_700_000_000_000)));
        assert!(early < late);
    }

    #[test]
    fn refuses_empty_long_and_foreign_text() {
        assert!(matches!(ApplicationId::parse(""), Err(IdError::Empty { .. })));
        assert!(matches!(
            ApplicationId::parse("a b"),
            Err(IdError::Alphabet { found: ' ', .. })
        ));
        assert!(matches!(
            ApplicationId::parse(&"a".repeat(257)),
            Err(IdError::TooLong { .. })
        ));
        assert!(matches!(EventId::parse("evt_1"), Err(IdError::Prefix { .. })));
    }
}
