use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::sync::watch;

use crate::leash::{self, Leash};
use crate::output::{Output, Stream};

/// A process in a group of its own that is killed, with its whole group, on drop and with this process.
/// Bound to no runtime: it may be started in one test and used in another.
pub(crate) struct Child {
    pid: u32,
    output: Output,
    exited: watch::Receiver<Option<ExitStatus>>,
    /// Signals are sent under this lock and only before the process was reaped: afterwards its number may be another's.
    reaped: Arc<Mutex<bool>>,
    reaper: Option<JoinHandle<()>>,
}

impl Child {
    pub(crate) fn spawn(mut command: Command) -> Result<Child> {
        leash::ready()?;
        let program = command.get_program().to_string_lossy().into_owned();
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = child.id();
        let output = Output::new();
        if let Some(stdout) = child.stdout.take() {
            output.follow(Stream::Stdout, stdout)?;
        }
        if let Some(stderr) = child.stderr.take() {
            output.follow(Stream::Stderr, stderr)?;
        }
        let leash = Leash::hold(pid);
        let (exit, exited) = watch::channel(None);
        let reaped = Arc::new(Mutex::new(false));
        let reaping = reaped.clone();
        let reaper = thread::Builder::new()
            .name("testkit-reaper".into())
            .spawn(move || {
                reap(child, &reaping, &exit);
                drop(leash);
            })?;
        Ok(Child {
            pid,
            output,
            exited,
            reaped,
            reaper: Some(reaper),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        *self.exited.borrow()
    }

    /// Sends a signal to the process alone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if *reaped {
            bail!("the process has ended already:\n{}", self.output.tail());
        }
        kill_process(process_id(self.pid)?, signal).context("cannot signal the process")
    }

    /// Ends the whole group at once; fine if it has ended.
    pub(crate) fn kill_group(&self) {
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            kill_group(self.pid);
        }
    }

    pub(crate) async fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let mut exited = self.exited.clone();
        let Ok(status) = tokio::time::timeout(deadline, exited.wait_for(Option::is_some)).await else {
            bail!(
                "the process still runs after {deadline:?}:\n{}",
                self.output.tail()
            );
        };
        match *status.context("the process could not be waited for")? {
            Some(status) => Ok(status),
            None => bail!("the process could not be waited for"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_group();
        if let Some(reaper) = self.reaper.take() {
            // Short: SIGKILL was sent. A reaper that panicked has nothing to tell.
            reaper.join().ok();
        }
    }
}

/// Waits for the end, ends what is left of the group, and only then gives the number back.
fn reap(mut child: std::process::Child, reaped: &Mutex<bool>, exit: &watch::Sender<Option<ExitStatus>>) {
    if let Ok(pid) = process_id(child.id()) {
        // An error leaves the waiting to `wait` below.
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok();
    }
    let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
    kill_group(child.id());
    let status = child.wait().ok();
    *reaped = true;
    exit.send_replace(status);
}

fn kill_group(pid: u32) {
    if let Ok(pid) = process_id(pid) {
        // An error means that nobody of the group is left.
        kill_process_group(pid, Signal::KILL).ok();
    }
}

fn process_id(pid: u32) -> Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")
}
