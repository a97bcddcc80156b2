//! Signing: what goes on the request.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::error::SignerError;
use crate::github;
use crate::mac::MacKey;
use crate::scheme::{Encoding, Hash, HmacFormat, Scheme, StandardNames};
use crate::secret::{Material, Secret};
use crate::stripe;

/// Most secrets that may be live at once: each costs a pass over the body, and a rotation needs two.
pub const SECRETS_MAX: usize = 10;

const STANDARD_RULE: &str = "Standard Webhooks signs with whsec_ and whsk_ secrets";
pub(crate) const HMAC_RULE: &str = "the hmac scheme takes a verbatim text or a whsec_ secret";
pub(crate) const VERBATIM_RULE: &str = "GitHub's and Stripe's formats take a verbatim text";

/// Whether Standard Webhooks can sign this id: it holds no `.`, since dots separate the parts of the signed content, and
/// it can be sent in a header (printable ASCII without spaces, not empty).
pub fn is_signable_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

/// Signs requests with one scheme and its live secrets. The keys are prepared once, since signing is on the path of
/// every attempt.
#[derive(Clone)]
pub struct Signer {
    scheme: Scheme,
    keys: Keys,
}

/// What [`Signer::sign`] needs, by scheme.
#[derive(Clone)]
enum Keys {
    Standard(&'static StandardNames, Box<[StandardKey]>),
    Hmac(HmacFormat, MacKey),
    GitHub(github::Keys),
    Stripe(Box<[MacKey]>),
}

#[derive(Clone)]
enum StandardKey {
    Mac(MacKey),
    Ed25519(Box<SigningKey>),
}

impl Signer {
    /// The first secret is the current one. Standard Webhooks and Stripe's format sign with all of them, so that a receiver
    /// may still hold an older one; a plain HMAC header and GitHub's have room for one signature only, and the first secret
    /// makes it.
    ///
    /// # Errors
    /// [`SignerError`]: no secret, more than [`SECRETS_MAX`], or one that the scheme cannot sign with.
    pub fn new(scheme: Scheme, secrets: Vec<Secret>) -> Result<Signer, SignerError> {
        check_count(&secrets)?;
        let keys = match &scheme {
            Scheme::Standard(family) => Keys::Standard(
                family.names(),
                prepare_each(&secrets, STANDARD_RULE, standard_key)?.into(),
            ),
            Scheme::Hmac(format) => {
                let mut keys = prepare_each(&secrets, HMAC_RULE, |secret| hmac_key(format.hash(), secret))?;
                Keys::Hmac(format.clone(), keys.swap_remove(0))
            }
            Scheme::GitHub => {
                Keys::GitHub(prepare_each(&secrets, VERBATIM_RULE, github::Keys::of)?.swap_remove(0))
            }
            Scheme::Stripe => Keys::Stripe(prepare_each(&secrets, VERBATIM_RULE, stripe::key)?.into()),
        };
        Ok(Signer { scheme, keys })
    }

    /// The headers to set on the request, in order, with names in lower case.
    ///
    /// For Standard Webhooks the id must satisfy [`is_signable_id`] and the time must not be negative (for Stripe's format
    /// the latter): a request that breaks this is accepted by no [`Verifier`](crate::Verifier). The other schemes sign
    /// less and set their signature's header only; whoever wants id and time on the request adds them.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> Vec<(&str, String)> {
        match &self.keys {
            Keys::Standard(names, keys) => {
                let timestamp = timestamp_s.to_string();
                let signatures = standard_signatures(keys, &standard_content(id, &timestamp, body));
                vec![
                    (names.id, id.to_owned()),
                    (names.timestamp, timestamp),
                    (names.signature, signatures),
                ]
            }
            Keys::Hmac(format, key) => vec![(format.header(), hmac_value(format, key, body))],
            Keys::GitHub(keys) => github::sign(keys, body).to_vec(),
            Keys::Stripe(keys) => vec![(stripe::SIGNATURE, stripe::sign(keys, timestamp_s, body))],
        }
    }

    /// Headers of the format that say what is delivered and are not signed, with names in lower case. Only GitHub's has
    /// them: `x-github-event` is the event's type, and `x-github-delivery` a GUID made of the id (UUID version 5 of
    /// `hooklane:event:{id}` in the namespace of URLs), so that repeats bear the same one.
    pub fn describe(&self, id: &str, event_type: &str) -> Vec<(&'static str, String)> {
        match self.scheme {
            Scheme::Standard(_) | Scheme::Hmac(_) | Scheme::Stripe => Vec::new(),
            Scheme::GitHub => vec![
                (github::EVENT, event_type.to_owned()),
                (github::DELIVERY, github::delivery_guid(id)),
            ],
        }
    }

    /// The scheme that it was made with.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The headers that [`Signer::sign`] and [`Signer::describe`] set, so that configuration can refuse custom headers of the same name.
    pub fn header_names(&self) -> Vec<String> {
        self.scheme.header_names()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// The signed content of Standard Webhooks, in parts, so that an HMAC need not copy the body.
pub(crate) fn standard_content<'a>(id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

pub(crate) fn check_count(secrets: &[Secret]) -> Result<(), SignerError> {
    match secrets.len() {
        0 => Err(SignerError::NoSecrets),
        1..=SECRETS_MAX => Ok(()),
        found => Err(SignerError::TooManySecrets { found }),
    }
}

/// Prepares every secret, or says which one does not fit and what the scheme takes.
pub(crate) fn prepare_each<K>(
    secrets: &[Secret],
    rule: &'static str,
    prepare: impl Fn(&Secret) -> Option<K>,
) -> Result<Vec<K>, SignerError> {
    let fit = |(index, secret): (usize, &Secret)| {
        prepare(secret).ok_or(SignerError::KindDoesNotFit {
            position: index + 1,
            kind: secret.kind(),
            rule,
        })
    };
    secrets.iter().enumerate().map(fit).collect()
}

/// The key for the `hmac` scheme, where the secret has one.
pub(crate) fn hmac_key(hash: Hash, secret: &Secret) -> Option<MacKey> {
    match secret.material() {
        Material::Symmetric(key) => Some(MacKey::new(hash, key)),
        Material::Verbatim(text) => Some(MacKey::new(hash, text.as_bytes())),
        Material::Ed25519(_) | Material::Ed25519Public(_) => None,
    }
}

fn standard_key(secret: &Secret) -> Option<StandardKey> {
    match secret.material() {
        Material::Symmetric(key) => Some(StandardKey::Mac(MacKey::new(Hash::Sha256, key))),
        Material::Ed25519(key) => Some(StandardKey::Ed25519(key.clone())),
        Material::Ed25519Public(_) | Material::Verbatim(_) => None,
    }
}

/// The space-separated list, in the order of the secrets.
fn standard_signatures(keys: &[StandardKey], content: &[&[u8]]) -> String {
    // An ed25519 signature passes twice over its content, which therefore must lie in one piece: copied once for all.
    let mut whole: Option<Vec<u8>> = None;
    let mut list = String::new();
    for key in keys {
        if !list.is_empty() {
            list.push(' ');
        }
        match key {
            StandardKey::Mac(key) => {
                list.push_str("v1,");
                BASE64.encode_string(key.tag(content), &mut list);
            }
            StandardKey::Ed25519(key) => {
                let whole = whole.get_or_insert_with(|| content.concat());
                list.push_str("v1a,");
                BASE64.encode_string(key.sign(whole).to_bytes(), &mut list);
            }
        }
    }
    list
}

fn hmac_value(format: &HmacFormat, key: &MacKey, body: &[u8]) -> String {
    let tag = key.tag(&[body]);
    let encoded = match format.encoding() {
        Encoding::Hex => hex::encode(tag),
        Encoding::Base64 => BASE64.encode(tag),
    };
    format!("{}{encoded}", format.prefix())
}
