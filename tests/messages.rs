//! Messages and their attempts over the management API, by Svix's client library.

mod served;
#[path = "management/stage.rs"]
mod stage;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::process::Spawn;
use hooklane_testkit::{javascript, python};
use serde_json::json;
use stage::{Stage, Store, on_both_stores};

/// The script waits for much, one thing after the other.
const SCRIPT: Duration = Duration::from_secs(60);

on_both_stores!(
    svix_of_pypi_reads_and_resends_messages,
    svix_of_npm_reads_and_resends_messages,
    an_application_reads_its_own_messages_and_takes_nothing_away,
);

async fn svix_of_pypi_reads_and_resends_messages(store: Store) -> Result<()> {
    read_and_resent_by(python::script(stage::file("messages.py"))?, store).await
}

async fn svix_of_npm_reads_and_resends_messages(store: Store) -> Result<()> {
    read_and_resent_by(javascript::script(stage::file("messages.js"))?, store).await
}

async fn read_and_resent_by(script: Spawn, store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let count = AtomicUsize::new(0);
    // 410: whatever is for it is given up until it is changed.
    stage
        .receiver
        .script_with("/flaky", move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::status(410),
            _ => Reply::ok(),
        });
    let ended = script
        .args([&stage.url, &token, &stage.receiver.url("/hook")])
        .run(SCRIPT)
        .await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    Ok(())
}

async fn an_application_reads_its_own_messages_and_takes_nothing_away(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let own = stage.token(&[]).await?;
    let (application, endpoint) = stage.pair(&own, "acme").await?;
    let event = json!({"eventType": "a.b", "eventId": "order-1", "payload": {"a": 1.10}});
    let path = format!("/app/{application}/msg");
    let sent = stage.send(&own, "POST", &path, Some(event)).await?;
    ensure!(sent.status == 202, "{sent:?}");
    stage.received(1).await?;
    let token = stage.token(&["--application", &application]).await?;
    let shown = stage.get(&token, &format!("{path}/order-1")).await?;
    ensure!(shown == sent.body, "{shown}, {sent:?}");
    let resend = format!("{path}/order-1/endpoint/{endpoint}/resend");
    let resent = stage.send(&token, "POST", &resend, Some(json!({}))).await?;
    ensure!(resent.status == 202, "{resent:?}");
    stage.received(2).await?;
    let expunged = stage
        .send(&token, "DELETE", &format!("{path}/order-1/content"), None)
        .await?;
    ensure!(expunged.status == 403, "{expunged:?}");
    Ok(())
}
