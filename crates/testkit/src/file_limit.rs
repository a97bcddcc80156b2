//! Writes that the system refuses, as on a full disk.

use anyhow::Result;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Lets no file of this process grow beyond so many bytes; none: as large as before. The limit is the process's, so a test that sets it is
/// alone in its file. A write beyond it fails, where the signal for it would end the process. To be called on a runtime.
///
/// # Errors
/// When the system refuses.
pub fn limit_files(bytes: Option<u64>) -> Result<()> {
    // The handler stays when what it would tell is dropped.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit {
        current: bytes.or(maximum),
        maximum,
    };
    Ok(setrlimit(Resource::Fsize, limit)?)
}
