//! What is left of the window in the next process.

mod suite;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hooklane_sqlite::{FileError, Stamp};
use hooklane_store::sqlite::{DurableClaims, FILE, FoundClaims};
use hooklane_store::{Claims, Verdict};
use rusqlite::Connection;
use suite::{claim, durable, settle};

/// Claims and settles.
async fn deliver(claims: &DurableClaims, events: impl IntoIterator<Item = u32>) -> Result<()> {
    for n in events {
        ensure!(claim(claims, n, false).await? == Verdict::Ours);
        settle(claims, n).await;
    }
    Ok(())
}

async fn is_repeat(claims: &DurableClaims, n: u32) -> Result<bool> {
    Ok(claim(claims, n, false).await? == Verdict::Duplicate)
}

/// What a process killed now would leave: the file and its log as the system has them.
fn killed(directory: &Path) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for name in [FILE, "claims.sqlite-wal"] {
        fs::copy(directory.join(name), copy.path().join(name))?;
    }
    Ok(copy)
}

#[tokio::test]
async fn what_was_settled_is_there_after_a_kill_and_what_was_not_is_not() -> Result<()> {
    // Goal: at the moment when settling has ended, not later.
    let directory = tempfile::tempdir()?;
    let claims = durable(directory.path(), 100)?;
    deliver(&claims, 1..=50).await?;
    claim(&claims, 51, false).await?;
    let copy = killed(directory.path())?;
    let claims = durable(copy.path(), 100)?;
    for n in 1..=50 {
        ensure!(is_repeat(&claims, n).await?, "{n} was forgotten");
        ensure!(
            claim(&claims, n, true).await? == Verdict::Duplicate,
            "settled is settled"
        );
    }
    ensure!(!is_repeat(&claims, 51).await?);
    Ok(())
}

#[tokio::test]
async fn a_full_window_forgets_the_oldest_over_restarts_too() -> Result<()> {
    // Goal: always the newest three, and a file that does not grow; then with room for fewer.
    let directory = tempfile::tempdir()?;
    for restart in 0..20 {
        let claims = durable(directory.path(), 3)?;
        deliver(&claims, [restart]).await?;
        claims.shut_down().await;
    }
    let claims = durable(directory.path(), 3)?;
    ensure!(claims.window(0).entries == 3);
    for n in 17..20 {
        ensure!(is_repeat(&claims, n).await?, "{n}");
    }
    ensure!(!is_repeat(&claims, 16).await?);
    drop(claims);
    let rows: i64 = Connection::open(directory.path().join(FILE))?.query_row(
        "SELECT count(*) FROM claims",
        [],
        |row| row.get(0),
    )?;
    ensure!(rows <= 4, "{rows} rows");
    let claims = durable(directory.path(), 2)?;
    ensure!(claims.window(0).entries == 2 && is_repeat(&claims, 18).await?);
    Ok(())
}

#[tokio::test]
async fn the_windows_length_goes_on_and_no_clock_makes_it_negative() -> Result<()> {
    // Goal: an id settled an hour ago by the wall clock; and one that a clock set back has put into the future.
    let directory = tempfile::tempdir()?;
    let claims = durable(directory.path(), 10)?;
    deliver(&claims, [1]).await?;
    claims.shut_down().await;
    for (shift_ms, least, most) in [(-3_600_000_i64, 3_600.0, 3_660.0), (7_200_000, 0.0, 60.0)] {
        let connection = Connection::open(directory.path().join(FILE))?;
        connection.execute("UPDATE claims SET settled_at_ms = settled_at_ms + ?1", [shift_ms])?;
        drop(connection);
        let claims = durable(directory.path(), 10)?;
        let seconds = claims.window(0).seconds;
        ensure!((least..most).contains(&seconds), "{seconds}");
        ensure!(claims.window(5_000).seconds == seconds + 5.0);
    }
    Ok(())
}

#[tokio::test]
async fn many_settle_at_once_and_all_are_kept() -> Result<()> {
    // Goal: what waits while a transaction is under way goes into the next; none is missed, none is kept waiting for ever.
    let directory = tempfile::tempdir()?;
    let claims = durable(directory.path(), 10_000)?;
    for n in 0..5_000 {
        claim(&claims, n, false).await?;
    }
    let all = futures_util::future::join_all((0..5_000).map(|n| settle(&claims, n)));
    tokio::time::timeout(std::time::Duration::from_secs(30), all)
        .await
        .context("settling")?;
    let claims = durable(killed(directory.path())?.path(), 10_000)?;
    ensure!(claims.window(0).entries == 5_000);
    Ok(())
}

#[tokio::test]
async fn a_damaged_newer_or_foreign_file_is_refused_and_left_alone() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(FILE);
    let claims = durable(directory.path(), 10_000)?;
    for n in 0..2_000 {
        claim(&claims, n, false).await?;
    }
    futures_util::future::join_all((0..2_000).map(|n| settle(&claims, n))).await;
    claims.shut_down().await;
    let whole = fs::read(&path)?;
    let refused = |bytes: &[u8]| -> Result<FileError> {
        fs::write(&path, bytes)?;
        let error = FoundClaims::look(directory.path());
        let error = error.err().context("it was taken")?;
        ensure!(fs::read(&path)? == bytes, "it was changed: {error}");
        Ok(error)
    };
    let mut damaged = whole.clone();
    let middle = whole.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 4096].fill(0xa5);
    let error = refused(&damaged)?;
    ensure!(
        matches!(&error, FileError::Corrupt { remedy, .. } if remedy.contains("costs no event")),
        "{error}"
    );
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&4_u32.to_be_bytes());
    let error = refused(&newer)?;
    ensure!(matches!(error, FileError::Newer { found: 4, .. }), "{error}");
    for foreign in [&b"my notes"[..], b""] {
        let error = refused(foreign)?;
        ensure!(matches!(error, FileError::Foreign { .. }), "{error}");
    }
    fs::write(&path, &whole)?;
    // A row that is no key of ours.
    let connection = Connection::open(&path)?;
    connection.execute("UPDATE claims SET key = x'00' WHERE seq = 1995", [])?;
    drop(connection);
    let error = refused(&fs::read(&path)?)?;
    ensure!(matches!(error, FileError::Corrupt { .. }), "{error}");
    Ok(())
}

/// As version 1 wrote it: events 1 to 3 are settled, and the last of them stands in the log, as a kill leaves it.
fn version_1(directory: &Path) -> Result<()> {
    let made = tempfile::tempdir()?;
    let connection = Connection::open(made.path().join(FILE))?;
    connection.execute_batch(
        "PRAGMA page_size = 4096;
        BEGIN;
        PRAGMA application_id = 0x484b4c43;
        PRAGMA user_version = 1;
        CREATE TABLE claims (seq INTEGER PRIMARY KEY, key BLOB NOT NULL, settled_at_ms INTEGER NOT NULL);
        COMMIT;
        PRAGMA journal_mode = WAL;",
    )?;
    for (n, key) in VERSION_1_KEYS.into_iter().enumerate() {
        connection.execute(
            "INSERT INTO claims (key, settled_at_ms) VALUES (unhex(?1), 1700000000000)",
            [key],
        )?;
        if n == 1 {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
    }
    for name in [FILE, "claims.sqlite-wal"] {
        fs::copy(made.path().join(name), directory.join(name))?;
    }
    Ok(())
}

/// Those of the suite's events 1 to 3, in hexadecimal.
const VERSION_1_KEYS: [&str; 3] = [
    "6271f57a567b6099a0c12dec574cd3f6",
    "36f9457294c0aff0d7fa43ba40758ff8",
    "6ced1b3e9b505221f011326c0a41cb8c",
];

#[tokio::test]
async fn a_file_of_version_1_is_brought_up_to_date_and_keeps_its_window() -> Result<()> {
    // Goal: what was settled then is a repeat now; the look before changes nothing; it fits a queue without a stamp, and no other.
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    version_1(directory)?;
    let files =
        || -> Result<_> { Ok([FILE, "claims.sqlite-wal"].map(|name| fs::read(directory.join(name)).ok())) };
    let before = files()?;
    let found = FoundClaims::look(directory)?;
    let file = found.file().context("there is one")?;
    ensure!((file.version(), file.becomes()) == (1, Some(3)));
    let error = found.belongs_to(None).err().context("no queue is there")?;
    ensure!(matches!(error, FileError::Unpaired { .. }), "{error}");
    ensure!(files()? == before, "a look changed it");
    drop(found);
    let stamp = Stamp::fresh()?;
    for _ in 0..2 {
        let claims = FoundClaims::look(directory)?.open(&stamp, 100, Default::default())?;
        for n in 1..=3 {
            ensure!(is_repeat(&claims, n).await?, "{n} was forgotten");
        }
        ensure!(!is_repeat(&claims, 4).await?);
        claims.shut_down().await;
        let found = FoundClaims::look(directory)?;
        ensure!(found.stamp() == Some(&stamp) && found.file().is_some_and(|file| file.becomes().is_none()));
    }
    Ok(())
}
