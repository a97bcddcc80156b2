//! Secrets at rest: sealed with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), each with a random nonce of 24 bytes.
//!
//! A sealed text is `v1.<key>.<base64>`: which key sealed it, then the nonce, the ciphertext and its tag. The context (which document it
//! stands in) is authenticated with it, so that a secret that is copied into another document does not open there.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chacha20poly1305::aead::rand_core::RngCore;
use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const VERSION: &str = "v1";
/// Bytes of a key's hash that stand in what it sealed.
const NAME_BYTES: usize = 6;

/// Why something does not open, or a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No key at all.
    #[error("there is no key")]
    NoKey,
    /// Not base64 of 32 bytes.
    #[error("a key is base64 of {KEY_BYTES} bytes, as `openssl rand -base64 {KEY_BYTES}` makes one")]
    Malformed,
    /// Sealed by a key that is not here.
    #[error("it was sealed with the key {key}, which is not among the keys given")]
    Unknown {
        /// The key's name.
        key: String,
    },
    /// Not sealed here, or changed since.
    #[error("it was changed, or sealed for another place")]
    Damaged,
}

/// One key. Wiped when dropped; `Debug` shows its name only.
struct Key {
    name: String,
    cipher: XChaCha20Poly1305,
}

/// The keys. The first seals, all open: so a key is replaced by putting a new one in front.
pub struct Vault {
    keys: Vec<Key>,
}

impl Vault {
    /// Takes keys as text: base64 of 32 bytes each, the one that seals first.
    ///
    /// # Errors
    /// [`VaultError::NoKey`] and [`VaultError::Malformed`].
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Vault, VaultError> {
        let keys = keys
            .into_iter()
            .map(key)
            .collect::<Result<Vec<Key>, VaultError>>()?;
        match keys.is_empty() {
            true => Err(VaultError::NoKey),
            false => Ok(Vault { keys }),
        }
    }

    /// A fresh key, as text.
    pub fn fresh_key() -> Zeroizing<String> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        OsRng.fill_bytes(&mut *key);
        Zeroizing::new(STANDARD.encode(*key))
    }

    /// Seals a text for one place.
    ///
    /// # Panics
    /// Only for a text of more than 256 GiB.
    pub fn seal(&self, context: &str, plain: &str) -> String {
        let key = &self.keys[0];
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let payload = Payload {
            msg: plain.as_bytes(),
            aad: context.as_bytes(),
        };
        let sealed = key.cipher.encrypt(&nonce, payload).expect("a short text");
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        format!("{VERSION}.{}.{}", key.name, STANDARD.encode(bytes))
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`VaultError::Unknown`] and [`VaultError::Damaged`].
    pub fn open(&self, context: &str, sealed: &str) -> Result<Zeroizing<String>, VaultError> {
        let (name, encoded) = parts(sealed).ok_or(VaultError::Damaged)?;
        let key = self.keys.iter().find(|key| key.name == name);
        let key = key.ok_or_else(|| VaultError::Unknown { key: name.to_owned() })?;
        let bytes = STANDARD.decode(encoded).map_err(|_| VaultError::Damaged)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or(VaultError::Damaged)?;
        let payload = Payload {
            msg: sealed,
            aad: context.as_bytes(),
        };
        let plain = key
            .cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| VaultError::Damaged)?;
        let plain = Zeroizing::new(plain);
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::Damaged)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Whether it was sealed with the key that seals now.
    pub fn is_current(&self, sealed: &str) -> bool {
        parts(sealed).is_some_and(|(name, _)| name == self.keys[0].name)
    }
}

fn key(text: &str) -> Result<Key, VaultError> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| VaultError::Malformed)?;
    let bytes = Zeroizing::new(bytes);
    let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| VaultError::Malformed)?;
    // The hash of a random key tells nothing of it.
    let name = URL_SAFE_NO_PAD.encode(&Sha256::digest(&bytes[..])[..NAME_BYTES]);
    Ok(Key { name, cipher })
}

/// The key's name and what it sealed, in base64.
fn parts(sealed: &str) -> Option<(&str, &str)> {
    sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split_once('.')
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.keys.iter().map(|key| &key.name);
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let vault = Vault::new([OLD]).unwrap();
        let sealed = vault.seal("ep_1", "whsec_abc");
        assert!(!sealed.contains("whsec"), "{sealed}");
        assert_eq!(*vault.open("ep_1", &sealed).unwrap(), "whsec_abc");
        assert_eq!(vault.open("ep_2", &sealed).unwrap_err(), VaultError::Damaged);
        assert_ne!(vault.seal("ep_1", "whsec_abc"), sealed, "no nonce twice");
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let vault = Vault::new([OLD]).unwrap();
        let sealed = vault.seal("ep_1", "x");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(vault.open("ep_1", &changed).is_err(), "byte {at}");
            assert!(vault.open("ep_1", &sealed[..at]).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn a_new_key_in_front_opens_what_the_old_one_sealed() {
        let sealed = Vault::new([OLD]).unwrap().seal("ep_1", "x");
        let fresh = Vault::fresh_key();
        let both = Vault::new([&fresh, OLD]).unwrap();
        assert_eq!(*both.open("ep_1", &sealed).unwrap(), "x");
        assert!(!both.is_current(&sealed) && both.is_current(&both.seal("ep_1", "x")));
        let error = Vault::new([fresh.as_str()])
            .unwrap()
            .open("ep_1", &sealed)
            .unwrap_err();
        assert!(matches!(error, VaultError::Unknown { .. }), "{error}");
    }

    #[test]
    fn what_another_program_sealed_opens() {
        // Goal: the format is the one that is described, not only one that we read ourselves. By PyNaCl 1.6.2,
        // crypto_aead_xchacha20poly1305_ietf_encrypt(b"whsec_abc", b"ep_1", bytes(24), bytes(range(32))).
        let sealed = SEALED_BY_PYNACL;
        assert_eq!(
            *Vault::new([OLD]).unwrap().open("ep_1", sealed).unwrap(),
            "whsec_abc"
        );
    }

    const SEALED_BY_PYNACL: &str =
        "v1.Yw3NKWbE.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4m7/oo/XhHt1bDoWPAambIpYgQztNEi8pw==";

    #[test]
    fn keys_are_checked_and_not_shown() {
        assert_eq!(Vault::new([]).unwrap_err(), VaultError::NoKey);
        for wrong in ["", "AAEC", "not base64", &OLD[1..]] {
            assert_eq!(
                Vault::new([wrong]).unwrap_err(),
                VaultError::Malformed,
                "{wrong:?}"
            );
        }
        let shown = format!("{:?}", Vault::new([OLD]).unwrap());
        assert!(!shown.contains(&OLD[..8]), "{shown}");
    }
}
