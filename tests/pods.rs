//! An installation of several processes on RabbitMQ and PostgreSQL: control, two ingests and two dispatchers that follow the store.

mod installation;
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::{Ended, Spawn};
use hooklane_testkit::{eventually, javascript, python};
use installation::{Pods, end, is_up};
use serde_json::json;
use stage::SOON;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_through_one_process_is_in_force_in_all_when_it_is_answered() -> Result<()> {
    // Goal: application, endpoint and event right behind each other, through three processes: no event misses its endpoint. And it is recorded.
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    let ingests = [pods.start("ingest").await?, pods.start("ingest").await?];
    let dispatchers = [pods.start("dispatcher").await?, pods.start("dispatcher").await?];
    let count = 40;
    for n in 0..count {
        let uid = format!("app-{n}");
        pods.pair(&control, &uid).await?;
        pods.publish(&ingests[n % 2], &uid, n).await?;
    }
    pods.stage.receiver.wait_for(count as u64, SOON).await?;
    ensure!(pods.stage.receiver.by_webhook_id().len() == count);
    pods.recorded(count).await?;
    let late = pods
        .stage
        .http
        .get(format!("{}/metrics", control.url))
        .send()
        .await?;
    let late = late.text().await?;
    ensure!(
        late.lines().any(|line| line == "hooklane_changes_late_total 0")
            || !late.contains("\nhooklane_changes_late_total"),
        "a change was answered late"
    );
    // Who ends in order is waited for no more.
    for pod in dispatchers.into_iter().chain(ingests) {
        end(pod).await?;
    }
    ensure!(
        pods.database
            .psql("SELECT count(*) FROM hooklane.followers")
            .await?
            == "1"
    );
    let begun = Instant::now();
    pods.pair(&control, "last").await?;
    ensure!(
        begun.elapsed() < Duration::from_secs(2),
        "it waited for who has ended"
    );
    end(control).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hangs_holds_up_a_change_for_two_seconds_and_no_longer() -> Result<()> {
    // Method: a row as a process leaves that lives and does not follow.
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    pods.database
        .psql("INSERT INTO hooklane.followers VALUES ('hung', 0, now() + interval '1 hour')")
        .await?;
    let begun = Instant::now();
    pods.send(&control, "/app", json!({"name": "x"})).await?;
    let took = begun.elapsed();
    ensure!(
        took >= Duration::from_millis(1_900),
        "it was not waited for: {took:?}"
    );
    ensure!(took < 3 * Duration::from_secs(2), "{took:?}");
    let metrics = pods
        .stage
        .http
        .get(format!("{}/metrics", control.url))
        .send()
        .await?;
    let metrics = metrics.text().await?;
    ensure!(
        metrics
            .lines()
            .any(|line| line == "hooklane_changes_late_total 1"),
        "{metrics}"
    );
    // Silent for ten seconds, it is taken for dead.
    pods.database
        .psql("UPDATE hooklane.followers SET seen_at = now() - interval '11 seconds' WHERE id = 'hung'")
        .await?;
    let begun = Instant::now();
    pods.send(&control, "/app", json!({"name": "y"})).await?;
    ensure!(
        begun.elapsed() < Duration::from_millis(1_900),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

/// What a client library manages through control is delivered by another process.
async fn managed_by(script: Spawn) -> Result<()> {
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    let _dispatcher = pods.start("dispatcher").await?;
    let ended = script
        .args([&control.url, &pods.token, &pods.stage.receiver.url("/hook")])
        .run(SOON)
        .await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let message = ended.stdout.split_whitespace().next().context("an id")?;
    pods.stage.receiver.wait_for(1, SOON).await?;
    let request = &pods.stage.receiver.received()[0];
    ensure!(request.header("svix-id") == Some(message), "{request:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svix_of_pypi_manages_what_is_in_postgresql() -> Result<()> {
    managed_by(python::script(client("client.py"))?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svix_of_npm_manages_what_is_in_postgresql() -> Result<()> {
    managed_by(javascript::script(client("client.js"))?).await
}

fn client(name: &str) -> std::path::PathBuf {
    python::workspace_root().join("tests/management").join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_a_start_needs_a_snapshot_and_otherwise_waits_for_it() -> Result<()> {
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    let ingest = pods.start("ingest").await?;
    let dispatcher = pods.start("dispatcher").await?;
    let endpoint = pods.pair(&control, "acme").await?;
    let file = pods.stage.dir.path().join("snapshot.json");
    eventually("the snapshot", SOON, || async {
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.contains(&endpoint) && text.contains("\"end\""), "{text}");
        Ok(())
    })
    .await?;
    let text = std::fs::read_to_string(&file)?;
    ensure!(!text.contains("whsec_"), "a secret stands in the snapshot");
    end(ingest).await?;
    end(dispatcher).await?;
    pods.server.kill9().await?;
    let ingest = pods.start("ingest").await?;
    pods.publish(&ingest, "acme", 1).await?;
    // One that has no snapshot takes nothing, until the store is there.
    let nowhere = pods.stage.dir.path().join("none.json").display().to_string();
    let waiting = pods.begin("dispatcher", &[("HOOKLANE_STORE__SNAPSHOT", nowhere.as_str())])?;
    waiting.wait_for_line("waiting for the store", SOON).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(
        pods.stage.receiver.total() == 0,
        "it delivered without a registry"
    );
    let dispatcher = pods.start("dispatcher").await?;
    pods.stage.receiver.wait_for(1, SOON).await?;
    pods.server.restart().await?;
    let waited = is_up(waiting).await?;
    // All of them follow again, those of the snapshot too.
    eventually("the API", SOON, || async { pods.pair(&control, "later").await }).await?;
    eventually("the event of a new application", SOON, || async {
        pods.publish(&ingest, "later", 2).await
    })
    .await?;
    pods.stage.receiver.wait_for(2, SOON).await?;
    for pod in [waited, dispatcher, ingest, control] {
        end(pod).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_says_what_it_does_and_several_at_once_do_it_once() -> Result<()> {
    let pods = Arc::new(Pods::new().await?);
    let migrate = async |more: &[&str]| -> Result<Ended> {
        pods.stage
            .hooklane(&[&["migrate"], more].concat())?
            .run(SOON)
            .await
    };
    let dry = migrate(&["--dry-run"]).await?;
    ensure!(
        dry.status.success() && dry.stdout.contains("has format 0: would bring it to"),
        "{dry:?}"
    );
    let none = "SELECT count(*) FROM pg_namespace WHERE nspname = 'hooklane'";
    ensure!(pods.database.psql(none).await? == "0", "it was made by a dry run");
    let all = futures_util::future::join_all((0..5).map(|_| migrate(&[]))).await;
    for ended in all {
        let ended = ended?;
        ensure!(ended.status.success(), "{ended:?}");
    }
    let steps = pods
        .database
        .psql("SELECT count(*) = max(number) FROM hooklane.migrations")
        .await?;
    ensure!(steps == "t");
    ensure!(migrate(&[]).await?.stdout.contains("nothing to do"));
    let checked = pods.stage.run(&["check"]).await?;
    ensure!(checked.contains("store: PostgreSQL answers"), "{checked}");
    // A wrong password is told, and is not shown.
    let wrong = pods
        .database
        .url()
        .replace("hooklane:hooklane", "hooklane:hunter2");
    let refused = migrate(&["--store", &wrong]).await?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("password"),
        "{refused:?}"
    );
    ensure!(!refused.stderr.contains("hunter2"), "{refused:?}");
    Ok(())
}
