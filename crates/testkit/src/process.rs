//! A driver for programs under test, first of all the built `hooklane`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
pub use rustix::process::Signal;

use crate::child::Child;
use crate::output::{Line, Output};

/// A program that is about to be started.
#[derive(Debug)]
pub struct Spawn {
    command: Command,
}

/// A running program. It and its children end when this is dropped, and with the test process.
pub struct Process {
    child: Child,
    name: String,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// The built `hooklane`: `HOOKLANE_BIN`, else the one beside the test executable (`target/debug/hooklane`).
///
/// # Errors
/// When there is none, saying how to build it.
pub fn hooklane() -> Result<Spawn> {
    Ok(Spawn::program(hooklane_path()?))
}

/// Where the built `hooklane` is, for a program that starts it.
///
/// # Errors
/// As [`hooklane`].
pub fn hooklane_path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOOKLANE_BIN") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "HOOKLANE_BIN names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    // target/debug/deps/test-0123 → target/debug/hooklane
    let test = std::env::current_exe().context("the test executable has no path")?;
    let path = test
        .parent()
        .and_then(Path::parent)
        .context("the test executable is in no target directory")?;
    let path = path.join("hooklane");
    ensure!(
        path.is_file(),
        "{} is missing: run `cargo build -p hooklane-cli`, or set HOOKLANE_BIN",
        path.display()
    );
    Ok(path)
}

impl Spawn {
    /// Any program. Variables that begin with `HOOKLANE_` are not inherited: they would be read as settings.
    pub fn program(program: impl AsRef<OsStr>) -> Spawn {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOOKLANE_") {
                command.env_remove(name);
            }
        }
        Spawn { command }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Spawn {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Spawn {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Spawn {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Spawn {
        self.command.current_dir(dir);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn start(self) -> Result<Process> {
        let program = PathBuf::from(self.command.get_program());
        let arguments: Vec<OsString> = self.command.get_args().map(OsStr::to_owned).collect();
        let mut name = program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned();
        // The first argument tells `hooklane ingest` from `hooklane dispatcher`.
        if let Some(first) = arguments.first() {
            name = format!("{name} {}", first.to_string_lossy());
        }
        Ok(Process {
            child: Child::spawn(self.command)?,
            name,
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it does not start or not end within the deadline.
    pub async fn run(self, deadline: Duration) -> Result<Ended> {
        let process = self.start()?;
        let status = process.wait(deadline).await?;
        process.child.output().wait_for_end(deadline).await?;
        Ok(Ended {
            status,
            stdout: process.output().stdout(),
            stderr: process.output().stderr(),
        })
    }

    /// Runs it to its end and returns its standard output.
    ///
    /// # Errors
    /// As [`Spawn::run`], and when it fails, with what it wrote.
    pub async fn run_ok(self, deadline: Duration) -> Result<String> {
        let ended = self.run(deadline).await?;
        ensure!(
            ended.status.success(),
            "{}\n{}{}",
            ended.status,
            ended.stdout,
            ended.stderr
        );
        Ok(ended.stdout)
    }
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it has written so far. Bound to nothing: it may be kept when the process is dropped.
    pub fn output(&self) -> &Output {
        self.child.output()
    }

    /// Waits for a line with this text on either stream, written earlier or later.
    ///
    /// # Errors
    /// At the deadline, or when the process ends first; with its last lines.
    pub async fn wait_for_line(&self, text: &str, deadline: Duration) -> Result<Line> {
        self.output()
            .wait_for(text, deadline)
            .await
            .with_context(|| self.name.clone())
    }

    /// Ends it, and all that it started, at once. Returns when it is gone.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill9(&self) -> Result<()> {
        const GONE_MAX: Duration = Duration::from_secs(30);
        self.child.kill_group();
        self.child.wait(GONE_MAX).await.map(drop)
    }

    /// Asks it to end (SIGTERM), without waiting.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends a signal to it alone.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.child.signal(signal).with_context(|| self.name.clone())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// At the deadline, with its last lines.
    pub async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        self.child.wait(deadline).await.with_context(|| self.name.clone())
    }

    /// Its exit status, if it has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.exited()
    }

    /// Memory that it has resident now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn rss_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory that it ever had resident.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.with_context(|| format!("{} has ended", self.name))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line
            .with_context(|| format!("{} has ended", self.name))?
            .trim()
            .trim_end_matches(" kB");
        Ok(kib.parse::<u64>().context("not a size in /proc")? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- last lines of {} ---\n{}\n---",
                self.name,
                self.output().tail()
            );
        }
    }
}
