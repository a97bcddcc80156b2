//! The data directory, step by step: locked and looked at, opened, started. What lies beside the queue can be looked at in between.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use hooklane_sqlite::{FileError, Inspection, Stamp, Stamps, is_no_room};
use rusqlite::Connection;
use tracing::warn;

use super::EmbeddedBroker;
use super::file::{QUEUE, configure};
use super::lock::{self, DirectoryLock};
use super::settings::EmbeddedSettings;

/// Why a data directory cannot be opened. Nothing in it was changed then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by {}: stop it first, or name another directory", directory.display(), who(*pid, holder))]
    Held {
        /// The directory.
        directory: PathBuf,
        /// Its process id, where it could be read.
        pid: Option<u32>,
        /// What it says it is ([`EmbeddedSettings::holder`]); may be empty.
        holder: String,
    },
    /// Its file is refused.
    #[error(transparent)]
    File(#[from] FileError),
}

fn who(pid: Option<u32>, holder: &str) -> String {
    let pid = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    match holder {
        "" => pid,
        holder => format!("{pid} ({holder})"),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source }
}

fn held(directory: &Path, told: lock::Told) -> OpenError {
    OpenError::Held {
        directory: directory.to_owned(),
        pid: told.pid,
        holder: told.holder,
    }
}

/// The queue's file, read from end to end, and its stamps.
#[derive(Debug)]
struct Looked {
    queue: Option<(Inspection, Stamps)>,
}

impl Looked {
    fn at(directory: &Path) -> Result<Looked, FileError> {
        let look = |found: Inspection| {
            let stamps = Stamps::read(&found).map_err(|error| QUEUE.failed("read", directory, error))?;
            Ok::<_, FileError>((found, stamps))
        };
        Ok(Looked {
            queue: QUEUE.inspect(directory)?.map(look).transpose()?,
        })
    }

    fn stamps(&self) -> Option<&Stamps> {
        self.queue.as_ref().map(|(_, stamps)| stamps)
    }
}

/// What a data directory is found to be. While it lives, nobody else opens the directory.
#[derive(Debug)]
pub struct FoundDirectory {
    looked: Looked,
    _lock: Option<File>,
}

/// Looks at a data directory, whole files included, and changes nothing: not even the lock file says who looks.
///
/// # Errors
/// What opening it would end with; [`OpenError::Held`] by a process that works as it should is one too.
pub fn inspect(directory: &Path) -> Result<FoundDirectory, OpenError> {
    QUEUE.find(directory)?;
    let lock = lock::look(directory)
        .map_err(failed("look at the lock of", directory))?
        .map_err(|told| held(directory, told))?;
    let looked = Looked::at(directory)?;
    Ok(FoundDirectory { looked, _lock: lock })
}

impl FoundDirectory {
    /// The queue's file; none when there is none yet.
    pub fn queue(&self) -> Option<&Inspection> {
        self.looked.queue.as_ref().map(|(found, _)| found)
    }

    /// Its stamps; none when there is no queue yet.
    pub fn stamps(&self) -> Option<&Stamps> {
        self.looked.stamps()
    }
}

/// A data directory that is this process's. Its queue was looked at, and is as it was.
pub struct LockedDirectory {
    settings: EmbeddedSettings,
    lock: DirectoryLock,
    looked: Looked,
}

/// A data directory whose queue is open: made where there was none, and brought up to date. Nothing in the queue was changed.
pub struct OpenDirectory {
    pub(super) settings: EmbeddedSettings,
    pub(super) connection: Connection,
    pub(super) lock: DirectoryLock,
}

impl LockedDirectory {
    /// Makes the directory where there is none, takes its lock, and reads the whole of the queue. To be called where waiting for a disk does no
    /// harm.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn lock(settings: EmbeddedSettings) -> Result<LockedDirectory, OpenError> {
        let directory = &settings.directory;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed("make the directory", directory))?;
        // Looked at before the lock file is made: who named the wrong directory finds it as it was.
        QUEUE.find(directory)?;
        let lock = lock::take(directory, &settings.holder)
            .map_err(failed("lock", directory))?
            .map_err(|told| held(directory, told))?;
        let looked = Looked::at(directory)?;
        Ok(LockedDirectory {
            settings,
            lock,
            looked,
        })
    }

    /// The queue's stamps; none when there is no queue yet.
    pub fn stamps(&self) -> Option<&Stamps> {
        self.looked.stamps()
    }

    /// Opens the queue, makes it if there is none, and brings an older one up to date.
    ///
    /// # Errors
    /// [`OpenError::File`]: what was there is as it was.
    pub fn open(self) -> Result<OpenDirectory, OpenError> {
        let directory = &self.settings.directory;
        let connection = match self.looked.queue {
            Some((found, _)) => found.open()?,
            None => QUEUE.make(directory, "")?,
        };
        configure(&connection, &self.settings).map_err(|error| QUEUE.failed("set up", directory, error))?;
        Ok(OpenDirectory {
            settings: self.settings,
            connection,
            lock: self.lock,
        })
    }
}

impl OpenDirectory {
    /// Gives the queue a fresh stamp, which the file of claims beside it is to get next: with `claims`, its stamp, where there is one, which
    /// fits. Where the disk takes nothing now, that stays in force.
    ///
    /// # Errors
    /// [`OpenError::File`].
    pub fn renew_stamp(&mut self, claims: Option<&Stamp>) -> Result<Stamp, OpenError> {
        let failed = |error| QUEUE.failed("write to", &self.settings.directory, error);
        let renewed = Stamps::renew(&mut self.connection, claims);
        self.connection
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(failed)?;
        match (renewed, claims) {
            (Err(error), Some(claims)) if is_no_room(&error) => {
                warn!(%error, "no room for a new stamp in queue.sqlite: claims.sqlite still fits");
                Ok(claims.clone())
            }
            (renewed, _) => Ok(renewed.map_err(failed)?),
        }
    }

    /// Starts the engine's thread.
    ///
    /// # Errors
    /// [`OpenError::File`].
    pub fn start(self) -> Result<EmbeddedBroker, OpenError> {
        EmbeddedBroker::start(self)
    }
}
