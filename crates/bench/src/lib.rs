#![doc = include_str!("../README.md")]

mod calibrate;
mod cases;
mod clock;
mod histogram;
mod measure;
mod options;
mod part;
mod parts;
mod payload;
mod print;
mod process;
mod rabbitmq;
mod rows;
mod run;
mod settings;
mod stage;
mod usage;

pub use options::{Case, Format, Options, PREFIX};
pub use part::run as run_part;
pub use run::run;
