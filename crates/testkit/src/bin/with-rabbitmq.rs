//! Runs a command with a private RabbitMQ node, so that all test binaries of one run share it: `with-rabbitmq cargo test …`.
//!
//! The command finds the node in `HOOKLANE_TEST_AMQP` and `HOOKLANE_TEST_RABBITMQ_CTL`. The node ends with the command.

use std::process::ExitCode;

use anyhow::Result;
use hooklane_testkit::rabbitmq::Node;
use hooklane_testkit::run_given_command;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let node = Node::start().await?;
    run_given_command(&[
        (
            "HOOKLANE_TEST_AMQP",
            format!("amqp://guest:guest@127.0.0.1:{}", node.port()),
        ),
        ("HOOKLANE_TEST_RABBITMQ_CTL", node.control().shell_command()),
    ])
    .await
}
