//! `[embedded]`: the queue of `hooklane serve`.

use std::path::PathBuf;

use hooklane_broker::embedded::Synchronous;

use super::table::Table;

const DATA_DIR_DEFAULT: &str = "hooklane-data";
const SYNCHRONOUS: [(&str, Synchronous); 2] = [("full", Synchronous::Full), ("normal", Synchronous::Normal)];

/// Where the queue lies, and what a confirm is worth.
#[derive(Clone, Debug)]
pub struct EmbeddedSection {
    /// The data directory.
    pub data_dir: PathBuf,
    /// What a confirm is worth when the power goes.
    pub synchronous: Synchronous,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>) -> EmbeddedSection {
    let data_dir = table
        .file_path("data_dir")
        .unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
    let synchronous = table.named_or("synchronous", &SYNCHRONOUS, Synchronous::Full);
    table.finish();
    EmbeddedSection {
        data_dir,
        synchronous,
    }
}
