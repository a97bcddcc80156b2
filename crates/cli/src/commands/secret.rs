//! `hooklane secret`

use clap::{Args, ValueEnum};
use hooklane_signing::{Secret, SecretError};

use super::print;

/// Bytes of a fresh symmetric key: Standard Webhooks takes 24 to 64, and 32 are as strong as HMAC-SHA256 itself.
const SYMMETRIC_KEY_BYTES: usize = 32;

#[derive(Args)]
pub struct MakeSecret {
    /// Which kind
    #[arg(long, value_enum, default_value_t = Kind::Symmetric)]
    kind: Kind,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// whsec_: one key for both sides
    Symmetric,
    /// whsk_: signs; prints the receiver's whpk_ on a second line
    Ed25519,
}

impl MakeSecret {
    /// Prints the secret.
    pub fn run(self) -> anyhow::Result<()> {
        match self.kind {
            Kind::Symmetric => print::line(fresh()?.expose()),
            Kind::Ed25519 => {
                let secret = Secret::ed25519_from_seed(rand::random());
                print::line(secret.expose())?;
                match secret.public_key() {
                    Some(public) => print::line(public.expose()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A fresh symmetric secret.
pub fn fresh() -> Result<Secret, SecretError> {
    Secret::symmetric_from_bytes(&rand::random::<[u8; SYMMETRIC_KEY_BYTES]>())
}
