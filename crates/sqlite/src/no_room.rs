//! What is wrong with the disk, and not with the file.

use rusqlite::{Error, ErrorCode, ffi};

/// Whether nothing can be written now, and may be again later.
pub fn is_no_room(error: &Error) -> bool {
    let Some(failure) = error.sqlite_error() else {
        return false;
    };
    match failure.code {
        ErrorCode::DiskFull | ErrorCode::OutOfMemory | ErrorCode::DatabaseBusy | ErrorCode::ReadOnly => true,
        // A quota, a file size limit, or a file system that was made read-only. Not a failed fsync: what it has lost is not known, and a
        // second one may succeed without having written anything.
        ErrorCode::SystemIoFailure => failure.extended_code == ffi::SQLITE_IOERR_WRITE,
        _ => false,
    }
}
