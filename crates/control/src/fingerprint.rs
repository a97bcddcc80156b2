//! A name for a message that has no id of ours: the same at every look.

use hooklane_types::RawMessage;
use sha2::{Digest, Sha256};

use crate::present;

/// 96 bits: among a million messages two strangers share a name once in 10^17.
const BYTES: usize = 12;

/// Headers in which the broker counts deliveries while the message lies there.
const COUNTED_BY_THE_BROKER: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// `prefix` and a hash over what never changes while the message lies there. `at_ms` tells messages apart that were
/// published twice, byte for byte.
pub(crate) fn of(prefix: &str, message: &RawMessage, at_ms: i64) -> String {
    let mut properties = message.properties.clone();
    properties
        .headers
        .retain(|(name, _)| !COUNTED_BY_THE_BROKER.contains(&name.as_str()));
    let properties = present::properties(&properties).to_string();
    of_parts(
        prefix,
        &[
            &at_ms.to_be_bytes(),
            message.exchange.as_bytes(),
            message.routing_key.as_bytes(),
            properties.as_bytes(),
            &message.body,
        ],
    )
}

/// `prefix` and a hash over these parts.
pub(crate) fn of_parts(prefix: &str, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let hex: String = digest[..BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{hex}")
}
