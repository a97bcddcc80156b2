//! A deep shelf, looked at with the built binary: 100,000 dead letters of 1 KiB.

mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::Queue;
use hooklane_testkit::process::Spawn;
use hooklane_types::{ApplicationId, Internal, UnixMillis};
use stage::shelf::{dead_letter, put};
use stage::{On, Stage, on_both};

on_both!(a_hundred_thousand_letters_are_looked_at_quickly_and_in_little_memory,);

const LETTERS: u32 = 100_000;
const PAYLOAD_BYTES: usize = 1024;
/// Three times what is promised, for a machine that does other things.
const FIRST_ROWS_MAX: Duration = Duration::from_secs(3);
const SCAN_MAX: Duration = Duration::from_secs(90);
const RSS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// To put 100,000 messages back in order.
const END_MAX: Duration = Duration::from_secs(240);

fn letter(number: u32) -> Result<Bytes> {
    let mut letter = dead_letter(
        &format!("msg_{number:06}"),
        UnixMillis(1_700_000_060_000),
        vec![b'x'; PAYLOAD_BYTES].into(),
    )?;
    if number.is_multiple_of(1_000) {
        letter.delivery.event.application = ApplicationId::parse("rare").context("an application")?;
    }
    Ok(Internal::Dead(letter).encode())
}

/// Runs a command to its end; its standard output, and the most memory that it had.
async fn measure(command: Spawn) -> Result<(String, u64)> {
    let process = command.start()?;
    let begun = Instant::now();
    let mut peak_bytes = 0;
    // What a process had at most can only be asked while it lives.
    while process.exited().is_none() {
        peak_bytes = peak_bytes.max(process.peak_rss_bytes().unwrap_or(0));
        ensure!(
            begun.elapsed() < END_MAX,
            "still running: {}",
            process.output().tail()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = process.wait(END_MAX).await?;
    ensure!(status.success(), "{status}: {}", process.output().tail());
    Ok((process.output().stdout(), peak_bytes))
}

async fn a_hundred_thousand_letters_are_looked_at_quickly_and_in_little_memory(on: On) -> Result<()> {
    // Goal: the first rows at once, a filtered scan soon, under 64 MiB, and the same order afterwards.
    let stage = Stage::on(on).await?;
    let letters = (0..LETTERS).map(|number| letter(number).expect("a letter can be made"));
    put(&stage, Queue::Dead, letters).await?;
    let list = |more: &[&str]| stage.hooklane(&[&["dead", "list"], more].concat());
    let first_rows = async |look: &str| -> Result<()> {
        let begun = Instant::now();
        let process = list(&[])?.start()?;
        process
            .wait_for_line("msg_000049", FIRST_ROWS_MAX)
            .await
            .with_context(|| format!("first rows, {look}"))?;
        let took = begun.elapsed();
        ensure!(took < FIRST_ROWS_MAX, "{look}: the first rows took {took:?}");
        let begun = Instant::now();
        ensure!(
            process.wait(END_MAX).await?.success(),
            "{}",
            process.output().tail()
        );
        eprintln!(
            "{look}: 50 rows after {took:?}, ended {:?} later",
            begun.elapsed()
        );
        let stdout = process.output().stdout();
        ensure!(
            stdout
                .lines()
                .nth(1)
                .is_some_and(|line| line.starts_with("msg_000000 ")),
            "{stdout}"
        );
        Ok(())
    };
    first_rows("fresh").await?;
    let begun = Instant::now();
    let (stdout, peak_bytes) = measure(list(&[
        "--application",
        "rare",
        "--limit",
        "0",
        "--format",
        "json",
    ])?)
    .await?;
    let took = begun.elapsed();
    eprintln!("scanned {LETTERS} in {took:?} with {} KiB", peak_bytes / 1024);
    ensure!(took < SCAN_MAX, "the scan took {took:?}");
    ensure!(
        (1..RSS_BYTES_MAX).contains(&peak_bytes),
        "{} MiB",
        peak_bytes / 1024 / 1024
    );
    let expected: Vec<_> = (0..LETTERS)
        .step_by(1_000)
        .map(|number| format!("\"id\":\"msg_{number:06}\""))
        .collect();
    ensure!(
        stdout.lines().count() == expected.len(),
        "{} rows",
        stdout.lines().count()
    );
    for (line, id) in stdout.lines().zip(&expected) {
        ensure!(line.contains(id), "{line} instead of {id}");
    }
    first_rows("after a whole look").await
}
