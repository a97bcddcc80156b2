//! The catalog as ingest and dispatchers know it: in memory, and followed.

mod fresh;
mod keys;
mod snapshot;
mod state;

use std::sync::Arc;
use std::time::Duration;

use hooklane_types::{Registry, RegistryError, UnixMillis};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use self::keys::Keys;
pub use self::snapshot::{Snapshot, SnapshotKeeper};
use self::state::State;
use crate::catalog::{Catalog, CatalogError, Change, Revision};
use crate::vault::Vault;

/// While the catalog cannot be asked.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Changes that come within this time take force together.
const REST: Duration = Duration::from_millis(20);
/// The wall clock is looked at so often for secrets whose time is over; it may have been set.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Why there is no registry to start with.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The catalog does not answer.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The settings file has an endpoint of the same id.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The file cannot be read, or is not whole.
    #[error("the snapshot of the store cannot be used: {0}")]
    Snapshot(#[source] std::io::Error),
    /// Documents cannot be used: mostly, their secrets were sealed with another key.
    #[error("{count} of the store's endpoints cannot be used; the first: {first}")]
    Unusable {
        /// How many.
        count: usize,
        /// What is wrong with the first.
        first: String,
    },
}

/// What others see of it.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The newest registry.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// The catalog's revision that it has.
    pub applied: watch::Receiver<Revision>,
    /// What it has beside the catalog.
    pub base: watch::Receiver<Arc<Registry>>,
    /// Who may use the API, beside whoever holds a token that is signed.
    pub keys: watch::Receiver<Arc<Keys>>,
    /// Whether all that is as new as the catalog. While it is false, what is not in it may be there all the same: it is not known yet. To be
    /// looked at before what it speaks of.
    pub is_current: watch::Receiver<bool>,
}

/// What a registry is made from.
pub struct Sources {
    /// Applications and endpoints of organisations.
    pub catalog: Arc<dyn Catalog>,
    /// Opens the secrets in it.
    pub vault: Arc<Vault>,
    /// The organisation that speaks where none is named.
    pub organisation: String,
    /// What is there beside the catalog: the settings file's.
    pub base: watch::Receiver<Arc<Registry>>,
    /// The wall clock: secrets end by it.
    pub clock: fn() -> UnixMillis,
}

/// Keeps a registry as new as its sources.
pub struct Follower {
    sources: Sources,
    state: State,
    at: Revision,
    registry: watch::Sender<Arc<Registry>>,
    applied: watch::Sender<Revision>,
    base: watch::Sender<Arc<Registry>>,
    keys: watch::Sender<Arc<Keys>>,
    is_current: watch::Sender<bool>,
    /// What is known could not be put in force: the settings file has an endpoint of the same id.
    is_held_up: bool,
}

impl Follower {
    /// Loads everything once.
    ///
    /// # Errors
    /// See [`LoadError`]. Nothing is served from a part of the catalog: what waits for the rest would be given up.
    pub async fn load(sources: Sources) -> Result<(Follower, Followed), LoadError> {
        let mut state = State::new(sources.vault.clone(), sources.organisation.clone());
        let now = (sources.clock)();
        let mut problems = Vec::new();
        let mut apply = |change| problems.extend(state.apply(change, now));
        let at = sources.catalog.changes(Revision::NONE, &mut apply).await?;
        Follower::begin(sources, state, (at, true), &problems)
    }

    /// Begins with what was in a file; what has changed since is followed once the catalog answers.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn resume(sources: Sources, snapshot: Snapshot) -> Result<(Follower, Followed), LoadError> {
        let mut state = State::new(sources.vault.clone(), sources.organisation.clone());
        let now = (sources.clock)();
        let mut problems = Vec::new();
        let mut put = |document| problems.extend(state.apply(Change::Put(document), now));
        let at = snapshot.tell(&mut put).map_err(LoadError::Snapshot)?;
        Follower::begin(sources, state, (at, false), &problems)
    }

    fn begin(
        sources: Sources,
        mut state: State,
        (at, is_current): (Revision, bool),
        problems: &[String],
    ) -> Result<(Follower, Followed), LoadError> {
        if let Some(first) = problems.first() {
            return Err(LoadError::Unusable {
                count: problems.len(),
                first: first.clone(),
            });
        }
        state.finish((sources.clock)());
        let base = sources.base.borrow().clone();
        let first = state.registry(&base)?;
        let (registry, seen) = watch::channel(Arc::new(first));
        let (applied, at_seen) = watch::channel(at);
        let (base, base_seen) = watch::channel(base);
        let (keys, keys_seen) = watch::channel(Arc::new(state.keys().clone()));
        let (is_current, current_seen) = watch::channel(is_current);
        let follower = Follower {
            sources,
            state,
            at,
            registry,
            applied,
            base,
            keys,
            is_current,
            is_held_up: false,
        };
        let followed = Followed {
            registry: seen,
            applied: at_seen,
            base: base_seen,
            keys: keys_seen,
            is_current: current_seen,
        };
        Ok((follower, followed))
    }

    /// Follows until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        let mut newest = self.sources.catalog.newest();
        let mut hears = self.sources.catalog.hears();
        let mut base = self.sources.base.clone();
        let mut is_away = false;
        loop {
            // Looked at first: what is changed from here on is heard of.
            let is_heard = *hears.borrow_and_update();
            if !is_heard {
                self.tell_current(false);
            }
            let caught_up = self.catch_up().await;
            self.tell_current(is_heard && caught_up.is_ok() && !self.is_held_up);
            match caught_up {
                Ok(()) if is_away => {
                    is_away = false;
                    info!("the store answers again; its endpoints are in force");
                }
                Ok(()) => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_away, true) {
                        warn!("the endpoints in force stay, and changes wait: {error}");
                    }
                }
            }
            let pause = if is_away { AGAIN_AFTER } else { REST };
            let next_end = self
                .state
                .next_end((self.sources.clock)())
                .unwrap_or(LOOK_MAX)
                .min(LOOK_MAX);
            let woken = async {
                sleep(pause).await;
                // A sender that is gone wakes nobody, and time goes on.
                let changed = async {
                    while newest
                        .wait_for(|newest| is_away || *newest != self.at)
                        .await
                        .is_err()
                    {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    () = changed => {}
                    Ok(()) = base.changed() => {}
                    Ok(()) = hears.changed() => {}
                    () = sleep(next_end) => {}
                }
            };
            if stop.run_until_cancelled(woken).await.is_none() {
                return;
            }
        }
    }

    /// Applies what has changed, and lets secrets end.
    async fn catch_up(&mut self) -> Result<(), CatalogError> {
        let now = (self.sources.clock)();
        let (state, mut told) = (&mut self.state, 0);
        let mut apply = |change| {
            told += 1;
            if let Some(problem) = state.apply(change, now) {
                error!("an endpoint stays as it was: {problem}");
            }
        };
        let at = self.sources.catalog.changes(self.at, &mut apply).await;
        // What was told before an error is told again, and does no harm: but an "everything" that was cut short must not count.
        let at = at.inspect_err(|_| self.state.forget_pending())?;
        let has_ended = self.state.finish(now);
        let is_changed =
            has_ended || told > 0 || self.is_held_up || self.sources.base.has_changed().unwrap_or(false);
        if is_changed {
            let base = self.sources.base.borrow_and_update().clone();
            let made = self.state.registry(&base);
            self.is_held_up = made.is_err();
            match made {
                Ok(registry) => {
                    self.registry.send_replace(Arc::new(registry));
                    self.base.send_if_modified(|taken| {
                        let is_new = !Arc::ptr_eq(taken, &base);
                        *taken = base.clone();
                        is_new
                    });
                }
                Err(error) => error!("the endpoints in force stay: {error}"),
            }
        }
        self.keys.send_if_modified(|keys| {
            let is_new = **keys != *self.state.keys();
            if is_new {
                *keys = Arc::new(self.state.keys().clone());
            }
            is_new
        });
        self.at = at;
        self.applied
            .send_if_modified(|applied| std::mem::replace(applied, at) != at);
        Ok(())
    }

    /// Comes after what it speaks of, when it becomes true.
    fn tell_current(&self, is_current: bool) {
        self.is_current
            .send_if_modified(|told| std::mem::replace(told, is_current) != is_current);
    }
}
