//! A deep shelf, looked at with the built binary: 100,000 dead letters of 1 KiB.

mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::Queue;
use hooklane_testkit::process::{self, Spawn};
use hooklane_testkit::rabbitmq::shared;
use hooklane_types::{ApplicationId, Internal, UnixMillis};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use stage::shelf::{dead_letter, put};

const LETTERS: u32 = 100_000;
const PAYLOAD_BYTES: usize = 1024;
/// Three times what is promised, for a machine that does other things.
const FIRST_ROWS_MAX: Duration = Duration::from_secs(3);
const SCAN_MAX: Duration = Duration::from_secs(90);
const RSS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// To put 100,000 messages back in order.
const END_MAX: Duration = Duration::from_secs(240);
/// Confirms that are waited for together.
const WINDOW: u32 = 1_000;

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

async fn fill(url: &str) -> Result<()> {
    // It declares the queue.
    put(url, Queue::Dead, []).await?;
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut confirms = Vec::new();
    for number in 0..LETTERS {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (exchange, key) = ("hooklane.internal".into(), "dead".into());
        let body = letter(number)?;
        confirms.push(
            channel
                .basic_publish(exchange, key, BasicPublishOptions::default(), &body, properties)
                .await?,
        );
        if number % WINDOW == WINDOW - 1 {
            for confirm in confirms.drain(..) {
                confirm.await?;
            }
        }
    }
    connection.close(200, "OK".into()).await?;
    Ok(())
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_letters_are_looked_at_quickly_and_in_little_memory() -> Result<()> {
    // Goal: the first rows at once, a filtered scan soon, under 64 MiB, and the same order afterwards.
    let vhost = shared().await?.vhost().await?;
    fill(vhost.url()).await?;
    let dir = tempfile::tempdir()?;
    let list = |more: &[&str]| -> Result<Spawn> {
        let command = process::hooklane()?.args(["dead", "list", "--broker", vhost.url()]);
        Ok(command.args(more).cwd(dir.path()))
    };
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
