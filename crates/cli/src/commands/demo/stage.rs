//! Where the demo plays: a directory of its own, a receiver in this process, and the commands of this same program as a user types
//! them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hooklane_receiver::{Options, Receiver};
use hooklane_signing::{HeaderFamily, Scheme, Secret, Verifier};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::commands::owner::END_WITH_STDIN;
use crate::commands::secret::fresh;
use crate::settings::FILE_DEFAULT;

/// Longest wait for any one thing.
pub const STEP: Duration = Duration::from_secs(10);
/// Lines of the service's log that are shown when something was not seen.
const LOG_LINES: usize = 20;
const LOG: &str = "serve.log";

/// The endpoint that takes every event, and the path of its receiver.
pub const ALL: (&str, &str) = ("orders", "/orders");
/// The endpoint that takes alerts, and fails.
pub const BROKEN: (&str, &str) = ("pager", "/pager");
/// Attempts of a delivery, and the wait before the first retry; it doubles.
pub const ATTEMPTS: u64 = 3;
pub const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The directory and the receiver.
pub struct Stage {
    dir: TempDir,
    pub receiver: Receiver,
}

/// A running `hooklane serve`. It ends when this is dropped, and with this process.
pub struct Serving {
    child: Child,
    /// `http://127.0.0.1:port`.
    pub url: String,
}

impl Stage {
    /// Writes the settings; nothing runs yet but the receiver.
    pub async fn new() -> anyhow::Result<Stage> {
        let secret = fresh()?;
        let receiver = Receiver::start(Options::default()).await?;
        let scheme = Scheme::Standard(HeaderFamily::Webhook);
        receiver.verify_default(Verifier::new(scheme, vec![secret.clone()])?);
        let dir = tempfile::Builder::new()
            .prefix("hooklane-demo-")
            .tempdir()
            .context("the demo needs a directory of its own: set TMPDIR to where one can be made")?;
        let settings = settings(&receiver, &secret);
        std::fs::write(dir.path().join(FILE_DEFAULT), settings).context("the settings cannot be written")?;
        Ok(Stage { dir, receiver })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// This program, in the directory. Variables of Hooklane's are left out: they are settings of another installation.
    fn hooklane(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("this program has no path")?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOOKLANE_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts `hooklane serve`, and waits until it listens.
    pub async fn serve(&self) -> anyhow::Result<Serving> {
        let log = std::fs::File::create(self.dir.path().join(LOG)).context("the log cannot be written")?;
        let mut child = self
            .hooklane(&["serve", "--listen", "127.0.0.1:0", END_WITH_STDIN])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("`hooklane serve` cannot be started")?;
        let output = child.stdout.take().context("its output is read here")?;
        let mut lines = BufReader::new(output).lines();
        let line = timeout(STEP, lines.next_line()).await;
        let line = line.context("`hooklane serve` does not listen")??;
        let line = line.context("`hooklane serve` ended at once")?;
        let url = line
            .strip_prefix("listening on ")
            .context("it says where it listens")?;
        let url = url.to_owned();
        Ok(Serving { child, url })
    }

    /// Runs a command to its end; its standard output.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let shown = format!("hooklane {}", arguments.join(" "));
        let output = timeout(STEP, self.hooklane(arguments)?.output())
            .await
            .with_context(|| format!("`{shown}` does not end"))??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "`{shown}` failed: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    /// The end of the service's log, to tell why something was not seen.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Serving {
    /// As SIGTERM does, and waits for the end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let ended = timeout(STEP, self.child.wait()).await;
        let status = ended.context("`hooklane serve` does not end")??;
        if !status.success() {
            bail!("`hooklane serve` ended with {status}");
        }
        Ok(())
    }
}

fn settings(receiver: &Receiver, secret: &Secret) -> String {
    let endpoint = |(id, path): (&str, &str), event_types: &str| {
        format!(
            "[[endpoint]]\nid = \"{id}\"\nurl = \"{}\"\nsecret = \"{}\"\nevent_types = [\"{event_types}\"]\n\
             retry = {{ attempts = {ATTEMPTS}, first = \"{}s\", factor = 2, max = \"1m\", jitter = 0 }}\n",
            receiver.url(path),
            secret.expose(),
            FIRST_WAIT.as_secs()
        )
    };
    // The receiver is on this machine, which endpoints must not reach unless they are allowed to.
    format!(
        "[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n{}{}",
        endpoint(ALL, "*"),
        endpoint(BROKEN, "alert.*")
    )
}
