//! The process driver, with shells as programs under test.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::{Process, Signal, Spawn};
use hooklane_testkit::{Stream, eventually};

const WAIT: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Spawn {
    Spawn::program("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn captures_both_streams_and_the_exit_status() -> Result<()> {
    // Goal: nothing of a short run is lost, and its streams are kept apart.
    let ended = shell("echo out; echo err >&2; printf unfinished; exit 3")
        .run(WAIT)
        .await?;
    ensure!(ended.status.code() == Some(3));
    ensure!(ended.stdout == "out\nunfinished\n", "{:?}", ended.stdout);
    ensure!(ended.stderr == "err\n", "{:?}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn waits_for_lines_of_the_past_and_of_the_future() -> Result<()> {
    // Goal: a line is found whenever it was written, after a mark only new ones are, and a missing one fails with what there was.
    let process = shell("trap 'echo again' USR1; echo ready; sleep 60 & while :; do wait; done").start()?;
    process.wait_for_line("ready", WAIT).await?;
    ensure!(process.wait_for_line("ready", WAIT).await?.stream == Stream::Stdout);
    let mark = process.output().mark();
    eventually("the signal to be handled", WAIT, || async {
        process.signal(Signal::USR1)?;
        process
            .output()
            .wait_for_after(mark, "again", Duration::from_millis(200))
            .await
    })
    .await?;
    let missing = process
        .output()
        .wait_for_after(mark, "ready", Duration::from_millis(100))
        .await;
    let error = format!("{:#}", missing.err().context("an old line was found")?);
    ensure!(error.contains("\"ready\"") && error.contains("again"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_wait_for_a_line_ends_with_the_process() -> Result<()> {
    // Goal: a program that dies at its start fails the test at once, with its last words.
    let process = shell("echo 'no such option' >&2; exit 2").start()?;
    let error = format!(
        "{:#}",
        process
            .wait_for_line("ready", WAIT)
            .await
            .err()
            .context("found")?
    );
    ensure!(
        error.contains("ended without") && error.contains("no such option"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn terminates_kills_and_measures() -> Result<()> {
    // Goal: SIGTERM can be handled, SIGKILL cannot, memory is read while the process lives.
    let trap = "trap 'echo bye; exit 0' TERM; echo set; sleep 60 & wait";
    let process = shell(trap).start()?;
    process.wait_for_line("set", WAIT).await?;
    ensure!(process.rss_bytes()? > 0 && process.peak_rss_bytes()? >= process.rss_bytes()?);
    process.terminate()?;
    ensure!(process.wait(WAIT).await?.code() == Some(0));
    process.wait_for_line("bye", WAIT).await?;
    ensure!(process.terminate().is_err() && process.rss_bytes().is_err());

    let process = shell(trap).start()?;
    process.wait_for_line("set", WAIT).await?;
    process.kill9().await?;
    ensure!(process.exited().context("it runs")?.code().is_none());
    ensure!(!process.output().stdout().contains("bye"));
    Ok(())
}

#[tokio::test]
async fn a_dropped_process_ends_with_its_children() -> Result<()> {
    // Goal: Drop reaches grandchildren. Method: the shell names a background child; /proc shows when it is gone.
    let process = shell("sleep 60 & echo child $!; wait").start()?;
    let line = process.wait_for_line("child ", WAIT).await?.text;
    let child = line.trim_start_matches("child ").to_owned();
    gone_after(process, &child).await
}

async fn gone_after(process: Process, child: &str) -> Result<()> {
    ensure!(std::fs::exists(format!("/proc/{child}"))?);
    drop(process);
    eventually("the grandchild to go", WAIT, || async {
        // A zombie that init has not reaped yet has no command line.
        let command = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        ensure!(command.is_empty(), "it runs");
        Ok(())
    })
    .await
}
