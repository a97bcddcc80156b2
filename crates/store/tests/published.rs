//! The suite of published ids, on SQLite and PostgreSQL.

mod suite;

use anyhow::{Result, ensure};
use hooklane_store::postgres::{PostgresPublished, PostgresSettings, migrate};
use hooklane_store::{PUBLISHED_KEPT_MS, Published, PublishedIds};
use hooklane_testkit::eventually;
use hooklane_testkit::postgres::{Database, shared};
use hooklane_types::{ApplicationId, UnixMillis};
use suite::{durable, ids};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const SOON: std::time::Duration = std::time::Duration::from_secs(60);

async fn in_postgres(database: &Database) -> Result<PostgresPublished> {
    let settings = PostgresSettings::parse(database.url())?;
    migrate(&settings).await?;
    Ok(PostgresPublished::new(&settings)?)
}

fn at(ms: i64, request: Option<u8>) -> Published {
    Published {
        accepted_at: UnixMillis(NOW.0 + ms),
        request: request.map(|byte| [byte; 16]),
    }
}

async fn find(store: &dyn PublishedIds, n: u32, now_ms: i64) -> Result<Option<Published>> {
    let (application, event) = ids(n);
    Ok(store
        .find(&application, &event, UnixMillis(NOW.0 + now_ms))
        .await?)
}

async fn keep(store: &dyn PublishedIds, n: u32, published: Published) -> Result<()> {
    let (application, event) = ids(n);
    Ok(store.keep(&application, &event, published).await?)
}

/// What holds for both.
async fn suite(store: &dyn PublishedIds) -> Result<()> {
    ensure!(find(store, 1, 0).await?.is_none());
    keep(store, 1, at(0, Some(7))).await?;
    ensure!(find(store, 1, 1).await? == Some(at(0, Some(7))));
    // Of several the first stays.
    keep(store, 1, at(5, None)).await?;
    ensure!(find(store, 1, 6).await? == Some(at(0, Some(7))));
    ensure!(find(store, 2, 6).await?.is_none());
    // The same id of another application is another.
    let (_, event) = ids(1);
    let other = ApplicationId::parse("app_b")?;
    ensure!(store.find(&other, &event, NOW).await?.is_none());
    // A day, and no longer; then it is free.
    ensure!(find(store, 1, PUBLISHED_KEPT_MS - 1).await?.is_some());
    ensure!(find(store, 1, PUBLISHED_KEPT_MS).await?.is_none());
    keep(store, 1, at(PUBLISHED_KEPT_MS, None)).await?;
    ensure!(find(store, 1, PUBLISHED_KEPT_MS + 1).await? == Some(at(PUBLISHED_KEPT_MS, None)));
    // Many at once, one of them twice.
    let kept = (0..1_000).map(|n| keep(store, 100 + n / 2, at(i64::from(n), None)));
    futures_util::future::try_join_all(kept).await?;
    for n in 100..600 {
        ensure!(find(store, n, 2_000).await?.is_some(), "{n}");
    }
    Ok(())
}

#[tokio::test]
async fn an_id_is_known_for_a_day_after_its_event_was_confirmed_on_sqlite() -> Result<()> {
    let directory = tempfile::tempdir()?;
    suite(&durable(directory.path(), 10_000)?).await
}

#[tokio::test]
async fn an_id_is_known_for_a_day_after_its_event_was_confirmed_on_postgresql() -> Result<()> {
    let database = shared().await?.database().await?;
    let store = in_postgres(&database).await?;
    suite(&store).await?;
    // Whoever shares the schema knows it.
    let other = in_postgres(&database).await?;
    ensure!(find(&other, 100, 2_000).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn old_ids_leave_postgresql() -> Result<()> {
    let database = shared().await?.database().await?;
    let store = in_postgres(&database).await?;
    let now: i64 = database
        .psql("SELECT (extract(epoch FROM now()) * 1000)::bigint")
        .await?
        .parse()?;
    keep(&store, 1, at(now - NOW.0 - PUBLISHED_KEPT_MS - 1_000, None)).await?;
    keep(&store, 2, at(now - NOW.0, None)).await?;
    let _other = in_postgres(&database).await?;
    eventually("the old one to go", SOON, || async {
        let left = database.psql("SELECT count(*) FROM hooklane.published").await?;
        ensure!(left == "1", "{left}");
        Ok(())
    })
    .await?;
    ensure!(find(&store, 2, now - NOW.0).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn the_newest_ids_are_known_after_a_restart_on_sqlite() -> Result<()> {
    // Goal: with room for three, over restarts too; the file does not grow.
    let directory = tempfile::tempdir()?;
    for life in 0..3_u32 {
        let store = durable(directory.path(), 3)?;
        for n in 0..40 {
            keep(&store, life * 40 + n, at(i64::from(life * 40 + n), Some(1))).await?;
        }
        store.shut_down().await;
        drop(store);
        let store = durable(directory.path(), 3)?;
        for n in 0..(life + 1) * 40 {
            let is_known = find(&store, n, 1_000).await?.is_some();
            ensure!(is_known == (n + 3 >= (life + 1) * 40), "{n} in life {life}");
        }
        store.shut_down().await;
    }
    let file = rusqlite::Connection::open(directory.path().join("claims.sqlite"))?;
    let rows: u32 = file.query_row("SELECT count(*) FROM published", [], |row| row.get(0))?;
    ensure!(rows == 3, "{rows}");
    Ok(())
}
