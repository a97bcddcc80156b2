//! The API's own description: that it is served, and that it says what is served.

mod served;
#[path = "management/stage.rs"]
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::python;
use serde_json::Value;
use stage::Stage;

/// A minute of requests, five times: on a busy machine.
const FUZZED: Duration = Duration::from_secs(300);
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Of Svix's API, by the names that its clients are generated from.
const OF_SVIX: [(&str, &str, &str); 40] = [
    ("get", "/app", "v1.application.list"),
    ("post", "/app", "v1.application.create"),
    ("get", "/app/{app_id}", "v1.application.get"),
    ("put", "/app/{app_id}", "v1.application.update"),
    ("patch", "/app/{app_id}", "patch_application"),
    ("delete", "/app/{app_id}", "v1.application.delete"),
    (
        "get",
        "/app/{app_id}/attempt/endpoint/{endpoint_id}",
        "v1.message-attempt.list-by-endpoint",
    ),
    (
        "get",
        "/app/{app_id}/attempt/msg/{msg_id}",
        "v1.message-attempt.list-by-msg",
    ),
    ("get", "/app/{app_id}/endpoint", "v1.endpoint.list"),
    ("post", "/app/{app_id}/endpoint", "v1.endpoint.create"),
    ("get", "/app/{app_id}/endpoint/{endpoint_id}", "v1.endpoint.get"),
    (
        "put",
        "/app/{app_id}/endpoint/{endpoint_id}",
        "v1.endpoint.update",
    ),
    ("patch", "/app/{app_id}/endpoint/{endpoint_id}", "patch_endpoint"),
    (
        "delete",
        "/app/{app_id}/endpoint/{endpoint_id}",
        "v1.endpoint.delete",
    ),
    (
        "get",
        "/app/{app_id}/endpoint/{endpoint_id}/headers",
        "v1.endpoint.get-headers",
    ),
    (
        "put",
        "/app/{app_id}/endpoint/{endpoint_id}/headers",
        "v1.endpoint.update-headers",
    ),
    (
        "patch",
        "/app/{app_id}/endpoint/{endpoint_id}/headers",
        "v1.endpoint.patch-headers",
    ),
    (
        "get",
        "/app/{app_id}/endpoint/{endpoint_id}/msg",
        "v1.message-attempt.list-attempted-messages",
    ),
    (
        "post",
        "/app/{app_id}/endpoint/{endpoint_id}/recover",
        "v1.endpoint.recover",
    ),
    (
        "get",
        "/app/{app_id}/endpoint/{endpoint_id}/secret",
        "v1.endpoint.get-secret",
    ),
    (
        "post",
        "/app/{app_id}/endpoint/{endpoint_id}/secret/rotate",
        "v1.endpoint.rotate-secret",
    ),
    (
        "post",
        "/app/{app_id}/endpoint/{endpoint_id}/send-example",
        "v1.endpoint.send-example",
    ),
    (
        "get",
        "/app/{app_id}/endpoint/{endpoint_id}/stats",
        "v1.endpoint.get-stats",
    ),
    ("get", "/app/{app_id}/msg", "v1.message.list"),
    ("post", "/app/{app_id}/msg", "v1.message.create"),
    ("get", "/app/{app_id}/msg/{msg_id}", "v1.message.get"),
    (
        "get",
        "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}",
        "v1.message-attempt.get",
    ),
    (
        "delete",
        "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content",
        "v1.message-attempt.expunge-content",
    ),
    (
        "delete",
        "/app/{app_id}/msg/{msg_id}/content",
        "v1.message.expunge-content",
    ),
    (
        "get",
        "/app/{app_id}/msg/{msg_id}/endpoint",
        "v1.message-attempt.list-attempted-destinations",
    ),
    (
        "post",
        "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
        "v1.message-attempt.resend",
    ),
    (
        "post",
        "/auth/app-portal-access/{app_id}",
        "v1.authentication.app-portal-access",
    ),
    ("post", "/auth/logout", "logout_api_v1_auth_logout__post"),
    ("get", "/event-type", "v1.event-type.list"),
    ("post", "/event-type", "v1.event-type.create"),
    ("get", "/event-type/{event_type_name}", "v1.event-type.get"),
    ("put", "/event-type/{event_type_name}", "v1.event-type.update"),
    ("patch", "/event-type/{event_type_name}", "patch_event_type"),
    ("delete", "/event-type/{event_type_name}", "v1.event-type.delete"),
    ("get", "/health", "v1.health.get"),
];

async fn document(stage: &Stage) -> Result<BTreeMap<String, BTreeMap<String, Value>>> {
    let document = stage.get("", "/openapi.json").await?;
    ensure!(document["openapi"] == "3.1.0", "{document}");
    Ok(serde_json::from_value(document["paths"].clone())?)
}

#[tokio::test]
async fn what_is_of_svix_is_described_by_its_names() -> Result<()> {
    let stage = Stage::start("").await?;
    let paths = document(&stage).await?;
    for (method, path, id) in OF_SVIX {
        let operation = paths
            .get(&format!("/api/v1{path}"))
            .and_then(|path| path.get(method));
        let operation = operation.with_context(|| format!("{method} {path}"))?;
        ensure!(operation["operationId"] == id, "{method} {path}: {operation}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_described_is_served_and_nothing_else() -> Result<()> {
    // Goal: the description cannot be ahead of the routes, nor behind. Method: each path with each method; one that is not described is
    // refused as such, with the methods that are.
    let stage = Stage::start("").await?;
    let http = reqwest::Client::new();
    let paths = document(&stage).await?;
    ensure!(paths.len() >= 10, "{:?}", paths.keys());
    for (path, described) in &paths {
        let url = format!("{}{}", stage.url, path.replace(['{', '}'], ""));
        for method in METHODS {
            let request = http.request(method.to_uppercase().parse()?, &url);
            let answer = request.header("authorization", "Bearer wrong").send().await?;
            let status = answer.status().as_u16();
            let expected: &[u16] = match described.get(method) {
                None => &[405],
                Some(operation) if operation.get("security").is_some() => &[401],
                Some(_) => &[200, 204],
            };
            ensure!(expected.contains(&status), "{method} {path}: {status}");
            if status == 405 {
                let allowed = answer
                    .headers()
                    .get("allow")
                    .context("Allow")?
                    .to_str()?
                    .to_lowercase();
                let allowed: BTreeSet<&str> = allowed
                    .split(',')
                    .map(str::trim)
                    .filter(|name| *name != "head")
                    .collect();
                let named: BTreeSet<&str> = described.keys().map(String::as_str).collect();
                ensure!(allowed == named, "{method} {path}: {allowed:?}");
            }
            let answer: Result<Value, _> = serde_json::from_str(&answer.text().await?);
            ensure!(status == 204 || answer.is_ok(), "{method} {path}: no JSON");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_page_for_people_has_everything_and_loads_nothing() -> Result<()> {
    let stage = Stage::start("").await?;
    let answer = reqwest::get(format!("{}/docs", stage.url)).await?;
    let policy = answer
        .headers()
        .get("content-security-policy")
        .context("a policy")?
        .to_str()?
        .to_owned();
    ensure!(policy.contains("default-src 'none'"), "{policy}");
    let page = answer.text().await?;
    for (path, methods) in document(&stage).await? {
        ensure!(page.contains(&path), "{path}");
        for operation in methods.values() {
            let summary = operation["summary"].as_str().context("a summary")?;
            ensure!(page.contains(summary), "{summary}");
        }
    }
    for loads in ["<script", " src=", "<link", "@import", "url("] {
        ensure!(!page.contains(loads), "{loads}");
    }
    Ok(())
}

#[tokio::test]
async fn schemathesis_finds_no_5xx_and_no_answer_that_is_not_described() -> Result<()> {
    // Goal: some thousand requests, right ones and wrong ones, one at a time and in sequences, made from the description. Names that were
    // made up lead nowhere: what is published goes to no host.
    let settings = "dns = [\"127.0.0.1:1\"]\n[ingest]\ntoken = \"of-the-settings-alone\"\n";
    let stage = Stage::start(settings).await?;
    let token = stage.token(&[]).await?;
    let directory = tempfile::tempdir()?;
    let ended = python::tool("st")?
        .args([
            "--config-file",
            &stage::file("schemathesis.toml").to_string_lossy(),
        ])
        .args(["run", &format!("{}/api/v1/openapi.json", stage.url), "--no-color"])
        .args(["-H", &format!("Authorization: Bearer {token}")])
        .cwd(directory.path())
        .run(FUZZED)
        .await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    // It did look at everything but the description itself.
    let count = document(&stage).await?.values().map(BTreeMap::len).sum::<usize>() - 1;
    ensure!(
        ended.stdout.contains(&format!("Tested: {count}")),
        "{}",
        ended.stdout
    );
    ensure!(ended.stdout.contains("Stateful"), "{}", ended.stdout);
    Ok(())
}
