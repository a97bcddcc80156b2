#![doc = include_str!("../README.md")]

pub mod catalog;
mod claims;
pub mod history;
pub mod items;
mod key;
mod patience;
#[cfg(feature = "postgres")]
pub mod postgres;
mod process;
mod published;
pub mod registry;
pub mod responses;
pub mod sqlite;
pub mod vault;
mod window;

pub use claims::{CLAIM_ENTRIES_DEFAULT, ClaimError, ClaimWindow, Claims, Verdict};
pub use patience::{Patience, Unanswered};
pub use process::ProcessClaims;
pub use published::{PUBLISHED_KEPT_MS, Published, PublishedIds, REQUEST_BYTES};
