//! The store is away for so long that history has to yield: what goes and what stays, and who says so.

mod installation;
mod stage;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::eventually;
use installation::{Pod, Pods, is_up};
use serde_json::{Value, json};
use stage::SOON;

/// Of the queues into the history.
const BOUND: (&str, &str) = ("HOOKLANE_BROKER__RECORDS_BYTES_MAX", "1MiB");
/// Kept of each answer, so that few attempts fill their queue.
const ANSWER_BYTES: usize = 16 * 1024;
/// The contents of an event.
const PAYLOAD_BYTES: usize = 20_000;
/// Deliveries that are given up.
const GIVEN_UP: usize = 5;

async fn start(pods: &Pods, role: &str) -> Result<Pod> {
    is_up(pods.begin(role, &[BOUND])?).await
}

/// `hooklane check`, which finds nothing that is wrong.
async fn checked(pods: &Pods) -> Result<String> {
    let check = pods.stage.hooklane(&["check"])?.env(BOUND.0, BOUND.1);
    check.run_ok(SOON).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_bound_history_yields_but_for_what_was_given_up_and_check_says_what_was_dropped() -> Result<()>
{
    // Goal: contents yield first, then attempts that delivered; no delivery does. What is given up meanwhile is dead in the history afterwards, and
    // never pending for good. Method: a tiny bound, large answers, PostgreSQL killed.
    let pods = Pods::new().await?;
    let control = start(&pods, "control").await?;
    let (ingest, dispatcher) = (start(&pods, "ingest").await?, start(&pods, "dispatcher").await?);
    for uid in ["acme", "gone"] {
        pods.pair(&control, uid).await?;
    }
    let receiver = &pods.stage.receiver;
    receiver.script_with("/hook/acme", |_| Reply::ok().body("x".repeat(ANSWER_BYTES)));
    receiver.script_with("/hook/gone", |_| Reply::status(410));
    let before = checked(&pods).await?;
    ensure!(!before.contains("dropped"), "{before}");

    pods.server.kill9().await?;
    let event = json!({"eventType": "a.b", "payload": {"text": "x".repeat(PAYLOAD_BYTES)}});
    let mut sent = 0;
    loop {
        let of_ingest = pods.metric(&ingest, "hooklane_records_dropped_total").await?;
        let of_dispatcher = pods.metric(&dispatcher, "hooklane_records_dropped_total").await?;
        if of_ingest > 0.0 && of_dispatcher > 0.0 {
            break;
        }
        ensure!(sent < 2_000, "nothing is dropped: {of_ingest}, {of_dispatcher}");
        if sent >= 200 {
            ensure!(of_ingest > 0.0, "contents do not yield first");
        }
        for _ in 0..20 {
            pods.send(&ingest, "/app/acme/msg", event.clone()).await?;
            sent += 1;
        }
        receiver.wait_for_at("/hook/acme", sent, SOON).await?;
    }
    println!("{sent} events until something was dropped");
    for n in 0..GIVEN_UP {
        pods.publish(&ingest, "gone", n).await?;
    }
    let given_up = format!("{GIVEN_UP} letters");
    eventually(&given_up, SOON, || async {
        let depth = pods.stage.depth("dead").await?;
        ensure!(depth == GIVEN_UP as u64, "{depth}");
        Ok(())
    })
    .await?;

    pods.server.restart().await?;
    eventually("all of them in the history, dead", SOON, || async {
        let sql =
            "SELECT count(*) FROM hooklane.destinations WHERE dead IS NOT NULL AND ended_at_ms IS NOT NULL";
        let found = pods.database.psql(sql).await?;
        ensure!(found == GIVEN_UP.to_string(), "{found}");
        Ok(())
    })
    .await?;
    eventually("check to say it", SOON, || async {
        let told = checked(&pods).await?;
        let line = told
            .lines()
            .find(|line| line.contains("were dropped"))
            .context("nothing")?;
        for word in ["warning", "content", "record", "ingest ", "dispatcher "] {
            ensure!(line.contains(word), "{word}: {line}");
        }
        ensure!(
            told.contains("records_bytes_max"),
            "it does not say what to do: {told}"
        );
        Ok(())
    })
    .await?;
    let status: Value = serde_json::from_str(&pods.stage.run(&["status", "--format", "json"]).await?)?;
    let dropped = status["records_dropped"].as_array().context("a list")?;
    let contents: u64 = dropped.iter().filter_map(|by| by["contents"].as_u64()).sum();
    let counted = pods.metric(&ingest, "hooklane_records_dropped_total").await?;
    ensure!(contents as f64 == counted, "{status}");
    // One that begins later hears of it as well.
    dispatcher.process.kill9().await?;
    let _later = start(&pods, "dispatcher").await?;
    tokio::time::timeout(SOON, async {
        while !checked(&pods)
            .await
            .is_ok_and(|told| told.contains("were dropped"))
        {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .context("it is forgotten with the dispatcher")
}
