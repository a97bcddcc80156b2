//! `[embedded]`: the queue of `hooklane serve`.

use std::path::PathBuf;

use hooklane_broker::embedded::Synchronous;

use super::table::Table;
use super::value::Size;

const DATA_DIR_DEFAULT: &str = "hooklane-data";
/// Room for the tables, and one event.
const FILE_BYTES_LEAST: u64 = 1024 * 1024;
const SYNCHRONOUS: [(&str, Synchronous); 2] = [("full", Synchronous::Full), ("normal", Synchronous::Normal)];

/// Where the queue lies, and what a confirm is worth.
#[derive(Clone, Debug)]
pub struct EmbeddedSection {
    /// The data directory.
    pub data_dir: PathBuf,
    /// What a confirm is worth when the power goes.
    pub synchronous: Synchronous,
    /// Most bytes of the queue's file.
    pub file_bytes_max: Option<u64>,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>) -> EmbeddedSection {
    let data_dir = table
        .file_path("data_dir")
        .unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
    let synchronous = table.named_or("synchronous", &SYNCHRONOUS, Synchronous::Full);
    let file_bytes_max = table.field("file_bytes_max").and_then(|field| {
        let Size(bytes) = field.read()?;
        if bytes < FILE_BYTES_LEAST {
            field.problem(
                format!("{} is too small for a queue", Size(bytes)),
                "write at least 1MiB, or leave it out",
            );
            return None;
        }
        Some(bytes)
    });
    table.finish();
    EmbeddedSection {
        data_dir,
        synchronous,
        file_bytes_max,
    }
}
