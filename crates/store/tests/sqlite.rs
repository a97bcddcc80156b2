//! What is left of the window in the next process.

mod suite;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hooklane_sqlite::FileError;
use hooklane_store::sqlite::{DurableClaims, FILE};
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
        let error = DurableClaims::open(directory.path(), 10, Default::default());
        let error = error.err().context("it was opened")?;
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
    newer[60..64].copy_from_slice(&2_u32.to_be_bytes());
    let error = refused(&newer)?;
    ensure!(matches!(error, FileError::Newer { found: 2, .. }), "{error}");
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
