//! Verifying: whether a request comes from a holder of the secret, and is fresh.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{SIGNATURE_LENGTH, Signature, VerifyingKey};
use subtle::{Choice, ConstantTimeEq};

use crate::error::{SignerError, VerifyError};
use crate::github;
use crate::mac::MacKey;
use crate::scheme::{Encoding, Hash, HeaderFamily, HmacFormat, Scheme};
use crate::secret::{Material, Secret};
use crate::sign::{HMAC_RULE, VERBATIM_RULE, check_count, hmac_key, prepare_each, standard_content};
use crate::stripe;

/// How far the time of signing may lie from now, both ways, in seconds: what the libraries of Standard Webhooks take.
pub const TOLERANCE_S: u64 = 300;
/// Most signatures of one request that are compared: thrice what a sender with [`SECRETS_MAX`](crate::SECRETS_MAX)
/// secrets sends, and a bound on the work that a stranger can cause.
pub const SIGNATURES_MAX: usize = 32;
/// How much of a signature header is looked at, in bytes; what lies beyond is ignored.
pub const SIGNATURE_HEADER_BYTES_MAX: usize = 8 * 1024;
/// Longest id that is accepted, in bytes.
const ID_BYTES_MAX: usize = 1024;
/// More digits than any time has; a longer text is no timestamp.
const TIMESTAMP_DIGITS_MAX: usize = 18;

const STANDARD_RULE: &str = "Standard Webhooks verifies with whsec_, whpk_ and whsk_ secrets";

const HMAC_SHA256_BYTES: usize = 32;
const HMAC_SHA256_BASE64_BYTES: usize = 44;
const ED25519_BASE64_BYTES: usize = 88;

/// Verifies requests by one scheme and the secrets that are live; any of them will do.
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    keys: Keys,
}

/// What [`Verifier::verify`] needs, by scheme.
#[derive(Clone)]
enum Keys {
    Standard(HeaderFamily, StandardKeys),
    Hmac(HmacFormat, Vec<MacKey>),
    GitHub(Vec<github::Keys>),
    Stripe(Vec<MacKey>),
}

#[derive(Clone, Default)]
struct StandardKeys {
    macs: Vec<MacKey>,
    publics: Vec<VerifyingKey>,
}

enum StandardKey {
    Mac(MacKey),
    Public(Box<VerifyingKey>),
}

impl Verifier {
    /// # Errors
    /// [`SignerError`]: no secret, more than [`SECRETS_MAX`](crate::SECRETS_MAX), or one that the scheme cannot verify
    /// with.
    pub fn new(scheme: Scheme, secrets: Vec<Secret>) -> Result<Verifier, SignerError> {
        check_count(&secrets)?;
        let keys = match &scheme {
            Scheme::Standard(family) => {
                let keys = prepare_each(&secrets, STANDARD_RULE, standard_key)?;
                Keys::Standard(*family, StandardKeys::sorted(keys))
            }
            Scheme::Hmac(format) => {
                let prepare = |secret: &Secret| hmac_key(format.hash(), secret);
                Keys::Hmac(format.clone(), prepare_each(&secrets, HMAC_RULE, prepare)?)
            }
            Scheme::GitHub => Keys::GitHub(prepare_each(&secrets, VERBATIM_RULE, github::Keys::of)?),
            Scheme::Stripe => Keys::Stripe(prepare_each(&secrets, VERBATIM_RULE, stripe::key)?),
        };
        Ok(Verifier { scheme, keys })
    }

    /// Accepts the request if one of its signatures was made with one of the secrets, over exactly this body and, by
    /// Standard Webhooks, its id and a time within `tolerance_s` seconds of `now_s` (unix seconds), the border
    /// included; by Stripe's format the time as well. The `hmac` scheme and GitHub's know neither: a recorded request
    /// verifies for ever. Of GitHub's two signatures the one with SHA-256 must be there, and it decides.
    ///
    /// `header` is asked for lower-case names and must find a header whatever its case. `body` must be the bytes as
    /// they came, not a document parsed and written again.
    ///
    /// # Errors
    /// [`VerifyError`] says what is missing, malformed, out of time, or that nothing matches.
    pub fn verify<'h>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
        now_s: i64,
        tolerance_s: u64,
    ) -> Result<(), VerifyError> {
        let matches = match &self.keys {
            Keys::Standard(family, keys) => {
                let sent = StandardHeaders::find(*family, &header)?;
                check_id(sent.id)?;
                check_time(sent.timestamp, now_s, tolerance_s)?;
                keys.accept(sent.signatures, &standard_content(sent.id, sent.timestamp, body))
            }
            Keys::Hmac(format, keys) => {
                let name = format.header();
                let value = header(name).ok_or_else(|| VerifyError::MissingHeader(name.to_owned()))?;
                hmac_matches(format, keys, value, body)
            }
            Keys::GitHub(keys) => github::matches(keys, &header, body)?,
            Keys::Stripe(keys) => stripe::matches(keys, &header, body, now_s, tolerance_s)?,
        };
        if matches {
            Ok(())
        } else {
            Err(VerifyError::NoMatch)
        }
    }

    /// The scheme that it was made with.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

struct StandardHeaders<'h> {
    id: &'h str,
    timestamp: &'h str,
    signatures: &'h str,
}

impl<'h> StandardHeaders<'h> {
    /// The headers of the family; where Svix's are not all there, a whole set of the standard's own. Never a mixture.
    fn find(
        family: HeaderFamily,
        header: &impl Fn(&str) -> Option<&'h str>,
    ) -> Result<StandardHeaders<'h>, VerifyError> {
        let own = StandardHeaders::of(family, header);
        match family {
            HeaderFamily::Webhook => own,
            HeaderFamily::Svix => {
                own.or_else(|missing| StandardHeaders::of(HeaderFamily::Webhook, header).map_err(|_| missing))
            }
        }
    }

    fn of(
        family: HeaderFamily,
        header: &impl Fn(&str) -> Option<&'h str>,
    ) -> Result<StandardHeaders<'h>, VerifyError> {
        let names = family.names();
        let get =
            |name: &'static str| header(name).ok_or_else(|| VerifyError::MissingHeader(name.to_owned()));
        Ok(StandardHeaders {
            id: get(names.id)?,
            timestamp: get(names.timestamp)?,
            signatures: get(names.signature)?,
        })
    }
}

/// A dot in the id would let a stranger shift bytes between id, time and body without changing what was signed.
fn check_id(id: &str) -> Result<(), VerifyError> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains('.') {
        return Err(VerifyError::MalformedId);
    }
    Ok(())
}

pub(crate) fn check_time(timestamp: &str, now_s: i64, tolerance_s: u64) -> Result<(), VerifyError> {
    // Digits only: Rust's own parser would let a sign pass.
    if timestamp.len() > TIMESTAMP_DIGITS_MAX || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::MalformedTimestamp);
    }
    let signed_s: i64 = timestamp.parse().map_err(|_| VerifyError::MalformedTimestamp)?;
    if signed_s.abs_diff(now_s) <= tolerance_s {
        Ok(())
    } else if signed_s < now_s {
        Err(VerifyError::TooOld)
    } else {
        Err(VerifyError::TooNew)
    }
}

fn standard_key(secret: &Secret) -> Option<StandardKey> {
    match secret.material() {
        Material::Symmetric(key) => Some(StandardKey::Mac(MacKey::new(Hash::Sha256, key))),
        Material::Ed25519(key) => Some(StandardKey::Public(Box::new(key.verifying_key()))),
        Material::Ed25519Public(key) => Some(StandardKey::Public(key.clone())),
        Material::Verbatim(_) => None,
    }
}

/// The well-formed signatures of a header, by the keys they could fit.
#[derive(Default)]
struct Listed {
    macs: Vec<[u8; HMAC_SHA256_BYTES]>,
    ed25519: Vec<Signature>,
}

impl Listed {
    /// Reads the first [`SIGNATURES_MAX`] signatures. Unknown versions and malformed parts are passed over, so that a
    /// sender may add a version without breaking its receivers.
    fn read(header: &str) -> Listed {
        let bytes = header.as_bytes();
        let bytes = &bytes[..bytes.len().min(SIGNATURE_HEADER_BYTES_MAX)];
        let mut listed = Listed::default();
        for part in bytes.split(|byte| *byte == b' ') {
            if listed.macs.len() + listed.ed25519.len() == SIGNATURES_MAX {
                break;
            }
            if let Some(mac) = part.strip_prefix(b"v1,") {
                listed
                    .macs
                    .extend(decode_exactly::<HMAC_SHA256_BYTES>(mac, HMAC_SHA256_BASE64_BYTES));
            } else if let Some(signature) = part.strip_prefix(b"v1a,") {
                let bytes = decode_exactly::<SIGNATURE_LENGTH>(signature, ED25519_BASE64_BYTES);
                listed
                    .ed25519
                    .extend(bytes.map(|bytes| Signature::from_bytes(&bytes)));
            }
        }
        listed
    }
}

/// Canonical base64 only: two texts of one signature would be two signatures to whoever compares texts.
fn decode_exactly<const N: usize>(encoded: &[u8], encoded_bytes: usize) -> Option<[u8; N]> {
    if encoded.len() != encoded_bytes {
        return None;
    }
    BASE64.decode(encoded).ok()?.try_into().ok()
}

impl StandardKeys {
    fn sorted(keys: Vec<StandardKey>) -> StandardKeys {
        let mut sorted = StandardKeys::default();
        for key in keys {
            match key {
                StandardKey::Mac(key) => sorted.macs.push(key),
                StandardKey::Public(key) => sorted.publics.push(*key),
            }
        }
        sorted
    }

    fn accept(&self, signatures: &str, content: &[&[u8]]) -> bool {
        let listed = Listed::read(signatures);
        self.accept_mac(&listed.macs, content) || self.accept_ed25519(&listed.ed25519, content)
    }

    /// Hashes the content once per key, not once per pair, and compares every pair in constant time.
    fn accept_mac(&self, listed: &[[u8; HMAC_SHA256_BYTES]], content: &[&[u8]]) -> bool {
        if listed.is_empty() {
            return false;
        }
        let mut matched = Choice::from(0);
        for key in &self.macs {
            let tag = key.tag(content);
            for mac in listed {
                matched |= tag.ct_eq(mac);
            }
        }
        matched.into()
    }

    /// Nothing here is secret. Strict: no keys or signatures of small order.
    fn accept_ed25519(&self, listed: &[Signature], content: &[&[u8]]) -> bool {
        if listed.is_empty() || self.publics.is_empty() {
            return false;
        }
        let content = content.concat();
        let fits = |key: &VerifyingKey| {
            listed
                .iter()
                .any(|signature| key.verify_strict(&content, signature).is_ok())
        };
        self.publics.iter().any(fits)
    }
}

fn hmac_matches(format: &HmacFormat, keys: &[MacKey], value: &str, body: &[u8]) -> bool {
    let Some(mac) = decode_hmac(format, value) else {
        return false;
    };
    let mut matched = Choice::from(0);
    for key in keys {
        matched |= key.tag(&[body]).ct_eq(&mac);
    }
    matched.into()
}

/// Only the one way in which a signer writes it, so that each signature has one text.
fn decode_hmac(format: &HmacFormat, value: &str) -> Option<Vec<u8>> {
    if value.len() > SIGNATURE_HEADER_BYTES_MAX {
        return None;
    }
    let encoded = value.strip_prefix(format.prefix())?;
    match format.encoding() {
        Encoding::Hex => decode_lower_hex(encoded),
        Encoding::Base64 => BASE64.decode(encoded).ok(),
    }
}

/// Upper case is refused, as in the senders' own libraries, which compare the text.
pub(crate) fn decode_lower_hex(encoded: &str) -> Option<Vec<u8>> {
    if encoded.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(encoded).ok()
}
