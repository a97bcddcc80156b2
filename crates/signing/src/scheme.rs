//! The formats in which a signature travels. A new one is a variant of [`Scheme`]; the compiler then names the two
//! places that must know it, `sign` and `verify`.

use std::sync::Arc;

use crate::error::FormatError;
use crate::{github, stripe};

/// Longest name of a signature header, in bytes: far above any in use, far below what servers allow.
pub(crate) const HEADER_NAME_BYTES_MAX: usize = 128;
/// Longest text in front of a signature, in bytes. The known ones (`sha256=`, `v0=`) have less than ten.
pub(crate) const PREFIX_BYTES_MAX: usize = 64;

/// Headers that cannot carry a signature: HTTP itself, the body's type or the delivery's identity depend on them.
const RESERVED_HEADERS: [&str; 20] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "svix-id",
    "svix-timestamp",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
];

/// How requests are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):
    /// id, time and body are signed, with every live secret.
    Standard(HeaderFamily),
    /// An HMAC over the body alone, in one header.
    Hmac(HmacFormat),
    /// [As GitHub does](https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers): HMACs over the
    /// body in `X-Hub-Signature-256` and, with SHA-1, in `X-Hub-Signature`; beside them, unsigned, the event's type in
    /// `X-GitHub-Event` and its GUID in `X-GitHub-Delivery`.
    GitHub,
    /// [As Stripe does](https://docs.stripe.com/webhooks/signature): time and body are signed, with every live secret, in
    /// `Stripe-Signature: t=…,v1=…`.
    Stripe,
}

impl Scheme {
    /// Whether the bytes of a secret's text are the key as they stand: then secrets are made by
    /// [`Secret::verbatim`](crate::Secret::verbatim), else by [`Secret::parse`](crate::Secret::parse).
    pub fn takes_verbatim(&self) -> bool {
        match self {
            Scheme::Standard(_) => false,
            Scheme::Hmac(_) | Scheme::GitHub | Scheme::Stripe => true,
        }
    }

    /// The headers that a [`Signer`](crate::Signer) of this scheme sets, those of `sign` and then those of `describe`, in
    /// order, in lower case.
    pub fn header_names(&self) -> Vec<String> {
        match self {
            Scheme::Standard(family) => {
                let names = family.names();
                [names.id, names.timestamp, names.signature]
                    .map(str::to_owned)
                    .to_vec()
            }
            Scheme::Hmac(format) => vec![format.header().to_owned()],
            Scheme::GitHub => [
                github::SIGNATURE_SHA256,
                github::SIGNATURE_SHA1,
                github::EVENT,
                github::DELIVERY,
            ]
            .map(str::to_owned)
            .to_vec(),
            Scheme::Stripe => vec![stripe::SIGNATURE.to_owned()],
        }
    }
}

/// Under which names the three headers of Standard Webhooks travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeaderFamily {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    Webhook,
    /// `svix-id`, `svix-timestamp`, `svix-signature`. A verifier then reads the `webhook-` names too, as Svix's
    /// libraries do.
    Svix,
}

pub(crate) struct StandardNames {
    pub id: &'static str,
    pub timestamp: &'static str,
    pub signature: &'static str,
}

const WEBHOOK_NAMES: StandardNames = StandardNames {
    id: "webhook-id",
    timestamp: "webhook-timestamp",
    signature: "webhook-signature",
};
const SVIX_NAMES: StandardNames = StandardNames {
    id: "svix-id",
    timestamp: "svix-timestamp",
    signature: "svix-signature",
};

impl HeaderFamily {
    pub(crate) fn names(self) -> &'static StandardNames {
        match self {
            HeaderFamily::Webhook => &WEBHOOK_NAMES,
            HeaderFamily::Svix => &SVIX_NAMES,
        }
    }
}

/// The hash function of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// For receivers that know nothing else. HMAC-SHA1 is not broken, but nobody should begin with it.
    Sha1,
    /// The usual one.
    Sha256,
    /// For receivers that ask for it.
    Sha512,
}

/// How the bytes of an HMAC are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Lower case; upper case does not verify, as with the senders' own libraries, which compare the text.
    Hex,
    /// RFC 4648 section 4, with padding.
    Base64,
}

/// Where and how an HMAC over the body is written: `{header}: {prefix}{encoded HMAC}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HmacFormat {
    // Shared: a signer has its format twice, and there may be many signers.
    header: Arc<str>,
    hash: Hash,
    encoding: Encoding,
    prefix: Arc<str>,
}

impl HmacFormat {
    /// The header's name is taken in any case and kept in lower case. The prefix may be empty.
    ///
    /// # Errors
    /// [`FormatError`], when the header's name or the prefix could not be sent or has another meaning.
    pub fn new(
        header: impl AsRef<str>,
        hash: Hash,
        encoding: Encoding,
        prefix: impl AsRef<str>,
    ) -> Result<HmacFormat, FormatError> {
        let (header, prefix) = (header.as_ref(), prefix.as_ref());
        if !is_header_name(header) {
            return Err(FormatError::HeaderName(header.to_owned()));
        }
        let header = header.to_ascii_lowercase();
        if RESERVED_HEADERS.contains(&header.as_str()) {
            return Err(FormatError::HeaderReserved(header));
        }
        if !is_prefix(prefix) {
            return Err(FormatError::Prefix(prefix.to_owned()));
        }
        Ok(HmacFormat {
            header: header.into(),
            hash,
            encoding,
            prefix: prefix.into(),
        })
    }

    /// The header's name, in lower case.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The hash function.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// How the HMAC is written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What stands in front of it.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// RFC 9110, 5.6.2: `token`.
fn is_header_name(name: &str) -> bool {
    (1..=HEADER_NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A leading space would be trimmed on the way.
fn is_prefix(prefix: &str) -> bool {
    prefix.len() <= PREFIX_BYTES_MAX
        && !prefix.starts_with(' ')
        && prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
