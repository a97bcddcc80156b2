use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::PSQL_MAX;
use super::installation::Installation;

/// The database that every server has.
pub(crate) const FIRST_DATABASE: &str = "postgres";

/// A user who may do all, on one server. Clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) installation: Installation,
    /// `user:password`, as a URL has it.
    pub(crate) account: String,
    /// Host and port.
    pub(crate) authority: String,
}

impl Access {
    /// From `postgres://user:password@host:port`; what follows is not looked at.
    pub(crate) fn parse(url: &str) -> Result<Access> {
        let parts = || {
            let (account, rest) = url.strip_prefix("postgres://")?.split_once('@')?;
            Some((account.to_owned(), rest.split('/').next()?.to_owned()))
        };
        let (account, authority) =
            parts().context("HOOKLANE_TEST_POSTGRES is not postgres://user:password@host:port")?;
        Ok(Access {
            installation: Installation::find()?,
            account,
            authority,
        })
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.url_by(&self.authority, database)
    }

    pub(crate) fn url_by(&self, authority: &str, database: &str) -> String {
        format!("postgres://{}@{authority}/{database}", self.account)
    }

    /// Runs statements, each on its own, and returns the rows: columns are separated by `|`.
    pub(crate) async fn psql(&self, database: &str, statements: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command(database, statements));
        command.kill_on_drop(true);
        let Ok(output) = tokio::time::timeout(PSQL_MAX, command.output()).await else {
            bail!("{statements:?}: no answer within {PSQL_MAX:?}");
        };
        let output = output.context("cannot run psql")?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{statements:?}: {}\n{stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(stdout.trim_end().to_owned())
    }

    pub(crate) fn command(&self, database: &str, statements: &[&str]) -> Command {
        let mut command = self.installation.program("psql");
        command
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.url(database))
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(Stdio::null());
        for statement in statements {
            command.args(["-c", statement]);
        }
        command
    }
}
