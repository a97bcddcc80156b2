//! An installation of several processes on RabbitMQ and PostgreSQL: control, two ingests and two dispatchers that follow the store.

mod installation;
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::{Ended, Spawn};
use hooklane_testkit::{eventually, javascript, python};
use installation::{Pods, Producer, end, is_up};
use serde_json::json;
use stage::SOON;

/// Events that wait in front of what is read.
const WAITING: usize = 200_000;
/// Publishes at once of the producer that fills the queue.
const AT_ONCE: usize = 1_000;
/// How long a message that is not there yet is waited for.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// How soon lists have it.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_through_one_process_is_in_force_in_all_when_it_is_answered() -> Result<()> {
    // Goal: application, endpoint and event right behind each other, through three processes, with no pause in between: no event misses its endpoint.
    // And it is recorded.
    let pods = Pods::new().await?;
    let controls = [pods.start("control").await?, pods.start("control").await?];
    let ingests = [pods.start("ingest").await?, pods.start("ingest").await?];
    let dispatchers = [pods.start("dispatcher").await?, pods.start("dispatcher").await?];
    let count = 40;
    let mut took = Vec::new();
    for n in 0..count {
        let uid = format!("app-{n}");
        let url = pods.stage.receiver.url(&format!("/hook/{uid}"));
        let begun = Instant::now();
        let application = json!({"name": uid, "uid": uid});
        pods.send(&controls[n % 2], "/app", application).await?;
        let path = format!("/app/{uid}/endpoint");
        pods.send(&controls[(n + 1) % 2], &path, json!({"url": url}))
            .await?;
        pods.publish(&ingests[n % 2], &uid, n).await?;
        took.push(begun.elapsed());
    }
    took.sort();
    println!(
        "all three took {:?}, {:?} at most",
        took[count / 2],
        took[count - 1]
    );
    let [control, other] = controls;
    end(other).await?;
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
async fn what_was_just_sent_is_read_with_200000_events_waiting_and_listed_within_a_second() -> Result<()> {
    // Goal: who waits in front of the dispatchers does not stand in front of the history. Method: nobody takes events, the queue is filled by AMQP;
    // then each of some events is asked for as soon as it was accepted, and looked for in the list.
    let pods = Pods::new().await?;
    let (control, ingest) = (pods.start("control").await?, pods.start("ingest").await?);
    pods.pair(&control, "acme").await?;
    let producer = Producer::connect(&pods).await?;
    let mut published = 0;
    while published < WAITING {
        let mut confirms = Vec::with_capacity(AT_ONCE);
        for n in published..published + AT_ONCE {
            confirms.push(producer.begin("acme", &format!("order-{n}")).await?);
        }
        for confirm in confirms {
            ensure!(confirm.await?.is_ack());
        }
        published += AT_ONCE;
    }
    pods.stage
        .wait_depth("events", SOON, |depth| depth >= WAITING as u64)
        .await?;
    let (mut read, mut listed) = (Duration::ZERO, Duration::ZERO);
    let mut last = String::new();
    for n in 0..20 {
        let event = json!({"eventType": "a.b", "payload": {"n": n}});
        let sent = pods.send(&ingest, "/app/acme/msg", event).await?;
        let id = sent["id"].as_str().context("an id")?;
        let begun = Instant::now();
        let found = pods.get(&control, &format!("/app/acme/msg/{id}")).await?;
        ensure!(found["id"] == id, "{found}");
        read = read.max(begun.elapsed());
        let list = async || -> Result<()> {
            let page = pods.get(&control, "/app/acme/msg?limit=50").await?;
            let page = page["data"].as_array().context("a list")?;
            ensure!(page.iter().any(|message| message["id"] == id), "it is not listed");
            Ok(())
        };
        eventually("the list", SOON, list).await?;
        listed = listed.max(begun.elapsed());
        last = id.to_owned();
    }
    println!("read after {read:?} at most, listed after {listed:?}");
    ensure!(read < 3 * READ_WITHIN, "read after {read:?}");
    ensure!(listed < 3 * LISTED_WITHIN, "listed after {listed:?}");
    // One of this moment that never comes is waited for as long, and not found.
    let missing = format!("/app/acme/msg/{}0000", &last[..last.len() - 4]);
    let begun = Instant::now();
    let missing = pods.get(&control, &missing).await;
    ensure!(missing.is_err_and(|error| error.to_string().contains("404")));
    let took = begun.elapsed();
    ensure!(
        took >= READ_WITHIN - Duration::from_millis(100) && took < 3 * READ_WITHIN,
        "{took:?}"
    );
    Ok(())
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
