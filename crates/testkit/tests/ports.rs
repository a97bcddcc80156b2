//! Leased ports, and waiting for what sends no signal.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hooklane_testkit::{Port, eventually};

#[test]
fn leased_ports_are_free_distinct_and_outside_the_range_of_client_ports() -> Result<()> {
    // Goal: nobody gets a port twice while it is held, also when nothing listens on it.
    let ports = (0..40).map(|_| Port::lease()).collect::<Result<Vec<_>>>()?;
    let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
    ensure!(numbers.len() == ports.len());
    for number in numbers {
        ensure!((21_000..23_000).contains(&number));
        TcpListener::bind(("127.0.0.1", number)).with_context(|| format!("{number} is taken"))?;
    }
    Ok(())
}

#[tokio::test]
async fn eventually_returns_the_first_success_and_fails_with_the_last_error() -> Result<()> {
    // Goal: it tries again, stops, and says what was waited for, also when the probe itself hangs.
    let mut tries = 0;
    let value = eventually("the third try", Duration::from_secs(20), || {
        tries += 1;
        let now = tries;
        async move { if now < 3 { bail!("try {now}") } else { Ok(now) } }
    })
    .await?;
    ensure!(value == 3);
    let failed =
        eventually::<(), _, _>("rain", Duration::from_millis(50), || async { bail!("sunshine") }).await;
    let error = format!("{:#}", failed.err().context("it rained")?);
    ensure!(error.contains("rain") && error.contains("sunshine"), "{error}");
    let hung = eventually::<(), _, _>("an answer", Duration::from_millis(50), std::future::pending).await;
    ensure!(format!("{:#}", hung.err().context("it answered")?).contains("an answer"));
    Ok(())
}
