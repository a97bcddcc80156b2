//! What is left in `history.sqlite`, for the next process and for whoever looks at the file.

#[path = "history/made.rs"]
#[expect(dead_code, reason = "the suite needs more of it")]
mod made;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use hooklane_store::history::{Decision, History, Record, Recorded};
use hooklane_store::sqlite::history::{FILE, SqliteHistory, find, inspect};
use hooklane_types::Event;
use made::{application, attempt, delivery, event, event_id, now};

async fn record(history: &SqliteHistory, records: Vec<Record>) -> Result<()> {
    ensure!(history.record(Arc::from(records), now()).await? == Recorded::default());
    Ok(())
}

fn contains(directory: &Path, text: &[u8]) -> Result<bool> {
    for name in [FILE.to_owned(), format!("{FILE}-wal")] {
        match std::fs::read(directory.join(name)) {
            Ok(bytes) if bytes.windows(text.len()).any(|found| found == text) => return Ok(true),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_for_the_next_process() -> Result<()> {
    // Also where this one was killed: a copy of the files, taken while it runs, is what a kill leaves.
    let (directory, killed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    ensure!(!find(directory.path())? && inspect(directory.path())?.is_none());
    let history = SqliteHistory::open(directory.path())?;
    record(&history, vec![Record::Event(event("msg_1", 0))]).await?;
    for name in [FILE.to_owned(), format!("{FILE}-wal")] {
        std::fs::copy(directory.path().join(&name), killed.path().join(&name))?;
    }
    drop(history);
    for directory in [directory.path(), killed.path()] {
        ensure!(find(directory)? && inspect(directory)?.is_some());
        let history = SqliteHistory::open(directory)?;
        ensure!(
            history
                .event(&application("app"), &event_id("msg_1"))
                .await?
                .is_some()
        );
        // And can be written again.
        record(
            &history,
            vec![Record::Event(event("msg_1", 0)), Record::Event(event("msg_2", 0))],
        )
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_file_is_refused_and_left_alone() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(FILE);
    std::fs::write(&path, "not ours")?;
    let Err(error) = SqliteHistory::open(directory.path()) else {
        bail!("it was opened");
    };
    ensure!(
        error.to_string().contains("is not a history of Hooklane"),
        "{error}"
    );
    ensure!(std::fs::read(&path)? == b"not ours");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_was_expunged_no_byte_is_left_in_the_file_or_its_log() -> Result<()> {
    // Short ones stand within a page, long ones in pages of their own; many others make SQLite move them about.
    let directory = tempfile::tempdir()?;
    let history = SqliteHistory::open(directory.path())?;
    let (payload, answer) = ("s3cret-payload ", "s3cret-answer ");
    let mut secret = Vec::new();
    for (n, repeats) in [1, 20, 1_000].into_iter().enumerate() {
        let mut made = attempt(
            &format!("atmpt_{n}"),
            delivery(&format!("msg_{n}"), 0, 0),
            0,
            Decision::Delivered,
        );
        made.answer = Bytes::from(answer.repeat(repeats));
        secret.push(Record::Event(Event {
            payload: Bytes::from(payload.repeat(repeats)),
            ..event(&format!("msg_{n}"), 0)
        }));
        secret.push(Record::Attempt(made));
    }
    record(&history, secret).await?;
    for n in 0..20 {
        let others = (0..50).map(|m| Record::Event(event(&format!("msg_{n}_{m}"), n)));
        record(&history, others.collect()).await?;
    }
    ensure!(
        contains(directory.path(), payload.as_bytes())? && contains(directory.path(), answer.as_bytes())?
    );
    let app = application("app");
    for n in 0..3 {
        let id = event_id(&format!("msg_{n}"));
        ensure!(history.expunge_payload(&app, &id).await?);
        ensure!(
            history
                .expunge_answer(&app, &id, &made::attempt_id(&format!("atmpt_{n}")))
                .await?
        );
    }
    ensure!(!contains(directory.path(), b"s3cret-")?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short() -> Result<()> {
    // Goal: however much is written, the log holds a few MiB: what is written back at, and a batch.
    let directory = tempfile::tempdir()?;
    let history = SqliteHistory::open(directory.path())?;
    // Many that are short, and many that are long in one batch.
    let batches = (0..20).map(|n| (n, 200, 8 * 1024)).chain([(20, 200, 256 * 1024)]);
    for (n, count, bytes) in batches {
        let payload = Bytes::from(vec![b' '; bytes]);
        let events = (0..count).map(|m| {
            Record::Event(Event {
                payload: payload.clone(),
                ..event(&format!("msg_{n}_{m}"), n)
            })
        });
        record(&history, events.collect()).await?;
        let log = std::fs::metadata(directory.path().join(format!("{FILE}-wal")))?.len();
        ensure!(log < 16 * 1024 * 1024, "{log} bytes after batch {n}");
    }
    ensure!(std::fs::metadata(directory.path().join(FILE))?.len() > 80 * 1024 * 1024);
    Ok(())
}
