#![doc = include_str!("../README.md")]

mod error;
mod format;
mod header;
mod open;

pub use error::FileError;
pub use format::Format;
