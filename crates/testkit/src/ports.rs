use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// Below the range from which the kernel picks client ports (32768-60999): a port of ours is not taken while its server is down.
const FIRST: u16 = 21_000;
const COUNT: u16 = 2_000;

/// A port on 127.0.0.1 that no other test process takes while this value lives, also while nothing listens on it.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The kernel gives the lock back with the process, however it ends.
    _lock: File,
}

impl Port {
    /// Takes a free port of 21000-22999.
    ///
    /// # Errors
    /// When none is free, or the lock files in the temporary directory cannot be written.
    pub fn lease() -> Result<Port> {
        let dir = lock_dir()?;
        // Each process begins elsewhere, so that they rarely meet.
        let offset = (std::process::id() % u32::from(COUNT)) as u16;
        for step in 0..COUNT {
            // Spread, so that processes started one after another are far apart.
            let number = FIRST + ((u32::from(offset) * 97 + u32::from(step)) % u32::from(COUNT)) as u16;
            let path = dir.join(number.to_string());
            let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        bail!("no port of {FIRST}-{} is free", FIRST + COUNT - 1)
    }

    /// The port.
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// One directory per user: files of others could not be locked.
fn lock_dir() -> Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let dir = std::env::temp_dir().join(format!("hooklane-test-ports-{user}"));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}
