#![doc = include_str!("../README.md")]

pub mod classify;
pub mod health;
pub mod ladder;
pub mod pacing;
pub mod retry;
pub mod retry_after;
pub mod throttle;
