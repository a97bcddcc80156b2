//! What `hooklane dead` and `hooklane faults` have in common: the same actions on two shelves.

mod act;
pub mod failure;
mod look;
mod table;

use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use hooklane_broker::rabbitmq::host_name;
use hooklane_broker::topology::Names;
use hooklane_broker::{Holder, SharedBroker, ShelfName, Shelves};
use hooklane_control::{Entry, Filter, Reader};
use hooklane_types::{ApplicationId, EndpointId, TypePattern};
use tokio_util::sync::CancellationToken;

use super::flags::{BrokerFlags, SettingsFlags, start_log};
use super::interrupt::{self, Words};
use super::reach::Reach;
use super::{block_on, now, usage};
use crate::settings::{self, Role, Settings};

pub use table::{Cells, Table, age};

const SIGNALS: Words = Words {
    first: "stopping; what was read is put back in order (once more ends at once, and may change the order)",
    second: "ended by a second signal: nothing is lost, but messages may have changed their order",
};

/// What can be done on a shelf.
#[derive(Subcommand)]
pub enum Action {
    /// Lists what lies there, oldest first. Where much was looked at before, putting it back in order takes some seconds
    /// after the rows
    List(look::List),
    /// Shows one with everything that is known of it
    Show(look::Show),
    /// Sends it through the pipeline again, and takes it off the shelf
    Replay(act::Replay),
    /// Takes it off the shelf for good
    Purge(act::Purge),
    /// Writes everything as JSON lines, payloads included; nothing is taken off the shelf
    Export(look::Export),
}

/// What the commands need to know of a shelf's messages beyond [`Entry`].
pub trait Shown: Entry<Row: Cells> {
    /// The command: `dead` or `faults`.
    const COMMAND: &'static str;
    /// Names of all reasons.
    fn reasons() -> Vec<&'static str>;
    /// The reason of this name.
    fn reason(name: &str) -> Option<Self::Reason>;
}

/// How it is printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs: JSON lines
    Json,
}

#[derive(Args)]
struct Connect {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    broker: BrokerFlags,
}

#[derive(Args)]
struct FilterFlags {
    /// Only this application's
    #[arg(long, value_name = "ID")]
    application: Option<String>,
    /// Only those for this endpoint
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Only events of this type: invoice.paid, or invoice.* for all below
    #[arg(long = "type", value_name = "PATTERN")]
    event_type: Option<String>,
    /// Only those that lie there for this reason
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only what has lain there for at least as long: 90s, 15m, 2h, 3days
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<std::time::Duration>,
    /// Only what has lain there for less
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    newer_than: Option<std::time::Duration>,
}

impl FilterFlags {
    fn filter<E: Shown>(&self, id: Option<String>) -> anyhow::Result<Filter<E::Reason>> {
        let application = self.application.as_deref().map(ApplicationId::parse).transpose();
        let endpoint = self.endpoint.as_deref().map(EndpointId::parse).transpose();
        let event_type = self.event_type.as_deref().map(TypePattern::parse).transpose();
        let reason = match &self.reason {
            None => None,
            Some(name) => Some(E::reason(name).ok_or_else(|| {
                usage(format!(
                    "--reason: there is no {name:?}; reasons are {}",
                    E::reasons().join(", ")
                ))
            })?),
        };
        Ok(Filter {
            id,
            whose: None,
            application: application.map_err(|error| usage(format!("--application: {error}")))?,
            endpoint: endpoint.map_err(|error| usage(format!("--endpoint: {error}")))?,
            event_type: event_type.map_err(|error| usage(format!("--type: {error}")))?,
            reason,
            older_than: self.older_than,
            newer_than: self.newer_than,
        })
    }
}

/// Runs an action on the shelf of `E`.
pub fn run<E: Shown>(action: Action) -> anyhow::Result<()> {
    match action {
        Action::List(list) => list.run::<E>(),
        Action::Show(show) => show.run::<E>(),
        Action::Replay(replay) => replay.run::<E>(),
        Action::Purge(purge) => purge.run::<E>(),
        Action::Export(export) => export.run::<E>(),
    }
}

/// This process, to others that want to read.
pub fn holder(command: String) -> Holder {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    Holder {
        pid: std::process::id(),
        host: host_name(),
        user: user.unwrap_or_else(|_| "unknown user".to_owned()),
        command,
        since: now(),
    }
}

/// Everything that an action on a shelf needs.
struct Session {
    reach: Reach,
    shelves: Arc<dyn Shelves>,
    names: Names,
    holder: Holder,
    stop: CancellationToken,
}

impl Session {
    async fn new<E: Shown>(settings: &Settings, action: &str) -> anyhow::Result<Session> {
        // Not the arguments: a broker's password may stand there.
        let command = format!("hooklane {} {action}", E::COMMAND);
        let reach = Reach::find(settings, &command).await?;
        Ok(Session {
            shelves: reach.shelves(),
            reach,
            names: Names::new(&settings.broker.prefix)?,
            holder: holder(command),
            stop: CancellationToken::new(),
        })
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            shelves: &*self.shelves,
            names: &self.names,
            holder: self.holder.clone(),
            now: now(),
            stop: self.stop.clone(),
        }
    }

    fn broker(&self) -> anyhow::Result<SharedBroker> {
        self.reach.broker()
    }

    fn failure(&self, shelf: ShelfName, error: hooklane_control::ControlError) -> anyhow::Error {
        failure::explain(error, &self.names.queue(shelf.queue()))
    }
}

impl Connect {
    /// Loads settings, and runs `work` until it ends. The first Ctrl-C or SIGTERM ends it in order, the second at once.
    fn run<E: Shown, T>(
        &self,
        action: &str,
        work: impl AsyncFnOnce(&Session, &Settings) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let loaded = settings::load(&self.settings.sources(vec![self.broker.flag()]), Role::Client)?;
        start_log(&loaded.settings.log, "warn")?;
        block_on(async {
            let session = Session::new::<E>(&loaded.settings, action).await?;
            let end_at_once = interrupt::follow(&session.stop, SIGNALS);
            tokio::select! {
                result = work(&session, &loaded.settings) => result,
                ended = end_at_once => ended,
            }
        })
    }
}
