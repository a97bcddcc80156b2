//! `hooklane verify`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hooklane_signing::Verifier;

use super::signature_flags::{SignatureFlags, read_body};
use super::{now, print, usage};

#[derive(Args)]
pub struct Verify {
    /// The body, exactly as it was received [default: standard input]
    file: Option<PathBuf>,
    #[command(flatten)]
    signature: SignatureFlags,
    /// A header of the request, like 'webhook-id: msg_1'; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", required = true)]
    headers: Vec<String>,
    /// The time to compare with, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
    /// How far the request's time may lie from that
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    tolerance: Duration,
}

impl Verify {
    /// Prints `ok`, or fails with the reason.
    pub fn run(self) -> anyhow::Result<()> {
        let scheme = self.signature.scheme()?;
        let secrets = self.signature.secrets(&scheme)?;
        let verifier = Verifier::new(scheme, secrets).map_err(|error| usage(error.to_string()))?;
        let headers = self
            .headers
            .iter()
            .map(|header| parse(header))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let body = read_body(self.file.as_deref())?;
        let find = |name: &str| {
            headers
                .iter()
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| *value)
        };
        let now_s = self.now.unwrap_or_else(|| now().seconds());
        verifier
            .verify(find, &body, now_s, self.tolerance.as_secs())
            .context("not verified")?;
        print::line("ok")
    }
}

fn parse(header: &str) -> anyhow::Result<(&str, &str)> {
    let (name, value) = header
        .split_once(':')
        .ok_or_else(|| usage("--header: write 'name: value'"))?;
    Ok((name.trim(), value.trim()))
}
