//! Runs a command with a private PostgreSQL server, so that all test binaries of one run share it: `with-postgres cargo test …`.
//!
//! The command finds the server in `HOOKLANE_TEST_POSTGRES`. The server ends with the command.

use std::process::ExitCode;

use anyhow::Result;
use hooklane_testkit::postgres::Server;
use hooklane_testkit::run_given_command;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let server = Server::start().await?;
    run_given_command(&[("HOOKLANE_TEST_POSTGRES", server.url())]).await
}
