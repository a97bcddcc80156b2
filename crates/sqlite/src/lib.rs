#![doc = include_str!("../README.md")]

mod connect;
mod error;
mod format;
mod header;
mod inspection;
mod make;
mod no_room;
mod stamps;

pub use error::FileError;
pub use format::{Format, Step};
pub use inspection::Inspection;
pub use no_room::is_no_room;
pub use stamps::{Stamp, Stamps};
