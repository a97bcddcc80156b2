//! Whether the data directory can be one at all: the same words for every command.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

use super::usage;

/// How to name another.
const ANOTHER: &str = "name another with --data, HOOKLANE_EMBEDDED__DATA_DIR or `data_dir` in [embedded]";

/// That what has its name is a directory, or nothing yet.
///
/// # Errors
/// When it, or what it should lie in, is a file.
pub fn is_none_or_one(directory: &Path) -> anyhow::Result<()> {
    let is_file = match fs::metadata(directory) {
        Ok(found) => !found.is_dir(),
        Err(error) => error.kind() == io::ErrorKind::NotADirectory,
    };
    if is_file {
        let shown = directory.display();
        return Err(usage(format!(
            "the data directory cannot be {shown}: there is a file in its place; move it away, or {ANOTHER}"
        )));
    }
    Ok(())
}

/// That it can be written to, or made.
///
/// # Errors
/// As [`is_none_or_one`], and when this user may not, or its disk is mounted to be read only.
pub fn is_writable(directory: &Path) -> anyhow::Result<()> {
    is_none_or_one(directory)?;
    let absolute = std::path::absolute(directory)?;
    // Where there is none yet, it will be made in the one above.
    let Some(there) = absolute.ancestors().find(|path| path.is_dir()) else {
        return Ok(());
    };
    access(there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        anyhow::anyhow!(
            "the data directory {} cannot be written to ({}: {}): run hooklane as its owner, mount its disk for writing, or {ANOTHER}",
            directory.display(),
            there.display(),
            io::Error::from(error)
        )
    })
}
