//! `hooklane serve`: everything in one process, with a queue of its own. Driven as a user does, by the built binary.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Receiver, Reply, Verdict};
use hooklane_signing::{HeaderFamily, Scheme, Secret, Verifier};
use hooklane_testkit::eventually;
use hooklane_testkit::process::{self, Ended, Process};
use serde_json::Value;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SOON: Duration = Duration::from_secs(60);

struct Stage {
    dir: tempfile::TempDir,
    receiver: Receiver,
}

impl Stage {
    async fn new(attempts: u32) -> Result<Stage> {
        let receiver = Receiver::start(Options::default()).await?;
        receiver.verify_default(Verifier::new(
            Scheme::Standard(HeaderFamily::Webhook),
            vec![Secret::parse(SECRET)?],
        )?);
        let dir = tempfile::tempdir()?;
        let file = format!(
            "[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n[[endpoint]]\nid = \"ep_hook\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
             retry = {{ attempts = {attempts}, first = \"1s\", factor = 1, max = \"1m\", jitter = 0.0 }}\n",
            receiver.url("/hook")
        );
        std::fs::write(dir.path().join("hooklane.toml"), file)?;
        Ok(Stage { dir, receiver })
    }

    async fn serve(&self) -> Result<Process> {
        let serve = process::hooklane()?
            .args(["serve", "--listen", "127.0.0.1:0"])
            .cwd(self.dir.path())
            .start()?;
        serve.wait_for_line("listening on http", SOON).await?;
        Ok(serve)
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        run(self.dir.path(), arguments).await
    }

    async fn ok(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.run(arguments).await?;
        ensure!(
            ended.status.success(),
            "{arguments:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        Ok(ended.stdout)
    }

    async fn publish(&self, n: u32) -> Result<()> {
        let (id, payload) = (format!("order-{n}"), format!("{{\"n\": {n}}}"));
        self.ok(&["publish", "--type", "a.b", "--id", &id, "--payload", &payload])
            .await
            .map(drop)
    }

    async fn dead(&self) -> Result<usize> {
        Ok(self
            .ok(&["dead", "list", "--format", "json"])
            .await?
            .lines()
            .count())
    }
}

async fn run(dir: &Path, arguments: &[&str]) -> Result<Ended> {
    process::hooklane()?.args(arguments).cwd(dir).run(SOON).await
}

/// Goal: over HTTP in, signed and exactly as published out; `status` in a second terminal shows it.
#[tokio::test]
async fn an_event_is_delivered_with_nothing_else_running() -> Result<()> {
    let stage = Stage::new(2).await?;
    let serve = stage.serve().await?;
    let line = serve.wait_for_line("listening on http", SOON).await?.text;
    let url = line.split_whitespace().last().context("a URL")?.to_owned();
    let payload = "{\"z\":1.0,  \"a\":[ ]}";
    let body = format!("{{\"eventType\":\"a.b\",\"payload\":{payload}}}");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build()?;
    let answer = http
        .post(format!("{url}/api/v1/app/default/msg"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await?;
    ensure!(answer.status() == 202, "{answer:?}");
    stage.receiver.wait_for(1, SOON).await?;
    let request = stage.receiver.received().remove(0);
    ensure!(request.body == payload, "{request:?}");
    ensure!(request.verdict == Some(Verdict::Valid), "{request:?}");
    ensure!(http.get(format!("{url}/readyz")).send().await?.status() == 200);
    eventually("status to show the outcome", SOON, || async {
        let status: Value = serde_json::from_str(&stage.ok(&["status", "--format", "json"]).await?)?;
        ensure!(status["endpoints"][0]["last_outcome"] == "2xx", "{status}");
        Ok(())
    })
    .await?;
    serve.terminate()?;
    ensure!(serve.wait(SOON).await?.success());
    Ok(())
}

/// Goal: killed between a failed attempt and its retry, and with events that nobody has taken yet, nothing is lost.
#[tokio::test]
async fn kill_9_loses_nothing() -> Result<()> {
    let stage = Stage::new(20).await?;
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    let serve = stage.serve().await?;
    for n in 0..20 {
        stage.publish(n).await?;
    }
    stage.receiver.wait_for(1, SOON).await?;
    serve.kill9().await?;
    // Nothing runs: the directory itself takes an event.
    stage.publish(20).await?;
    stage.receiver.script_with("/hook", |_| Reply::ok());
    stage.receiver.forget();
    let serve = stage.serve().await?;
    stage
        .receiver
        .wait_until("all ids to arrive", SOON, |log| log.by_webhook_id().len() >= 21)
        .await?;
    serve.terminate()?;
    ensure!(serve.wait(SOON).await?.success());
    Ok(())
}

/// Goal: a dead letter is listed, shown and replayed while `serve` runs, and listed and purged when nothing runs.
#[tokio::test]
async fn dead_letters_are_reached_while_it_runs_and_when_nothing_runs() -> Result<()> {
    let stage = Stage::new(1).await?;
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    let serve = stage.serve().await?;
    for n in 0..3 {
        stage.publish(n).await?;
    }
    eventually("three dead letters", SOON, || async {
        ensure!(stage.dead().await? == 3);
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
    ensure!(stage.dead().await? == 2);
    serve.terminate()?;
    ensure!(serve.wait(SOON).await?.success());
    ensure!(stage.dead().await? == 2, "the directory itself shows them");
    ensure!(
        stage
            .ok(&["dead", "purge", "--all", "--yes"])
            .await?
            .contains("purged 2 of 2")
    );
    ensure!(stage.dead().await? == 0);
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

    let stage = Stage::new(1).await?;
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
    ensure!(
        !stage.dir.path().join("hooklane-data").exists(),
        "nothing is written"
    );

    let serve = stage.serve().await?;
    let second = stage.run(&["serve", "--listen", "127.0.0.1:0"]).await?;
    let holder = format!("{}", serve.pid());
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
