//! GitHub's format: <https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers>.

use sha1::{Digest, Sha1};
use subtle::{Choice, ConstantTimeEq};

use crate::error::VerifyError;
use crate::mac::MacKey;
use crate::scheme::Hash;
use crate::secret::{Material, Secret};
use crate::verify::{SIGNATURE_HEADER_BYTES_MAX, decode_lower_hex};

/// The headers that [`Signer::sign`](crate::Signer::sign) sets.
pub(crate) const SIGNATURE_SHA256: &str = "x-hub-signature-256";
pub(crate) const SIGNATURE_SHA1: &str = "x-hub-signature";
/// The headers that [`Signer::describe`](crate::Signer::describe) sets.
pub(crate) const EVENT: &str = "x-github-event";
pub(crate) const DELIVERY: &str = "x-github-delivery";

/// RFC 9562, 6.6: the namespace of URLs.
const NAMESPACE_URL: [u8; 16] = [
    0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
];
const NAME_PREFIX: &str = "hooklane:event:";

/// The key of one secret under both hash functions.
#[derive(Clone)]
pub(crate) struct Keys {
    sha256: MacKey,
    sha1: MacKey,
}

impl Keys {
    /// GitHub's secret is a text, and its bytes are the key.
    pub(crate) fn of(secret: &Secret) -> Option<Keys> {
        let Material::Verbatim(text) = secret.material() else {
            return None;
        };
        Some(Keys {
            sha256: MacKey::new(Hash::Sha256, text.as_bytes()),
            sha1: MacKey::new(Hash::Sha1, text.as_bytes()),
        })
    }
}

/// Both signature headers, as GitHub sends them: the second is for receivers that know nothing else.
pub(crate) fn sign(keys: &Keys, body: &[u8]) -> [(&'static str, String); 2] {
    let sha256 = hex::encode(keys.sha256.tag(&[body]));
    let sha1 = hex::encode(keys.sha1.tag(&[body]));
    [
        (SIGNATURE_SHA256, format!("sha256={sha256}")),
        (SIGNATURE_SHA1, format!("sha1={sha1}")),
    ]
}

/// By SHA-256 alone: were the other one enough, a stranger could choose the weaker by leaving the stronger out.
pub(crate) fn matches<'h>(
    keys: &[Keys],
    header: &impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
) -> Result<bool, VerifyError> {
    let value =
        header(SIGNATURE_SHA256).ok_or_else(|| VerifyError::MissingHeader(SIGNATURE_SHA256.to_owned()))?;
    let encoded = value.strip_prefix("sha256=");
    let Some(mac) = encoded
        .filter(|text| text.len() <= SIGNATURE_HEADER_BYTES_MAX)
        .and_then(decode_lower_hex)
    else {
        return Ok(false);
    };
    let mut matched = Choice::from(0);
    for key in keys {
        matched |= key.sha256.tag(&[body]).ct_eq(&mac);
    }
    Ok(matched.into())
}

/// The GUID of an event: UUID version 5 (RFC 9562) of the name `hooklane:event:` and the id, in the namespace of URLs. So
/// every repeat bears the same one, for every endpoint, as GitHub's do, and whoever has the id can compute it.
pub(crate) fn delivery_guid(id: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(NAMESPACE_URL);
    hash.update(NAME_PREFIX);
    hash.update(id);
    let digest = hash.finalize();
    let mut bytes: [u8; 16] = digest[..16].try_into().expect("a SHA-1 has 20 bytes");
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    let (a, b, c, d, e) = (
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}
