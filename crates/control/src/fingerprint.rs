//! A name for a message that has no id of ours: the same at every look.

use hooklane_types::RawMessage;
use sha2::{Digest, Sha256};

/// 96 bits: among a million messages two strangers share a name once in 10^17.
const BYTES: usize = 12;

/// `prefix` and a hash over what never changes while the message lies there. Headers are left out: the broker counts in them.
pub(crate) fn of(prefix: &str, message: &RawMessage) -> String {
    let mut hash = Sha256::new();
    let id = message.properties.message_id.as_deref().unwrap_or("");
    for part in [
        message.exchange.as_bytes(),
        message.routing_key.as_bytes(),
        id.as_bytes(),
        &message.body,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let hex: String = digest[..BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{hex}")
}
