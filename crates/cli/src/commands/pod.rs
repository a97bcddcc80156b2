//! What `ingest`, `dispatcher` and `control` share on PostgreSQL: they route by what is in the store, and follow its changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use hooklane_api::{Api, InForce, RecoveryWorker, Tokens};
use hooklane_store::catalog::{Catalog, Revision};
use hooklane_store::history::History;
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::followers::{Followers, Heartbeat};
use hooklane_store::vault::Vault;
use hooklane_telemetry::Metrics;
use hooklane_types::Registry;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::info;

use super::loading::{Loaded, Loading};
use super::management;
use super::opening::Opening;
use super::service::Signals;
use super::usage;
use crate::settings::Settings;

/// How long a process waits at its start until the store knows of it.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long a process waits at its end until the store knows.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks whether all have a change.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// While it cannot be looked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A process that follows the store.
pub struct Pod {
    pub loaded: Loaded,
    vault: Arc<Vault>,
    followers: Arc<Followers>,
}

/// Loads what is in the store once: nothing is taken before. Waits for a store that is away, unless there is a snapshot to start with. None
/// when it was told to stop meanwhile.
pub async fn open(
    settings: &Settings,
    base: watch::Receiver<Arc<Registry>>,
    snapshot: Option<PathBuf>,
    opening: &Opening,
    signals: &Signals,
) -> anyhow::Result<Option<Pod>> {
    let postgres = postgres(settings)?;
    let vault = Arc::new(vault(settings)?);
    let loading = Loading {
        postgres,
        vault: vault.clone(),
        organisation: &settings.api.organisation,
        base,
        snapshot,
    };
    let Some(loaded) = loading.run(opening, &signals.stop).await? else {
        return Ok(None);
    };
    Ok(Some(Pod {
        loaded,
        vault,
        followers: Arc::new(Followers::new(postgres)?),
    }))
}

/// The settings of the store, where they are.
pub fn postgres(settings: &Settings) -> anyhow::Result<&PostgresSettings> {
    let postgres = settings.store.postgres.as_ref();
    postgres.ok_or_else(|| {
        usage("no store is set: give --store, HOOKLANE_STORE__URL or `url` in [store], like postgres://user:password@host:5432/database")
    })
}

fn vault(settings: &Settings) -> anyhow::Result<Vault> {
    let section = &settings.api;
    let key = section.encryption_key.as_ref().ok_or_else(|| {
        usage(
            "no `encryption_key` is set in [api] (HOOKLANE_API__ENCRYPTION_KEY): processes that share a store share it; make one with \
             `openssl rand -base64 32`",
        )
    })?;
    let keys = [key].into_iter().chain(&section.encryption_key_before);
    Vault::new(keys.map(|text| text.expose())).context("`encryption_key` in [api] cannot be used")
}

fn tokens(settings: &Settings) -> anyhow::Result<Tokens> {
    let section = &settings.api;
    let secret = section.jwt_secret.as_ref().ok_or_else(|| {
        usage("no `jwt_secret` is set in [api] (HOOKLANE_API__JWT_SECRET): processes that share a store share what signs tokens")
    })?;
    Ok(Tokens::new(section.algorithm, secret.expose())?)
}

impl Pod {
    /// The API on this store: what is changed is answered when every process has it.
    pub fn api(
        &self,
        settings: &Settings,
        history: Option<Arc<dyn History>>,
        queue: management::Queue,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Arc<Api>, RecoveryWorker)> {
        let parts = management::Parts {
            catalog: self.loaded.catalog.clone() as Arc<dyn Catalog>,
            responses: self.loaded.catalog.clone(),
            vault: self.vault.clone(),
            tokens: tokens(settings)?,
            in_force: Arc::new(Everywhere {
                here: self.loaded.followed.applied.clone(),
                followers: self.followers.clone(),
            }),
            history,
            queue,
            process: "hooklane control",
        };
        management::api(settings, parts, &self.loaded.followed, metrics)
    }

    /// Follows changes, and tells the store so, until the stop. Ends when the store knows.
    pub async fn follow(
        self,
        role: &str,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        signals: &Signals,
    ) -> Telling {
        let loaded = self.loaded;
        let stop = || signals.stop.clone();
        loaded.keep(tasks, &signals.stop);
        let heartbeat = Heartbeat {
            followers: self.followers,
            id: format!("{role} {} {:016x}", std::process::id(), rand::random::<u64>()),
            applied: loaded.followed.applied.clone(),
        };
        let following = loaded.follower.follow(stop());
        tasks.spawn(async move {
            following.await;
            Ok(())
        });
        let (known, is_known) = oneshot::channel();
        let mut telling = JoinSet::new();
        telling.spawn(heartbeat.run(known, stop()));
        // A store that is away knows nobody.
        if loaded.is_resumed || timeout(KNOWN_WITHIN, is_known).await.is_err() {
            info!(
                "the store does not know of this process yet: nobody waits for it when something is changed"
            );
        }
        Telling(telling)
    }
}

/// Tells the store of the process, and takes leave of it after the stop.
pub struct Telling(JoinSet<()>);

impl Telling {
    /// Waits for that, a moment.
    pub async fn ended(mut self) {
        let _ = timeout(LEAVE_WITHIN, self.0.join_next()).await;
    }
}

/// All processes that follow the store.
struct Everywhere {
    here: watch::Receiver<Revision>,
    followers: Arc<Followers>,
}

#[async_trait]
impl InForce for Everywhere {
    async fn wait_for(&self, revision: Revision) {
        InForce::wait_for(&self.here, revision).await;
        everywhere(&self.followers, revision).await;
    }
}

/// Waits until every process that lives has this revision, however long that takes.
pub async fn everywhere(followers: &Followers, revision: Revision) {
    loop {
        match followers.behind(revision).await {
            Ok(0) => return,
            Ok(_) => sleep(LOOK_EVERY).await,
            Err(_) => sleep(LOOK_AGAIN).await,
        }
    }
}
