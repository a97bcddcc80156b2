//! The data directory of `hooklane serve`: full, damaged, somebody else's. Driven as a user does, by the built binary.

mod served;

use std::fs;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::eventually;
use served::{End, SOON, Stage, contents};

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];
const STATUS: &[&str] = &["status"];
const DEAD: &[&str] = &["dead", "list"];
const CHECK: &[&str] = &["check"];

/// Each command ends with an error that says this, and the bytes stay the same.
async fn refused(stage: &Stage, commands: &[&[&str]], words: &[&str]) -> Result<()> {
    let before = contents(&stage.data())?;
    for command in commands {
        let ended = stage.run(command).await?;
        let told = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(ended.status.code() == Some(1), "{command:?}: {told}");
        for words in words {
            ensure!(told.contains(words), "{command:?} does not say {words:?}: {told}");
        }
        ensure!(contents(&stage.data())? == before, "{command:?} changed it");
    }
    Ok(())
}

/// A directory with 60 events that wait for their retry.
async fn filled() -> Result<Stage> {
    let stage = Stage::new("").await?;
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    let serving = stage.serve().await?;
    for n in 0..60 {
        let (id, payload) = (format!("order-{n}"), "x".repeat(3_000));
        let answer = stage.post(&serving, "default", &id, &payload).await?;
        ensure!(answer.status() == 202, "{answer:?}");
    }
    serving.end(End::Terminate).await?;
    Ok(stage)
}

#[tokio::test]
async fn a_damaged_or_foreign_directory_is_refused_by_every_command_and_not_touched() -> Result<()> {
    let stage = filled().await?;
    let queue = stage.data().join("queue.sqlite");
    let whole = fs::read(&queue)?;
    let all = [SERVE, STATUS, DEAD, CHECK];
    let mut damaged = whole.clone();
    let middle = whole.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 4096].fill(0xa5);
    fs::write(&queue, damaged)?;
    refused(
        &stage,
        &all,
        &["queue.sqlite is damaged", "restore it from a copy"],
    )
    .await?;
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&2_u32.to_be_bytes());
    fs::write(&queue, newer)?;
    refused(&stage, &all, &["has format 2", "use the newer version"]).await?;
    fs::write(&queue, "my notes")?;
    refused(
        &stage,
        &all,
        &["is not a queue of Hooklane", "name another directory"],
    )
    .await?;
    fs::write(&queue, &whole)?;
    let claims = stage.data().join("claims.sqlite");
    let window = fs::read(&claims)?;
    fs::write(&claims, "my notes")?;
    refused(&stage, &[SERVE, CHECK], &["is not a window of claims"]).await?;
    fs::write(&claims, window)?;
    stage.ok(CHECK).await?;
    stage.receiver.script_with("/hook", |_| Reply::ok());
    stage.receiver.forget();
    let serving = stage.serve().await?;
    stage
        .receiver
        .wait_until("all that waited", SOON, |log| log.by_webhook_id().len() == 60)
        .await?;
    serving.end(End::Terminate).await
}

#[tokio::test]
async fn check_says_what_the_directory_is_and_changes_nothing() -> Result<()> {
    // Goal: none yet, in use, closed in order, left by a kill.
    let stage = Stage::new("").await?;
    let told = stage.ok(CHECK).await?;
    ensure!(
        told.contains("there is none yet") && told.contains("MiB free"),
        "{told}"
    );
    ensure!(!stage.data().exists());
    let serving = stage.serve().await?;
    stage.publish(&serving, "default", "order-1").await?;
    stage.receiver.wait_for(1, SOON).await?;
    let told = stage.ok(CHECK).await?;
    let holder = format!("in use by process {} (hooklane serve)", serving.process.pid());
    ensure!(told.contains(&holder), "{told}");
    serving.end(End::Kill9).await?;
    for end in [Some(End::Terminate), None] {
        let before = contents(&stage.data())?;
        let told = stage.ok(CHECK).await?;
        ensure!(
            told.contains("queue.sqlite is whole") && told.contains("claims.sqlite is whole"),
            "{told}"
        );
        ensure!(contents(&stage.data())? == before, "it was changed");
        if let Some(end) = end {
            stage.serve().await?.end(end).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn at_the_bound_of_the_file_publishers_get_503_and_it_ends_by_itself() -> Result<()> {
    // Goal: a receiver that fails fills the file; publishers are told when to come again, deliveries go on, and when they succeed there is
    // room again. Nothing that was accepted is lost.
    let stage = Stage::new("[embedded]\nfile_bytes_max = \"2MiB\"").await?;
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    let serving = stage.serve().await?;
    let payload = "x".repeat(20_000);
    let mut accepted = 0;
    let refusal = loop {
        let answer = stage
            .post(&serving, "default", &format!("order-{accepted}"), &payload)
            .await?;
        if answer.status() != 202 {
            break answer;
        }
        accepted += 1;
        ensure!(accepted < 200, "2 MiB hold more than 4 MB");
    };
    ensure!(refusal.status() == 503, "{refusal:?}");
    let seconds = refusal
        .headers()
        .get("retry-after")
        .context("when to come again")?;
    ensure!(seconds.to_str()?.parse::<u32>()? > 0);
    ensure!(accepted > 40, "only {accepted} were taken");
    let before = stage.receiver.total();
    stage.receiver.wait_for(before + 2 * accepted, SOON).await?;
    let log = fs::metadata(stage.data().join("queue.sqlite"))?.len();
    ensure!(log <= 2 * 1024 * 1024, "{log} bytes");
    stage.receiver.script_with("/hook", |_| Reply::ok());
    eventually("an event to be taken again", SOON, || async {
        let answer = stage.post(&serving, "default", "late", &payload).await?;
        ensure!(answer.status() == 202, "{answer:?}");
        Ok(())
    })
    .await?;
    stage
        .counted(
            &serving,
            "hooklane_deliveries_total{outcome=\"delivered\"}",
            (accepted + 1) as f64,
        )
        .await?;
    serving.end(End::Terminate).await
}
