//! What is particular to the embedded broker: the file, kills, a full disk, its shelves.

#[allow(dead_code, reason = "the suite's functions are run by conformance.rs")]
#[path = "../suite/mod.rs"]
mod suite;

mod crash;
mod delays;
mod drain;
mod limits;
mod model;
mod opening;
mod shelves;
