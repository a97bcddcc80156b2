//! `hooklane init`

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::print;
use super::secret::fresh;
use crate::settings::FILE_DEFAULT;

/// The file, with [`SECRET_MARK`] where the secret goes.
pub const TEMPLATE: &str = include_str!("init.toml");
const SECRET_MARK: &str = "@SECRET@";
/// The file holds a secret: nobody else reads it.
const FILE_MODE: u32 = 0o600;

#[derive(Args)]
pub struct Init {
    /// Where to write
    #[arg(default_value = FILE_DEFAULT)]
    path: PathBuf,
}

impl Init {
    /// Writes the file; one that is there stays as it is.
    pub fn run(self) -> anyhow::Result<()> {
        let shown = self.path.display();
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&self.path);
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{shown} is there already, and stays as it is: name another file, or move it away");
            }
            opened => opened.with_context(|| format!("{shown} cannot be written"))?,
        };
        file.write_all(text()?.as_bytes())
            .with_context(|| format!("{shown} cannot be written"))?;
        print::line(format_args!(
            "wrote {shown}: set your endpoint's URL in it and take `disabled` out, then run `hooklane serve` (or set a broker, and run `hooklane check`)"
        ))
    }
}

/// The file's text, with a fresh secret.
pub fn text() -> anyhow::Result<String> {
    Ok(TEMPLATE.replace(SECRET_MARK, &fresh()?.expose()))
}
