//! The catalog on PostgreSQL, in ways that SQLite does not know: several processes, a server that is away, a silent network.

#[path = "catalog/suite.rs"]
#[allow(dead_code, reason = "the suite runs elsewhere")]
mod suite;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_store::catalog::{Catalog, CatalogError, Document, Kind, Revision};
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::postgres::{PostgresError, PostgresSettings};
use hooklane_testkit::eventually;
use hooklane_testkit::postgres::{Database, Server, shared};
use hooklane_testkit::process::Spawn;
use hooklane_testkit::proxy::Proxy;
use suite::{Follower, draft, now};

/// A second's promise, three times.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
const WAIT: Duration = Duration::from_secs(60);
/// The deadline of a call here, and of its connection.
const CALL_MAX: Duration = Duration::from_secs(1);
/// Both, three times.
const FAILED_WITHIN: Duration = Duration::from_secs(6);

async fn database() -> Result<Database> {
    shared().await?.database().await
}

async fn open(url: &str) -> Result<PostgresCatalog> {
    let mut settings = PostgresSettings::parse(url)?;
    settings.call_max = CALL_MAX;
    settings.connect_max = CALL_MAX;
    Ok(PostgresCatalog::open(&settings).await?)
}

async fn add(catalog: &PostgresCatalog, id: &str) -> Result<Document, CatalogError> {
    catalog
        .insert(draft(Kind::Application, "org_a", id, None), now())
        .await
}

/// Waits until a catalog knows of a revision.
async fn seen(catalog: &PostgresCatalog, revision: Revision) -> Result<()> {
    let mut newest = catalog.newest();
    let waited = tokio::time::timeout(SEEN_WITHIN, newest.wait_for(|newest| *newest >= revision)).await;
    waited
        .with_context(|| format!("{revision:?} is not seen"))?
        .map(drop)?;
    Ok(())
}

/// A call ends in time, and says that the store cannot be asked.
async fn fails_in_time(catalog: &PostgresCatalog) -> Result<()> {
    let begun = Instant::now();
    let error = catalog.get(Kind::Application, "org_a", "app_1").await;
    ensure!(matches!(error, Err(CatalogError::Unavailable(_))), "{error:?}");
    ensure!(begun.elapsed() < FAILED_WITHIN, "after {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_processes_that_begin_at_once_migrate_once() -> Result<()> {
    // Method: this executable, ten times; each opens the store and adds an application.
    let database = database().await?;
    let start = |n: usize| {
        Spawn::program(std::env::current_exe()?)
            .args(["--exact", "helper_opens_and_adds", "--nocapture"])
            .env("HELPER_URL", database.url())
            .env("HELPER_ID", format!("app_{n}"))
            .start()
    };
    let processes = (0..10).map(start).collect::<Result<Vec<_>>>()?;
    for process in &processes {
        let status = process.wait(WAIT).await?;
        ensure!(status.success(), "{:?}", process.output().lines());
    }
    let mut follower = Follower::default();
    follower.follow(&open(database.url()).await?).await?;
    ensure!(follower.known.len() == 10 && follower.at == Revision(10));
    ensure!(
        database
            .psql("SELECT count(*) = max(number) AND count(*) > 1 FROM hooklane.migrations")
            .await?
            == "t"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helper_opens_and_adds() -> Result<()> {
    // Goal: none of its own; a process of the test above, and nothing unless started by it.
    let (Ok(url), Ok(id)) = (std::env::var("HELPER_URL"), std::env::var("HELPER_ID")) else {
        return Ok(());
    };
    // The deadlines that users have: ten at once on a small machine.
    let catalog = PostgresCatalog::open(&PostgresSettings::parse(&url)?).await?;
    add(&catalog, &id).await?;
    Ok(())
}

#[tokio::test]
async fn a_newer_or_foreign_schema_is_refused_and_left_alone() -> Result<()> {
    let database = database().await?;
    drop(open(database.url()).await?);
    database
        .psql("INSERT INTO hooklane.migrations (number) VALUES (7)")
        .await?;
    let settings = PostgresSettings::parse(database.url())?;
    let error = PostgresCatalog::open(&settings).await.err();
    let error = error.context("a newer schema was opened")?;
    ensure!(
        matches!(&error, PostgresError::Newer { found: 7, .. })
            && error.to_string().contains("newer version"),
        "{error}"
    );
    database
        .psql("CREATE SCHEMA theirs; CREATE TABLE theirs.documents (n int)")
        .await?;
    let error = PostgresCatalog::open(&settings.with_schema("theirs")?)
        .await
        .err();
    ensure!(
        matches!(&error, Some(PostgresError::Refused { why, .. }) if why.contains("\"documents\" already exists")),
        "{error:?}"
    );
    let tables = "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'theirs'";
    ensure!(database.psql(tables).await? == "documents");
    Ok(())
}

#[tokio::test]
async fn another_user_needs_no_right_but_to_read_and_write() -> Result<()> {
    // Goal: services run with less than what prepared the tables; where they are missing, the error says what may not be done.
    let server = Server::start().await?;
    let database = server.database().await?;
    database.psql("CREATE ROLE service LOGIN PASSWORD 'p'").await?;
    let url = database.url().replace("hooklane:hooklane", "service:p");
    let refused = async |url: &str, expected: &str| {
        let error = PostgresCatalog::open(&PostgresSettings::parse(url)?).await.err();
        let text = format!("{error:?}");
        ensure!(matches!(error, Some(PostgresError::Refused { .. })), "{text}");
        ensure!(text.contains(expected), "{text}");
        Ok(())
    };
    refused(&url, "permission denied for database").await?;
    refused(
        &url.replace("service:p", "service:wrong"),
        "password authentication failed",
    )
    .await?;
    refused(&format!("{url}_none"), "does not exist").await?;
    drop(open(database.url()).await?);
    database
        .psql("GRANT USAGE ON SCHEMA hooklane TO service; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA hooklane TO service")
        .await?;
    let catalog = open(&url).await?;
    let document = add(&catalog, "app_1").await?;
    catalog.remove(&document.address, now()).await?;
    // A schema that somebody else made for it.
    database.psql("CREATE SCHEMA given AUTHORIZATION service").await?;
    PostgresCatalog::open(&PostgresSettings::parse(&url)?.with_schema("given")?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_by_others_within_a_second_whatever_becomes_of_their_connection() -> Result<()> {
    let database = database().await?;
    let (one, other) = (open(database.url()).await?, open(database.url()).await?);
    for n in 0..5 {
        let document = add(&one, &format!("app_{n}")).await?;
        ensure!(
            *one.newest().borrow() >= document.revision,
            "one's own is not known at once"
        );
        seen(&other, document.revision).await?;
        // Every other time, those who listen have just lost their connections.
        if n % 2 == 1 {
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE application_name = 'hooklane listen' AND datname = current_database()";
            ensure!(
                database.psql(end).await?.parse::<u32>()? >= 1,
                "nobody was listening"
            );
        }
    }
    // What is told is known before anybody looks; looking puts it right again.
    database
        .psql("SELECT pg_notify('hooklane_catalog', '77')")
        .await?;
    let mut newest = other.newest();
    for expected in [Revision(77), Revision(5)] {
        let waited = newest.wait_for(|newest| *newest == expected);
        tokio::time::timeout(SEEN_WITHIN, waited).await??;
    }
    // A change that nobody tells of.
    database
        .psql("UPDATE hooklane.catalog SET revision = 100")
        .await?;
    seen(&other, Revision(100)).await?;
    // A store that was put back from a copy.
    database.psql("UPDATE hooklane.catalog SET revision = 50").await?;
    tokio::time::timeout(SEEN_WITHIN, newest.wait_for(|newest| *newest == Revision(50))).await??;
    // What others write there harms nobody.
    database
        .psql("SELECT pg_notify('hooklane_catalog', 'x'), pg_notify('hooklane_catalog', '-1')")
        .await?;
    let document = add(&one, "app_9").await?;
    seen(&other, document.revision).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_is_found_again_with_all_that_was_answered() -> Result<()> {
    // Goal: calls fail in time while it is away, succeed when it is back, and followers go on. Method: kill -9 under changes, several seconds away.
    let server = Server::start().await?;
    let database = server.database().await?;
    let (one, other) = (open(database.url()).await?, open(database.url()).await?);
    let mut answered = Vec::new();
    let adding = async {
        for n in 0.. {
            match add(&one, &format!("app_{n}")).await {
                Ok(document) => answered.push(document),
                Err(CatalogError::Unavailable(_)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::Ok(())
    };
    let kill = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.kill9().await
    };
    let (added, killed) = tokio::join!(adding, kill);
    added?;
    killed?;
    ensure!(!answered.is_empty(), "nothing was added before the kill");
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        fails_in_time(&one).await?;
        fails_in_time(&other).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.restart().await?;
    let after = eventually("the store", SEEN_WITHIN, || async {
        Ok(add(&one, "after").await?)
    })
    .await?;
    seen(&other, after.revision).await?;
    let mut follower = Follower::default();
    follower.follow(&other).await?;
    for document in answered.iter().chain([&after]) {
        ensure!(
            follower.known.get(&document.address) == Some(document),
            "{document:?} was lost"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_falls_silent_fails_calls_in_time_and_is_left_behind() -> Result<()> {
    // Goal: no connection that waits for ever, neither of a call nor of the one that listens.
    let database = database().await?;
    let proxy = Proxy::start(database.authority()).await?;
    let (near, far) = (
        open(database.url()).await?,
        open(&database.url_by(proxy.address())).await?,
    );
    let first = add(&far, "app_1").await?;
    ensure!(far.get(Kind::Application, "org_a", "app_1").await?.as_ref() == Some(&first));
    proxy.freeze();
    fails_in_time(&far).await?;
    let added = add(&near, "app_2").await?;
    fails_in_time(&far).await?;
    proxy.restore().await;
    ensure!(far.get(Kind::Application, "org_a", "app_2").await?.as_ref() == Some(&added));
    seen(&far, added.revision).await?;
    // Connections at rest, which a firewall forgets: one call fails, and not one for each of them.
    let reads = (0..6).map(|_| far.get(Kind::Application, "org_a", "app_2"));
    for read in futures_util::future::join_all(reads).await {
        ensure!(read?.as_ref() == Some(&added));
    }
    proxy.strand();
    let added = add(&near, "app_3").await?;
    fails_in_time(&far).await?;
    ensure!(far.get(Kind::Application, "org_a", "app_3").await?.as_ref() == Some(&added));
    seen(&far, added.revision).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_others_are_heard_of_is_known_within_seconds_and_not_before_the_first_look() -> Result<()> {
    // Goal: who cannot hear of a change knows that, so that nothing is taken for missing. Method: a network that falls silent, without an error.
    let database = database().await?;
    let proxy = Proxy::start(database.authority()).await?;
    let url = database.url_by(proxy.address());
    let catalog = open(&url).await?;
    let mut hears = catalog.hears();
    ensure!(*hears.borrow(), "it has just answered");
    proxy.freeze();
    tokio::time::timeout(FAILED_WITHIN, hears.wait_for(|is_heard| !is_heard)).await??;
    let mut settings = PostgresSettings::parse(&url)?;
    settings.connect_max = CALL_MAX;
    let later = PostgresCatalog::later(&settings)?;
    tokio::time::sleep(2 * CALL_MAX).await;
    ensure!(!*later.hears().borrow(), "nobody has answered it");
    proxy.restore().await;
    for mut hears in [hears, later.hears()] {
        tokio::time::timeout(FAILED_WITHIN, hears.wait_for(|is_heard| *is_heard)).await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_the_catalog_holds_up_changes_for_their_deadline_and_no_reads() -> Result<()> {
    let database = database().await?;
    let catalog = open(database.url()).await?;
    let first = add(&catalog, "app_1").await?;
    let hold = database.psql("UPDATE hooklane.catalog SET revision = revision; SELECT pg_sleep(4)");
    let meanwhile = async {
        eventually("the lock", WAIT, || async {
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
            ensure!(database.psql(sleeping).await? == "1");
            Ok(())
        })
        .await?;
        let begun = Instant::now();
        let error = add(&catalog, "app_2").await;
        // The server's word, so that the connection can be used again.
        ensure!(
            matches!(&error, Err(CatalogError::Unavailable(why)) if why.contains("statement timeout")),
            "{error:?}"
        );
        ensure!(begun.elapsed() < FAILED_WITHIN, "after {:?}", begun.elapsed());
        ensure!(catalog.get(Kind::Application, "org_a", "app_1").await?.as_ref() == Some(&first));
        anyhow::Ok(())
    };
    let (held, checked) = tokio::join!(hold, meanwhile);
    held?;
    checked?;
    let second = add(&catalog, "app_2").await?;
    ensure!(second.revision == Revision(2), "what failed took a revision");
    Ok(())
}
