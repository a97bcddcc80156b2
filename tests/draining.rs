//! `hooklane drain`: from the queue of `hooklane serve` to a real RabbitMQ, and killed half way.

mod stage;

use std::collections::HashSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::eventually;
use hooklane_testkit::rabbitmq::shared;
use serde_json::Value;
use stage::{RECOVERY, SOON, Stage};

/// Wait of the retry that is moved with what is left of it.
const RETRY: Duration = Duration::from_secs(20);
const EVENTS: usize = 20_000;

/// `hooklane serve` in the stage's directory, until everything that it was given was tried once.
async fn serve_once(stage: &Stage) -> Result<Instant> {
    let serve = stage.dispatcher().await?.process;
    stage.publish("late.one", "{}", &[]).await?;
    stage.receiver.wait_for_at("/late", 1, SOON).await?;
    let tried = stage.receiver.received_at("/late")[0].at;
    eventually("the dead letter", SOON, || async {
        let list = stage.run(&["dead", "list"]).await?;
        ensure!(list.contains("ep_dead"), "{list}");
        Ok(())
    })
    .await?;
    serve.terminate()?;
    ensure!(serve.wait(SOON).await?.success());
    Ok(tried)
}

/// Goal: events with and without ids, a retry that waits, a dead letter: all of it is at RabbitMQ after a drain that was killed half way
/// and run again; what arrives twice bears the same id, and the retry comes neither early nor much later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_moved_and_nothing_is_lost_when_killed_half_way() -> Result<()> {
    let vhost = shared().await?.vhost().await?;
    let stage = Stage::on(stage::On::Embedded).await?;
    let retry = |attempts: u32| {
        format!(
            "event_types = [\"late.*\"]\nretry = {{ attempts = {attempts}, first = \"{}s\", factor = 1, max = \"1m\", jitter = 0.0 }}",
            RETRY.as_secs()
        )
    };
    let endpoints = [
        stage.endpoint("ep_late", "/late", &retry(2)),
        stage.endpoint("ep_dead", "/dead", &retry(1)),
        stage.endpoint("ep_all", "/all", "event_types = [\"bulk.*\"]"),
    ];
    stage.settings("", &endpoints.concat())?;
    for path in ["/late", "/dead"] {
        stage.receiver.script(path, [Reply::status(500)]);
    }
    let tried = serve_once(&stage).await?;
    stage.receiver.script("/late", [Reply::ok()]);

    let mut lines = String::new();
    for n in 0..EVENTS {
        let id = if n % 2 == 0 {
            format!(", \"eventId\": \"order-{n}\"")
        } else {
            String::new()
        };
        writeln!(
            lines,
            "{{\"eventType\": \"bulk.one\", \"application\": \"acme\", \"payload\": {{\"n\": {n}}}{id}}}"
        )?;
    }
    std::fs::write(stage.dir.path().join("events"), lines)?;
    // Nothing runs: the directory itself takes them.
    stage.run(&["publish", "--lines", "events"]).await?;

    let drain = stage.hooklane(&["drain", "--to", vhost.url()])?.start()?;
    let progress = drain.wait_for_line("moved ", RECOVERY).await?.text;
    drain.kill9().await?;
    let left = progress
        .strip_suffix(" left")
        .and_then(|words| words.rsplit(' ').next());
    let left: usize = left.with_context(|| progress.clone())?.parse()?;
    ensure!(left > 0, "killed too late: {progress}");
    println!("killed after {progress}");
    let said = stage.run(&["drain", "--to", vhost.url()]).await?;
    ensure!(said.contains("nothing is left in hooklane-data"), "{said}");
    ensure!(said.contains("delayed 1") && said.contains("dead 1"), "{said}");
    let again = stage.run(&["drain", "--to", vhost.url()]).await?;
    ensure!(again.starts_with("moved 0 messages"), "{again}");

    let text = std::fs::read_to_string(stage.file())?;
    std::fs::write(
        stage.file(),
        format!("[broker]\nurl = \"{}\"\n{text}", vhost.url()),
    )?;
    let dispatcher = stage
        .hooklane(&["dispatcher", "--listen", "127.0.0.1:0"])?
        .start()?;
    let arrived = |log: &hooklane_receiver::Log| {
        let bodies = log.requests().filter(|request| &*request.path == "/all");
        bodies
            .map(|request| request.body.clone())
            .collect::<HashSet<_>>()
            .len()
    };
    eventually("all events to arrive", RECOVERY, || async {
        let count = stage.receiver.look(arrived);
        ensure!(count == EVENTS, "{count} of {EVENTS}");
        Ok(())
    })
    .await
    .with_context(|| dispatcher.output().tail())?;
    // One id for each, also for those that were published twice.
    let requests = stage.receiver.received_at("/all");
    let pairs: HashSet<_> = requests
        .iter()
        .map(|request| (request.body.clone(), request.webhook_id()))
        .collect();
    ensure!(pairs.len() == EVENTS, "{} pairs of event and id", pairs.len());
    println!("{} repeats", requests.len() - EVENTS);

    stage.receiver.wait_for_at("/late", 2, SOON).await?;
    let waited = stage.receiver.received_at("/late")[1].at.duration_since(tried);
    ensure!(waited >= RETRY, "the retry came after {waited:?}");
    let list = stage.run(&["dead", "list"]).await?;
    ensure!(list.lines().count() == 2 && list.contains("ep_dead"), "{list}");
    dispatcher.terminate()?;
    ensure!(dispatcher.wait(SOON).await?.success());
    Ok(())
}

/// Goal: no broker, no queue, a `serve` that runs, a broker that is not there: each is named, with what to do, and nothing is changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_named() -> Result<()> {
    let stage = Stage::on(stage::On::Embedded).await?;
    stage.settings("", &stage.endpoint("ep_all", "/hook", ""))?;
    let nowhere = "amqp://127.0.0.1:1";
    for (arguments, code, expected) in [
        (&["drain"][..], 2, "--to"),
        (
            &["drain", "--to", nowhere],
            2,
            "no queue of `hooklane serve` in hooklane-data",
        ),
    ] {
        let ended = stage.hooklane(arguments)?.run(SOON).await?;
        ensure!(
            ended.status.code() == Some(code) && ended.stderr.contains(expected),
            "{}",
            ended.stderr
        );
    }
    ensure!(
        !stage.dir.path().join("hooklane-data").exists(),
        "nothing is made"
    );
    let serve = stage.dispatcher().await?.process;
    let held = stage.hooklane(&["drain", "--to", nowhere])?.run(SOON).await?;
    ensure!(
        held.status.code() == Some(1)
            && held.stderr.contains("hooklane serve")
            && held.stderr.contains("stop it first"),
        "{}",
        held.stderr
    );
    serve.terminate()?;
    ensure!(serve.wait(SOON).await?.success());
    stage.publish("a.b", "{}", &[]).await?;
    let away = stage.hooklane(&["drain", "--to", nowhere])?.run(SOON).await?;
    ensure!(
        away.status.code() == Some(1) && away.stderr.contains("127.0.0.1:1"),
        "{}",
        away.stderr
    );
    let status: Value = serde_json::from_str(&stage.run(&["status", "--format", "json"]).await?)?;
    let events = &status["queues"][0];
    ensure!(events["name"] == "events" && events["messages"] == 1, "{status}");
    Ok(())
}
