//! Ending a whole server at once. Its processes make groups of their own, so that a signal to the first one's group does not reach them; they notice
//! only in time that it is gone, and write to the data until then.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::child::Child;

/// A process stops within a millisecond.
const STOPPED_MAX: Duration = Duration::from_secs(2);

/// Sends SIGKILL to the server's first process and all that it has started; fine if it has ended.
pub(crate) fn kill_all(server: &Child) {
    // Stopped, it starts no more, and its children's numbers stay theirs, because it does not wait for them.
    if server.signal(Signal::STOP).is_ok() {
        let until = Instant::now() + STOPPED_MAX;
        while state(server.pid()).is_some_and(|(state, _)| state != "T") && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        for child in children(server.pid()) {
            // It may have ended by itself.
            kill_process(child, Signal::KILL).ok();
        }
    }
    server.kill_group();
}

fn children(parent: u32) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|pid| state(*pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

/// A process's state and parent.
fn state(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
