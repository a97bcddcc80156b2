//! `hooklane dead`, `faults` and `status`, driven as an operator does: by the built binary.

mod stage;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::rabbitmq::{RabbitMqSettings, RabbitMqShelves, Role};
use hooklane_broker::{Holder, Queue, ShelfName, Shelves};
use hooklane_testkit::process::{self, Ended};
use hooklane_testkit::rabbitmq::{Vhost, shared};
use hooklane_types::{DeadReason, EventType, Internal, UnixMillis};
use serde_json::Value;
use stage::shelf::{dead_letter, put};

const DEADLINE: Duration = Duration::from_secs(60);

struct Stage {
    vhost: Vhost,
    dir: tempfile::TempDir,
}

impl Stage {
    /// A vhost with `count` dead letters.
    async fn new(count: u32) -> Result<Stage> {
        let vhost = shared().await?.vhost().await?;
        let letters: Vec<_> = (0..count).map(letter).collect::<Result<_>>()?;
        put(vhost.url(), Queue::Dead, letters).await?;
        Ok(Stage {
            vhost,
            dir: tempfile::tempdir()?,
        })
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        let command = process::hooklane()?
            .args(arguments)
            .args(["--broker", self.vhost.url()]);
        command.cwd(self.dir.path()).run(DEADLINE).await
    }

    async fn ok(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.run(arguments).await?;
        ensure!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
        Ok(ended.stdout)
    }

    async fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let ended = self.run(arguments).await?;
        ensure!(
            ended.status.code() == Some(code),
            "{arguments:?}: {} {}",
            ended.status,
            ended.stderr
        );
        for word in words {
            ensure!(
                ended.stderr.contains(word),
                "{arguments:?} does not say {word}: {}",
                ended.stderr
            );
        }
        Ok(())
    }
}

fn letter(number: u32) -> Result<Bytes> {
    let payload = format!("{{\"number\": {number}, \"pad\": \"{}\"}}", "x".repeat(5_000));
    let mut letter = dead_letter(
        &format!("msg_{number}"),
        UnixMillis(1_700_000_060_000),
        payload.into(),
    )?;
    if number == 0 {
        letter.delivery.event.event_type = EventType::parse("order.sent").context("a type")?;
    }
    letter.reason = DeadReason::Gone;
    Ok(Internal::Dead(letter).encode())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_lists_shows_exports_replays_and_purges() -> Result<()> {
    // Goal: the whole way of an operator, with what each command prints.
    let stage = Stage::new(4).await?;
    let table = stage.ok(&["dead", "list"]).await?;
    let lines: Vec<_> = table.lines().collect();
    ensure!(
        lines.len() == 5 && lines[0].starts_with("ID ") && lines[1].starts_with("msg_0 "),
        "{table}"
    );
    ensure!(lines.iter().all(|line| line.chars().count() <= 160), "{table}");
    let json = stage
        .ok(&[
            "dead",
            "list",
            "--type",
            "invoice.*",
            "--limit",
            "2",
            "--format",
            "json",
        ])
        .await?;
    let rows: Vec<Value> = json.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(
        rows.len() == 2 && rows[0]["id"] == "msg_1" && rows[0]["reason"] == "gone",
        "{json}"
    );
    let shown = stage.ok(&["dead", "show", "msg_2"]).await?;
    ensure!(
        shown.contains("endpoints: [\"ep_1\"]") && shown.contains("--payload writes it whole"),
        "{shown}"
    );
    let payload = stage.ok(&["dead", "show", "msg_2", "--payload"]).await?;
    ensure!(
        payload.starts_with("{\"number\": 2,") && payload.len() > 5_000,
        "{} bytes",
        payload.len()
    );
    let exported = stage.ok(&["dead", "export"]).await?;
    let last: Value = serde_json::from_str(exported.lines().last().unwrap_or_default())?;
    ensure!(exported.lines().count() == 4 && last["payload"].as_str().is_some_and(|text| text.len() > 5_000));
    let replayed = stage.ok(&["dead", "replay", "msg_1", "--rate", "10/s"]).await?;
    ensure!(replayed == "replayed 1 of 4\n", "{replayed}");
    let purged = stage
        .ok(&["dead", "purge", "--type", "order.sent", "--yes"])
        .await?;
    ensure!(purged == "purged 1 of 3\n", "{purged}");
    let status: Value = serde_json::from_str(&stage.ok(&["status", "--format", "json"]).await?)?;
    let depth = |name: &str| {
        let queues = status["queues"].as_array().into_iter().flatten();
        queues
            .filter(|queue| queue["name"] == name)
            .find_map(|queue| queue["messages"].as_u64())
    };
    ensure!(
        (depth("dead"), depth("deliveries"), depth("faults")) == (Some(2), Some(1), Some(0)),
        "{status}"
    );
    ensure!(stage.ok(&["faults", "list"]).await?.lines().count() == 1);
    ensure!(
        stage
            .ok(&["status"])
            .await?
            .contains("0 of 0 dispatchers answered")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_refused_before_anything_happens() -> Result<()> {
    // Goal: nothing is purged or replayed by omission; exit codes tell mistakes (2) from failures (1); each says what to do.
    let stage = Stage::new(2).await?;
    stage.refused(&["dead", "purge"], 2, &["--all"]).await?;
    stage.refused(&["dead", "replay"], 2, &["--all"]).await?;
    stage
        .refused(&["dead", "purge", "--all"], 2, &["2 of 2", "--yes"])
        .await?;
    stage
        .refused(
            &["dead", "replay", "--all", "--reason", "gone"],
            2,
            &["no filter"],
        )
        .await?;
    stage
        .refused(
            &["dead", "list", "--reason", "poison"],
            2,
            &["exhausted", "endpoint_removed"],
        )
        .await?;
    stage
        .refused(&["dead", "list", "--type", "*.paid"], 2, &["--type"])
        .await?;
    stage
        .refused(&["dead", "replay", "--all", "--rate", "0/s"], 2, &["50/s"])
        .await?;
    stage
        .refused(&["dead", "show", "msg_9"], 1, &["msg_9", "list"])
        .await?;
    stage
        .refused(&["dead", "purge", "msg_9", "--yes"], 1, &["msg_9"])
        .await?;
    ensure!(stage.ok(&["dead", "list"]).await?.lines().count() == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_shelf_names_its_holder_and_never_a_password() -> Result<()> {
    // Goal: the second operator knows whom to ask. Method: once held by the library, once by a command that waits.
    let stage = Stage::new(200).await?;
    let shelves = RabbitMqShelves::new(RabbitMqSettings::new(Role::Operator, stage.vhost.url())?);
    let holder = Holder {
        pid: 4242,
        host: "somewhere".to_owned(),
        user: "ann".to_owned(),
        command: "hooklane dead replay".to_owned(),
        since: UnixMillis(1_700_000_000_000),
    };
    let held = shelves.open(ShelfName::Dead, holder).await?;
    let words = [
        "4242",
        "ann",
        "somewhere",
        "hooklane dead replay",
        "2023-11-14T22:13:20",
    ];
    stage.refused(&["dead", "list"], 1, &words).await?;
    stage.ok(&["faults", "list"]).await?;
    held.close().await?;
    let command = process::hooklane()?.args([
        "dead",
        "replay",
        "--all",
        "--rate",
        "1/s",
        "--broker",
        stage.vhost.url(),
    ]);
    let slow = command.cwd(stage.dir.path()).start()?;
    slow.wait_for_line("replayed 1", DEADLINE).await?;
    let ended = stage.run(&["dead", "list"]).await?;
    ensure!(
        ended.stderr.contains(&format!("process {}", slow.pid())),
        "{}",
        ended.stderr
    );
    ensure!(!ended.stderr.contains("amqp://"), "{}", ended.stderr);
    slow.terminate()?;
    let status = slow.wait(DEADLINE).await?;
    ensure!(status.code() == Some(1), "{status}: {}", slow.output().tail());
    let listed = stage
        .ok(&["dead", "list", "--limit", "0", "--format", "json"])
        .await?;
    let replayed = 200 - listed.lines().count();
    ensure!((1..60).contains(&replayed), "{replayed} were replayed");
    ensure!(
        listed
            .lines()
            .next()
            .is_some_and(|line| line.contains(&format!("\"msg_{replayed}\""))),
        "out of order"
    );
    Ok(())
}
