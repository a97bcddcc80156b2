//! Secrets: what they look like as text, and the keys they hold.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{KEYPAIR_LENGTH, PUBLIC_KEY_LENGTH, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::SecretError;

/// Longest text of a secret, in bytes. The longest that Standard Webhooks knows has 94; more than this is a wrong file.
pub const SECRET_TEXT_BYTES_MAX: usize = 4096;

const SYMMETRIC_PREFIX: &str = "whsec_";
const ED25519_PREFIX: &str = "whsk_";
const ED25519_PUBLIC_PREFIX: &str = "whpk_";

/// Reads base64 as the libraries of Standard Webhooks do: padding may be missing, and so may the zeros of the last
/// character's unused bits (their own test secrets have other bits there).
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a [`Secret`] is, and so what it can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// `whsec_`: one HMAC key for both sides.
    Symmetric,
    /// `whsk_`: signs, and verifies with its public half.
    Ed25519,
    /// `whpk_`: verifies only.
    Ed25519Public,
    /// The bytes of the text are the HMAC key, whatever they look like.
    Verbatim,
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SecretKind::Symmetric => "a symmetric secret (whsec_)",
            SecretKind::Ed25519 => "an ed25519 signing key (whsk_)",
            SecretKind::Ed25519Public => "an ed25519 public key (whpk_)",
            SecretKind::Verbatim => "a verbatim text",
        })
    }
}

/// A key with which webhooks are signed or verified. It does not show itself in `Debug`, is wiped when dropped, and is
/// compared in constant time (kinds and lengths are not secret).
#[derive(Clone)]
pub struct Secret(Material);

/// Boxed, so that moving a secret leaves no copy of the key behind.
#[derive(Clone)]
pub(crate) enum Material {
    Symmetric(Zeroizing<Vec<u8>>),
    Ed25519(Box<SigningKey>),
    Ed25519Public(Box<VerifyingKey>),
    Verbatim(Zeroizing<String>),
}

impl Secret {
    /// Reads the text forms of Standard Webhooks: `whsec_` and base64, `whsk_` and base64 of seed and public key,
    /// `whpk_` and base64 of a public key. The specification asks for 24 to 64 bytes behind `whsec_`; other lengths are
    /// read too, as all its libraries do. The text is not trimmed.
    ///
    /// # Errors
    /// [`SecretError`] names the rule that the text breaks, and never quotes it.
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        check_length(text.len())?;
        if let Some(encoded) = text.strip_prefix(SYMMETRIC_PREFIX) {
            Secret::symmetric_from_bytes(&decode(encoded)?)
        } else if let Some(encoded) = text.strip_prefix(ED25519_PREFIX) {
            parse_ed25519(&decode(encoded)?)
        } else if let Some(encoded) = text.strip_prefix(ED25519_PUBLIC_PREFIX) {
            parse_ed25519_public(&decode(encoded)?)
        } else {
            Err(SecretError::UnknownPrefix)
        }
    }

    /// For the `hmac` scheme: the bytes of the text are the key as they stand, a `whsec_` in front included.
    ///
    /// # Errors
    /// [`SecretError::Empty`] and [`SecretError::TooLong`].
    pub fn verbatim(text: &str) -> Result<Secret, SecretError> {
        check_length(text.len())?;
        Ok(Secret(Material::Verbatim(Zeroizing::new(text.to_owned()))))
    }

    /// A symmetric secret of raw key bytes, for instance freshly drawn ones.
    ///
    /// # Errors
    /// [`SecretError::Empty`] and [`SecretError::TooLong`].
    pub fn symmetric_from_bytes(bytes: &[u8]) -> Result<Secret, SecretError> {
        if bytes.is_empty() {
            return Err(SecretError::Empty);
        }
        let text_length =
            base64::encoded_len(bytes.len(), true).map(|length| SYMMETRIC_PREFIX.len() + length);
        check_length(text_length.unwrap_or(usize::MAX))?;
        Ok(Secret(Material::Symmetric(Zeroizing::new(bytes.to_vec()))))
    }

    /// The ed25519 signing key of a seed (RFC 8032), for instance of a freshly drawn one.
    pub fn ed25519_from_seed(seed: [u8; 32]) -> Secret {
        let seed = Zeroizing::new(seed);
        Secret(Material::Ed25519(Box::new(SigningKey::from_bytes(&seed))))
    }

    /// The public half (`whpk_`) to hand to receivers; `None` where there is none, as with a symmetric secret.
    pub fn public_key(&self) -> Option<Secret> {
        match &self.0 {
            Material::Ed25519(key) => Some(Secret(Material::Ed25519Public(Box::new(key.verifying_key())))),
            Material::Ed25519Public(key) => Some(Secret(Material::Ed25519Public(key.clone()))),
            Material::Symmetric(_) | Material::Verbatim(_) => None,
        }
    }

    /// The secret as text, base64 padded: what [`Secret::parse`] or [`Secret::verbatim`] reads back. Whoever calls this
    /// is responsible for where the text goes.
    pub fn expose(&self) -> String {
        match &self.0 {
            Material::Symmetric(key) => encode(SYMMETRIC_PREFIX, key),
            Material::Ed25519(key) => encode(ED25519_PREFIX, &*Zeroizing::new(key.to_keypair_bytes())),
            Material::Ed25519Public(key) => encode(ED25519_PUBLIC_PREFIX, key.as_bytes()),
            Material::Verbatim(text) => text.as_str().to_owned(),
        }
    }

    /// What this secret is.
    pub fn kind(&self) -> SecretKind {
        match &self.0 {
            Material::Symmetric(_) => SecretKind::Symmetric,
            Material::Ed25519(_) => SecretKind::Ed25519,
            Material::Ed25519Public(_) => SecretKind::Ed25519Public,
            Material::Verbatim(_) => SecretKind::Verbatim,
        }
    }

    pub(crate) fn material(&self) -> &Material {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        let same = match (&self.0, &other.0) {
            (Material::Symmetric(a), Material::Symmetric(b)) => a.as_slice().ct_eq(b.as_slice()),
            (Material::Ed25519(a), Material::Ed25519(b)) => a.as_bytes().ct_eq(b.as_bytes()),
            (Material::Ed25519Public(a), Material::Ed25519Public(b)) => a.as_bytes().ct_eq(b.as_bytes()),
            (Material::Verbatim(a), Material::Verbatim(b)) => a.as_bytes().ct_eq(b.as_bytes()),
            _ => return false,
        };
        same.into()
    }
}

impl Eq for Secret {}

fn check_length(text_bytes: usize) -> Result<(), SecretError> {
    match text_bytes {
        0 => Err(SecretError::Empty),
        1..=SECRET_TEXT_BYTES_MAX => Ok(()),
        _ => Err(SecretError::TooLong),
    }
}

fn decode(encoded: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    if encoded.is_empty() {
        return Err(SecretError::Empty);
    }
    LENIENT_BASE64
        .decode(encoded)
        .map(Zeroizing::new)
        .map_err(|_| SecretError::NotBase64)
}

fn encode(prefix: &str, key: &[u8]) -> String {
    // Room for all of it at once: a growing string would leave half a secret behind in freed memory.
    let mut text = String::with_capacity(prefix.len() + key.len().div_ceil(3) * 4);
    text.push_str(prefix);
    LENIENT_BASE64.encode_string(key, &mut text);
    text
}

fn parse_ed25519(bytes: &[u8]) -> Result<Secret, SecretError> {
    let pair: Zeroizing<[u8; KEYPAIR_LENGTH]> = Zeroizing::new(sized(SecretKind::Ed25519, bytes)?);
    let key = SigningKey::from_keypair_bytes(&pair).map_err(|_| SecretError::KeysDisagree)?;
    Ok(Secret(Material::Ed25519(Box::new(key))))
}

fn parse_ed25519_public(bytes: &[u8]) -> Result<Secret, SecretError> {
    let bytes: [u8; PUBLIC_KEY_LENGTH] = sized(SecretKind::Ed25519Public, bytes)?;
    match VerifyingKey::from_bytes(&bytes) {
        Ok(key) if !key.is_weak() => Ok(Secret(Material::Ed25519Public(Box::new(key)))),
        _ => Err(SecretError::UnusablePublicKey),
    }
}

fn sized<const N: usize>(kind: SecretKind, bytes: &[u8]) -> Result<[u8; N], SecretError> {
    bytes.try_into().map_err(|_| SecretError::WrongLength {
        kind,
        expected: N,
        found: bytes.len(),
    })
}
