//! Runs a command with a private RabbitMQ node, so that all test binaries of one run share it: `with-rabbitmq cargo test …`.
//!
//! The command finds the node in `HOOKLANE_TEST_AMQP` and `HOOKLANE_TEST_RABBITMQ_CTL`. The node ends with the command.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use hooklane_testkit::rabbitmq::Node;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments
        .next()
        .context("usage: with-rabbitmq COMMAND [ARGUMENT…]")?;
    let node = Node::start().await?;
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env(
            "HOOKLANE_TEST_AMQP",
            format!("amqp://guest:guest@127.0.0.1:{}", node.port()),
        )
        .env("HOOKLANE_TEST_RABBITMQ_CTL", node.control().shell_command());
    let status = tokio::task::spawn_blocking(move || command.status()).await?;
    let status = status.with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    // A command that a signal ended has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
