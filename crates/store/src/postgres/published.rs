//! Published ids of all processes that share a schema.
//!
//! Whatever came while one batch was under way goes into the next: a statement for what is looked for, one for what is kept. Commits wait for no
//! disk: a crash of the server may cost the ids of the last moments, which are accepted once more then.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Client;
use hooklane_types::{ApplicationId, EventId, UnixMillis};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::claims::{CALL_MAX, SESSION};
use super::error::{Fault, PostgresError};
use super::pool::Connections;
use super::settings::PostgresSettings;
use crate::claims::ClaimError;
use crate::key::Key;
use crate::published::{PUBLISHED_KEPT_MS, Published, PublishedIds};

/// Most of a batch.
const BATCH_MAX: usize = 500;
/// Most that waits for one; more is not asked for.
const WAITING_MAX: usize = 5_000;
/// Between two looks for ids that are too old.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Most of them that go with one statement.
const TIDY_MAX: i64 = 1_000;

const FIND: &str = "SELECT key, accepted_at_ms, request FROM published WHERE key = ANY($1::bytea[])";
/// In the order of the keys, in all processes: no two wait for each other.
const KEEP: &str = "INSERT INTO published AS p (key, accepted_at_ms, request) \
    SELECT key, accepted_at_ms, request FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS a(key, accepted_at_ms, request) ORDER BY key \
    ON CONFLICT (key) DO UPDATE SET accepted_at_ms = excluded.accepted_at_ms, request = excluded.request \
    WHERE p.accepted_at_ms <= excluded.accepted_at_ms - $4::bigint";
const FORGET: &str = "DELETE FROM published WHERE key IN \
    (SELECT key FROM published WHERE accepted_at_ms <= (extract(epoch FROM now()) * 1000)::bigint - $1::bigint \
    ORDER BY accepted_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)";

type Told<T> = oneshot::Sender<Result<T, ClaimError>>;

enum Op {
    Find {
        key: Key,
        tell: Told<Option<Published>>,
    },
    Keep {
        key: Key,
        published: Published,
        tell: Told<()>,
    },
}

/// Published ids in a schema.
pub struct PostgresPublished {
    ops: mpsc::Sender<Op>,
    /// They end with this.
    _tasks: JoinSet<()>,
}

impl PostgresPublished {
    /// Connects to nothing yet, and brings the schema to no format. To be called within the runtime that it is used in.
    ///
    /// # Errors
    /// [`PostgresError::Settings`], [`PostgresError::Unavailable`].
    pub fn new(settings: &PostgresSettings) -> Result<PostgresPublished, PostgresError> {
        let mut settings = settings.clone();
        settings.connections_max = 1;
        settings.connect_max = settings.connect_max.min(CALL_MAX);
        settings.call_max = settings.call_max.min(CALL_MAX);
        let (ops, waiting) = mpsc::channel(WAITING_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(work(Connections::with(&settings, SESSION)?, waiting));
        tasks.spawn(tidy(Connections::with(&settings, SESSION)?));
        Ok(PostgresPublished { ops, _tasks: tasks })
    }

    async fn ask<T>(&self, op: Op, told: oneshot::Receiver<Result<T, ClaimError>>) -> Result<T, ClaimError> {
        let not_asked = |why: &str| ClaimError(why.to_owned());
        self.ops
            .try_send(op)
            .map_err(|_| not_asked("too many ids wait for the store"))?;
        told.await
            .unwrap_or_else(|_| Err(not_asked("the store is not asked any more")))
    }
}

#[async_trait]
impl PublishedIds for PostgresPublished {
    async fn find(
        &self,
        application: &ApplicationId,
        event: &EventId,
        now: UnixMillis,
    ) -> Result<Option<Published>, ClaimError> {
        let key = Key::of(application, event);
        let (tell, told) = oneshot::channel();
        let found = self.ask(Op::Find { key, tell }, told).await?;
        Ok(found.filter(|found| !found.is_over(now)))
    }

    async fn keep(
        &self,
        application: &ApplicationId,
        event: &EventId,
        published: Published,
    ) -> Result<(), ClaimError> {
        let key = Key::of(application, event);
        let (tell, told) = oneshot::channel();
        let op = Op::Keep { key, published, tell };
        self.ask(op, told).await
    }
}

/// Batch after batch.
async fn work(connections: Connections, mut waiting: mpsc::Receiver<Op>) {
    // Where that fails the first batch says so.
    let _: Result<(), Fault> = async {
        let client = connections.get().await?;
        let done = connections.limit(prepare(&client)).await;
        connections.put_back(client, done)
    }
    .await;
    let mut ops = Vec::new();
    while waiting.recv_many(&mut ops, BATCH_MAX).await > 0 {
        // Nobody waits for these looks any more.
        ops.retain(|op| !matches!(op, Op::Find { tell, .. } if tell.is_closed()));
        let done: Result<_, Fault> = async {
            let client = connections.get().await?;
            let done = connections.limit(carry_out(&client, &ops)).await;
            connections.put_back(client, done)
        }
        .await;
        let done = done.map_err(|fault| ClaimError(fault.to_string()));
        for op in ops.drain(..) {
            let done = done.as_ref().map_err(Clone::clone);
            match op {
                Op::Find { key, tell } => drop(tell.send(done.map(|found| found.get(&key).copied()))),
                Op::Keep { tell, .. } => drop(tell.send(done.map(drop))),
            }
        }
    }
}

/// What a batch finds. Both statements at once on one connection, which carries out one after the other.
async fn carry_out(client: &Client, ops: &[Op]) -> Result<HashMap<Key, Published>, Fault> {
    let (found, ()) = tokio::try_join!(find(client, ops), keep(client, ops))?;
    Ok(found)
}

async fn find(client: &Client, ops: &[Op]) -> Result<HashMap<Key, Published>, Fault> {
    let wanted = ops.iter().filter_map(|op| match op {
        Op::Find { key, .. } => Some(&key.0[..]),
        Op::Keep { .. } => None,
    });
    let wanted: Vec<&[u8]> = wanted.collect();
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let sql = client.prepare_cached(FIND).await?;
    for row in client.query(&sql, &[&wanted]).await? {
        let wrong = |what: &str| Fault::Foreign(format!("a published id has no {what}"));
        let key: &[u8] = row.try_get(0)?;
        let key = Key(key.try_into().map_err(|_| wrong("key of 16 bytes"))?);
        let request: Option<&[u8]> = row.try_get(2)?;
        let request = request.map(TryInto::try_into).transpose();
        let published = Published {
            accepted_at: UnixMillis(row.try_get(1)?),
            request: request.map_err(|_| wrong("hash of 16 bytes"))?,
        };
        found.insert(key, published);
    }
    Ok(found)
}

async fn keep(client: &Client, ops: &[Op]) -> Result<(), Fault> {
    let (mut keys, mut times, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for op in ops {
        // A statement changes no row twice.
        if let Op::Keep { key, published, .. } = op
            && seen.insert(*key)
        {
            keys.push(&key.0[..]);
            times.push(published.accepted_at.0);
            requests.push(published.request.as_ref().map(|request| &request[..]));
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    let sql = client.prepare_cached(KEEP).await?;
    client
        .execute(&sql, &[&keys, &times, &requests, &PUBLISHED_KEPT_MS])
        .await?;
    Ok(())
}

async fn prepare(client: &Client) -> Result<(), Fault> {
    for sql in [FIND, KEEP] {
        client.prepare_cached(sql).await?;
    }
    Ok(())
}

/// Removes what is too old.
async fn tidy(connections: Connections) {
    loop {
        let gone: Result<u64, Fault> = async {
            let client = connections.get().await?;
            let work = async {
                let sql = client.prepare_cached(FORGET).await?;
                Ok(client.execute(&sql, &[&PUBLISHED_KEPT_MS, &TIDY_MAX]).await?)
            };
            let done = connections.limit(work).await;
            connections.put_back(client, done)
        }
        .await;
        match gone {
            Ok(gone) if i64::try_from(gone).unwrap_or(i64::MAX) >= TIDY_MAX => continue,
            Ok(_) => {}
            Err(fault) => tracing::debug!("old ids stay for now: {fault}"),
        }
        sleep(TIDY_EVERY).await;
    }
}
