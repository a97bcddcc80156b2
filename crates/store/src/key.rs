//! What stands for an event in the window.

use hooklane_types::{ApplicationId, EventId};
use sha2::{Digest, Sha256};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// 128 bits of SHA-256 over application and event id, instead of two texts of up to 256 bytes each. The same in every process, so
/// that it can be kept; no two events share one, not even by a producer's design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; KEY_BYTES]);

impl Key {
    pub(crate) fn of(application: &ApplicationId, event: &EventId) -> Key {
        let application = application.as_str().as_bytes();
        let hash = Sha256::new()
            // The length in front: no other pair of texts gives the same bytes.
            .chain_update((application.len() as u64).to_le_bytes())
            .chain_update(application)
            .chain_update(event.as_str().as_bytes())
            .finalize();
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(&hash[..KEY_BYTES]);
        Key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(application: &str, event: &str) -> Key {
        Key::of(
            &ApplicationId::parse(application).unwrap(),
            &EventId::parse(event).unwrap(),
        )
    }

    #[test]
    fn a_key_never_changes() {
        // Goal: what one version has written is found by the next. Method: sha256(u64le(5) + "app_a" + "msg_1"), by Python's hashlib.
        assert_eq!(hex(key("app_a", "msg_1")), EXPECTED);
    }

    #[test]
    fn the_border_between_the_two_counts() {
        assert_ne!(key("app_a", "msg_1"), key("app_b", "msg_1"));
        assert_ne!(key("a", "msg_msg_1"), key("amsg_", "msg_1"));
    }

    const EXPECTED: &str = "31882056052b8c9e7950e70bb13bbccb";

    fn hex(key: Key) -> String {
        key.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
