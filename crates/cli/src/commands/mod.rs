//! The commands, one file each, and what they share: flags that set settings, and how a failure ends the process.

mod admin_socket;
mod apply;
mod bench;
mod check;
mod control;
mod data_directory;
mod dead;
mod demo;
mod dispatcher;
mod drain;
mod drops;
mod faults;
mod flags;
mod ingest;
mod init;
mod interrupt;
mod key;
mod key_socket;
mod loading;
mod management;
mod meter;
mod migrate;
mod opening;
mod outbox;
mod owner;
mod pod;
mod print;
mod private_file;
mod publish;
mod reach;
mod receiver;
mod recording;
mod secret;
mod serve;
mod service;
mod shelf;
mod shelves;
mod sign;
mod signature_flags;
mod status;
mod token;
mod topology;
mod verify;

use std::fmt;
use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::settings::Report;

/// The command failed.
const FAILED: u8 = 1;
/// The command could not begin: wrong flags, or wrong settings. `clap` ends with the same code.
const USAGE: u8 = 2;

/// Webhook delivery on RabbitMQ: takes your services' events and delivers each to every subscribed HTTP endpoint, signed,
/// retried and accounted for.
#[derive(Parser)]
#[command(
    name = "hooklane",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Ends as by SIGTERM when standard input ends
    #[arg(long, global = true, hide = true)]
    end_with_stdin: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a commented settings file with a fresh secret.
    Init(init::Init),
    /// Shows the whole way of an event on one screen: publish, sign, deliver, retry, dead letter, replay.
    Demo(demo::Demo),
    /// Takes events over HTTP and delivers them, in one process with a queue of its own: nothing else is needed.
    Serve(serve::Serve),
    /// Takes events over HTTP and publishes them to the broker.
    Ingest(ingest::Ingest),
    /// Delivers events to endpoints.
    Dispatcher(dispatcher::Dispatcher),
    /// The management API and the recorder of an installation on RabbitMQ and PostgreSQL.
    Control(control::Control),
    /// Brings the tables in PostgreSQL to this version's format.
    Migrate(migrate::Migrate),
    /// Makes event types, applications and endpoints as a file says, over the management API.
    Apply(apply::Apply),
    /// Looks at settings, broker and topology, and says how to mend what is wrong.
    Check(check::Check),
    /// Publishes one event, or a file of them.
    Publish(publish::Publish),
    /// Receives webhooks to try things with: prints each, checks its signature, fails as it is told.
    Receiver(receiver::Receiver),
    /// Prints the signature headers for a body.
    Sign(sign::Sign),
    /// Checks the signature of a request that was received.
    Verify(verify::Verify),
    /// Makes a signing secret.
    Secret(secret::MakeSecret),
    /// Makes a token for the management API of `hooklane serve`.
    Token(token::MakeToken),
    /// Static keys of the management API: create, list, revoke.
    Key(key::Keys),
    /// Dead letters: deliveries that were given up. List, show, replay, purge, export.
    Dead(dead::Dead),
    /// Faults: messages that the pipeline itself could not handle. List, show, replay, purge, export.
    Faults(faults::Faults),
    /// Shows queues, retries that wait, and endpoints as the dispatchers see them.
    Status(status::ShowStatus),
    /// Moves what waits in the queue of `hooklane serve` to RabbitMQ.
    Drain(drain::MoveUp),
    /// Prints exchanges, queues, bindings and the least rights of each role, or declares them.
    Topology(topology::PrintTopology),
    /// Measures how fast this machine publishes and delivers, beside a bare loop without features.
    Bench(bench::Bench),
    /// A process of `hooklane bench`.
    #[command(hide = true)]
    BenchPart,
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    // Ring, for every TLS of the process. An error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = run(Cli::parse());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print::note(Failure(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if cli.end_with_stdin {
        owner::end_with_stdin()?;
    }
    match cli.command {
        Command::Init(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Ingest(command) => command.run(),
        Command::Dispatcher(command) => command.run(),
        Command::Control(command) => command.run(),
        Command::Migrate(command) => command.run(),
        Command::Apply(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Publish(command) => command.run(),
        Command::Receiver(command) => command.run(),
        Command::Sign(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Secret(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Dead(command) => command.run(),
        Command::Faults(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Drain(command) => command.run(),
        Command::Topology(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::BenchPart => hooklane_bench::run_part(),
    }
}

/// How a command ends that failed. Where the problems were printed one by one, only their number is left to say.
struct Failure<'a>(&'a anyhow::Error);

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.downcast_ref::<check::Problems>() {
            Some(problems) => problems.fmt(f),
            None => write!(f, "error: {:#}", self.0),
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let is_usage = error
        .chain()
        .any(|cause| cause.is::<Report>() || cause.is::<UsageError>());
    if is_usage { USAGE } else { FAILED }
}

/// Flags that do not go together, found after `clap` was content.
#[derive(Debug)]
struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

fn usage(text: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(UsageError(text.into()))
}

/// Runs a command's future on a runtime of its own.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the system gives no threads")?;
    let result = runtime.block_on(future);
    // What still blocks (a read of standard input) must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Milliseconds since 1970, by the machine's clock.
fn now() -> hooklane_types::UnixMillis {
    hooklane_types::UnixMillis(jiff::Timestamp::now().as_millisecond())
}

/// The file that `hooklane init` writes, for the tests of the settings.
#[cfg(test)]
pub fn init_text() -> String {
    init::text().expect("a fresh secret can be made")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Goal: flags that contradict each other are found here, not by a user. clap checks its own tables.
    #[test]
    fn the_flags_of_all_commands_fit_together() {
        super::Cli::command().debug_assert();
    }
}
