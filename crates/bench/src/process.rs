//! The processes that work during a measurement: services and parts. They end when they are dropped, and when the bench dies.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::part::{Counts, Done, Order, Part, Said};

/// Longest wait for a process to begin. A service may read 100,000 endpoints first.
const START_MAX: Duration = Duration::from_secs(120);
/// Longest wait for an answer that needs no work.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a process to end.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Between two looks at whether a service is ready.
const READY_EVERY: Duration = Duration::from_millis(20);

/// A process of the bench.
pub struct Process {
    child: Child,
    name: &'static str,
    pid: u32,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    errors: PathBuf,
}

impl Process {
    /// Starts this binary as a part.
    pub async fn part(
        executable: &Path,
        directory: &Path,
        name: &'static str,
        part: &Part,
    ) -> anyhow::Result<Process> {
        let mut process = Process::start(executable, directory, name, &["bench-part"])?;
        process.tell(&serde_json::to_string(part)?).await?;
        Ok(process)
    }

    /// Starts this binary. Standard error goes to a file in `directory`, as an operator would have it.
    pub fn start(
        executable: &Path,
        directory: &Path,
        name: &'static str,
        arguments: &[&str],
    ) -> anyhow::Result<Process> {
        let errors = directory.join(format!("{name}.log"));
        let mut command = Command::new(executable);
        for (variable, _) in std::env::vars_os() {
            // They would be settings.
            if variable.to_string_lossy().starts_with("HOOKLANE_") {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", executable.display()))?;
        let taken = "it was asked for";
        Ok(Process {
            name,
            pid: child.id().context("the process has ended already")?,
            orders: child.stdin.take().context(taken)?,
            lines: BufReader::new(child.stdout.take().context(taken)?).lines(),
            errors,
            child,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits until a part is ready; a receiver gives its address.
    pub async fn ready(&mut self) -> anyhow::Result<Option<SocketAddr>> {
        match self.said(START_MAX).await? {
            Said::Ready { address } => Ok(address),
            other => bail!("{} said {other:?} before it was ready", self.name),
        }
    }

    /// Waits until a service is ready; gives where it listens.
    pub async fn serves(&mut self, http: &reqwest::Client) -> anyhow::Result<SocketAddr> {
        let line = self.line(START_MAX).await?;
        let address: SocketAddr = line
            .strip_prefix("listening on http://")
            .with_context(|| format!("{} said {line:?}", self.name))?
            .parse()?;
        let until = Instant::now() + START_MAX;
        let url = format!("http://{address}/readyz");
        loop {
            let answer = http.get(&url).send().await?;
            if answer.status().is_success() {
                return Ok(address);
            }
            if Instant::now() > until {
                bail!("{} does not become ready: {}", self.name, answer.text().await?);
            }
            sleep(READY_EVERY).await;
        }
    }

    /// Tells a part to begin.
    pub async fn go(&mut self) -> anyhow::Result<()> {
        self.order(Order::Go).await
    }

    /// What a receiver has counted.
    pub async fn look(&mut self) -> anyhow::Result<Counts> {
        self.order(Order::Look).await?;
        match self.said(ANSWER_MAX).await? {
            Said::Counts(counts) => Ok(counts),
            other => bail!("{} said {other:?} when it was asked for its counts", self.name),
        }
    }

    /// Waits until a part has done its work.
    pub async fn done(&mut self, deadline: Duration) -> anyhow::Result<Done> {
        match self.said(deadline).await? {
            Said::Done(done) => Ok(done),
            other => bail!("{} said {other:?} instead of being done", self.name),
        }
    }

    /// Ends it in order, which it does when its input is closed; at once when that takes too long.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.orders);
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            self.child.kill().await.context("a process cannot be ended")?;
        }
        Ok(())
    }

    async fn order(&mut self, order: Order) -> anyhow::Result<()> {
        self.tell(&serde_json::to_string(&order)?).await
    }

    async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let line = format!("{line}\n");
        match self.orders.write_all(line.as_bytes()).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("{}", self.ended()),
        }
    }

    async fn said(&mut self, deadline: Duration) -> anyhow::Result<Said> {
        let line = self.line(deadline).await?;
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.name))
    }

    async fn line(&mut self, deadline: Duration) -> anyhow::Result<String> {
        match timeout(deadline, self.lines.next_line()).await {
            Ok(line) => line?.with_context(|| self.ended()),
            Err(_) => bail!("{} said nothing within {} s", self.name, deadline.as_secs()),
        }
    }

    /// That it ended, with the last of what it wrote.
    fn ended(&self) -> String {
        const LAST_BYTES: usize = 2000;
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let mut from = text.len().saturating_sub(LAST_BYTES);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        format!("{} has ended: {}", self.name, text[from..].trim())
    }
}
