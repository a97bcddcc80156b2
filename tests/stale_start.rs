//! Processes that begin by an old snapshot while PostgreSQL is away: what is newer than it waits, and is neither refused for good, nor a fault,
//! nor a dead letter.

mod installation;
mod stage;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::eventually;
use installation::{Pod, Pods, Producer, end};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use stage::{RECOVERY, SOON};

/// How long nothing may go wrong: several times as long as a message waits first, and as an unknown application has where all is known.
const STALE_FOR: Duration = Duration::from_secs(12);

/// Waits until the snapshot has this endpoint, whole.
async fn kept(file: &Path, endpoint: &str) -> Result<String> {
    eventually("the snapshot", SOON, || async {
        let text = std::fs::read_to_string(file)?;
        ensure!(text.contains(endpoint) && text.contains("\"end\""), "{text}");
        Ok(text)
    })
    .await
}

/// What ingest answers to an event of this application, shown this token.
async fn answered(pods: &Pods, ingest: &Pod, uid: &str, token: &str) -> Result<(u16, HeaderMap, String)> {
    let event = json!({"eventType": "a.b", "payload": {"n": 9}});
    let request = pods
        .stage
        .http
        .post(format!("{}/api/v1/app/{uid}/msg", ingest.url));
    let request = request
        .bearer_auth(token)
        .header("content-type", "application/json");
    let answer = request.body(event.to_string()).send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Ok((status, headers, answer.text().await?))
}

/// Ingest says that it does not know yet, and when to come again.
async fn is_told_to_come_again(pods: &Pods, ingest: &Pod, uid: &str, token: &str) -> Result<()> {
    let (status, headers, text) = answered(pods, ingest, uid, token).await?;
    ensure!(
        status == 503 && headers.contains_key("retry-after") && text.contains("may be newer"),
        "{uid}: {status} {text}"
    );
    Ok(())
}

async fn nothing_is_given_up(pods: &Pods) -> Result<()> {
    for queue in ["faults", "dead", "suspects"] {
        let count = pods.stage.depth(queue).await?;
        ensure!(count == 0, "{queue} has {count}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_newer_than_the_snapshot_of_a_start_waits_until_the_store_is_back() -> Result<()> {
    // Method: the snapshot is put back to what it was before an application, its endpoint and a key; their events wait for a retry, in the
    // queue over HTTP, and over AMQP.
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    let (ingest, dispatcher) = (pods.start("ingest").await?, pods.start("dispatcher").await?);
    let known = pods.pair(&control, "known").await?;
    let file = pods.stage.dir.path().join("snapshot.json");
    let old = kept(&file, &known).await?;
    let newer = pods.pair(&control, "newer").await?;
    let made = pods.stage.run(&["key", "create", "shop"]).await?;
    let key = made
        .split_whitespace()
        .find(|word| word.starts_with("hlk_"))
        .with_context(|| format!("no key in {made}"))?
        .to_owned();
    kept(&file, &newer).await?;
    // Its retry comes when everything was started anew, and goes well.
    let later = Reply::status(503).header("retry-after", "10");
    pods.stage.receiver.script("/hook/newer", [later, Reply::ok()]);
    pods.publish(&ingest, "newer", 0).await?;
    pods.stage.receiver.wait_for_at("/hook/newer", 1, SOON).await?;
    end(dispatcher).await?;
    pods.publish(&ingest, "newer", 1).await?;
    for pod in [control, ingest] {
        end(pod).await?;
    }
    pods.server.kill9().await?;
    std::fs::write(&file, &old)?;

    let (ingest, dispatcher) = (pods.start("ingest").await?, pods.start("dispatcher").await?);
    let producer = Producer::connect(&pods).await?;
    producer.publish("newer", "order-2").await?;
    // The retry, and the events over HTTP and AMQP.
    eventually("all that is newer to be parked", SOON, || async {
        let parks = pods.metric(&dispatcher, "hooklane_parks_total").await?;
        ensure!(parks >= 3.0, "{parks}");
        Ok(())
    })
    .await?;
    is_told_to_come_again(&pods, &ingest, "newer", &pods.token).await?;
    is_told_to_come_again(&pods, &ingest, "known", &key).await?;
    let wrong = answered(&pods, &ingest, "known", "x.y.z").await?;
    ensure!(
        wrong.0 == 401,
        "a token that is wrong whatever is known: {wrong:?}"
    );
    // What is known is delivered meanwhile.
    pods.publish(&ingest, "known", 3).await?;
    pods.stage.receiver.wait_for_at("/hook/known", 1, SOON).await?;
    tokio::time::sleep(STALE_FOR).await;
    nothing_is_given_up(&pods).await?;
    let arrived = pods.stage.receiver.received_at("/hook/newer").len();
    ensure!(arrived == 1, "{arrived} attempts at an endpoint that nobody knew");

    pods.server.restart().await?;
    eventually("ingest to take the event", SOON, || async {
        let (status, _, text) = answered(&pods, &ingest, "newer", &key).await?;
        ensure!(status == 202, "{status} {text}");
        Ok(())
    })
    .await?;
    // Another attempt of the first, and the three others once each.
    pods.stage
        .receiver
        .wait_for_at("/hook/newer", 5, RECOVERY)
        .await?;
    let numbers: Vec<Value> = pods
        .stage
        .receiver
        .received_at("/hook/newer")
        .iter()
        .map(|request| serde_json::from_slice(&request.body))
        .collect::<Result<_, _>>()?;
    for n in [json!({"n": 1}), json!({}), json!({"n": 9})] {
        ensure!(numbers.contains(&n), "{n} is missing: {numbers:?}");
    }
    ensure!(
        numbers.iter().filter(|n| **n == json!({"n": 0})).count() == 2,
        "{numbers:?}"
    );
    let unknown = answered(&pods, &ingest, "nobody", &pods.token).await?;
    ensure!(unknown.0 == 404, "what is not there is not there: {unknown:?}");
    nothing_is_given_up(&pods).await?;
    for pod in [ingest, dispatcher] {
        end(pod).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hears_no_more_of_the_store_takes_nothing_for_missing() -> Result<()> {
    // Goal: one that is cut off is not waited for when something is made, so what it does not know may be there. Method: PostgreSQL is killed under
    // processes that had loaded everything.
    let pods = Pods::new().await?;
    let (ingest, dispatcher) = (pods.start("ingest").await?, pods.start("dispatcher").await?);
    let unknown = answered(&pods, &ingest, "nobody", &pods.token).await?;
    ensure!(unknown.0 == 404, "{unknown:?}");
    pods.server.kill9().await?;
    eventually("ingest to say that it does not know", SOON, || {
        is_told_to_come_again(&pods, &ingest, "nobody", &pods.token)
    })
    .await?;
    let producer = Producer::connect(&pods).await?;
    producer.publish("nobody", "order-1").await?;
    eventually("the event to be parked", SOON, || async {
        match pods.metric(&dispatcher, "hooklane_parks_total").await? {
            0.0 => bail!("not parked"),
            _ => Ok(()),
        }
    })
    .await?;
    nothing_is_given_up(&pods).await?;
    pods.server.restart().await?;
    eventually("ingest to know again", SOON, || async {
        let (status, _, text) = answered(&pods, &ingest, "nobody", &pods.token).await?;
        ensure!(status == 404, "{status} {text}");
        Ok(())
    })
    .await?;
    // There is no such application, and now that is known.
    pods.stage
        .wait_depth("faults", RECOVERY, |depth| depth == 1)
        .await?;
    for pod in [ingest, dispatcher] {
        end(pod).await?;
    }
    Ok(())
}
