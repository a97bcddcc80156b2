#![doc = include_str!("../README.md")]

mod dead;
mod disable;
mod drain;
mod entry;
mod error;
mod faults;
mod filter;
mod fingerprint;
mod page;
pub mod present;
mod recorder;
mod replay;
mod shelf;
pub mod status;

pub use dead::{DeadDetail, DeadEntry, DeadRow, DeliveryDetail};
pub use disable::AutoDisable;
pub use drain::{Drained, drain};
pub use entry::{Entry, NotReplayable, Replay};
pub use error::ControlError;
pub use faults::{FaultDetail, FaultEntry, FaultRow};
pub use filter::{Facts, Filter, Whose};
pub use page::{Page, Place};
pub use recorder::Recorder;
pub use replay::{ROUND_MAX, ReplayOptions, Replayed};
pub use shelf::{Ended, Look, Reader, Scanned};
