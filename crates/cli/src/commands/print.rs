//! The one way in which commands write to standard output and standard error. `println!` and `eprintln!` panic when nobody reads
//! any more (`| head`); here a closed pipe ends the writing, and the exit code still tells what happened. Any other failure of
//! standard output, like a full disk, is a failure of the command.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::Context;

/// A line on standard output.
///
/// # Errors
/// When it cannot be written, though somebody reads.
pub fn line(text: impl Display) -> anyhow::Result<()> {
    unless_closed(writeln!(io::stdout(), "{text}"))
}

/// A line on standard error, for a person. Where that is closed, nobody is there to be told.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Progress on standard error, which is a terminal: the next one is written over it.
pub fn progress(text: impl Display) {
    let _ = write!(io::stderr(), "\r{text}   ");
}

/// What came of writing to standard output; a closed pipe is no failure.
///
/// # Errors
/// Any other one.
pub fn unless_closed(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write"),
    }
}

/// `1 endpoint`, `2 endpoints`.
pub fn count(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
        assert!(unless_closed(Ok(())).is_ok());
        assert!(unless_closed(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(unless_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(count(0, "event"), "0 events");
        assert_eq!(count(1, "event"), "1 event");
        assert_eq!(count(2, "event"), "2 events");
    }
}
