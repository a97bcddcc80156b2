//! `hooklane serve`: everything in one process, with a queue of its own. Driven as a user does, by the built binary.

mod served;

use std::collections::{BTreeMap, BTreeSet};

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

/// Goal: a file of lines whose way in is killed again and again goes on from the line that was named: none is missing, and only lines that
/// were under way come twice, each time under an id of its own.
#[tokio::test]
async fn a_file_of_lines_goes_on_from_the_named_line_after_kill_9() -> Result<()> {
    const LINES: usize = 6_000;
    const UNDER_WAY_MAX: usize = 500;
    let stage = stage(20).await?;
    let lines: String = (1..=LINES)
        .map(|n| format!("{{\"eventType\":\"a.b\",\"payload\":{{\"n\":{n}}}}}\n"))
        .collect();
    std::fs::write(stage.dir.path().join("events.jsonl"), lines)?;
    let mut serving = stage.serve().await?;
    let mut stops: Vec<usize> = vec![];
    for kill in 0..3 {
        let from = stops.last().unwrap_or(&1).to_string();
        let before = stage.receiver.total();
        let publish = ["publish", "--lines", "events.jsonl", "--from-line", &from];
        let killed = async {
            stage.receiver.wait_for(before + 300 + kill * 100, SOON).await?;
            serving.end(End::Kill9).await
        };
        let (ended, killed) = tokio::join!(stage.run(&publish), killed);
        killed?;
        let ended = ended?;
        let named = ended
            .stderr
            .split_once("--from-line ")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        ensure!(ended.status.code() == Some(1), "{}", ended.stderr);
        stops.push(named.with_context(|| ended.stderr.clone())?);
        serving = stage.serve().await?;
    }
    let from = stops.last().unwrap_or(&1).to_string();
    stage
        .ok(&["publish", "--lines", "events.jsonl", "--from-line", &from])
        .await?;
    let number = |body: &[u8]| -> Option<usize> {
        serde_json::from_slice::<Value>(body).ok()?["n"]
            .as_u64()?
            .try_into()
            .ok()
    };
    let arrived = || -> Result<BTreeMap<usize, BTreeSet<String>>> {
        let mut ids: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for request in stage.receiver.received() {
            let n = number(&request.body).with_context(|| format!("{request:?}"))?;
            let id = request.webhook_id().context("an id")?.to_owned();
            ids.entry(n).or_default().insert(id);
        }
        Ok(ids)
    };
    eventually("every line", SOON, || async {
        let lines = arrived()?.len();
        ensure!(lines == LINES, "{lines} of {LINES}");
        Ok(())
    })
    .await?;
    let ids = arrived()?;
    let under_way = |n: usize| {
        stops
            .iter()
            .filter(|stop| (**stop..**stop + UNDER_WAY_MAX).contains(&n))
            .count()
    };
    let twice = ids.values().filter(|ids| ids.len() > 1).count();
    println!("stopped at {stops:?}; {twice} lines came under more than one id");
    for (n, ids) in ids {
        ensure!(
            ids.len() <= 1 + under_way(n),
            "line {n}, stops {stops:?}: {ids:?}"
        );
    }
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

/// Goal: what the directory itself takes has the id that was printed.
#[tokio::test]
async fn what_is_published_while_nothing_runs_arrives_under_the_id_that_was_printed() -> Result<()> {
    let stage = stage(1).await?;
    stage.serve().await?.end(End::Terminate).await?;
    let id = stage.ok(&["publish", "--type", "a.b", "--payload", "17"]).await?;
    let serving = stage.serve().await?;
    stage.receiver.wait_for(1, SOON).await?;
    let request = stage.receiver.received().remove(0);
    ensure!(request.webhook_id() == Some(id.trim()), "{id}: {request:?}");
    serving.end(End::Terminate).await
}

/// Holds the data directory as this command, of the process that runs the test.
fn hold(stage: &Stage, command: &str) -> Result<std::fs::File> {
    let file = std::fs::File::create(stage.data().join("queue.lock"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    std::fs::write(
        stage.data().join("queue.lock"),
        format!("{}\n{command}\n", std::process::id()),
    )?;
    Ok(file)
}

/// Goal: `serve` that starts while a command has the directory, and commands that come while it has no socket yet, wait a moment
/// and go on.
#[tokio::test]
async fn who_meets_a_held_directory_tries_again_for_a_moment() -> Result<()> {
    let stage = stage(1).await?;
    stage.serve().await?.end(End::Terminate).await?;
    let held = hold(&stage, "hooklane dead list")?;
    let publish = stage.run(&["publish", "--type", "a.b", "--payload", "17"]);
    let list = stage.run(&["dead", "list"]);
    let let_go = async {
        // All three have found it held by then, or come later and lose nothing.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        drop(held);
    };
    let (serving, publish, list, ()) = tokio::join!(stage.serve(), publish, list, let_go);
    let serving = serving?;
    for ended in [publish?, list?] {
        ensure!(ended.status.success(), "{}", ended.stderr);
    }
    stage.receiver.wait_for(1, SOON).await?;
    serving.end(End::Terminate).await
}

/// Goal: whoever waits in vain is told who holds the directory; another `serve` is not waited for.
#[tokio::test]
async fn who_waits_in_vain_is_told_who_holds_the_directory() -> Result<()> {
    let stage = stage(1).await?;
    stage.serve().await?.end(End::Terminate).await?;
    let told = |command: &str| format!("in use by process {} ({command})", std::process::id());
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let held = hold(&stage, "hooklane serve")?;
    let status = stage.run(&["status"]).await?;
    ensure!(
        status.status.code() == Some(1) && status.stderr.contains(&told("hooklane serve")),
        "{}",
        status.stderr
    );
    let began = std::time::Instant::now();
    let second = stage.run(&serve).await?;
    ensure!(
        second.stderr.contains(&told("hooklane serve")),
        "{}",
        second.stderr
    );
    ensure!(began.elapsed().as_secs() < 5, "it waited for another serve");
    drop(held);
    let _held = hold(&stage, "hooklane drain")?;
    let late = stage.run(&serve).await?;
    ensure!(
        late.status.code() == Some(1) && late.stderr.contains(&told("hooklane drain")),
        "{}",
        late.stderr
    );
    Ok(())
}

/// Goal: where no socket fits in, that is said before anything is made; where it just fits, everything works.
#[tokio::test]
async fn a_directory_with_too_long_a_name_is_refused_with_what_to_do() -> Result<()> {
    let stage = stage(1).await?;
    let room = 107 - "/admin.sock".len();
    let (fits, long) = ("d".repeat(room), "d".repeat(room + 1));
    let publish = ["publish", "--type", "a.b", "--payload", "1"];
    let settings = std::fs::read_to_string(stage.dir.path().join("hooklane.toml"))?;
    let name = |directory: &str| {
        let text = format!("[embedded]\ndata_dir = \"{directory}\"\n{settings}");
        std::fs::write(stage.dir.path().join("hooklane.toml"), text)
    };
    name(&long)?;
    let refused = stage.run(&["serve", "--listen", "127.0.0.1:0"]).await?;
    ensure!(
        refused.status.code() == Some(2)
            && refused.stderr.contains("too long")
            && refused.stderr.contains("data_dir"),
        "{}",
        refused.stderr
    );
    ensure!(!stage.dir.path().join(&long).exists());
    name(&fits)?;
    let serving = stage.serve().await?;
    stage.ok(&publish).await?;
    stage.receiver.wait_for(1, SOON).await?;
    serving.end(End::Terminate).await
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
