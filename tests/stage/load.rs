//! Load on a stage: events that are published while something happens, and what must hold afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{Dispatcher, Ingest, RECOVERY, SOON, Stage, assert_all_arrived};

/// Publishers at once, beside trouble.
pub const PUBLISHERS: usize = 16;
/// What each rests between two events: some hundred a second in all, which leaves the machine to what is tested.
const REST: Duration = Duration::from_millis(40);
/// After a refusal.
const AGAIN: Duration = Duration::from_millis(100);

/// For an endpoint: retries soon, so that what a fault of the broker made fail is not waited for.
pub const RETRY: &str = "retry = [\"1s\", \"1s\", \"1s\"]";

/// Publishes this many events as fast as it goes; gives their ids.
pub async fn publish(stage: &Stage, ingest: &Ingest, count: usize) -> Result<Vec<String>> {
    stream::iter(0..count)
        .map(|number| publish_one(stage, ingest, number))
        .buffer_unordered(4 * PUBLISHERS)
        .try_collect()
        .await
}

/// Publishes events until `trouble` is over; gives the ids of what was accepted.
pub async fn beside<T>(
    stage: &Stage,
    ingest: &Ingest,
    trouble: impl Future<Output = Result<T>>,
) -> Result<(Vec<String>, T)> {
    let over = CancellationToken::new();
    let load = stream::iter(0usize..)
        .take_until(over.cancelled())
        .map(|number| async move {
            tokio::time::sleep(REST).await;
            publish_one(stage, ingest, number).await
        })
        .buffer_unordered(PUBLISHERS)
        .try_collect();
    let trouble = async {
        let ended = trouble.await?;
        over.cancel();
        Ok(ended)
    };
    tokio::try_join!(load, trouble)
}

/// One event, until it is accepted: a refusal (503) or a broken connection is what producers retry, with the same eventId.
async fn publish_one(stage: &Stage, ingest: &Ingest, number: usize) -> Result<String> {
    let body = format!(r#"{{"eventType":"load","eventId":"n{number}","payload":{{"n":{number}}}}}"#);
    let until = tokio::time::Instant::now() + RECOVERY;
    loop {
        // A retry bears the same key, as those of the client libraries do.
        let key = format!("n{number}");
        let found = ingest
            .post_with_key(&stage.http, "acme", &key, body.clone())
            .await;
        match found {
            Ok((202, answer)) => {
                let id = answer["id"].as_str().context("the answer has an id")?;
                return Ok(id.to_owned());
            }
            Ok((503, _)) | Err(_) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(AGAIN).await;
            }
            Ok((status, answer)) => anyhow::bail!("answered {status} {answer}"),
            Err(error) => return Err(error),
        }
    }
}

/// Waits for this many more deliveries.
pub async fn more(stage: &Stage, count: u64, deadline: Duration) -> Result<()> {
    Ok(stage
        .receiver
        .wait_for(stage.receiver.total() + count, deadline)
        .await?)
}

/// After the trouble: everything accepted arrives, under its id; nothing is left anywhere, no fault was made, and all processes
/// work, as nobody helped them. Gives the number of repeats, which is final then.
pub async fn wait_all(
    stage: &Stage,
    ingest: &Ingest,
    dispatchers: &[&Dispatcher],
    accepted: &[String],
) -> Result<u64> {
    let wanted = accepted.len();
    stage
        .receiver
        .wait_until("all to arrive", RECOVERY, move |log| log.distinct() >= wanted)
        .await?;
    settled(stage, dispatchers).await?;
    for url in dispatchers.iter().map(|found| &found.url).chain([&ingest.url]) {
        let ready = stage.http.get(format!("{url}/readyz")).send().await?;
        ensure!(ready.status().is_success(), "{url}: {}", ready.text().await?);
    }
    assert_all_arrived(&stage.receiver, accepted)
}

/// Waits until no queue and none of these, all of the running dispatchers, holds a message; the shelves are empty too.
pub async fn settled(stage: &Stage, dispatchers: &[&Dispatcher]) -> Result<()> {
    hooklane_testkit::eventually("everything to be settled", RECOVERY, || async {
        // In this order and again: what is on its way from the broker to a dispatcher shows in one of the three.
        in_hand(stage, dispatchers).await?;
        let status = stage.status().await?;
        let lists = [&status["queues"], &status["retries"]];
        let waiting = lists.iter().filter_map(|list| list.as_array()).flatten();
        let waiting: Vec<_> = waiting.filter(|row| row["messages"] != 0).collect();
        ensure!(waiting.is_empty(), "there are messages in {waiting:?}");
        ensure!(
            status["dispatchers"].as_array().map(Vec::len) == Some(dispatchers.len()),
            "other dispatchers run: {status}"
        );
        in_hand(stage, dispatchers).await
    })
    .await
}

async fn in_hand(stage: &Stage, dispatchers: &[&Dispatcher]) -> Result<()> {
    for dispatcher in dispatchers {
        let bytes = dispatcher
            .metric(&stage.http, "hooklane_bodies_held_bytes", "")
            .await?;
        ensure!(bytes == 0.0, "a dispatcher holds bodies of {bytes} bytes");
    }
    Ok(())
}

/// Waits until a process says whether it is ready.
pub async fn wait_ready(stage: &Stage, url: &str, ready: bool) -> Result<()> {
    hooklane_testkit::eventually("readiness to change", SOON, || async {
        let answer = stage.http.get(format!("{url}/readyz")).send().await?;
        let found = answer.status().is_success();
        ensure!(found == ready, "{}", answer.text().await?);
        Ok(())
    })
    .await
}

/// SIGTERM, and a clean end.
pub async fn end(dispatcher: Dispatcher) -> Result<()> {
    dispatcher.process.terminate()?;
    let status = dispatcher.process.wait(SOON).await?;
    ensure!(
        status.success(),
        "{status}: {}",
        dispatcher.process.output().tail()
    );
    Ok(())
}
