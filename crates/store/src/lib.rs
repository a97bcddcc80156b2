#![doc = include_str!("../README.md")]

pub mod catalog;
mod claims;
mod key;
mod process;
pub mod sqlite;
mod window;

pub use claims::{CLAIM_ENTRIES_DEFAULT, ClaimError, ClaimWindow, Claims, Verdict};
pub use process::ProcessClaims;
