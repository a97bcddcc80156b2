//! The data directory of `hooklane serve`: full, damaged, somebody else's. Driven as a user does, by the built binary.

mod served;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::{eventually, process};
use rand::Rng;
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
    newer[60..64].copy_from_slice(&1_000_u32.to_be_bytes());
    fs::write(&queue, newer)?;
    refused(&stage, &all, &["has format 1000", "use the newer version"]).await?;
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
    // The page of the ids themselves: found only by reading it.
    let mut damaged = window.clone();
    damaged[4096..8192].fill(0xa5);
    fs::write(&claims, damaged)?;
    refused(
        &stage,
        &[SERVE, CHECK],
        &["claims.sqlite is damaged", "costs no event"],
    )
    .await?;
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

/// Runs a command without root's right to write anywhere: `setpriv` takes it away, and others never had it.
async fn without_privilege(stage: &Stage, command: &[&str]) -> Result<process::Ended> {
    let spawn = match rustix::process::geteuid().is_root() {
        true => process::Spawn::program("setpriv")
            .args(["--bounding-set=-dac_override"])
            .arg(process::hooklane_path()?),
        false => process::hooklane()?,
    };
    spawn.args(command).cwd(stage.dir.path()).run(SOON).await
}

#[tokio::test]
async fn where_no_directory_can_be_every_command_says_so_and_what_to_do() -> Result<()> {
    // Goal: one message for each: a file in its place, a directory that cannot be written to, one that cannot be made.
    let publish: &[&str] = &["publish", "--type", "a.b", "--payload", "1"];
    let drain: &[&str] = &["drain", "--to", "amqp://127.0.0.1:1"];
    let stage = Stage::new("").await?;
    fs::write(stage.data(), "my notes")?;
    for command in [SERVE, STATUS, DEAD, CHECK, publish, drain] {
        let ended = stage.run(command).await?;
        let told = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(
            !ended.status.success()
                && told.contains("there is a file in its place")
                && told.contains("name another with --data"),
            "{command:?}: {told}"
        );
    }
    ensure!(fs::read(stage.data())? == b"my notes");
    fs::remove_file(stage.data())?;

    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
    };
    let refused = async |command: &[&str]| {
        let ended = without_privilege(&stage, command).await?;
        let told = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(
            ended.status.code() == Some(1)
                && told.contains("cannot be written to")
                && told.contains("mount its disk for writing, or name another with --data"),
            "{command:?}: {told}"
        );
        Ok(())
    };
    mode(stage.dir.path(), 0o500)?;
    for command in [SERVE, CHECK] {
        refused(command).await?;
    }
    mode(stage.dir.path(), 0o700)?;
    stage.serve().await?.end(End::Terminate).await?;
    mode(&stage.data(), 0o500)?;
    let before = contents(&stage.data())?;
    for command in [SERVE, STATUS, DEAD, CHECK, publish, drain] {
        refused(command).await?;
    }
    mode(&stage.data(), 0o700)?;
    ensure!(contents(&stage.data())? == before);
    Ok(())
}

/// Both files, as they lie there while nothing runs.
fn copied(stage: &Stage) -> Result<[Vec<u8>; 2]> {
    let read = |name| fs::read(stage.data().join(name));
    Ok([read("queue.sqlite")?, read("claims.sqlite")?])
}

#[tokio::test]
async fn claims_of_another_queue_or_another_copy_are_refused_and_not_touched() -> Result<()> {
    // Goal: what waits is never taken for done. Method: an event waits in a copy of the queue, and is delivered after that copy was made; then
    // the copy of the queue is put back beside newer ids, beside another directory's, and beside none.
    let other = Stage::new("").await?;
    other.serve().await?.end(End::Terminate).await?;
    let [_, foreign] = copied(&other)?;
    let stage = Stage::new("").await?;
    stage.serve().await?.end(End::Terminate).await?;
    let publish = ["publish", "--type", "a.b", "--id", "shell-1", "--payload", "{}"];
    stage.ok(&publish).await?;
    let [old_queue, old_claims] = copied(&stage)?;
    let serving = stage.serve().await?;
    stage
        .counted(&serving, "hooklane_claims_saved_total", 1.0)
        .await?;
    serving.end(End::Terminate).await?;
    let [queue, claims] = copied(&stage)?;
    let (queue_file, claims_file) = (
        stage.data().join("queue.sqlite"),
        stage.data().join("claims.sqlite"),
    );
    let words = [
        "claims.sqlite belongs to another queue, or to another copy of it",
        "put back the one of the same copy",
        "costs no event",
    ];
    let both = [SERVE, CHECK];

    fs::write(&queue_file, &old_queue)?;
    refused(&stage, &both, &words).await?;
    fs::write(&claims_file, &foreign)?;
    refused(&stage, &both, &words).await?;
    fs::remove_file(&queue_file)?;
    refused(&stage, &both, &words).await?;
    ensure!(!queue_file.exists());
    fs::write(&claims_file, &claims)?;
    refused(&stage, &both, &words).await?;
    // Commands that need the queue alone look at the queue alone.
    fs::write(&queue_file, &old_queue)?;
    stage.ok(STATUS).await?;
    stage.ok(DEAD).await?;
    refused(&stage, &both, &words).await?;

    // With the ids of the same copy, and with none: the event that waits there is delivered again.
    for claims in [Some(&old_claims), None] {
        fs::write(&queue_file, &old_queue)?;
        match claims {
            Some(claims) => fs::write(&claims_file, claims)?,
            None => fs::remove_file(&claims_file)?,
        }
        stage.ok(CHECK).await?;
        stage.receiver.forget();
        let serving = stage.serve().await?;
        stage.receiver.wait_for(1, SOON).await?;
        stage
            .counted(&serving, "hooklane_claims_saved_total", 1.0)
            .await?;
        serving.end(End::Terminate).await?;
    }
    // The newer pair is one too.
    fs::write(&queue_file, queue)?;
    fs::write(&claims_file, claims)?;
    stage.ok(CHECK).await?;
    let serving = stage.serve().await?;
    stage.publish_with_key(&serving, "order-1").await?;
    stage.receiver.wait_for(2, SOON).await?;
    serving.end(End::Terminate).await
}

/// Starts and kills, from at once to 300 ms later; how many had not begun to listen.
async fn killed_starts(stage: &Stage) -> Result<usize> {
    let mut early = 0;
    for n in 0..15 {
        let process = process::hooklane()?.args(SERVE).cwd(stage.dir.path()).start()?;
        // Most of them while it starts, which takes some 60 ms.
        let moment_ms = n * n * 3 / 2 + rand::rng().random_range(0..10);
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        process.kill9().await?;
        early += usize::from(!process.output().stdout().contains("listening on"));
        stage
            .ok(CHECK)
            .await
            .with_context(|| format!("killed after {moment_ms} ms"))?;
    }
    Ok(early)
}

#[tokio::test]
async fn kill_9_at_any_moment_of_a_start_leaves_files_that_fit() -> Result<()> {
    // Goal: from nothing, and with events that wait and ids that are kept; check is content after every kill, and so is the next start:
    // no event is lost, and no id.
    let stage = Stage::new("").await?;
    let early = killed_starts(&stage).await?;
    let serving = stage.serve().await?;
    stage.publish_with_key(&serving, "order-1").await?;
    stage
        .counted(&serving, "hooklane_claims_saved_total", 1.0)
        .await?;
    serving.end(End::Kill9).await?;
    let publish = ["publish", "--type", "a.b", "--id", "shell-1", "--payload", "{}"];
    stage.ok(&publish).await?;
    let early = early + killed_starts(&stage).await?;
    println!("30 starts, {early} killed before they listened");
    ensure!(early > 1, "all kills came too late");
    let serving = stage.serve().await?;
    stage.publish_with_key(&serving, "order-1").await?;
    stage
        .counted(&serving, "hooklane_events_duplicate_total", 1.0)
        .await?;
    stage
        .receiver
        .wait_until("both events", SOON, |log| log.by_webhook_id().len() == 2)
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
    stage.publish_with_key(&serving, "order-1").await?;
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
