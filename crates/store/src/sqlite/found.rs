//! A look at the file, and opening what was looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hooklane_sqlite::{FileError, Inspection, Stamp, Stamps, is_no_room};
use hooklane_telemetry::Metrics;

use super::DurableClaims;
use super::file::{CLAIMS, ClaimsFile, PUBLISHED_PROBE};
use crate::key::KEY_BYTES;
use crate::published::REQUEST_BYTES;

/// What a directory has of claims, read from end to end. Nothing was changed yet.
#[derive(Debug)]
pub struct FoundClaims {
    directory: PathBuf,
    file: Option<(Inspection, Stamp)>,
}

impl FoundClaims {
    /// Looks. The caller holds the directory's lock, and waiting for a disk does no harm to it.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn look(directory: &Path) -> Result<FoundClaims, FileError> {
        let look = |found: Inspection| {
            let stamp = whole(&found)
                .and_then(|()| Stamp::read(&found))
                .map_err(|error| CLAIMS.failed("read", directory, error))?;
            Ok((found, stamp))
        };
        Ok(FoundClaims {
            directory: directory.to_owned(),
            file: CLAIMS.inspect(directory)?.map(look).transpose()?,
        })
    }

    /// The file; none when there is none.
    pub fn file(&self) -> Option<&Inspection> {
        self.file.as_ref().map(|(found, _)| found)
    }

    /// Its stamp; none when there is no file.
    pub fn stamp(&self) -> Option<&Stamp> {
        self.file.as_ref().map(|(_, stamp)| stamp)
    }

    /// Whether it belongs to a queue with these stamps, or to no queue: then what waits there could be taken for settled. No file belongs to
    /// any queue.
    ///
    /// # Errors
    /// [`FileError::Unpaired`].
    pub fn belongs_to(&self, queue: Option<&Stamps>) -> Result<(), FileError> {
        match (self.stamp(), queue) {
            (None, _) => Ok(()),
            (Some(stamp), Some(queue)) if queue.fit(stamp) => Ok(()),
            (Some(_), _) => Err(CLAIMS.unpaired(&self.directory)),
        }
    }

    /// Opens the file with this stamp, which its queue has already; brings it up to date, or makes it if there is none; and starts the thread
    /// that writes to it. Where the disk takes nothing now, it keeps the stamp that it has.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn open(
        self,
        stamp: &Stamp,
        entries_max: usize,
        metrics: Arc<Metrics>,
    ) -> Result<DurableClaims, FileError> {
        let directory = &self.directory;
        let connection = match self.file {
            None => CLAIMS.make(directory, &stamp.statement())?,
            Some((found, has)) => {
                let mut connection = found.open()?;
                if has != *stamp {
                    match stamp.write(&mut connection) {
                        Err(error) if is_no_room(&error) => {
                            tracing::warn!(%error, "no room for a new stamp in claims.sqlite: the one that it has still fits");
                        }
                        written => written.map_err(|error| CLAIMS.failed("write", directory, error))?,
                    }
                }
                connection
            }
        };
        DurableClaims::start(ClaimsFile::new(connection, directory, entries_max)?, metrics)
    }
}

/// Each row is one of ours.
fn whole(found: &Inspection) -> rusqlite::Result<()> {
    let claims = format!(
        "SELECT seq FROM claims WHERE typeof(key) <> 'blob' OR length(key) <> {KEY_BYTES} OR typeof(settled_at_ms) <> 'integer' LIMIT 1"
    );
    none(found, &claims, "claims")?;
    // An older version has none.
    if found.connection().prepare(PUBLISHED_PROBE).is_err() {
        return Ok(());
    }
    let published = format!(
        "SELECT seq FROM published WHERE typeof(key) <> 'blob' OR length(key) <> {KEY_BYTES} OR typeof(accepted_at_ms) <> 'integer' \
         OR (request IS NOT NULL AND (typeof(request) <> 'blob' OR length(request) <> {REQUEST_BYTES})) LIMIT 1"
    );
    none(found, &published, "published")
}

/// There is no such row.
fn none(found: &Inspection, sql: &str, table: &str) -> rusqlite::Result<()> {
    let mut statement = found.connection().prepare(sql)?;
    match statement.query([])?.next()? {
        None => Ok(()),
        Some(row) => Err(rusqlite::Error::FromSqlConversionFailure(
            0,
            rusqlite::types::Type::Blob,
            format!("row {} of {table} is none of ours", row.get::<_, i64>(0)?).into(),
        )),
    }
}
