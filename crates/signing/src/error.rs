//! What can go wrong, by what the caller can do about it. No message holds any part of a secret.

use thiserror::Error;

use crate::scheme::{HEADER_NAME_BYTES_MAX, PREFIX_BYTES_MAX};
use crate::secret::{SECRET_TEXT_BYTES_MAX, SecretKind};
use crate::sign::SECRETS_MAX;

/// Why a text or bytes are no secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SecretError {
    /// There is no text, or no key behind the prefix.
    #[error("the secret is empty")]
    Empty,
    /// Longer than any secret has reason to be; probably the wrong file.
    #[error("the secret is longer than {SECRET_TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// The text begins with none of the prefixes of Standard Webhooks.
    #[error("the secret begins with none of whsec_, whsk_ and whpk_")]
    UnknownPrefix,
    /// What follows the prefix is not base64. The decoder's own error is left out: it quotes the secret.
    #[error("what follows the secret's prefix is not base64 (a space or a line end in it?)")]
    NotBase64,
    /// The decoded key has another length than its kind requires.
    #[error("{kind} holds {expected} bytes, not {found}")]
    WrongLength {
        /// What the prefix says.
        kind: SecretKind,
        /// Bytes that the kind requires.
        expected: usize,
        /// Bytes that were decoded.
        found: usize,
    },
    /// The two halves of a `whsk_` secret do not belong together.
    #[error("the public half of the whsk_ secret does not belong to its seed")]
    KeysDisagree,
    /// The bytes of a `whpk_` secret are no point of the curve, or one that any signature would satisfy.
    #[error("the whpk_ secret is no usable ed25519 public key")]
    UnusablePublicKey,
}

/// Why an [`HmacFormat`](crate::HmacFormat) cannot exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Empty, too long, or with a character that RFC 9110 does not allow in a field name.
    #[error("{0:?} is no HTTP header name (RFC 9110 token of 1 to {HEADER_NAME_BYTES_MAX} bytes)")]
    HeaderName(String),
    /// The header means something else, to HTTP or to Hooklane.
    #[error("the header {0:?} has another meaning and cannot carry the signature")]
    HeaderReserved(String),
    /// The prefix could not arrive unchanged in a header.
    #[error(
        "the prefix {0:?} must be at most {PREFIX_BYTES_MAX} printable ASCII characters that do not begin with a space"
    )]
    Prefix(String),
}

/// Why a [`Signer`](crate::Signer) or a [`Verifier`](crate::Verifier) cannot be made of these secrets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignerError {
    /// The list is empty.
    #[error("no secret given: at least one is needed")]
    NoSecrets,
    /// The list is longer than any rotation needs.
    #[error("{found} secrets given: at most {SECRETS_MAX} may be live at once")]
    TooManySecrets {
        /// How many there were.
        found: usize,
    },
    /// A secret cannot do what the scheme asks of it.
    #[error("secret {position} is {kind}, but {rule}")]
    KindDoesNotFit {
        /// Its place in the list, from 1.
        position: usize,
        /// What it is.
        kind: SecretKind,
        /// What the scheme takes, as a clause.
        rule: &'static str,
    },
}

/// Why a request is not accepted as coming from a holder of the secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The request does not carry this header.
    #[error("the header {0} is missing")]
    MissingHeader(String),
    /// The id is empty, too long or holds a `.`, which would make the signed content ambiguous.
    #[error("the webhook id is empty, too long or holds a '.'")]
    MalformedId,
    /// The timestamp is not a decimal number of seconds.
    #[error("the webhook timestamp is not a number of unix seconds")]
    MalformedTimestamp,
    /// Signed too long ago: a replay, or clocks that disagree.
    #[error("the webhook timestamp is too old: a replayed request, or clocks that disagree")]
    TooOld,
    /// Signed in the future: clocks that disagree.
    #[error("the webhook timestamp lies in the future: clocks that disagree")]
    TooNew,
    /// No signature of the request was made with any of the secrets over this content.
    #[error("no signature matches: another secret, or the body is not the bytes that were sent")]
    NoMatch,
}
