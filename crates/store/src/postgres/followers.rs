//! Who routes by the catalog, and by which revision: so that a change is answered when everybody has it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::{Fault, PostgresError};
use super::pool::Connections;
use super::settings::PostgresSettings;
use crate::catalog::{CatalogError, Revision};

/// How often a follower says that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// One that has said nothing for so long is not waited for.
const LIVES_FOR_S: f64 = 10.0;
/// While the store is away.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a clean stop waits for the store.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// The followers of a schema.
pub struct Followers {
    connections: Connections,
}

impl Followers {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`PostgresError::Settings`], [`PostgresError::Unavailable`].
    pub fn new(settings: &PostgresSettings) -> Result<Followers, PostgresError> {
        Ok(Followers {
            connections: Connections::new(settings)?,
        })
    }

    /// How many live followers do not have this revision yet.
    ///
    /// # Errors
    /// [`CatalogError::Unavailable`].
    pub async fn behind(&self, revision: Revision) -> Result<u64, CatalogError> {
        let sql = "SELECT count(*) FROM followers WHERE revision < $1 AND seen_at > now() - make_interval(secs => $2)";
        let behind = self.ask(sql, &[&signed(revision), &LIVES_FOR_S]).await?;
        Ok(u64::try_from(behind).unwrap_or_default())
    }

    /// Says that a follower lives and has this revision; the catalog's newest one then.
    async fn beat(&self, id: &str, revision: Revision) -> Result<Revision, CatalogError> {
        let sql = "WITH told AS (INSERT INTO followers (id, revision, seen_at) VALUES ($1, $2, now()) ON CONFLICT (id) \
                   DO UPDATE SET revision = excluded.revision, seen_at = excluded.seen_at) SELECT revision FROM catalog";
        let newest = self.ask(sql, &[&id, &signed(revision)]).await?;
        Ok(Revision(u64::try_from(newest).unwrap_or_default()))
    }

    /// It has ended in order. So are others that ended otherwise, a day ago.
    async fn end(&self, id: &str) -> Result<(), CatalogError> {
        let sql = "WITH gone AS (DELETE FROM followers WHERE id = $1 OR seen_at < now() - interval '1 day' RETURNING 1) \
                   SELECT count(*) FROM gone";
        self.ask(sql, &[&id]).await.map(drop)
    }

    async fn ask(
        &self,
        sql: &str,
        values: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<i64, CatalogError> {
        let client = self.connections.get().await?;
        let work = async {
            let sql = client.prepare_cached(sql).await?;
            Ok(client.query_one(&sql, values).await?.try_get(0)?)
        };
        let done: Result<i64, Fault> = self.connections.limit(work).await;
        self.connections.put_back(client, done)
    }
}

/// Tells of one follower for as long as it runs.
pub struct Heartbeat {
    /// Where.
    pub followers: Arc<Followers>,
    /// Who. No other process has this id.
    pub id: String,
    /// What it routes by.
    pub applied: watch::Receiver<Revision>,
}

impl Heartbeat {
    /// Until `stop`. Tells `known` when the store knows of it, and it has what was changed before.
    pub async fn run(mut self, known: oneshot::Sender<()>, stop: CancellationToken) {
        let mut known = Some((known, None));
        loop {
            let revision = *self.applied.borrow_and_update();
            let beat = self.followers.beat(&self.id, revision).await;
            let rest = match beat {
                Ok(newest) => {
                    // What was changed before the first beat, nobody waited for.
                    if let Some((_, awaited)) = &mut known {
                        awaited.get_or_insert(newest);
                    }
                    if let Some((tell, _)) =
                        known.take_if(|(_, awaited)| awaited.is_some_and(|awaited| awaited <= revision))
                    {
                        let _ = tell.send(());
                    }
                    BEAT_EVERY
                }
                Err(error) => {
                    debug!(%error, "the store does not hear that this process follows it");
                    AGAIN_AFTER
                }
            };
            let woken = async {
                tokio::select! {
                    Ok(()) = self.applied.changed() => {}
                    () = sleep(rest) => {}
                }
            };
            if stop.run_until_cancelled(woken).await.is_none() {
                break;
            }
        }
        // Late, it is forgotten by its silence.
        let _ = timeout(GONE_WITHIN, self.followers.end(&self.id)).await;
    }
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
