//! What the platform is told of endpoints: what is made, changed and deleted, and those that are disabled because nothing but failure came from them.

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
    eventually("news of the endpoint", SOON, || async {
        let requests = stage.receiver.received_at("/told");
        let bodies = requests
            .iter()
            .map(|request| serde_json::from_slice::<Value>(&request.body));
        let made = bodies
            .filter_map(Result::ok)
            .filter(|body| body["type"] == "endpoint.created" && body["data"]["endpointId"] == *broken)
            .count();
        ensure!(made == 1);
        Ok(())
    })
    .await?;
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

#[tokio::test]
async fn what_is_made_changed_and_deleted_is_told_to_the_operational_application_alone() -> Result<()> {
    // Goal: an endpoint's life, each step once, with the names that Svix has; and nothing about the operational application's own endpoint.
    let mut stage = Stage::start("").await?;
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
    let made = endpoint(&stage, &token, "acme", "/hook").await?;
    let path = format!("/app/acme/endpoint/{made}");
    stage
        .send(&token, "PATCH", &path, Some(json!({"description": "x"})))
        .await?;
    stage
        .send(&token, "POST", &format!("{path}/secret/rotate"), Some(json!({})))
        .await?;
    stage.send(&token, "DELETE", &path, None).await?;
    stage
        .receiver
        .wait_until("four webhooks", SOON, |log| log.requests().count() >= 4)
        .await?;
    let mut told = Vec::new();
    for request in stage.receiver.received_at("/told") {
        let body: Value = serde_json::from_slice(&request.body)?;
        ensure!(
            body["data"]["endpointId"] == *made && body["data"]["appUid"] == "acme",
            "{body}"
        );
        told.push(body["type"].as_str().unwrap_or_default().to_owned());
    }
    told.sort();
    let expected = [
        "endpoint.created",
        "endpoint.deleted",
        "endpoint.updated",
        "endpoint.updated",
    ];
    ensure!(told == expected, "{told:?}");
    Ok(())
}
