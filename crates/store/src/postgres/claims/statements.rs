//! A batch, and its statements.

use std::collections::HashSet;

use deadpool_postgres::Client;

use super::queue::Op;
use crate::claims::{ClaimError, ClaimWindow, Verdict};
use crate::key::Key;
use crate::postgres::error::Fault;

/// Takes what nobody has. In the order of the keys, in all processes: no two wait for each other.
const CLAIM: &str = "INSERT INTO claims AS c (key, at, settled) SELECT key, now(), false FROM unnest($1::bytea[]) AS a(key) ORDER BY key \
    ON CONFLICT (key) DO UPDATE SET at = excluded.at, settled = false \
    WHERE c.at <= now() - interval '24 hours' OR (NOT c.settled AND c.at <= now() - interval '30 minutes') RETURNING key";
/// What is in work already, for a message that comes again.
const AGAIN: &str = "SELECT key FROM claims WHERE key = ANY($1::bytea[]) AND NOT settled";
/// Also what could not be claimed when it was taken.
const SETTLE: &str = "INSERT INTO claims AS c (key, at, settled) SELECT key, now(), true FROM unnest($1::bytea[]) AS a(key) ORDER BY key \
    ON CONFLICT (key) DO UPDATE SET settled = true WHERE NOT c.settled";
const RELEASE: &str = "DELETE FROM claims WHERE key = ANY($1::bytea[]) AND NOT settled";
const FORGET: &str = "DELETE FROM claims WHERE key IN \
    (SELECT key FROM claims WHERE at <= now() - interval '24 hours' ORDER BY at LIMIT $1 FOR UPDATE SKIP LOCKED)";
/// The server's own guess of the rows: it never counts them.
const MEASURE: &str = "SELECT coalesce(extract(epoch FROM now() - (SELECT min(at) FROM claims)), 0)::float8, \
    (SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'claims'::regclass)";

/// Operations by their keys. Those of one key are of one kind, in their order.
pub(super) struct Batch {
    ops: Vec<Op>,
}

/// What the server said of the claims.
pub(super) struct Verdicts {
    /// Nobody had it: it is the first one's in the batch.
    taken: HashSet<Key>,
    /// Somebody has it, and has not settled it.
    in_work: HashSet<Key>,
}

impl Verdicts {
    /// What the server would say to one claim after the other.
    fn say(&mut self, key: Key, redelivered: bool) -> Verdict {
        if self.taken.remove(&key) {
            self.in_work.insert(key);
            return Verdict::Ours;
        }
        match redelivered && self.in_work.contains(&key) {
            true => Verdict::Ours,
            false => Verdict::Duplicate,
        }
    }
}

impl Batch {
    pub(super) fn of(mut ops: Vec<Op>) -> Batch {
        ops.sort_by_key(|op| op.key().0);
        Batch { ops }
    }

    /// All at once on one connection, which carries out one after the other.
    pub(super) async fn carry_out(&self, client: &Client) -> Result<Verdicts, Fault> {
        let keys = |wanted: &dyn Fn(&Op) -> bool| -> Vec<Vec<u8>> {
            let ops = self.ops.iter().filter(|op| wanted(op));
            let mut keys: Vec<_> = ops.map(|op| op.key().0.to_vec()).collect();
            keys.dedup();
            keys
        };
        let claimed = keys(&|op| matches!(op, Op::Claim { .. }));
        let settled = keys(&|op| matches!(op, Op::Settle { .. }));
        let released = keys(&|op| matches!(op, Op::Release { .. }));
        let (taken, _, _) = tokio::try_join!(
            found(client, CLAIM, &claimed),
            done(client, SETTLE, &settled),
            done(client, RELEASE, &released)
        )?;
        let again =
            keys(&|op| matches!(op, Op::Claim { key, redelivered: true, .. } if !taken.contains(key)));
        let in_work = found(client, AGAIN, &again).await?;
        Ok(Verdicts { taken, in_work })
    }

    /// Tells whoever waits.
    pub(super) fn tell(self, mut verdicts: Verdicts) {
        for op in self.ops {
            match op {
                Op::Claim {
                    key,
                    redelivered,
                    tell,
                } => {
                    let _ = tell.send(Ok(verdicts.say(key, redelivered)));
                }
                Op::Settle { tell, .. } => {
                    let _ = tell.send(());
                }
                Op::Release { .. } => {}
            }
        }
    }

    /// Tells the claims so. What is left is to be tried again.
    pub(super) fn failed(self, why: &str) -> Vec<Op> {
        let mut left = Vec::new();
        for op in self.ops {
            match op {
                Op::Claim { tell, .. } => {
                    let _ = tell.send(Err(ClaimError(why.to_owned())));
                }
                op => left.push(op),
            }
        }
        left
    }
}

async fn found(client: &Client, sql: &str, keys: &Vec<Vec<u8>>) -> Result<HashSet<Key>, Fault> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = client.prepare_cached(sql).await?;
    let mut found = HashSet::new();
    for row in client.query(&sql, &[keys]).await? {
        let key: &[u8] = row.try_get(0)?;
        let key = key
            .try_into()
            .map_err(|_| Fault::Foreign("a claim's key has not 16 bytes".to_owned()))?;
        found.insert(Key(key));
    }
    Ok(found)
}

async fn done(client: &Client, sql: &str, keys: &Vec<Vec<u8>>) -> Result<(), Fault> {
    if keys.is_empty() {
        return Ok(());
    }
    let sql = client.prepare_cached(sql).await?;
    client.execute(&sql, &[keys]).await?;
    Ok(())
}

/// Connects, and prepares what each batch needs: a first batch would take too long otherwise.
pub(super) async fn prepare(client: &Client) -> Result<(), Fault> {
    for sql in [CLAIM, AGAIN, SETTLE, RELEASE] {
        client.prepare_cached(sql).await?;
    }
    Ok(())
}

/// Removes what is too old, up to so many; the window that is left, and whether there may be more to remove.
pub(super) async fn tidy(client: &Client, most: i64) -> Result<(ClaimWindow, bool), Fault> {
    let sql = client.prepare_cached(FORGET).await?;
    let gone = client.execute(&sql, &[&most]).await?;
    let sql = client.prepare_cached(MEASURE).await?;
    let row = client.query_one(&sql, &[]).await?;
    let window = ClaimWindow {
        seconds: row.try_get(0)?,
        entries: u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default(),
    };
    Ok((window, i64::try_from(gone).unwrap_or(i64::MAX) >= most))
}
