//! `hooklane serve`: everything in one process, with a queue of its own. Driven as a user does, by the built binary.

mod served;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Reply, Verdict};
use hooklane_signing::{HeaderFamily, Scheme, Secret, Verifier};
use hooklane_testkit::eventually;
use hooklane_testkit::process;
use serde_json::Value;
use served::{End, SECRET, SOON, Stage, run};

/// One endpoint, whose deliveries are given up after so many attempts.
async fn stage(attempts: u32) -> Result<Stage> {
    let endpoint = |url: &str| {
        format!(
            "[[endpoint]]\nid = \"ep_hook\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n\
             retry = {{ attempts = {attempts}, first = \"1s\", factor = 1, max = \"1m\", jitter = 0.0 }}\n",
        )
    };
    let stage = Stage::with("", endpoint).await?;
    stage.receiver.verify_default(Verifier::new(
        Scheme::Standard(HeaderFamily::Webhook),
        vec![Secret::parse(SECRET)?],
    )?);
    Ok(stage)
}

/// Publishes from the shell, to the process that serves or to the directory itself.
async fn publish(stage: &Stage, n: u32) -> Result<()> {
    let (id, payload) = (format!("order-{n}"), format!("{{\"n\": {n}}}"));
    stage
        .ok(&["publish", "--type", "a.b", "--id", &id, "--payload", &payload])
        .await
        .map(drop)
}

/// How many dead letters are listed.
async fn dead(stage: &Stage) -> Result<usize> {
    let list = stage.ok(&["dead", "list", "--format", "json"]).await?;
    Ok(list.lines().count())
}

/// Goal: over HTTP in, signed and exactly as published out; `status` in a second terminal shows it.
#[tokio::test]
async fn an_event_is_delivered_with_nothing_else_running() -> Result<()> {
    let stage = stage(2).await?;
    let serving = stage.serve().await?;
    let payload = "{\"z\":1.0,  \"a\":[ ]}";
    let body = format!("{{\"eventType\":\"a.b\",\"payload\":{payload}}}");
    let answer = stage
        .http
        .post(format!("{}/api/v1/app/default/msg", serving.url))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await?;
    ensure!(answer.status() == 202, "{answer:?}");
    stage.receiver.wait_for(1, SOON).await?;
    let request = stage.receiver.received().remove(0);
    ensure!(request.body == payload, "{request:?}");
    ensure!(request.verdict == Some(Verdict::Valid), "{request:?}");
    ensure!(stage.readiness(&serving).await?.0 == 200);
    eventually("status to show the outcome", SOON, || async {
        let status: Value = serde_json::from_str(&stage.ok(&["status", "--format", "json"]).await?)?;
        ensure!(status["endpoints"][0]["last_outcome"] == "2xx", "{status}");
        Ok(())
    })
    .await?;
    serving.end(End::Terminate).await
}

/// Goal: killed between a failed attempt and its retry, and with events that nobody has taken yet, nothing is lost.
#[tokio::test]
async fn kill_9_loses_nothing() -> Result<()> {
    let stage = stage(20).await?;
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    let serving = stage.serve().await?;
    for n in 0..20 {
        publish(&stage, n).await?;
    }
    stage.receiver.wait_for(1, SOON).await?;
    serving.end(End::Kill9).await?;
    // Nothing runs: the directory itself takes an event.
    publish(&stage, 20).await?;
    stage.receiver.script_with("/hook", |_| Reply::ok());
    stage.receiver.forget();
    let serving = stage.serve().await?;
    stage
        .receiver
        .wait_until("all ids to arrive", SOON, |log| log.by_webhook_id().len() >= 21)
        .await?;
    serving.end(End::Terminate).await
}

/// Goal: a dead letter is listed, shown and replayed while `serve` runs, and listed and purged when nothing runs.
#[tokio::test]
async fn dead_letters_are_reached_while_it_runs_and_when_nothing_runs() -> Result<()> {
    let stage = stage(1).await?;
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    let serving = stage.serve().await?;
    for n in 0..3 {
        publish(&stage, n).await?;
    }
    eventually("three dead letters", SOON, || async {
        ensure!(dead(&stage).await? == 3);
        Ok(())
    })
    .await?;
    stage.receiver.script_with("/hook", |_| Reply::ok());
    stage.receiver.forget();
    let list = stage.ok(&["dead", "list", "--format", "json"]).await?;
    let row: Value = serde_json::from_str(list.lines().next().context("a row")?)?;
    let id = row["id"].as_str().with_context(|| format!("{row}"))?.to_owned();
    ensure!(stage.ok(&["dead", "show", &id]).await?.contains("ep_hook"));
    ensure!(
        stage
            .ok(&["dead", "replay", &id])
            .await?
            .contains("replayed 1 of 3")
    );
    stage.receiver.wait_for(1, SOON).await?;
    ensure!(dead(&stage).await? == 2);
    serving.end(End::Terminate).await?;
    ensure!(dead(&stage).await? == 2, "the directory itself shows them");
    ensure!(
        stage
            .ok(&["dead", "purge", "--all", "--yes"])
            .await?
            .contains("purged 2 of 2")
    );
    ensure!(dead(&stage).await? == 0);
    Ok(())
}

/// Goal: without a file nothing is written; with a broker, a taken port or a taken directory it says what to do.
#[tokio::test]
async fn what_stands_in_the_way_is_named() -> Result<()> {
    let empty = tempfile::tempdir()?;
    let ended = run(empty.path(), &["serve"]).await?;
    ensure!(
        ended.status.code() == Some(2) && ended.stderr.contains("hooklane init"),
        "{}",
        ended.stderr
    );
    ensure!(
        std::fs::read_dir(empty.path())?.next().is_none(),
        "nothing is written"
    );

    let stage = stage(1).await?;
    let broker = process::hooklane()?
        .args(["serve"])
        .env("HOOKLANE_BROKER__URL", "amqp://127.0.0.1:1")
        .cwd(stage.dir.path())
        .run(SOON)
        .await?;
    ensure!(
        broker.status.code() == Some(2) && broker.stderr.contains("HOOKLANE_BROKER__URL"),
        "{}",
        broker.stderr
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let port = stage.run(&["serve", "--listen", &address]).await?;
    ensure!(
        port.status.code() == Some(1) && port.stderr.contains("HOOKLANE_INGEST__LISTEN"),
        "{}",
        port.stderr
    );
    ensure!(!stage.data().exists(), "nothing is written");

    let serving = stage.serve().await?;
    let second = stage.run(&["serve", "--listen", "127.0.0.1:0"]).await?;
    let holder = format!("{}", serving.process.pid());
    ensure!(
        second.status.code() == Some(1)
            && second.stderr.contains("hooklane serve")
            && second.stderr.contains(&holder),
        "{}",
        second.stderr
    );
    let none = run(empty.path(), &["dead", "list"]).await?;
    ensure!(
        none.status.code() == Some(2) && none.stderr.contains("--broker, HOOKLANE_BROKER__URL"),
        "{}",
        none.stderr
    );
    Ok(())
}

#[tokio::test]
async fn a_stop_as_soon_as_it_listens_is_an_orderly_one() -> Result<()> {
    // Goal: who reads that it listens may stop it at once, and it ends as promised. Method: five starts of each of eight, which compete.
    let stops = (0..8).map(|_| async {
        let stage = Stage::new("").await?;
        for _ in 0..5 {
            stage.serve().await?.end(End::Terminate).await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(stops).await.map(drop)
}
