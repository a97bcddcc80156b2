//! Writes that the system refuses. Alone in its process, because the limit is the process's.

#[path = "history/made.rs"]
#[expect(dead_code, reason = "the suite needs more of it")]
mod made;

use std::sync::Arc;

use anyhow::{Result, ensure};
use hooklane_store::history::{History, HistoryError, Record, Recorded};
use hooklane_store::sqlite::history::SqliteHistory;
use hooklane_testkit::limit_files;
use made::{application, event, event_id, now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_what_was_not_written_can_be_tried_again() -> Result<()> {
    // Goal: nothing of a refused batch is there, what was there can be read meanwhile, and the same batch is written when there is room.
    let directory = tempfile::tempdir()?;
    let history = SqliteHistory::open(directory.path())?;
    let (app, before) = (application("app"), event_id("msg_before"));
    history
        .record(Arc::from([Record::Event(event("msg_before", 0))]), now())
        .await?;
    let batch: Arc<[Record]> = (0..300)
        .map(|n| Record::Event(event(&format!("msg_{n}"), n)))
        .collect();
    limit_files(Some(1))?;
    for _ in 0..3 {
        let refused = history.record(batch.clone(), now()).await;
        ensure!(matches!(refused, Err(HistoryError::NoRoom(_))), "{refused:?}");
        ensure!(refused.is_err_and(|error| error.to_string().contains("free some room")));
        ensure!(matches!(
            history.expunge_payload(&app, &before).await,
            Err(HistoryError::NoRoom(_))
        ));
        ensure!(
            history
                .event(&app, &before)
                .await?
                .is_some_and(|found| !found.is_expunged)
        );
        ensure!(history.event(&app, &event_id("msg_0")).await?.is_none());
    }
    limit_files(None)?;
    ensure!(history.record(batch, now()).await? == Recorded::default());
    ensure!(history.expunge_payload(&app, &before).await?);
    drop(history);
    let history = SqliteHistory::open(directory.path())?;
    ensure!(history.event(&app, &event_id("msg_299")).await?.is_some());
    Ok(())
}
