//! Runs a command with a private PostgreSQL server, so that all test binaries of one run share it: `with-postgres cargo test …`.
//!
//! The command finds the server in `HOOKLANE_TEST_POSTGRES`. The server ends with the command. Lines for its `postgresql.conf` can be given in
//! `HOOKLANE_TEST_POSTGRES_CONF`: what is measured wants other settings than what is tested.

use std::process::ExitCode;

use anyhow::Result;
use hooklane_testkit::postgres::{Options, Server};
use hooklane_testkit::run_given_command;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let lines = std::env::var("HOOKLANE_TEST_POSTGRES_CONF").unwrap_or_default();
    let options = lines.lines().fold(Options::default(), Options::conf);
    let server = Server::start_with(options).await?;
    run_given_command(&[("HOOKLANE_TEST_POSTGRES", server.url())]).await
}
