//! Why a file is not opened.

use std::io;
use std::path::PathBuf;

/// Why a file cannot be opened. Nothing in it was changed then.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Written by a newer version.
    #[error("{} has format {found}; this version reads formats up to {known}: use the newer version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// Some other file of this name.
    #[error("{} is not {what} ({why}): name another directory, or move the file away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// How that shows.
        why: String,
    },
    /// Ours, and damaged.
    #[error("{} is damaged ({why}): {remedy}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// In SQLite's words.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// Ours and whole, and of another pair: see [`Stamps`](crate::Stamps).
    #[error("{} belongs to another queue, or to another copy of it: put back the one of the same copy, or {remedy}", path.display())]
    Unpaired {
        /// The file.
        path: PathBuf,
        /// What to do instead.
        remedy: String,
    },
    /// The system refuses.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// SQLite refuses: no room, or no right to write.
    #[error("cannot {doing} {}", path.display())]
    Storage {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
}
