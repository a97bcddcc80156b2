//! `hooklane init`

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use url::{Host, Url};

use super::private_file::create;
use super::secret::fresh;
use super::{print, usage};
use crate::settings::FILE_DEFAULT;

/// The file, with [`SECRET_MARK`] where the secret goes.
const TEMPLATE: &str = include_str!("init.toml");
const SECRET_MARK: &str = "@SECRET@";

/// The template's lines that the flags change.
const URL_LINE: &str =
    r#"url = "https://example.com/hooklane" # where events are sent: put your receiver's URL here …"#;
const DISABLED_LINE: &str = "disabled = true                      # … and take this line out\n";
const SECRET_LINE: &str = r#"secret = "@SECRET@""#;
const HTTPS_LINE: &str = "#https_only = true ";
const ALLOW_LINE: &str = "#allow = []                          # networks inside";

#[derive(Args)]
pub struct Init {
    /// Where to write
    #[arg(default_value = FILE_DEFAULT)]
    path: PathBuf,
    /// Your receiver's URL. One with http:// or on this machine is allowed in the file, too
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// A file for the endpoint's secret, which receivers need too; made with a fresh secret when there is none
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl Init {
    /// Writes the file; one that is there stays as it is. When it fails, it leaves nothing behind that would be in the next one's way.
    pub fn run(self) -> anyhow::Result<()> {
        let shown = self.path.display();
        let text = self.text()?;
        let there =
            || anyhow!("{shown} is there already, and stays as it is: name another file, or move it away");
        if self.path.symlink_metadata().is_ok() {
            return Err(there());
        }
        let secret = match &self.secret_file {
            Some(path) => create(path, &format!("{}\n", fresh()?.expose()))?,
            None => None,
        };
        match create(&self.path, &text)? {
            Some(settings) => settings.keep(),
            None => return Err(there()),
        }
        // One that was there stays as it is.
        if let Some(secret) = secret {
            secret.keep();
        }
        let next = match self.url {
            Some(_) => "run `hooklane serve`",
            None => "set your endpoint's URL in it and take `disabled` out, then run `hooklane serve`",
        };
        print::line(format_args!(
            "wrote {shown}: {next} (or set a broker, and run `hooklane check`)"
        ))
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut text = TEMPLATE.to_owned();
        if let Some(url) = &self.url {
            ensure_http(url)?;
            text = text.replace(URL_LINE, &format!("url = {}", quoted(url.as_str())));
            text = text.replace(DISABLED_LINE, "");
            if url.scheme() == "http" {
                text = text.replace(HTTPS_LINE, "https_only = false ");
            }
            if let Some(network) = network(url) {
                let allow = format!(
                    "allow = [{}]                          # networks inside",
                    quoted(network)
                );
                text = text.replace(ALLOW_LINE, &allow);
            }
        }
        match &self.secret_file {
            Some(path) => {
                // Relative paths in the file start at the file's own directory.
                let is_beside = self.path.parent().is_none_or(|parent| parent == Path::new(""));
                let path = match is_beside {
                    true => path.clone(),
                    false => std::path::absolute(path).context("there is no working directory")?,
                };
                let path = path
                    .to_str()
                    .ok_or_else(|| usage("--secret-file: the name is not UTF-8"))?;
                Ok(text.replace(SECRET_LINE, &format!("secret_file = {}", quoted(path))))
            }
            None => with_secret(&text),
        }
    }
}

fn ensure_http(url: &Url) -> anyhow::Result<()> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        _ => Err(usage("--url: it begins with https:// or http://")),
    }
}

/// The network inside that the URL is in, as far as it can be told without asking a name server.
fn network(url: &Url) -> Option<&'static str> {
    match url.host()? {
        Host::Ipv4(address) if address.is_loopback() => Some("127.0.0.0/8"),
        Host::Ipv6(address) if address.is_loopback() => Some("::1/128"),
        Host::Domain("localhost") => Some("127.0.0.0/8"),
        _ => None,
    }
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn with_secret(text: &str) -> anyhow::Result<String> {
    Ok(text.replace(SECRET_MARK, &fresh()?.expose()))
}

/// The file's text without any flags, with a fresh secret.
#[cfg(test)]
pub fn text() -> anyhow::Result<String> {
    with_secret(TEMPLATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_the_lines_that_flags_change() {
        for line in [URL_LINE, DISABLED_LINE, SECRET_LINE, HTTPS_LINE, ALLOW_LINE] {
            assert_eq!(TEMPLATE.matches(line).count(), 1, "{line}");
        }
    }

    #[test]
    fn a_receiver_on_this_machine_is_allowed_and_no_other() {
        let network = |url: &str| network(&Url::parse(url).unwrap());
        assert_eq!(network("http://127.0.0.1:8073/hook"), Some("127.0.0.0/8"));
        assert_eq!(network("http://localhost:8073/"), Some("127.0.0.0/8"));
        assert_eq!(network("https://[::1]/"), Some("::1/128"));
        assert_eq!(network("https://example.com/"), None);
        assert_eq!(network("http://10.1.2.3/"), None);
    }
}
