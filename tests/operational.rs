//! Operational webhooks: what the platform is told of deliveries that fail.

mod stage;

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use serde_json::Value;
use stage::{On, SOON, Stage, on_both};

on_both!(
    failing_exhausted_and_recovered_are_told_once_each,
    nothing_is_told_about_the_operational_application_itself,
);

/// Six attempts in about half a second.
const QUICK: &str = "retry = { attempts = 6, first = \"50ms\", factor = 1, jitter = 0.0 }\n";

async fn started(on: On) -> Result<(Stage, stage::Ingest, Vec<stage::Dispatcher>)> {
    let stage = Stage::on(on).await?;
    let told = stage.endpoint("ep_told", "/told", QUICK);
    let endpoints = [
        stage.endpoint(
            "ep_dead",
            "/dead",
            &format!("event_types = [\"a.dead\"]\n{QUICK}"),
        ),
        stage.endpoint(
            "ep_late",
            "/late",
            &format!("event_types = [\"a.late\"]\n{QUICK}"),
        ),
        told.replace("\"acme\"", "\"operations\""),
    ];
    stage.settings("", &endpoints.concat())?;
    // It stands before all sections.
    let text = std::fs::read_to_string(stage.file())?;
    std::fs::write(
        stage.file(),
        format!("operational_application = \"operations\"\n{text}"),
    )?;
    let ingest = stage.ingest().await?;
    let dispatchers = stage.dispatchers(2).await?;
    Ok((stage, ingest, dispatchers))
}

fn told(stage: &Stage) -> Vec<(String, Value)> {
    let requests = stage.receiver.received();
    let told = requests.iter().filter(|request| request.path.as_ref() == "/told");
    told.map(|request| {
        let id = request.webhook_id().unwrap_or_default().to_owned();
        (id, serde_json::from_slice(&request.body).unwrap_or_default())
    })
    .collect()
}

async fn failing_exhausted_and_recovered_are_told_once_each(on: On) -> Result<()> {
    // Goal: one event dies, one arrives by its fifth attempt: four webhooks, signed as any, each with what the Svix API says.
    let (stage, ingest, _dispatchers) = started(on).await?;
    stage.receiver.script_with("/dead", |_| Reply::status(500));
    let late_attempts = AtomicUsize::new(0);
    stage.receiver.script_with("/late", move |_| {
        match late_attempts.fetch_add(1, Ordering::Relaxed) {
            0..4 => Reply::status(503),
            _ => Reply::ok(),
        }
    });
    let dead = ingest.publish(&stage.http, "a.dead", "{}").await?;
    let late = ingest.publish(&stage.http, "a.late", "{}").await?;
    stage
        .receiver
        .wait_until("four webhooks", SOON, |log| {
            log.requests()
                .filter(|request| request.path.as_ref() == "/told")
                .count()
                >= 4
        })
        .await?;
    let all = told(&stage);
    for (event, endpoint, kind, status) in [
        (&dead, "ep_dead", "message.attempt.failing", 500),
        (&dead, "ep_dead", "message.attempt.exhausted", 500),
        (&late, "ep_late", "message.attempt.failing", 503),
        (&late, "ep_late", "message.attempt.recovered", 200),
    ] {
        let found: Vec<_> = all
            .iter()
            .filter(|(_, body)| body["type"] == kind && body["data"]["msgId"] == *event.as_str())
            .collect();
        ensure!(found.len() == 1, "{kind} for {endpoint}: {all:?}");
        let data = &found[0].1["data"];
        ensure!(
            data["endpointId"] == endpoint && data["appId"] == "acme",
            "{data}"
        );
        ensure!(data["lastAttempt"]["responseStatusCode"] == status, "{data}");
        let attempt = data["lastAttempt"]["id"].as_str().context("an id")?;
        ensure!(attempt.starts_with("atmpt_"), "{data}");
    }
    ensure!(all.len() == 4, "{all:?}");
    Ok(())
}

async fn nothing_is_told_about_the_operational_application_itself(on: On) -> Result<()> {
    // Goal: its own endpoint fails to the end, and nothing follows from that.
    let (stage, ingest, _dispatchers) = started(on).await?;
    stage.receiver.script_with("/dead", |_| Reply::status(500));
    stage.receiver.script_with("/told", |_| Reply::status(500));
    ingest.publish(&stage.http, "a.dead", "{}").await?;
    // Both webhooks are tried six times; one about them would be a third id.
    stage
        .receiver
        .wait_until("both to be given up", SOON, |log| {
            log.requests()
                .filter(|request| request.path.as_ref() == "/told")
                .count()
                >= 12
        })
        .await?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let all = told(&stage);
    let ids: std::collections::HashSet<_> = all.iter().map(|(id, _)| id).collect();
    ensure!(all.len() == 12 && ids.len() == 2, "{all:?}");
    Ok(())
}
