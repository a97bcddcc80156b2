#![doc = include_str!("../README.md")]

mod body;
mod error;
mod log;
mod receiver;
mod reply;
mod script;
mod server;
mod socket;
mod verdict;

pub use error::Error;
pub use log::{Log, Request};
pub use receiver::{Options, Protocol, Receiver};
pub use reply::{Action, Body, Reply};
pub use verdict::Verdict;
