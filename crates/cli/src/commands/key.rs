//! `hooklane key`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hooklane_api::key::{Done, Request, Row, carry_out};
use hooklane_broker::embedded::LockedDirectory;
use hooklane_store::catalog::Catalog;
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::postgres::followers::Followers;
use hooklane_store::sqlite::catalog::SqliteCatalog;
use hooklane_telemetry::Metrics;
use tokio::time::{sleep, timeout};

use super::flags::{SettingsFlags, flag, start_log};
use super::reach::{self, TRIED_FOR, TRY_AGAIN};
use super::shelf::Table;
use super::{block_on, key_socket, now, pod, print, usage};
use crate::settings::{self, Role, Settings};

/// How long processes are waited for that follow the store.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);

/// Static keys of the management API: made once, shown once, valid until they are revoked.
#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Makes a key and prints it; it is not shown again
    Create(Create),
    /// Lists keys, without what they open with
    List(Common),
    /// Ends a key, at once
    Revoke(Revoke),
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    settings: SettingsFlags,
    /// Of this organisation [default: api.organisation of the settings]
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    /// The data directory of `hooklane serve` [default: hooklane-data]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
}

#[derive(Args)]
struct Create {
    #[command(flatten)]
    common: Common,
    /// What it is for, in words
    #[arg(value_name = "NAME")]
    name: String,
    /// For this application alone, by id or uid: it may see and change its endpoints, and may not publish
    #[arg(long, value_name = "ID")]
    application: Option<String>,
    /// How long it is valid, like 90d [default: until it is revoked]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    valid_for: Option<Duration>,
}

#[derive(Args)]
struct Revoke {
    #[command(flatten)]
    common: Common,
    /// Which, as `hooklane key list` shows it (key_…)
    #[arg(value_name = "KEY")]
    id: String,
}

impl Keys {
    /// Carries it out: in the process that serves, or in its data directory when nothing runs.
    pub fn run(self) -> anyhow::Result<()> {
        let common = match &self.action {
            Action::Create(create) => &create.common,
            Action::List(common) => common,
            Action::Revoke(revoke) => &revoke.common,
        };
        let flags = vec![flag("--data", "embedded.data_dir", common.data.as_ref())];
        let settings = settings::load(&common.settings.sources(flags), Role::Token)?.settings;
        start_log(&settings.log, "warn")?;
        let given = common.organisation.clone();
        let organisation = given.unwrap_or_else(|| settings.api.organisation.clone());
        let request = match self.action {
            Action::Create(create) => Request::Create {
                organisation,
                application: create.application,
                name: create.name,
                until_ms: create.valid_for.map(ends_at),
            },
            Action::List(_) => Request::List { organisation },
            Action::Revoke(revoke) => Request::Revoke {
                organisation,
                id: revoke.id,
            },
        };
        match block_on(carried_out(&settings, request))? {
            Done::Created { id, key } => {
                print::note(format!("{id} was made; this is the only time that it is shown:"));
                print::line(key)
            }
            Done::Listed(rows) => table(&rows),
            Done::Revoked => Ok(()),
        }
    }
}

/// In milliseconds since 1970. What is further away than the clock reaches never comes.
fn ends_at(valid_for: Duration) -> i64 {
    let ms = i64::try_from(valid_for.as_millis()).unwrap_or(i64::MAX);
    now().0.saturating_add(ms)
}

fn table(rows: &[Row]) -> anyhow::Result<()> {
    let header = ["ID", "NAME", "APPLICATION", "MADE AT", "UNTIL"];
    let mut table = Table::new(std::io::stdout(), &header);
    let mut write = || -> std::io::Result<()> {
        for row in rows {
            let until = row.until.as_deref().unwrap_or("revoked");
            table.add(vec![
                row.id.clone(),
                row.name.clone(),
                row.application.clone().unwrap_or_else(|| "-".to_owned()),
                row.created_at.clone(),
                format!("{until}{}", if row.is_over { " (over)" } else { "" }),
            ])?;
        }
        table.flush()
    };
    print::unless_closed(write())
}

async fn carried_out(settings: &Settings, request: Request) -> anyhow::Result<Done> {
    let directory = &settings.embedded.data_dir;
    if let Some(postgres) = &settings.store.postgres {
        // A `serve` here tells nobody how far it has followed.
        let socket = key_socket::path(directory)?;
        return match key_socket::ask(&socket, &request).await? {
            Some(done) => Ok(done),
            None => in_postgres(postgres, request).await,
        };
    }
    if !directory.is_dir() {
        return Err(usage(format!(
            "there is no {}: start `hooklane serve` once, or name its directory with --data",
            directory.display()
        )));
    }
    let socket = key_socket::path(directory)?;
    let deadline = Instant::now() + TRIED_FOR;
    loop {
        if let Some(done) = key_socket::ask(&socket, &request).await? {
            return Ok(done);
        }
        match in_directory(settings, directory, &request).await {
            // A `serve` that has no socket yet, or none any more.
            Err(error) if reach::is_held(&error) && Instant::now() < deadline => sleep(TRY_AGAIN).await,
            done => return done,
        }
    }
}

/// Up to when every process has it that follows.
async fn in_postgres(postgres: &PostgresSettings, request: Request) -> anyhow::Result<Done> {
    let catalog = PostgresCatalog::open(postgres).await?;
    let followers = Followers::new(postgres)?;
    let done = carry_out(&catalog, request, now()).await?;
    let newest = *catalog.newest().borrow();
    let everywhere = pod::everywhere(&followers, newest);
    if timeout(IN_FORCE_WITHIN, everywhere).await.is_err() {
        print::note("a process that lives does not have it yet");
    }
    Ok(done)
}

async fn in_directory(settings: &Settings, directory: &Path, request: &Request) -> anyhow::Result<Done> {
    let embedded = reach::embedded(settings, "hooklane key", Arc::new(Metrics::new()))?;
    let directory = directory.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let lock = LockedDirectory::lock(embedded)?;
        anyhow::Ok((lock, SqliteCatalog::open(&directory)?))
    });
    let (_lock, catalog) = opened.await??;
    Ok(carry_out(&catalog, request.clone(), now()).await?)
}
