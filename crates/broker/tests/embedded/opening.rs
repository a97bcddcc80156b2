//! Which directories are opened, and what is left of those that are not.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hooklane_broker::embedded::{
    Drain, EmbeddedBroker, EmbeddedSettings, FILE, FORMAT, LockedDirectory, OpenError, inspect,
};
use hooklane_broker::{Broker, Destination, Queue};
use hooklane_sqlite::{FileError, Stamp};
use rusqlite::Connection;

use crate::suite::{PATIENCE, internal, next, options};

/// A directory with a closed queue of this many messages in it.
async fn filled(messages: usize) -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    for number in 0..messages {
        broker
            .publish(
                Destination::IngestedEvents,
                internal(format!("{number} {}", "x".repeat(3_000))),
                PATIENCE,
            )
            .await?;
    }
    broker.shut_down().await;
    Ok(directory)
}

/// The names in it, with their contents.
fn contents(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // The lock file is ours in any case.
        if name != "queue.lock" {
            found.push((name, fs::read(entry.path())?));
        }
    }
    found.sort();
    Ok(found)
}

/// It is refused, and nothing in it is changed.
fn refused(directory: &Path) -> Result<OpenError> {
    let before = contents(directory)?;
    let error = match EmbeddedBroker::open(EmbeddedSettings::new(directory)) {
        Ok(_) => anyhow::bail!("it was opened"),
        Err(error) => error,
    };
    ensure!(contents(directory)? == before, "it was changed: {error}");
    Ok(error)
}

fn edit(directory: &Path, sql: &str) -> Result<()> {
    let connection = Connection::open(directory.join(FILE))?;
    connection.execute_batch(sql)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_opener_is_told_who_holds_the_directory() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut settings = EmbeddedSettings::new(directory.path());
    settings.holder = "hooklane serve".to_owned();
    let broker = EmbeddedBroker::open(settings.clone())?;
    let error = EmbeddedBroker::open(settings.clone())
        .err()
        .context("opened twice")?;
    let words = error.to_string();
    ensure!(
        words.contains(&format!("process {} (hooklane serve)", std::process::id())),
        "{words}"
    );
    broker.shut_down().await;
    // The lock is free once it says that it has ended, though handles of it are still there.
    let again = EmbeddedBroker::open(settings.clone())?;
    drop(again);
    EmbeddedBroker::open(settings)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_refused() -> Result<()> {
    let directory = filled(1).await?;
    edit(directory.path(), &format!("PRAGMA user_version = {}", FORMAT + 1))?;
    let error = refused(directory.path())?;
    ensure!(
        matches!(error, OpenError::File(FileError::Newer { found, .. }) if found == FORMAT + 1),
        "{error}"
    );
    ensure!(error.to_string().contains("use the newer version"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_ours_are_refused_and_left_alone() -> Result<()> {
    // Goal: somebody's notes, an empty file, another program's database, the log of a file that is gone.
    for bytes in [&b"my notes"[..], b"", &[0; 4096]] {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join(FILE), bytes)?;
        let error = refused(directory.path())?;
        ensure!(
            matches!(error, OpenError::File(FileError::Foreign { .. })),
            "{error}"
        );
        ensure!(!directory.path().join("queue.lock").exists());
    }
    let directory = tempfile::tempdir()?;
    edit(
        directory.path(),
        "CREATE TABLE other (x); PRAGMA user_version = 1",
    )?;
    let error = refused(directory.path())?;
    ensure!(
        matches!(error, OpenError::File(FileError::Foreign { .. })),
        "{error}"
    );
    let directory = filled(1).await?;
    edit(directory.path(), "DROP TABLE suspects")?;
    let error = refused(directory.path())?;
    ensure!(
        matches!(error, OpenError::File(FileError::Foreign { .. })),
        "{error}"
    );
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("queue.sqlite-wal"), "a log")?;
    let error = refused(directory.path())?;
    ensure!(
        matches!(error, OpenError::File(FileError::Foreign { .. })),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_refused_and_left_alone() -> Result<()> {
    // Goal: cut off, and overwritten in the middle; both are seen before anything is taken from it.
    let directory = filled(200).await?;
    let path = directory.path().join(FILE);
    let whole = fs::read(&path)?;
    fs::write(&path, &whole[..whole.len() / 2])?;
    let error = refused(directory.path())?;
    ensure!(
        matches!(error, OpenError::File(FileError::Corrupt { .. })),
        "{error}"
    );
    let mut damaged = whole.clone();
    let middle = whole.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 4096].fill(0xa5);
    fs::write(&path, &damaged)?;
    let error = refused(directory.path())?;
    ensure!(
        matches!(error, OpenError::File(FileError::Corrupt { .. })),
        "{error}"
    );
    ensure!(error.to_string().contains("restore it from a copy"), "{error}");
    fs::write(&path, &whole)?;
    EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_file_keeps_its_log() -> Result<()> {
    // Goal: what a killed process left behind in the log is not written into a file that is damaged. By copies of a running one.
    let directory = filled(200).await?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    for _ in 0..100 {
        broker
            .publish(Destination::IngestedEvents, internal(vec![b'x'; 3_000]), PATIENCE)
            .await?;
    }
    let copy = tempfile::tempdir()?;
    for name in [FILE, "queue.sqlite-wal"] {
        fs::copy(directory.path().join(name), copy.path().join(name))?;
    }
    let path = copy.path().join(FILE);
    let mut bytes = fs::read(&path)?;
    // A page that the log does not have.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes)?;
    let log = fs::read(copy.path().join("queue.sqlite-wal"))?;
    ensure!(log.len() > 100 * 3_000);
    let error = refused(copy.path())?;
    ensure!(
        matches!(error, OpenError::File(FileError::Corrupt { .. })),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_making_that_was_interrupted_is_made_again() -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("queue.sqlite.new"), "half")?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await?;
    let mut consumption = broker.consume(Queue::Events, options(1));
    next(&mut consumption).await?.ack.ack().await?;
    ensure!(!directory.path().join("queue.sqlite.new").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_the_directory_is_for_its_owner_only() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir()?;
    let directory = parent.path().join("a").join("b");
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(&directory))?;
    broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await?;
    let mode = |path: &Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o777) };
    ensure!(mode(&directory)? == 0o700);
    for name in [FILE, "queue.sqlite-wal", "queue.lock"] {
        ensure!(mode(&directory.join(name))? == 0o600, "{name}");
    }
    Ok(())
}

/// As version 1 wrote it: two events and a dead letter, a delivery that is due, an event that was delivered twice; with the last of them in the
/// log, as a kill leaves it.
fn version_1(directory: &Path) -> Result<()> {
    let made = tempfile::tempdir()?;
    let connection = Connection::open(made.path().join(FILE))?;
    connection.execute_batch(
        "PRAGMA page_size = 4096;
        BEGIN;
        PRAGMA application_id = 0x484b4c51;
        PRAGMA user_version = 1;
        CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), next_seq INTEGER NOT NULL, now_ms INTEGER NOT NULL,
            boot TEXT NOT NULL, uptime_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL);
        CREATE TABLE queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL, messages INTEGER NOT NULL, bytes INTEGER NOT NULL,
            mark INTEGER NOT NULL);
        CREATE TABLE delayed (seq INTEGER PRIMARY KEY, level INTEGER NOT NULL, due_ms INTEGER NOT NULL, body BLOB NOT NULL);
        CREATE INDEX delayed_due ON delayed (due_ms, level);
        CREATE TABLE delivery_counts (queue INTEGER NOT NULL, seq INTEGER NOT NULL, deliveries INTEGER NOT NULL,
            PRIMARY KEY (queue, seq)) WITHOUT ROWID;
        CREATE TABLE probe (filler BLOB NOT NULL);
        CREATE TABLE events (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
        CREATE TABLE ordered (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
        CREATE TABLE deliveries (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
        CREATE TABLE suspects (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
        CREATE TABLE dead (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
        CREATE TABLE faults (seq INTEGER PRIMARY KEY, way INTEGER NOT NULL, head BLOB, body BLOB NOT NULL);
        INSERT INTO queues VALUES (0, 'events', 2, 10, 0), (1, 'ordered', 0, 0, 0), (2, 'deliveries', 0, 0, 0),
            (3, 'suspects', 0, 0, 0), (4, 'dead', 1, 6, 0), (5, 'faults', 0, 0, 0);
        COMMIT;
        PRAGMA journal_mode = WAL;
        INSERT INTO events VALUES (1, 0, NULL, CAST('first' AS BLOB));
        INSERT INTO dead VALUES (2, 2, NULL, CAST('letter' AS BLOB));
        INSERT INTO delayed VALUES (3, 0, 0, CAST('due' AS BLOB));",
    )?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.execute_batch(
        "INSERT INTO state VALUES (1, 5, 1, 'a boot', 1, 1);
        INSERT INTO events VALUES (4, 0, NULL, CAST('again' AS BLOB));
        INSERT INTO delivery_counts VALUES (0, 4, 2);",
    )?;
    for name in [FILE, "queue.sqlite-wal"] {
        fs::copy(made.path().join(name), directory.join(name))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_version_1_is_brought_up_to_date_and_keeps_its_messages() -> Result<()> {
    // Goal: the look before changes nothing; then everything is there, with its order and its count, also when it is opened again.
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    version_1(directory.path())?;
    let before = contents(directory.path())?;
    let found = inspect(directory.path())?;
    let queue = found.queue().context("a queue")?;
    ensure!((queue.version(), queue.becomes()) == (1, Some(FORMAT)));
    drop(found);
    drop(LockedDirectory::lock(settings.clone())?);
    ensure!(contents(directory.path())? == before, "a look changed it");
    drop(EmbeddedBroker::open(settings.clone())?);
    ensure!(
        inspect(directory.path())?
            .queue()
            .is_some_and(|queue| queue.becomes().is_none())
    );
    let broker = EmbeddedBroker::open(settings)?;
    let mut events = broker.consume(Queue::Events, options(2));
    for (body, deliveries) in [("first", 0), ("again", 2)] {
        let incoming = next(&mut events).await?;
        ensure!(
            incoming.message.body == body && incoming.delivery_count == deliveries,
            "{:?}, {}",
            incoming.message.body,
            incoming.delivery_count
        );
        incoming.ack.ack().await?;
    }
    let mut deliveries = broker.consume(Queue::Deliveries, options(2));
    let incoming = next(&mut deliveries).await?;
    ensure!(incoming.message.body == "due");
    incoming.ack.ack().await?;
    ensure!(broker.depth(Queue::Dead).await?.messages == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_version_2_or_3_gets_the_queues_into_the_history() -> Result<()> {
    // Goal: as those versions left it, without them; then they take messages, and the stamps are what they were.
    gets_history(
        "DROP TABLE contents; DROP TABLE records; DROP TABLE deaths; DELETE FROM queues WHERE id > 5; PRAGMA user_version = 2",
    )
    .await?;
    gets_history("DROP TABLE deaths; DELETE FROM queues WHERE id > 7; PRAGMA user_version = 3").await
}

/// A queue that was made like this gets what it lacks.
async fn gets_history(made: &str) -> Result<()> {
    let directory = filled(2).await?;
    let stamps = || -> Result<_> { inspect(directory.path())?.stamps().cloned().context("stamps") };
    let before = stamps()?;
    edit(directory.path(), made)?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    ensure!(broker.depth(Queue::Events).await?.messages == 2);
    for queue in [Queue::Contents, Queue::Records, Queue::Deaths] {
        let to = Destination::Internal(queue);
        broker.publish(to, internal("a record"), PATIENCE).await?;
        ensure!(broker.depth(queue).await?.messages == 1);
    }
    broker.shut_down().await;
    ensure!(stamps()? == before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_start_with_claims_renews_the_stamp() -> Result<()> {
    // Goal: a new queue fits nothing that was there before; opening, draining and looking leave stamps alone; and a start that ended before it
    // wrote to the claims leaves a queue that still fits them.
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    drop(EmbeddedBroker::open(settings.clone())?);
    let stamps = || -> Result<_> { inspect(directory.path())?.stamps().cloned().context("stamps") };
    let born = stamps()?;
    ensure!(!born.fit(&Stamp::fresh()?));
    drop(EmbeddedBroker::open(settings.clone())?);
    drop(Drain::open(&settings)?);
    drop(LockedDirectory::lock(settings.clone())?.open()?);
    ensure!(stamps()? == born);
    let first = LockedDirectory::lock(settings.clone())?
        .open()?
        .renew_stamp(None)?;
    ensure!(stamps()?.fit(&first) && stamps()? != born);
    let second = LockedDirectory::lock(settings.clone())?
        .open()?
        .renew_stamp(Some(&first))?;
    ensure!(stamps()?.fit(&first) && stamps()?.fit(&second) && first != second);
    let third = LockedDirectory::lock(settings)?
        .open()?
        .renew_stamp(Some(&first))?;
    ensure!(stamps()?.fit(&first) && stamps()?.fit(&third) && !stamps()?.fit(&second));
    Ok(())
}
