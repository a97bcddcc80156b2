#![doc = include_str!("../README.md")]

mod answer;
mod bounded;
mod client;
mod connect_error;
mod connector;
mod failure;
pub mod guard;
mod profiles;
mod proxy;
mod request;
mod resolve;
mod sessions;
mod settings;
mod stream;
pub mod target;
mod tls;

pub use answer::{Answer, Failure, Response};
pub use client::Client;
pub use request::Request;
pub use settings::{EgressError, EgressSettings};
