//! Writes that the system refuses. Alone in its process, because the limit is the process's.

mod suite;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_store::{Claims, Verdict};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_testkit::limit_files;
use suite::{claim, durable, opened, settle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_nothing_holds_up_nobody_and_is_written_when_it_does_again() -> Result<()> {
    // Goal: settling ends at once, repeats are noticed all the same, the failure is counted, and in the end all are in the file.
    let directory = tempfile::tempdir()?;
    let metrics = Arc::new(Metrics::new());
    let claims = opened(directory.path(), 1_000, metrics.clone())?;
    limit_files(Some(1))?;
    for n in 0..500 {
        ensure!(claim(&claims, n, false).await? == Verdict::Ours);
        // The first write fails in its time; after that nobody waits.
        let settled = tokio::time::timeout(Duration::from_secs(5), settle(&claims, n));
        settled.await.context("settling waits for a full disk")?;
        ensure!(claim(&claims, n, false).await? == Verdict::Duplicate);
    }
    ensure!(metrics.value(Metric::ClaimsSaveFailures, &[]) >= 1.0);
    ensure!(metrics.value(Metric::ClaimsSaved, &[]) == 0.0);
    limit_files(None)?;
    claims.shut_down().await;
    ensure!(metrics.value(Metric::ClaimsSaved, &[]) == 500.0);
    ensure!(metrics.value(Metric::ClaimsUnsaved, &[]) == 0.0);
    drop(claims);
    // A start while nothing can be written: the file keeps its stamp, and is used.
    limit_files(Some(1))?;
    let claims = durable(directory.path(), 1_000);
    limit_files(None)?;
    ensure!(claims?.window(0).entries == 500);
    Ok(())
}
