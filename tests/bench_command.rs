//! `hooklane bench`, small: every case runs to its end on both brokers, counts everything, and leaves nothing behind. No speed is asserted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::{self, Spawn};
use hooklane_testkit::rabbitmq::{Vhost, shared};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;

/// A bench this small takes half a minute on a busy machine.
const END: Duration = Duration::from_secs(240);
const SMALL: [&str; 12] = [
    "bench",
    "--rounds",
    "1",
    "--events",
    "120",
    "--retries",
    "40",
    "--registered",
    "200",
    "--backlog",
    "400",
    "--format=json",
];
/// Rows of each case on RabbitMQ.
const ROWS_RABBITMQ: [(&str, usize); 7] = [
    ("a", 3),
    ("b", 2),
    ("c", 5),
    ("d", 5),
    ("e", 2),
    ("f", 1),
    ("g", 2),
];
/// Rows on the embedded queue, where nobody publishes over AMQP.
const ROWS_EMBEDDED: [(&str, usize); 8] = [
    ("a", 3),
    ("b", 2),
    ("c", 4),
    ("d", 5),
    ("e", 2),
    ("f", 1),
    ("g", 2),
    ("h", 4),
];

fn bench(temporary: &tempfile::TempDir, more: &[&str]) -> Result<Spawn> {
    Ok(process::hooklane()?
        .args(SMALL)
        .args(more)
        .env("TMPDIR", temporary.path())
        .cwd(temporary.path()))
}

/// Every row has a rate; gives how many rows each case has.
fn rows(out: &str) -> Result<BTreeMap<String, usize>> {
    let mut cases = BTreeMap::new();
    for line in out.lines() {
        let row: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let rate = row["rate"]["median"].as_f64().context("a row has a rate")?;
        ensure!(rate > 0.0 && rate.is_finite(), "{line}");
        let peaks = row["peak_mib"].as_object().context("a row has peaks")?;
        ensure!(!peaks.is_empty(), "{line}");
        let case = row["case"].as_str().context("a row has a case")?;
        *cases.entry(case.to_owned()).or_default() += 1;
    }
    Ok(cases)
}

fn expected<const N: usize>(rows: [(&str, usize); N]) -> BTreeMap<String, usize> {
    rows.map(|(case, count)| (case.to_owned(), count)).into()
}

async fn queues(vhost: &Vhost) -> Result<Vec<String>> {
    let names = vhost
        .ctl(&["list_queues", "-p", vhost.name(), "--no-table-headers", "name"])
        .await?;
    Ok(names.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn every_case_runs_on_the_embedded_queue() -> Result<()> {
    // Goal: exit code 0 means that every event was counted; nothing is left in the directory for temporary files.
    let temporary = tempfile::tempdir()?;
    let out = bench(&temporary, &[])?.run_ok(END).await?;
    let found = rows(&out)?;
    ensure!(found == expected(ROWS_EMBEDDED), "{found:?}");
    let left = std::fs::read_dir(temporary.path())?.count();
    ensure!(left == 0, "{left} files are left");
    Ok(())
}

#[tokio::test]
async fn every_case_runs_on_rabbitmq_and_leaves_nothing_there() -> Result<()> {
    // Goal: as above, and the queues that it made are gone.
    let vhost = shared().await?.vhost().await?;
    let temporary = tempfile::tempdir()?;
    let out = bench(&temporary, &["--broker", vhost.url()])?.run_ok(END).await?;
    let found = rows(&out)?;
    ensure!(found == expected(ROWS_RABBITMQ), "{found:?}");
    let left = queues(&vhost).await?;
    ensure!(left.is_empty(), "{left:?} are left");
    let left = std::fs::read_dir(temporary.path())?.count();
    ensure!(left == 0, "{left} files are left");
    Ok(())
}

#[tokio::test]
async fn a_prefix_in_use_and_a_broker_elsewhere_are_refused() -> Result<()> {
    // Goal: no queue that the bench did not make is touched. Method: one stands there under its prefix; and a host that is not loopback.
    let vhost = shared().await?.vhost().await?;
    let temporary = tempfile::tempdir()?;
    let connection = Connection::connect(vhost.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let name = "hooklane-bench.dead";
    channel
        .queue_declare(name.into(), durable, FieldTable::default())
        .await?;
    let ended = bench(&temporary, &["--what", "b", "--broker", vhost.url()])?
        .run(END)
        .await?;
    ensure!(
        ended.status.code() == Some(1) && ended.stderr.contains(name) && ended.stderr.contains("--prefix"),
        "{}",
        ended.stderr
    );
    ensure!(queues(&vhost).await? == [name], "the queue was touched");
    let url = "amqp://guest:guest@192.0.2.1:5672";
    let ended = bench(&temporary, &["--what", "b", "--broker", url])?
        .run(END)
        .await?;
    ensure!(
        ended.status.code() == Some(1) && ended.stderr.contains("this machine"),
        "{}",
        ended.stderr
    );
    Ok(())
}
