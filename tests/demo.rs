//! `hooklane demo`, the README's first command.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::eventually;
use hooklane_testkit::process::{self, Spawn};
use hooklane_testkit::python::workspace_root;

/// Three times the promised 30 s.
const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);

/// Goal: all of it is on the screen, the directory is gone, and settings of another installation mean nothing.
#[tokio::test]
async fn the_whole_way_of_an_event_is_on_one_screen() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let ended = process::hooklane()?
        .args(["demo"])
        .env("TMPDIR", tmp.path())
        .env("HOOKLANE_BROKER__URL", "amqp://127.0.0.1:1")
        .run(LIMIT)
        .await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let mut rest = ended.stdout.as_str();
    for expected in [
        "hooklane serve",
        "--type payment.succeeded",
        "--type build_completed",
        "--type alert.raised",
        "`orders` received msg_",
        "signature valid: {\"payment\": \"pay_17\", \"amount\": 49.90, \"currency\": \"EUR\"}",
        "signature valid: {\"build\": 4711, \"status\": \"passed\"}",
        "signature valid: {\"alert\": \"disk\", \"level\": \"critical\"}",
        "`pager` answered 500 to attempt 3 of 3",
        "$ hooklane dead list",
        "pager",
        "$ hooklane dead replay --all",
        "replayed 1 of 1",
        "`pager` received msg_",
        "All of it was seen",
    ] {
        let at = rest.find(expected);
        let at =
            at.with_context(|| format!("{expected:?} is not there, or not in order:\n{}", ended.stdout))?;
        rest = &rest[at + expected.len()..];
    }
    let readme = std::fs::read_to_string(workspace_root().join("README.md"))?;
    let shown = readme
        .split("```")
        .find(|block| block.contains("$ hooklane serve  "));
    let mut rest = ended.stdout.as_str();
    for line in shown.context("the README shows what is printed")?.trim().lines() {
        // Times, ports and ids differ.
        let (_, words) = line.split_once(" s  ").with_context(|| line.to_owned())?;
        let words = words
            .split("http://")
            .next()
            .and_then(|words| words.split("msg_").next());
        let words = words.unwrap_or_default();
        let at = rest
            .find(words)
            .with_context(|| format!("the README says {words:?}:\n{}", ended.stdout))?;
        rest = &rest[at + words.len()..];
    }
    ensure!(
        ended.stdout.lines().count() <= 45,
        "more than one screen:\n{}",
        ended.stdout
    );
    ensure!(
        std::fs::read_dir(tmp.path())?.next().is_none(),
        "the directory is left"
    );
    Ok(())
}

/// Goal: what cannot be shown ends with an error that says what to do. Method: no directory can be made.
#[tokio::test]
async fn a_demo_that_cannot_play_says_why() -> Result<()> {
    let ended = process::hooklane()?
        .args(["demo"])
        .env("TMPDIR", "/nonexistent")
        .run(SOON)
        .await?;
    ensure!(
        ended.status.code() == Some(1) && ended.stderr.contains("set TMPDIR"),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// Goal: killed half way, the demo leaves no process behind. Method: the service's socket goes with it; a shell in front of both, since
/// the test kit ends the whole group with its leader.
#[tokio::test]
async fn a_killed_demo_leaves_no_process() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let script = format!(
        "{} demo & echo demo $!; wait; sleep 600",
        env!("CARGO_BIN_EXE_hooklane")
    );
    let shell = Spawn::program("sh")
        .args(["-c", &script])
        .env("TMPDIR", tmp.path())
        .start()?;
    let line = shell.wait_for_line("demo ", SOON).await?.text;
    let demo = line.strip_prefix("demo ").context("its process id")?;
    shell.wait_for_line("answered 500 to attempt 1", SOON).await?;
    let left = std::fs::read_dir(tmp.path())?.next();
    let socket = left
        .context("the demo's directory")??
        .path()
        .join("hooklane-data/admin.sock");
    ensure!(socket.exists(), "it serves");
    Spawn::program("kill").args(["-9", demo]).run_ok(SOON).await?;
    eventually("the service to end", SOON, || async {
        ensure!(!socket.exists(), "its socket is still there");
        Ok(())
    })
    .await
}
