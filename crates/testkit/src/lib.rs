#![doc = include_str!("../README.md")]

mod child;
pub mod dns;
mod eventually;
mod file_limit;
pub mod javascript;
mod leash;
mod output;
mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod python;
pub mod rabbitmq;
pub mod tls;
mod wrapper;

pub use eventually::eventually;
pub use file_limit::limit_files;
pub use output::{Line, Output, Stream};
pub use ports::Port;
pub use wrapper::run_given_command;
