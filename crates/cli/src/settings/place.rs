//! Where a value was written: kept as the origin that the `config` crate carries along through merging.

/// Prefix of settings in the environment.
pub const VARIABLE_PREFIX: &str = "HOOKLANE_";

/// The sources, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The settings file.
    File,
    /// An environment variable.
    Variable,
    /// A flag of the command.
    Flag,
}

impl Rank {
    /// Which source an origin names. A file's origin ends with `:` and the line.
    pub fn of(origin: &str) -> Rank {
        if origin.contains(':') {
            Rank::File
        } else if origin.starts_with(VARIABLE_PREFIX) {
            Rank::Variable
        } else if origin.starts_with("--") {
            Rank::Flag
        } else {
            Rank::File
        }
    }
}
