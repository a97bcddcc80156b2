//! Making a file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use crate::connect::connect;
use crate::error::FileError;
use crate::format::Format;

impl Format {
    /// Makes it, under another name first: a file of the right name is always whole, and on disk. There must be none. `also` are statements
    /// that are carried out with those of the schema.
    ///
    /// # Errors
    /// [`FileError::Io`], [`FileError::Storage`].
    pub fn make(&self, directory: &Path, also: &str) -> Result<Connection, FileError> {
        let unfinished = directory.join(format!("{}.new", self.file));
        let failed = |doing| {
            let path = unfinished.clone();
            move |source| FileError::Io { doing, path, source }
        };
        for suffix in ["", "-journal", "-wal"] {
            match fs::remove_file(directory.join(format!("{}.new{suffix}", self.file))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
                _ => {}
            }
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(failed("make"))?;
        let stored = |source| FileError::Storage {
            doing: "make",
            path: unfinished.clone(),
            source,
        };
        let connection = connect(&unfinished)?;
        connection.execute_batch(&self.making(also)).map_err(stored)?;
        connection.close().map_err(|(_, source)| stored(source))?;
        File::open(&unfinished)
            .and_then(|file| file.sync_all())
            .map_err(failed("write"))?;
        let path = self.path(directory);
        fs::rename(&unfinished, &path).map_err(failed("rename"))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("keep"))?;
        connect(&path)
    }

    fn making(&self, also: &str) -> String {
        let (application_id, version, schema) = (self.application_id, self.version(), (self.schema)());
        format!(
            "PRAGMA page_size = 4096;
            BEGIN;
            PRAGMA application_id = {application_id};
            PRAGMA user_version = {version};
            {schema}
            {also}
            COMMIT;
            PRAGMA journal_mode = WAL;"
        )
    }
}
