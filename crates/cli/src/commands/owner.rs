//! Services that a command starts for itself (`demo`, `bench`) end with it, however it dies: their standard input ends then.

use std::io;

use anyhow::Context;
use rustix::process::{Signal, getpid, kill_process};

/// The flag of every command; hidden, since a shell in the background gives no standard input.
pub const END_WITH_STDIN: &str = "--end-with-stdin";

/// From now on the end of standard input is a SIGTERM.
pub fn end_with_stdin() -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name("owner".to_owned())
        .spawn(|| {
            // What ends it does not matter.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            // It can only fail for a process that does not exist.
            let _ = kill_process(getpid(), Signal::TERM);
        })
        .context("the system gives no threads")
        .map(drop)
}
