//! Tokens for the platform's own users: each for one application, with an end, and ended before it.

mod served;
#[path = "management/stage.rs"]
mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::Spawn;
use hooklane_testkit::{javascript, python};
use serde_json::{Value, json};
use served::{End, SOON};
use stage::{Stage, Store, on_both_stores};

async fn access(stage: &Stage, token: &str, application: &str, body: Value) -> Result<(String, String)> {
    let path = format!("/auth/app-portal-access/{application}");
    let answer = stage.send(token, "POST", &path, Some(body)).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let text = |name: &str| answer.body[name].as_str().map(str::to_owned).context("a text");
    Ok((text("token")?, text("url")?))
}

async fn status(stage: &Stage, token: &str, method: &str, path: &str) -> Result<u16> {
    Ok(stage.send(token, method, path, None).await?.status)
}

on_both_stores!(
    a_token_of_the_portal_opens_one_application_until_it_is_ended,
    what_is_asked_for_is_honoured_or_refused_by_its_name,
    svix_of_pypi_makes_and_ends_a_token_of_the_portal,
    svix_of_npm_makes_and_ends_a_token_of_the_portal,
);

async fn a_token_of_the_portal_opens_one_application_until_it_is_ended(store: Store) -> Result<()> {
    let mut stage = Stage::on(store, "").await?;
    let own = stage.token(&[]).await?;
    stage.pair(&own, "acme").await?;
    stage.pair(&own, "other").await?;
    let (token, url) = access(&stage, &own, "acme", json!({})).await?;
    let (second, _) = access(&stage, &own, "acme", json!({"expiry": 3600})).await?;
    ensure!(url.starts_with(&format!("{}/docs#key=", stage.url)), "{url}");
    for (path, expected) in [("/app/acme/endpoint", 200), ("/app/other", 404), ("/app", 403)] {
        let found = status(&stage, &token, "GET", path).await?;
        ensure!(found == expected, "{path}: {found}");
    }
    // Of what was made in the same second, one alone is ended, at once and over a restart.
    ensure!(status(&stage, &token, "POST", "/auth/logout").await? == 204);
    for _ in 0..2 {
        ensure!(status(&stage, &token, "GET", "/app/acme").await? == 401);
        ensure!(status(&stage, &token, "POST", "/auth/logout").await? == 401);
        ensure!(status(&stage, &second, "GET", "/app/acme").await? == 200);
        stage.end(End::Terminate).await?;
        stage.serve().await?;
    }
    // Whoever holds the keys of the whole house does not lose them by this.
    ensure!(status(&stage, &own, "POST", "/auth/logout").await? == 400);
    let key = stage.ok(&["key", "create", "x", "--application", "acme"]).await?;
    ensure!(status(&stage, key.trim(), "POST", "/auth/logout").await? == 400);
    ensure!(status(&stage, key.trim(), "GET", "/app/acme").await? == 200);
    Ok(())
}

async fn what_is_asked_for_is_honoured_or_refused_by_its_name(store: Store) -> Result<()> {
    let stage = Stage::on(store, "[api]\nportal_url = \"https://example.com/webhooks\"\n").await?;
    let own = stage.token(&[]).await?;
    let flagged = json!({"name": "a.b", "description": "x", "featureFlag": "beta"});
    stage.make(&own, "/event-type", flagged).await?;
    let missing = status(&stage, &own, "POST", "/auth/app-portal-access/acme").await?;
    ensure!(missing == 400, "no body: {missing}");
    let nobody = stage
        .send(&own, "POST", "/auth/app-portal-access/acme", Some(json!({})))
        .await?;
    ensure!(nobody.status == 404, "{nobody:?}");
    let body = json!({"application": {"name": "Acme"}, "featureFlags": ["beta"]});
    let (token, url) = access(&stage, &own, "acme", body).await?;
    ensure!(url.starts_with("https://example.com/webhooks#key="), "{url}");
    ensure!(stage.get(&own, "/app/acme").await?["name"] == "Acme");
    ensure!(status(&stage, &token, "GET", "/event-type/a.b").await? == 200);
    let (without, _) = access(&stage, &own, "acme", json!({})).await?;
    ensure!(status(&stage, &without, "GET", "/event-type/a.b").await? == 404);
    for (field, value) in [
        ("readOnly", json!(true)),
        ("capabilities", json!(["ViewBase"])),
        ("sessionId", json!("s")),
        ("expiry", json!(60)),
        ("expiry", json!(604_801)),
        ("other", json!(1)),
    ] {
        let path = "/auth/app-portal-access/acme";
        let refused = stage
            .send(&own, "POST", path, Some(json!({field: value})))
            .await?;
        ensure!(
            refused.status == 422 && refused.body.to_string().contains(field),
            "{field}: {refused:?}"
        );
    }
    Ok(())
}

async fn by(script: Spawn, store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let ended = script.args([&stage.url, &token]).run(SOON).await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    Ok(())
}

async fn svix_of_pypi_makes_and_ends_a_token_of_the_portal(store: Store) -> Result<()> {
    by(python::script(stage::file("portal.py"))?, store).await
}

async fn svix_of_npm_makes_and_ends_a_token_of_the_portal(store: Store) -> Result<()> {
    by(javascript::script(stage::file("portal.js"))?, store).await
}
