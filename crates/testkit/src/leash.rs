//! Nothing outlives a test process, however it dies.
//!
//! `Drop` does not run after SIGKILL, nor for statics. So each test process has one watchdog: a shell that reads orders from
//! a pipe and, at its end (the kernel closes the pipe with the process), kills the process groups that are still held, runs what it was told to, and removes
//! the directories. A parent-death
//! signal would not do: it fires when the *thread* that spawned ends, and tests spawn from threads that end early.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};

const WATCHDOG: &str = r#"
trap '' INT TERM HUP
groups= commands=
while read -r order value; do
  case $order in
    hold) groups="$groups $value" ;;
    free) kept=; for g in $groups; do [ "$g" = "$value" ] || kept="$kept $g"; done; groups=$kept ;;
    dir) set -- "$@" "$value" ;;
    run) commands="$commands$value; " ;;
  esac
done
for g in $groups; do kill -9 "-$g" 2>/dev/null; done
[ $# -eq 0 ] && exit 0
eval "$commands"
sleep 0.2; rm -rf -- "$@"
# A killed process may still have been writing.
sleep 1; rm -rf -- "$@"
"#;

/// One for the whole process: it must live exactly as long as the process does, which no value can.
static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();

/// Holds a process group until dropped; while held, the group dies with this process.
pub(crate) struct Leash {
    group: u32,
}

impl Leash {
    pub(crate) fn hold(group: u32) -> Result<Leash> {
        order(&format!("hold {group}\n"))?;
        Ok(Leash { group })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Freed before the number may be given to another process. A watchdog that is gone has nothing left to free.
        if let Err(error) = order(&format!("free {}\n", self.group)) {
            tracing::debug!(%error, "the watchdog is gone");
        }
    }
}

/// Starts the watchdog if it does not run yet: before the first child, so that none is ever unwatched.
pub(crate) fn ready() -> Result<()> {
    order("")
}

/// Removes the directory when this process ends (removing it earlier is fine).
pub(crate) fn remove_at_end(dir: &Path) -> Result<()> {
    order(&format!("dir {}\n", dir.display()))
}

/// Runs a line of shell when this process ends, after the groups that are held were killed and before directories are removed. Only with
/// [`remove_at_end`].
pub(crate) fn run_at_end(command: &str) -> Result<()> {
    order(&format!("run {command}\n"))
}

fn order(order: &str) -> Result<()> {
    let mut pipe = PIPE
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if pipe.is_none() {
        let mut watchdog = Command::new("/bin/sh");
        watchdog.args(["-c", WATCHDOG, "hooklane-test-watchdog"]);
        // A group of its own, so that Ctrl-C in the terminal does not reach it.
        watchdog
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut watchdog = watchdog
            .current_dir("/")
            .spawn()
            .context("cannot start the watchdog /bin/sh")?;
        *pipe = watchdog.stdin.take();
    }
    let pipe = pipe.as_mut().context("the watchdog has no stdin")?;
    pipe.write_all(order.as_bytes()).context("the watchdog is gone")
}
