//! The broker that a command talks to: RabbitMQ where a URL is set, else the queue of `hooklane serve`, through the process that serves,
//! or its data directory when nothing runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings, FILE, LockedDirectory, OpenError};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, RabbitMqShelves, Role as BrokerRole};
use hooklane_broker::socket::SocketBroker;
use hooklane_broker::topology::Names;
use hooklane_broker::{SharedBroker, Shelves};
use hooklane_store::sqlite::{self, DurableClaims, FoundClaims};
use hooklane_store::sqlite::{catalog, history};
use hooklane_telemetry::Metrics;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, test_kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::{admin_socket, data_directory, usage};
use crate::settings::Settings;

/// What `hooklane serve` is told to be, to others that want its directory.
pub const SERVE: &str = "hooklane serve";
/// How long a directory that is held is tried again: a command's while `serve` starts or ends, `serve`'s while a command has it.
pub const TRIED_FOR: Duration = Duration::from_secs(5);
pub const TRY_AGAIN: Duration = Duration::from_millis(50);

/// Where a command's broker is.
pub enum Reach {
    /// RabbitMQ; connected to when it is first needed.
    RabbitMq(Box<RabbitMqSettings>),
    /// `hooklane serve`, in another process.
    Serving(Arc<SocketBroker>),
    /// Its data directory, opened here: nobody delivers meanwhile.
    Directory(EmbeddedBroker),
}

impl Reach {
    /// Finds it. `command` is told to others that want the same directory.
    pub async fn find(settings: &Settings, command: &str) -> anyhow::Result<Reach> {
        if settings.broker.url.is_some() {
            let rabbitmq = settings.broker.rabbitmq(BrokerRole::Operator)?;
            return Ok(Reach::RabbitMq(Box::new(rabbitmq)));
        }
        let directory = &settings.embedded.data_dir;
        let shown = directory.display();
        data_directory::is_none_or_one(directory)?;
        if !directory.join(FILE).exists() {
            return Err(usage(format!(
                "no broker is set, and there is no queue of `hooklane serve` in {shown}: give --broker, HOOKLANE_BROKER__URL or [broker] \
                 url for RabbitMQ, or data_dir in [embedded]"
            )));
        }
        let socket = admin_socket::path(directory)?;
        let deadline = Instant::now() + TRIED_FOR;
        loop {
            let serving = SocketBroker::find(&socket)
                .await
                .with_context(|| format!("{} cannot be used", socket.display()))?;
            if let Some(serving) = serving {
                return Ok(Reach::Serving(Arc::new(serving)));
            }
            match open(embedded(settings, command, Arc::new(Metrics::new()))?).await {
                // A `serve` that has no socket yet, or none any more.
                Err(error) if held(&error).is_some() && Instant::now() < deadline => sleep(TRY_AGAIN).await,
                opened => return Ok(Reach::Directory(opened?)),
            }
        }
    }

    /// The broker, started where it has to be.
    pub fn broker(&self) -> anyhow::Result<SharedBroker> {
        Ok(match self {
            Reach::RabbitMq(settings) => RabbitMq::start((**settings).clone(), Arc::new(Metrics::new()))?,
            Reach::Serving(serving) => serving.clone(),
            Reach::Directory(embedded) => embedded.shared(),
        })
    }

    /// The shelves.
    pub fn shelves(&self) -> Arc<dyn Shelves> {
        match self {
            Reach::RabbitMq(settings) => Arc::new(RabbitMqShelves::new((**settings).clone())),
            Reach::Serving(serving) => serving.clone(),
            Reach::Directory(embedded) => embedded.shelves(),
        }
    }
}

/// The embedded broker's settings.
pub fn embedded(
    settings: &Settings,
    holder: &str,
    metrics: Arc<Metrics>,
) -> anyhow::Result<EmbeddedSettings> {
    let mut embedded = EmbeddedSettings::new(&settings.embedded.data_dir);
    embedded.names = Names::new(&settings.broker.prefix)?;
    embedded.holder = holder.to_owned();
    embedded.synchronous = settings.embedded.synchronous;
    embedded.events_bytes_max = settings.broker.bounds.events_bytes_max;
    embedded.records_bytes_max = settings.broker.bounds.records_bytes_max;
    embedded.file_bytes_max = settings.embedded.file_bytes_max;
    embedded.metrics = metrics;
    Ok(embedded)
}

/// Whether the error says that another process has the directory.
pub fn is_held(error: &anyhow::Error) -> bool {
    held(error).is_some()
}

/// Who has the directory, when that is the error.
fn held(error: &anyhow::Error) -> Option<(Option<u32>, &str)> {
    match error.downcast_ref::<OpenError>()? {
        OpenError::Held { pid, holder, .. } => Some((*pid, holder)),
        OpenError::File(_) => None,
    }
}

/// Whether the holder is no `serve`. `hooklane check` holds it without a word: then the last holder is named, which has ended.
fn passes((pid, holder): (Option<u32>, &str)) -> bool {
    let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let is_gone = pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH));
    holder != SERVE || is_gone
}

/// Opens it: the whole file is read once.
pub async fn open(settings: EmbeddedSettings) -> anyhow::Result<EmbeddedBroker> {
    bear_a_full_disk()?;
    data_directory::is_writable(&settings.directory)?;
    Ok(tokio::task::spawn_blocking(move || EmbeddedBroker::open(settings)).await??)
}

/// From now on a write beyond a limit of the system (`ulimit -f`, `LimitFSIZE=`) fails as one on a full disk does, where its signal would end
/// the process.
fn bear_a_full_disk() -> anyhow::Result<()> {
    // The handler stays when what it would tell is dropped.
    let handled = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
    drop(handled.context("signals cannot be handled")?);
    Ok(())
}

/// Opens it with its claims, for `hooklane serve`: a short command that has the directory is waited for, another `serve` is not.
pub async fn open_with_claims(
    settings: EmbeddedSettings,
    claim_entries_max: usize,
) -> anyhow::Result<(EmbeddedBroker, DurableClaims)> {
    let deadline = Instant::now() + TRIED_FOR;
    loop {
        match try_with_claims(settings.clone(), claim_entries_max).await {
            Err(error) if held(&error).is_some_and(passes) && Instant::now() < deadline => {
                sleep(TRY_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

/// Both files are read before either is changed.
async fn try_with_claims(
    settings: EmbeddedSettings,
    claim_entries_max: usize,
) -> anyhow::Result<(EmbeddedBroker, DurableClaims)> {
    bear_a_full_disk()?;
    data_directory::is_writable(&settings.directory)?;
    let opened = tokio::task::spawn_blocking(move || {
        let (directory, metrics) = (settings.directory.clone(), settings.metrics.clone());
        // Before anything is made beside it.
        sqlite::find(&directory)?;
        catalog::find(&directory)?;
        history::find(&directory)?;
        let queue = LockedDirectory::lock(settings)?;
        let claims = FoundClaims::look(&directory)?;
        catalog::inspect(&directory)?;
        claims.belongs_to(queue.stamps())?;
        let mut queue = queue.open()?;
        // The queue first: whatever ends the process here, its claims still fit.
        let stamp = queue.renew_stamp(claims.stamp())?;
        let claims = claims.open(&stamp, claim_entries_max, metrics)?;
        // Only now does anything happen in the queue.
        anyhow::Ok((queue.start()?, claims))
    });
    opened.await?
}
