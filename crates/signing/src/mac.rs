//! One HMAC key, prepared: both pads are hashed once, when the key is made.

use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::scheme::Hash;

/// A prepared key. The states are boxed because their sizes differ widely; they are copied to the stack to be used.
///
/// They are not zeroized on drop: `hmac` 0.12 offers no way to. What they hold is the hashed pads, not the key.
#[derive(Clone)]
pub(crate) enum MacKey {
    Sha1(Box<Hmac<Sha1>>),
    Sha256(Box<Hmac<Sha256>>),
    Sha512(Box<Hmac<Sha512>>),
}

impl MacKey {
    pub(crate) fn new(hash: Hash, key: &[u8]) -> MacKey {
        match hash {
            Hash::Sha1 => MacKey::Sha1(Box::new(prepare(key))),
            Hash::Sha256 => MacKey::Sha256(Box::new(prepare(key))),
            Hash::Sha512 => MacKey::Sha512(Box::new(prepare(key))),
        }
    }

    /// The HMAC over the parts, one after the other, so that the body is never copied.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        match self {
            MacKey::Sha1(state) => finish(state.as_ref(), parts),
            MacKey::Sha256(state) => finish(state.as_ref(), parts),
            MacKey::Sha512(state) => finish(state.as_ref(), parts),
        }
    }
}

fn prepare<M: Mac + hmac::digest::KeyInit>(key: &[u8]) -> M {
    <M as Mac>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104)")
}

fn finish<M: Mac + Clone>(state: &M, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = state.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
