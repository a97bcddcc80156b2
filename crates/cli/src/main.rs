#![doc = include_str!("../README.md")]

mod commands;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
