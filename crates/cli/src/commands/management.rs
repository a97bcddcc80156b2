//! The management API in `hooklane serve`: the store in the data directory, and the keys that are kept beside it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hooklane_api::{Access, Api, HistoryReader, InForce, Portal, Recoveries, RecoveryWorker, Tokens};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, RabbitMqShelves};
use hooklane_broker::topology::Names;
use hooklane_broker::{SharedBroker, Shelves};
use hooklane_ingest::{ReadToken, Shown};
use hooklane_store::catalog::Catalog;
use hooklane_store::history::History;
use hooklane_store::postgres::history::PostgresHistory;
use hooklane_store::registry::{Followed, Follower, LoadError, Sources};
use hooklane_store::responses::Responses;
use hooklane_store::sqlite::catalog::{self, SqliteCatalog};
use hooklane_store::sqlite::history::SqliteHistory;
use hooklane_store::vault::Vault;
use hooklane_telemetry::Metrics;
use hooklane_types::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::loading::Loading;
use super::opening::Opening;
use super::outbox::BrokerOutbox;
use super::private_file::create;
use super::reach::SERVE;
use super::service::Signals;
use super::shelves::{self, BrokerShelf};
use super::{now, pod};
use crate::settings::{ApiSection, Settings};

/// In the data directory: seals the secrets of endpoints, where the settings give no key.
const KEY_FILE: &str = "store.key";
/// In the data directory: signs tokens, where the settings give no secret.
const TOKENS_FILE: &str = "api.secret";
/// In the data directory: a copy of what is in PostgreSQL, for a start while that is away.
const SNAPSHOT_FILE: &str = "snapshot.json";
/// More is another file.
const FILE_BYTES_MAX: u64 = 4096;

/// What serves the API, and what follows its changes.
pub struct Management {
    pub api: Arc<Api>,
    /// Carries out what the API takes for later.
    pub recovery: RecoveryWorker,
    /// Where endpoints are.
    pub catalog: Arc<dyn Catalog>,
    /// None where nothing is recorded.
    pub history: Option<Arc<dyn History>>,
    pub followed: Followed,
    /// Follows the store until the stop.
    pub following: BoxFuture<'static, ()>,
}

/// A store and its keys, opened and loaded.
struct Opened {
    catalog: Arc<dyn Catalog>,
    responses: Arc<dyn Responses>,
    history: Option<Arc<dyn History>>,
    vault: Arc<Vault>,
    tokens: Tokens,
    followed: Followed,
    follower: Follower,
}

/// What `serve` has when it opens its store.
pub struct Beginning<'a> {
    /// The settings file's registry.
    pub base: watch::Receiver<Arc<Registry>>,
    pub opening: &'a Opening,
    pub signals: &'a Signals,
}

/// Opens the store, and loads it; none when it was told to stop meanwhile. The caller holds the directory's lock.
pub async fn open(
    settings: &Settings,
    beginning: Beginning<'_>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    queue: Queue,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Option<Management>> {
    let stop = beginning.signals.stop.clone();
    let opened = match settings.store.postgres {
        Some(_) => in_postgres(settings, beginning, tasks).await?,
        None => Some(in_directory(settings, beginning.base).await?),
    };
    let Some(opened) = opened else {
        return Ok(None);
    };
    let parts = Parts {
        catalog: opened.catalog.clone(),
        responses: opened.responses,
        vault: opened.vault,
        tokens: opened.tokens,
        in_force: Arc::new(opened.followed.applied.clone()),
        history: opened.history.clone(),
        queue,
        process: SERVE,
    };
    let (api, recovery) = api(settings, parts, &opened.followed, metrics)?;
    Ok(Some(Management {
        api,
        recovery,
        catalog: opened.catalog,
        history: opened.history,
        followed: opened.followed,
        following: opened.follower.follow(stop).boxed(),
    }))
}

async fn in_directory(settings: &Settings, base: watch::Receiver<Arc<Registry>>) -> anyhow::Result<Opened> {
    let (directory, section) = (settings.embedded.data_dir.clone(), settings.api.clone());
    let is_recorded = settings.store.history;
    let opened = tokio::task::spawn_blocking(move || {
        let vault = vault(&directory, &section)?;
        let tokens = tokens(&directory, &section)?;
        let catalog = SqliteCatalog::open(&directory)?;
        let history = is_recorded.then(|| SqliteHistory::open(&directory)).transpose()?;
        anyhow::Ok((catalog, history, vault, tokens))
    });
    let (catalog, history, vault, tokens) = opened.await??;
    let (catalog, vault) = (Arc::new(catalog), Arc::new(vault));
    let sources = Sources {
        catalog: catalog.clone(),
        vault: vault.clone(),
        organisation: settings.api.organisation.clone(),
        base,
        clock: now,
    };
    let (follower, followed) = Follower::load(sources).await.map_err(explained)?;
    Ok(Opened {
        catalog: catalog.clone(),
        responses: catalog,
        history: history.map(|history| Arc::new(history) as Arc<dyn History>),
        vault,
        tokens,
        followed,
        follower,
    })
}

/// The keys are kept in the data directory all the same, unless the settings give them; and a snapshot, so that a later start needs no store.
async fn in_postgres(
    settings: &Settings,
    beginning: Beginning<'_>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<Option<Opened>> {
    let Beginning {
        base,
        opening,
        signals,
    } = beginning;
    let postgres = pod::postgres(settings)?;
    let (directory, section) = (settings.embedded.data_dir.clone(), settings.api.clone());
    let snapshot = settings.store.snapshot.clone();
    let snapshot = snapshot.unwrap_or_else(|| directory.join(SNAPSHOT_FILE));
    let keys = tokio::task::spawn_blocking(move || {
        anyhow::Ok((vault(&directory, &section)?, tokens(&directory, &section)?))
    });
    let (vault, tokens) = keys.await??;
    let vault = Arc::new(vault);
    let loading = Loading {
        postgres,
        vault: vault.clone(),
        organisation: &settings.api.organisation,
        base,
        snapshot: Some(snapshot),
    };
    let Some(loaded) = loading.run(opening, &signals.stop).await? else {
        return Ok(None);
    };
    loaded.keep(tasks, &signals.stop);
    let history = match settings.store.history {
        true => Some(Arc::new(PostgresHistory::later(postgres)?) as Arc<dyn History>),
        false => None,
    };
    Ok(Some(Opened {
        catalog: loaded.catalog.clone(),
        responses: loaded.catalog,
        history,
        vault,
        tokens,
        followed: loaded.followed,
        follower: loaded.follower,
    }))
}

/// What the API stands on.
pub struct Parts {
    pub catalog: Arc<dyn Catalog>,
    pub responses: Arc<dyn Responses>,
    pub vault: Arc<Vault>,
    pub tokens: Tokens,
    pub in_force: Arc<dyn InForce>,
    pub history: Option<Arc<dyn History>>,
    pub queue: Queue,
    /// What the process is, to others that want to read a shelf.
    pub process: &'static str,
}

/// Where messages go, and where they lie.
pub struct Queue {
    pub broker: SharedBroker,
    pub shelves: Arc<dyn Shelves>,
}

impl Queue {
    /// On RabbitMQ.
    pub fn rabbitmq(settings: RabbitMqSettings, metrics: Arc<Metrics>) -> anyhow::Result<Queue> {
        Ok(Queue {
            shelves: Arc::new(RabbitMqShelves::new(settings.clone())),
            broker: RabbitMq::start(settings, metrics)?,
        })
    }
}

/// The API, by the settings, and what carries out what it takes for later.
pub fn api(
    settings: &Settings,
    parts: Parts,
    followed: &Followed,
    metrics: Arc<Metrics>,
) -> anyhow::Result<(Arc<Api>, RecoveryWorker)> {
    let (recoveries, recovery) = Recoveries::new();
    let outbox = BrokerOutbox {
        broker: parts.queue.broker.clone(),
        is_recorded: parts.history.is_some(),
        within: settings.broker.publish_timeout,
    };
    let shelf = BrokerShelf {
        shelves: parts.queue.shelves,
        broker: parts.queue.broker,
        names: Names::new(&settings.broker.prefix)?,
        publish_timeout: settings.broker.publish_timeout,
        process: parts.process,
    };
    let api = Arc::new(Api {
        catalog: parts.catalog,
        history: parts.history.map(HistoryReader::new),
        outbox: Arc::new(outbox),
        shelves: shelves::both(shelf),
        registry: followed.registry.clone(),
        recoveries,
        responses: parts.responses,
        vault: parts.vault,
        tokens: parts.tokens,
        keys: followed.keys.clone(),
        is_current: followed.is_current.clone(),
        portal: Portal {
            url: settings.api.portal_url.clone(),
            is_tls: settings.ingest.settings.tls.is_some(),
        },
        in_force: parts.in_force,
        metrics,
        https_only: settings.egress.https_only,
        organisation: settings.api.organisation.clone(),
        operational_application: settings.dispatcher.settings.operational_application.clone(),
        clock: now,
    });
    Ok((api, recovery))
}

/// The error, with what to do.
pub fn explained(error: LoadError) -> anyhow::Error {
    let remedy = match error {
        LoadError::Unusable { .. } => {
            "start with the key that sealed them: `encryption_key` or `encryption_key_before` in [api], or the store.key of the same copy"
        }
        LoadError::Registry(_) => "give the endpoint in the settings file another id",
        LoadError::Snapshot(_) => "start while the store answers, and a new one is written",
        LoadError::Catalog(_) => "see what the log says",
    };
    anyhow::Error::new(error).context(remedy)
}

/// What tokens mean to ingest.
pub fn read_token(api: Arc<Api>) -> ReadToken {
    Arc::new(move |headers| match api.access(headers) {
        Access::None => Shown::Nothing,
        Access::Organisation(organisation) => Shown::Organisation(organisation),
        Access::Application => Shown::Other,
        Access::Unknown => Shown::Unknown,
        Access::Refused => Shown::Wrong,
    })
}

/// Whose tokens are taken: by the settings, or by the secret in the data directory, which is made if there is none.
pub fn tokens(directory: &Path, section: &ApiSection) -> anyhow::Result<Tokens> {
    if let Some(secret) = &section.jwt_secret {
        return Ok(Tokens::new(section.algorithm, secret.expose())?);
    }
    let path = directory.join(TOKENS_FILE);
    let secret = kept(&path)?;
    let tokens = Tokens::new(section.algorithm, &secret);
    tokens.with_context(|| format!("{} cannot be used: give `jwt_secret` in [api]", path.display()))
}

fn vault(directory: &Path, section: &ApiSection) -> anyhow::Result<Vault> {
    let before = section.encryption_key_before.iter();
    let path = directory.join(KEY_FILE);
    let kept = match &section.encryption_key {
        Some(_) if !path.exists() => None,
        None if !path.exists() && catalog::find(directory)? => bail!(
            "{} is missing, and what it sealed is in {}: put it back, or give `encryption_key` in [api]",
            path.display(),
            directory.join(catalog::FILE).display()
        ),
        _ => Some(kept(&path)?),
    };
    // A key of the settings comes before the one that was kept until then.
    let given = section
        .encryption_key
        .iter()
        .chain(before)
        .map(|text| text.expose());
    let keys: Vec<&str> = given.chain(kept.as_deref()).collect();
    Vault::new(keys).with_context(|| format!("{} cannot be used", path.display()))
}

/// The secret in a file; a fresh one, if there is none.
fn kept(path: &Path) -> anyhow::Result<String> {
    let fresh = Vault::fresh_key();
    if let Some(made) = create(path, &format!("{}\n", *fresh))? {
        made.keep();
        return Ok(fresh.to_string());
    }
    let shown = path.display();
    let unreadable = || format!("{shown} cannot be read");
    let bytes = fs::metadata(path).with_context(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        bail!("{shown} is no secret of Hooklane: it has {bytes} bytes");
    }
    let text = fs::read_to_string(path).with_context(unreadable)?;
    Ok(text.trim().to_owned())
}
