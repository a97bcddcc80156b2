//! Endpoints that are disabled by themselves, because nothing but failure came from them.

mod served;
#[path = "management/stage.rs"]
mod stage;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::eventually;
use serde_json::{Value, json};
use served::SOON;
use stage::Stage;

/// Two seconds for five days.
const SETTINGS: &str = "[store]\ndisable_after = \"2s\"";

async fn endpoint(stage: &Stage, token: &str, application: &str, path: &str) -> Result<String> {
    let made = stage
        .make(
            token,
            &format!("/app/{application}/endpoint"),
            json!({"url": stage.receiver.url(path)}),
        )
        .await?;
    Ok(made["id"].as_str().context("an id")?.to_owned())
}

async fn is_disabled(stage: &Stage, token: &str, endpoint: &str) -> Result<bool> {
    let found = stage
        .get(token, &format!("/app/acme/endpoint/{endpoint}"))
        .await?;
    found["disabled"].as_bool().context("a flag")
}

/// Publishes ten times a second, until it holds.
async fn publish_until(
    stage: &Stage,
    token: &str,
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let begun = std::time::Instant::now();
    while !holds().await? {
        ensure!(begun.elapsed() < SOON, "{what} did not come to be");
        stage.publish(token, "acme", "a.b").await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(begun.elapsed())
}

#[tokio::test]
async fn nothing_but_failure_disables_an_endpoint_and_a_change_begins_the_time_anew() -> Result<()> {
    // Goal: not before its time; one that delivers now and then stays; the operational application is told once, with what Svix says; whoever
    // enables it again has the whole time again.
    let mut stage = Stage::start(SETTINGS).await?;
    stage.end(served::End::Terminate).await?;
    stage
        .serve_with(&[("HOOKLANE_OPERATIONAL_APPLICATION", "operations")])
        .await?;
    let token = stage.token(&[]).await?;
    for uid in ["acme", "operations"] {
        stage
            .make(&token, "/app", json!({"name": uid, "uid": uid}))
            .await?;
    }
    endpoint(&stage, &token, "operations", "/told").await?;
    let broken = endpoint(&stage, &token, "acme", "/broken").await?;
    let shaky = endpoint(&stage, &token, "acme", "/shaky").await?;
    let turn = std::sync::atomic::AtomicUsize::new(0);
    stage.receiver.script_with("/broken", |_| Reply::status(500));
    stage.receiver.script_with("/shaky", move |_| {
        match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 {
            0 => Reply::ok(),
            _ => Reply::status(500),
        }
    });
    let took = publish_until(&stage, &token, "the end", async || {
        is_disabled(&stage, &token, &broken).await
    })
    .await?;
    ensure!(took >= Duration::from_secs(2), "disabled after {took:?}");
    ensure!(!is_disabled(&stage, &token, &shaky).await?);

    let told = || {
        let requests = stage.receiver.received_at("/told");
        let bodies = requests
            .iter()
            .map(|request| serde_json::from_slice::<Value>(&request.body));
        bodies
            .filter_map(Result::ok)
            .filter(|body| body["type"] == "endpoint.disabled")
            .collect::<Vec<_>>()
    };
    eventually("a webhook", SOON, || async {
        ensure!(told().len() == 1);
        Ok(())
    })
    .await?;
    let data = &told()[0]["data"];
    ensure!(
        data["endpointId"] == *broken && data["appUid"] == "acme",
        "{data}"
    );
    ensure!(
        data["failSince"]
            .as_str()
            .is_some_and(|since| since.ends_with('Z')),
        "{data}"
    );

    let path = format!("/app/acme/endpoint/{broken}");
    stage
        .send(&token, "PATCH", &path, Some(json!({"disabled": false})))
        .await?;
    let took = publish_until(&stage, &token, "the second end", async || {
        is_disabled(&stage, &token, &broken).await
    })
    .await?;
    ensure!(
        took >= Duration::from_millis(1_900),
        "disabled again after {took:?}"
    );
    eventually("a second webhook", SOON, || async {
        ensure!(told().len() == 2);
        Ok(())
    })
    .await
}
