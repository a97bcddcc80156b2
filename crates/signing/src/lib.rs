#![doc = include_str!("../README.md")]

mod error;
mod github;
mod mac;
mod scheme;
mod secret;
mod sign;
mod stripe;
mod verify;

pub use error::{FormatError, SecretError, SignerError, VerifyError};
pub use scheme::{Encoding, Hash, HeaderFamily, HmacFormat, Scheme};
pub use secret::{SECRET_TEXT_BYTES_MAX, Secret, SecretKind};
pub use sign::{SECRETS_MAX, Signer, is_signable_id};
pub use verify::{SIGNATURE_HEADER_BYTES_MAX, SIGNATURES_MAX, TOLERANCE_S, Verifier};
