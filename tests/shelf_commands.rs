//! `hooklane dead`, `faults` and `status`, driven as an operator does: by the built binary.

mod stage;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::{Holder, Queue, ShelfName};
use hooklane_types::{DeadReason, EventType, Internal, UnixMillis};
use serde_json::Value;
use stage::shelf::{dead_letter, put, shelves};
use stage::{On, Stage, on_both};

on_both!(
    an_operator_lists_shows_exports_replays_and_purges,
    mistakes_are_refused_before_anything_happens,
    a_held_shelf_names_its_holder_and_never_a_password,
);

const DEADLINE: Duration = Duration::from_secs(60);

/// A stage with `count` dead letters, where nothing runs.
async fn with(on: On, count: u32) -> Result<Stage> {
    let stage = Stage::on(on).await?;
    let letters: Vec<_> = (0..count).map(letter).collect::<Result<_>>()?;
    put(&stage, Queue::Dead, letters).await?;
    Ok(stage)
}

async fn refused(stage: &Stage, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let ended = stage.refused(arguments).await?;
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

async fn an_operator_lists_shows_exports_replays_and_purges(on: On) -> Result<()> {
    // Goal: the whole way of an operator, with what each command prints.
    let stage = with(on, 4).await?;
    let table = stage.run(&["dead", "list"]).await?;
    let lines: Vec<_> = table.lines().collect();
    ensure!(
        lines.len() == 5 && lines[0].starts_with("ID ") && lines[1].starts_with("msg_0 "),
        "{table}"
    );
    ensure!(lines.iter().all(|line| line.chars().count() <= 160), "{table}");
    let json = stage
        .run(&[
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
    let shown = stage.run(&["dead", "show", "msg_2"]).await?;
    ensure!(
        shown.contains("endpoints: [\"ep_1\"]") && shown.contains("--payload writes it whole"),
        "{shown}"
    );
    let payload = stage.run(&["dead", "show", "msg_2", "--payload"]).await?;
    ensure!(
        payload.starts_with("{\"number\": 2,") && payload.len() > 5_000,
        "{} bytes",
        payload.len()
    );
    let exported = stage.run(&["dead", "export"]).await?;
    let last: Value = serde_json::from_str(exported.lines().last().unwrap_or_default())?;
    ensure!(exported.lines().count() == 4 && last["payload"].as_str().is_some_and(|text| text.len() > 5_000));
    let replayed = stage.run(&["dead", "replay", "msg_1", "--rate", "10/s"]).await?;
    ensure!(replayed == "replayed 1 of 4\n", "{replayed}");
    let purged = stage
        .run(&["dead", "purge", "--type", "order.sent", "--yes"])
        .await?;
    ensure!(purged == "purged 1 of 3\n", "{purged}");
    let status = stage.status().await?;
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
    ensure!(stage.run(&["faults", "list"]).await?.lines().count() == 1);
    ensure!(
        stage
            .run(&["status"])
            .await?
            .contains("0 of 0 dispatchers answered")
    );
    Ok(())
}

async fn mistakes_are_refused_before_anything_happens(on: On) -> Result<()> {
    // Goal: nothing is purged or replayed by omission; exit codes tell mistakes (2) from failures (1); each says what to do.
    let stage = with(on, 2).await?;
    refused(&stage, &["dead", "purge"], 2, &["--all"]).await?;
    refused(&stage, &["dead", "replay"], 2, &["--all"]).await?;
    refused(&stage, &["dead", "purge", "--all"], 2, &["2 of 2", "--yes"]).await?;
    refused(
        &stage,
        &["dead", "replay", "--all", "--reason", "gone"],
        2,
        &["no filter"],
    )
    .await?;
    refused(
        &stage,
        &["dead", "list", "--reason", "poison"],
        2,
        &["exhausted", "endpoint_removed"],
    )
    .await?;
    refused(&stage, &["dead", "list", "--type", "*.paid"], 2, &["--type"]).await?;
    refused(
        &stage,
        &["dead", "replay", "--all", "--rate", "0/s"],
        2,
        &["50/s"],
    )
    .await?;
    refused(&stage, &["dead", "show", "msg_9"], 1, &["msg_9", "list"]).await?;
    refused(&stage, &["dead", "purge", "msg_9", "--yes"], 1, &["msg_9"]).await?;
    ensure!(stage.run(&["dead", "list"]).await?.lines().count() == 3);
    Ok(())
}

async fn a_held_shelf_names_its_holder_and_never_a_password(on: On) -> Result<()> {
    // Goal: the second operator knows whom to ask. Method: once held by the library, once by a command that waits.
    let stage = with(on, 200).await?;
    // Where one process has the queue, the shelf is asked for beside it.
    stage.settings("", &stage.endpoint("ep_1", "/hook", ""))?;
    let _serving = match on {
        On::RabbitMq => None,
        On::Embedded => Some(stage.dispatcher().await?),
    };
    let shelves = shelves(&stage).await?;
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
    refused(&stage, &["dead", "list"], 1, &words).await?;
    stage.run(&["faults", "list"]).await?;
    held.close().await?;
    let slow = stage
        .hooklane(&["dead", "replay", "--all", "--rate", "1/s"])?
        .start()?;
    slow.wait_for_line("replayed 1", DEADLINE).await?;
    let ended = stage.refused(&["dead", "list"]).await?;
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
        .run(&["dead", "list", "--limit", "0", "--format", "json"])
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
