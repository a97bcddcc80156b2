use std::future::Future;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_millis(200);

/// Probes until it succeeds, for states that send no signal (a queue's depth, a file).
///
/// # Errors
/// At the deadline: what was waited for, and the last error of the probe.
pub async fn eventually<T, F, P>(what: &str, deadline: Duration, mut probe: P) -> Result<T>
where
    P: FnMut() -> F,
    F: Future<Output = Result<T>>,
{
    let until = Instant::now() + deadline;
    let mut interval = INTERVAL_MIN;
    let mut last = None;
    loop {
        match timeout_at(until, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {
                let last = last.unwrap_or_else(|| anyhow!("the probe did not return"));
                return Err(last.context(format!("waited {deadline:?} for {what}")));
            }
        }
        if Instant::now() >= until {
            let last = last.unwrap_or_else(|| anyhow!("the probe failed without an error"));
            return Err(last.context(format!("waited {deadline:?} for {what}")));
        }
        sleep(interval.min(until.saturating_duration_since(Instant::now()))).await;
        interval = (interval * 2).min(INTERVAL_MAX);
    }
}
