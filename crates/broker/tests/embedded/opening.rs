//! Which directories are opened, and what is left of those that are not.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings, FILE, FORMAT, OpenError};
use hooklane_broker::{Broker, Destination, Queue};
use hooklane_sqlite::FileError;
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
