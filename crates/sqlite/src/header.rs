//! The first look, without SQLite, which could change what it opens.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::FileError;
use crate::format::Format;

/// SQLite's file format: the fields of the header, big-endian (<https://www.sqlite.org/fileformat.html>).
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;

impl Format {
    /// Whether there is a file that may be ours. Reads its header, and changes nothing.
    ///
    /// # Errors
    /// [`FileError::Foreign`], [`FileError::Newer`], [`FileError::Io`].
    pub fn find(&self, directory: &Path) -> Result<bool, FileError> {
        let path = self.path(directory);
        let failed = |source| FileError::Io {
            doing: "read",
            path: path.clone(),
            source,
        };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // SQLite would read it into a new file.
                let log = self.log(directory);
                return match log.exists() {
                    true => Err(self.foreign(log, format!("its {} is missing", self.file))),
                    false => Ok(false),
                };
            }
            file => file.map_err(failed)?,
        };
        let mut header = Vec::with_capacity(HEADER_BYTES);
        file.take(HEADER_BYTES as u64)
            .read_to_end(&mut header)
            .map_err(failed)?;
        if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
            return Err(self.foreign(path, "it is no SQLite file"));
        }
        let field =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        self.judge(directory, field(APPLICATION_ID_AT), field(USER_VERSION_AT))?;
        Ok(true)
    }
}
