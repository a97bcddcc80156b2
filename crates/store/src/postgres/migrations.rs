//! The tables, and how they became what they are: forward only, each step once, however many processes begin at a time.

use std::time::Duration;

use deadpool_postgres::Client;
use tokio::time::timeout;
use tokio_postgres::Error;

use super::error::{Fault, PostgresError};
use super::pool::Connections;
use super::settings::PostgresSettings;

/// The steps, numbered from 1. One that was released is never changed.
const STEPS: [&str; 6] = [
    include_str!("migrations/0001_catalog.sql"),
    include_str!("migrations/0002_history.sql"),
    include_str!("migrations/0003_followers.sql"),
    include_str!("migrations/0004_claims.sql"),
    include_str!("migrations/0005_published.sql"),
    include_str!("migrations/0006_less_history.sql"),
];
/// The format that they lead to.
const KNOWN: i32 = STEPS.len() as i32;
/// All steps, and waiting for another process that takes them: one that makes the indexes of a long history anew takes a while.
const MIGRATE_MAX: Duration = Duration::from_secs(6 * 3600);

const DOING: &str = "prepare the store's tables";

/// A schema's format, and that of this version; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// What the schema has.
    pub found: i32,
    /// What this version knows.
    pub known: i32,
}

/// Looks, and changes nothing.
///
/// # Errors
/// [`PostgresError`].
pub async fn formats(settings: &PostgresSettings) -> Result<Formats, PostgresError> {
    let connections = Connections::new(settings)?;
    let client = connections
        .get()
        .await
        .map_err(|fault| PostgresError::of("let us in", fault))?;
    let found = connections
        .limit(async { Ok(format(&client, settings.schema()).await?) })
        .await;
    let found: Result<i32, Fault> = connections.put_back(client, found);
    Ok(Formats {
        found: found.map_err(|fault| PostgresError::of("show the store's tables", fault))?,
        known: KNOWN,
    })
}

/// Brings the schema to this version's format: forward only, one process at a time, all steps or none.
///
/// # Errors
/// [`PostgresError`].
pub async fn migrate(settings: &PostgresSettings) -> Result<(), PostgresError> {
    step_to_known(&Connections::new(settings)?, settings).await
}

/// Brings the schema to this version's format. Nothing is written, and no right to write is needed, where that is done.
pub(super) async fn step_to_known(
    connections: &Connections,
    settings: &PostgresSettings,
) -> Result<(), PostgresError> {
    let refused = |fault| PostgresError::of("let us in", fault);
    let mut client = connections.get().await.map_err(refused)?;
    let schema = settings.schema();
    let found = connections
        .limit(async { Ok(format(&client, schema).await?) })
        .await;
    let done = match found {
        Ok(found) if found >= KNOWN => Ok(found),
        Ok(_) => match timeout(MIGRATE_MAX, step_up(&mut client, schema)).await {
            Ok(stepped) => stepped.map_err(Fault::Server),
            Err(_) => Err(Fault::Late(MIGRATE_MAX)),
        },
        Err(fault) => Err(fault),
    };
    let done: Result<i32, Fault> = connections.put_back(client, done);
    match done.map_err(|fault| PostgresError::of(DOING, fault))? {
        found if found > KNOWN => Err(PostgresError::Newer {
            schema: schema.to_owned(),
            found,
            known: KNOWN,
        }),
        _ => Ok(()),
    }
}

/// The format that the schema has now; 0 is none. Asked of the tables: `to_regclass` answers from a cache that may still have, after
/// waiting for the lock, what was true before (measured).
async fn format(client: &tokio_postgres::Client, schema: &str) -> Result<i32, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'migrations')";
    let is_there: bool = client.query_one(sql, &[&schema]).await?.try_get(0)?;
    if !is_there {
        return Ok(0);
    }
    let sql = "SELECT coalesce(max(number), 0) FROM migrations";
    client.query_one(sql, &[]).await?.try_get(0)
}

/// Takes the steps that are missing, in one transaction. One process at a time: the others wait, and find nothing left to do.
async fn step_up(client: &mut Client, schema: &str) -> Result<i32, Error> {
    let transaction = client.transaction().await?;
    let limits = format!(
        "SET LOCAL statement_timeout = {0}; SET LOCAL idle_in_transaction_session_timeout = {0}",
        MIGRATE_MAX.as_millis()
    );
    transaction.batch_execute(&limits).await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('hooklane migrations ' || $1, 0))";
    transaction.execute(lock, &[&schema]).await?;
    let found = format(transaction.client(), schema).await?;
    if found == 0 {
        // Whoever may not make schemas can be given one.
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
        if !transaction
            .query_one(sql, &[&schema])
            .await?
            .try_get::<_, bool>(0)?
        {
            transaction
                .batch_execute(&format!("CREATE SCHEMA {schema}"))
                .await?;
        }
        let sql = "CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";
        transaction.batch_execute(sql).await?;
    }
    for (number, step) in (1..).zip(STEPS) {
        if number > found {
            transaction.batch_execute(step).await?;
            let sql = "INSERT INTO migrations (number) VALUES ($1)";
            transaction.execute(sql, &[&number]).await?;
        }
    }
    transaction.commit().await?;
    Ok(found.max(KNOWN))
}
