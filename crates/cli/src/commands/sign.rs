//! `hooklane sign`

use std::path::PathBuf;

use clap::Args;
use hooklane_signing::{Signer, is_signable_id};
use hooklane_types::{EventId, EventType};

use super::signature_flags::{SignatureFlags, read_body};
use super::{now, print, usage};

#[derive(Args)]
pub struct Sign {
    /// The body [default: standard input]
    file: Option<PathBuf>,
    #[command(flatten)]
    signature: SignatureFlags,
    /// The webhook id [default: a fresh one]
    #[arg(long)]
    id: Option<String>,
    /// When it is signed, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    timestamp: Option<i64>,
    /// With --scheme github: the event type; X-GitHub-Event and X-GitHub-Delivery are printed too
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
}

impl Sign {
    /// Prints the headers that a request with this body carries.
    pub fn run(self) -> anyhow::Result<()> {
        let scheme = self.signature.scheme()?;
        let secrets = self.signature.secrets(&scheme)?;
        let signer = Signer::new(scheme, secrets).map_err(|error| usage(error.to_string()))?;
        let id = self
            .id
            .unwrap_or_else(|| EventId::fresh(now(), rand::random()).to_string());
        if !is_signable_id(&id) {
            return Err(usage("--id: an id is printable ASCII without spaces and dots"));
        }
        let timestamp_s = self.timestamp.unwrap_or_else(|| now().seconds());
        if timestamp_s < 0 {
            return Err(usage("--timestamp: seconds since 1970, not negative"));
        }
        let body = read_body(self.file.as_deref())?;
        for (name, value) in signer.sign(&id, timestamp_s, &body) {
            print::line(format_args!("{name}: {value}"))?;
        }
        let event_type = self.event_type.as_deref().map(EventType::parse);
        if let Some(event_type) = event_type {
            let event_type = event_type.map_err(|error| usage(format!("--event-type: {error}")))?;
            for (name, value) in signer.describe(&id, event_type.as_str()) {
                print::line(format_args!("{name}: {value}"))?;
            }
        }
        Ok(())
    }
}
