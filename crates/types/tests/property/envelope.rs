//! The property of reading envelopes, for the tests and the fuzz target alike.

use bytes::Bytes;
use hooklane_types::Internal;

/// Any bytes are read without panic; what is read can be written, and is read again as the same.
pub fn check(bytes: &[u8]) {
    let Ok(message) = Internal::decode(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let again = Internal::decode(message.encode()).expect("what was read once can be written and read");
    // NaN, which a header may hold, is unequal to itself; written out it is not.
    assert_eq!(again.encode(), message.encode());
}
