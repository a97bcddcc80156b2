//! What is in PostgreSQL is loaded once before anything is taken. A store that is away is waited for, unless there is a snapshot to start with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hooklane_store::catalog::CatalogError;
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::postgres::{PostgresError, PostgresSettings, migrate};
use hooklane_store::registry::{Followed, Follower, LoadError, Snapshot, SnapshotKeeper, Sources};
use hooklane_store::vault::Vault;
use hooklane_types::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::management::explained;
use super::now;
use super::opening::Opening;

/// Between two looks for a store that is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A catalog, and what was read of it.
type Begun = (Arc<PostgresCatalog>, (Follower, Followed));

/// What is loaded, and what it is opened with.
pub struct Loading<'a> {
    pub postgres: &'a PostgresSettings,
    pub vault: Arc<Vault>,
    /// The organisation that speaks where none is named.
    pub organisation: &'a str,
    /// The settings file's registry.
    pub base: watch::Receiver<Arc<Registry>>,
    /// A file that an earlier start has written.
    pub snapshot: Option<PathBuf>,
}

/// What was loaded, and what follows it.
pub struct Loaded {
    pub catalog: Arc<PostgresCatalog>,
    pub followed: Followed,
    pub follower: Follower,
    /// What is there is a snapshot's: the store itself was not reached.
    pub is_resumed: bool,
    postgres: PostgresSettings,
    snapshot: Option<PathBuf>,
}

impl Loading<'_> {
    /// Loads it. None when the process was told to stop meanwhile.
    pub async fn run(self, opening: &Opening, stop: &CancellationToken) -> anyhow::Result<Option<Loaded>> {
        match stop.run_until_cancelled(self.load(opening)).await {
            Some(loaded) => loaded.map(Some),
            None => Ok(None),
        }
    }

    async fn load(self, opening: &Opening) -> anyhow::Result<Loaded> {
        let (mut is_told, mut is_unusable) = (false, false);
        loop {
            let why = match self.load_once().await? {
                Ok((catalog, loaded)) => return Ok(self.loaded(catalog, loaded, false)),
                Err(why) => why,
            };
            let snapshot = self.snapshot.as_deref().filter(|_| !is_unusable);
            if let Some(path) = snapshot {
                match self.resume(path)? {
                    Ok(Some((catalog, resumed))) => {
                        warn!("started with the snapshot of the store, which is away: {why}");
                        return Ok(self.loaded(catalog, resumed, true));
                    }
                    Ok(None) => {}
                    Err(damage) => {
                        is_unusable = true;
                        warn!(path = %path.display(), "the snapshot of the store cannot be used, and the store is waited for: {damage}");
                    }
                }
            }
            opening.waits(&why)?;
            match std::mem::replace(&mut is_told, true) {
                false => warn!("waiting for the store, which is away: {why}"),
                true => debug!("still waiting for the store: {why}"),
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Everything in it; or why it does not answer.
    async fn load_once(&self) -> anyhow::Result<Result<Begun, String>> {
        let catalog = match PostgresCatalog::open(self.postgres).await {
            Ok(catalog) => Arc::new(catalog),
            Err(PostgresError::Unavailable(why)) => return Ok(Err(why)),
            Err(error) => return Err(error.into()),
        };
        match Follower::load(self.sources(&catalog)).await {
            Ok(loaded) => Ok(Ok((catalog, loaded))),
            Err(LoadError::Catalog(CatalogError::Unavailable(why))) => Ok(Err(why)),
            Err(error) => Err(explained(error)),
        }
    }

    /// What is in the snapshot, if there is one; or why it is as good as none. A key that does not open it is an error all the same: with that key
    /// the store would not do either.
    fn resume(&self, path: &Path) -> anyhow::Result<io::Result<Option<Begun>>> {
        let found = match Snapshot::open(path) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        let catalog = Arc::new(PostgresCatalog::later(self.postgres)?);
        match Follower::resume(self.sources(&catalog), found) {
            Ok(resumed) => Ok(Ok(Some((catalog, resumed)))),
            Err(LoadError::Snapshot(damage)) => Ok(Err(damage)),
            Err(error) => Err(explained(error)),
        }
    }

    fn sources(&self, catalog: &Arc<PostgresCatalog>) -> Sources {
        Sources {
            catalog: catalog.clone(),
            vault: self.vault.clone(),
            organisation: self.organisation.to_owned(),
            base: self.base.clone(),
            clock: now,
        }
    }

    fn loaded(
        self,
        catalog: Arc<PostgresCatalog>,
        (follower, followed): (Follower, Followed),
        is_resumed: bool,
    ) -> Loaded {
        Loaded {
            catalog,
            followed,
            follower,
            is_resumed,
            postgres: self.postgres.clone(),
            snapshot: self.snapshot,
        }
    }
}

impl Loaded {
    /// What has to be done beside following: the snapshot is kept as new as what is followed, and a store that was away at the start is brought
    /// to this version's format once it is there.
    pub fn keep(&self, tasks: &mut JoinSet<anyhow::Result<()>>, stop: &CancellationToken) {
        if let Some(path) = self.snapshot.clone() {
            let keeper = SnapshotKeeper {
                catalog: self.catalog.clone(),
                path,
                applied: self.followed.applied.clone(),
            };
            let keeping = keeper.run(stop.clone());
            tasks.spawn(async move {
                keeping.await;
                Ok(())
            });
        }
        if self.is_resumed {
            let (postgres, stop) = (self.postgres.clone(), stop.clone());
            tasks.spawn(async move {
                stop.run_until_cancelled(bring_up(postgres)).await;
                // An essential task that ends would end the process.
                stop.cancelled().await;
                Ok(())
            });
        }
    }
}

async fn bring_up(postgres: PostgresSettings) {
    loop {
        match migrate(&postgres).await {
            Ok(()) => return,
            Err(PostgresError::Unavailable(why)) => debug!("the store is still away: {why}"),
            Err(problem) => {
                error!("the store cannot be used, and what was in the snapshot stays in force: {problem}");
                return;
            }
        }
        sleep(AGAIN_AFTER).await;
    }
}
