#![doc = include_str!("../README.md")]

mod attempt;
mod backlog;
mod claims;
mod clock;
mod control;
mod core;
mod dispatchers;
mod drops;
mod endpoints;
mod error;
mod faults;
#[cfg(test)]
mod fixtures;
mod gate;
mod gone;
mod intake;
mod labels;
mod operational;
mod park;
mod process;
mod progress;
mod record;
mod report;
mod route;
mod run;
mod serve;
mod settings;
mod settle;
mod status;
mod suspects;
mod throttle;
mod unknown;
mod worker;

pub use error::DispatcherError;
pub use run::{Ports, run};
pub use settings::{DispatcherSettings, EVENT_BYTES_LIMIT, Shutdown, UserApplications};
