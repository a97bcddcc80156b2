//! Flags of `sign` and `verify`: body, secrets and scheme.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use hooklane_signing::{Encoding, Hash, HeaderFamily, HmacFormat, Scheme, Secret};

use super::usage;
use crate::settings::read_secret_file;

/// Largest body that is read.
const BODY_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// The secrets and the scheme.
#[derive(Args)]
pub struct SignatureFlags {
    /// The secret; may be given several times. Other users of the machine see flags: better --secret-file
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// A file that holds the secret; may be given several times
    #[arg(long, value_name = "FILE")]
    secret_file: Vec<PathBuf>,
    /// An environment variable that holds the secret; may be given several times
    #[arg(long, value_name = "NAME")]
    secret_env: Vec<String>,
    /// How requests are signed
    #[arg(long, value_enum, default_value_t = SchemeName::Standard)]
    scheme: SchemeName,
    /// With --scheme hmac: the header that carries the signature
    #[arg(long, value_name = "NAME", default_value = "x-signature")]
    signature_header: String,
    /// With --scheme hmac: what stands in front of the signature, like sha256=
    #[arg(long, value_name = "TEXT", default_value = "")]
    signature_prefix: String,
    /// With --scheme hmac: the hash function
    #[arg(long, value_enum, default_value_t = HashName::Sha256)]
    hash: HashName,
    /// With --scheme hmac: how the signature is written
    #[arg(long, value_enum, default_value_t = EncodingName::Hex)]
    encoding: EncodingName,
}

#[derive(Clone, Copy, ValueEnum)]
enum SchemeName {
    /// Standard Webhooks, headers webhook-*
    Standard,
    /// Standard Webhooks, headers svix-*
    StandardSvix,
    /// An HMAC over the body in one header
    Hmac,
    /// As GitHub does: X-Hub-Signature-256
    #[value(name = "github")]
    GitHub,
    /// As Stripe does: Stripe-Signature
    Stripe,
}

#[derive(Clone, Copy, ValueEnum)]
enum HashName {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodingName {
    Hex,
    Base64,
}

impl SignatureFlags {
    /// The scheme.
    pub fn scheme(&self) -> anyhow::Result<Scheme> {
        let hash = match self.hash {
            HashName::Sha1 => Hash::Sha1,
            HashName::Sha256 => Hash::Sha256,
            HashName::Sha512 => Hash::Sha512,
        };
        let encoding = match self.encoding {
            EncodingName::Hex => Encoding::Hex,
            EncodingName::Base64 => Encoding::Base64,
        };
        Ok(match self.scheme {
            SchemeName::Standard => Scheme::Standard(HeaderFamily::Webhook),
            SchemeName::StandardSvix => Scheme::Standard(HeaderFamily::Svix),
            SchemeName::Hmac => {
                let format = HmacFormat::new(&self.signature_header, hash, encoding, &self.signature_prefix);
                Scheme::Hmac(format.map_err(|error| usage(error.to_string()))?)
            }
            SchemeName::GitHub => Scheme::GitHub,
            SchemeName::Stripe => Scheme::Stripe,
        })
    }

    /// Whether any was given.
    pub fn has_secrets(&self) -> bool {
        !(self.secret.is_empty() && self.secret_file.is_empty() && self.secret_env.is_empty())
    }

    /// The secrets for the scheme, in the order secret, file, environment.
    pub fn secrets(&self, scheme: &Scheme) -> anyhow::Result<Vec<Secret>> {
        let mut texts = self.secret.clone();
        for path in &self.secret_file {
            let text = read_secret_file(path);
            texts.push(text.with_context(|| format!("--secret-file {} cannot be read", path.display()))?);
        }
        for name in &self.secret_env {
            let text = std::env::var(name);
            texts.push(text.map_err(|_| usage(format!("--secret-env: the variable {name} is not set")))?);
        }
        if texts.is_empty() {
            return Err(usage(
                "no secret given: use --secret-file, --secret-env or --secret",
            ));
        }
        let parse = |text: &String| {
            if scheme.takes_verbatim() {
                Secret::verbatim(text)
            } else {
                Secret::parse(text)
            }
        };
        texts
            .iter()
            .map(|text| parse(text).map_err(|error| usage(error.to_string())))
            .collect()
    }
}

/// Reads a body from a file, or from standard input when there is none or it is `-`: every byte of it, a final line end
/// included, since every byte is signed.
pub fn read_body(path: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let (name, read) = match path {
        Some(path) if path != Path::new("-") => {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).with_context(|| format!("{name} cannot be read"))?;
            (name, file.take(BODY_BYTES_MAX + 1).read_to_end(&mut body))
        }
        _ => (
            "standard input".to_owned(),
            std::io::stdin()
                .lock()
                .take(BODY_BYTES_MAX + 1)
                .read_to_end(&mut body),
        ),
    };
    read.with_context(|| format!("{name} cannot be read"))?;
    ensure!(
        body.len() as u64 <= BODY_BYTES_MAX,
        "{name} has more than {BODY_BYTES_MAX} bytes, which no event has"
    );
    Ok(body)
}
