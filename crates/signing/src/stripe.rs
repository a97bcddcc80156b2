//! Stripe's format: <https://docs.stripe.com/webhooks/signature>.

use subtle::{Choice, ConstantTimeEq};

use crate::error::VerifyError;
use crate::mac::MacKey;
use crate::scheme::Hash;
use crate::secret::{Material, Secret};
use crate::verify::{SIGNATURE_HEADER_BYTES_MAX, SIGNATURES_MAX, check_time, decode_lower_hex};

/// The one header.
pub(crate) const SIGNATURE: &str = "stripe-signature";

/// Stripe's secret is a text, and its bytes are the key, a `whsec_` in front included.
pub(crate) fn key(secret: &Secret) -> Option<MacKey> {
    match secret.material() {
        Material::Verbatim(text) => Some(MacKey::new(Hash::Sha256, text.as_bytes())),
        _ => None,
    }
}

/// `t=1700000000,v1=…`, with one `v1` for each secret.
pub(crate) fn sign(keys: &[MacKey], timestamp_s: i64, body: &[u8]) -> String {
    let timestamp = timestamp_s.to_string();
    let mut value = format!("t={timestamp}");
    for key in keys {
        value.push_str(",v1=");
        value.push_str(&hex::encode(key.tag(&content(&timestamp, body))));
    }
    value
}

/// Checks the time first, then compares every signature with every key in constant time.
pub(crate) fn matches<'h>(
    keys: &[MacKey],
    header: &impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now_s: i64,
    tolerance_s: u64,
) -> Result<bool, VerifyError> {
    let value = header(SIGNATURE).ok_or_else(|| VerifyError::MissingHeader(SIGNATURE.to_owned()))?;
    let sent = Sent::read(value)?;
    check_time(sent.timestamp, now_s, tolerance_s)?;
    if sent.macs.is_empty() {
        return Ok(false);
    }
    let mut matched = Choice::from(0);
    for key in keys {
        let tag = key.tag(&content(sent.timestamp, body));
        for mac in &sent.macs {
            matched |= tag.ct_eq(mac);
        }
    }
    Ok(matched.into())
}

fn content<'a>(timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 3] {
    [timestamp.as_bytes(), b".", body]
}

struct Sent<'h> {
    timestamp: &'h str,
    macs: Vec<Vec<u8>>,
}

impl<'h> Sent<'h> {
    /// Unknown versions and malformed signatures are passed over; two times are refused, since libraries differ in which
    /// of them they take.
    fn read(value: &'h str) -> Result<Sent<'h>, VerifyError> {
        let bytes = value.as_bytes();
        let seen = &bytes[..bytes.len().min(SIGNATURE_HEADER_BYTES_MAX)];
        let mut timestamp = None;
        let mut macs = Vec::new();
        for part in seen.split(|byte| *byte == b',') {
            let Ok(part) = std::str::from_utf8(part) else {
                continue;
            };
            if let Some(text) = part.strip_prefix("t=") {
                if timestamp.replace(text).is_some() {
                    return Err(VerifyError::MalformedTimestamp);
                }
            } else if let Some(encoded) = part.strip_prefix("v1=")
                && macs.len() < SIGNATURES_MAX
            {
                macs.extend(decode_lower_hex(encoded));
            }
        }
        let timestamp = timestamp.ok_or(VerifyError::MalformedTimestamp)?;
        Ok(Sent { timestamp, macs })
    }
}
