#![doc = include_str!("../README.md")]
// Commands write by `commands::print`: these two panic on a closed pipe.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
