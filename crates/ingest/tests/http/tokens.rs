//! Tokens that others know: whose events may be published.

use std::sync::Arc;

use hooklane_ingest::{IngestSettings, ReadToken, Shown, Token};
use hooklane_types::{ApplicationId, Owned, Registry};

use crate::fixture::{BODY, Running};
use crate::scripted::Scripted;

fn read_token() -> ReadToken {
    Arc::new(
        |headers| match headers.get("authorization").and_then(|value| value.to_str().ok()) {
            None => Shown::Nothing,
            Some("Bearer a") => Shown::Organisation("org_a".to_owned()),
            Some("Bearer b") => Shown::Organisation("org_b".to_owned()),
            Some("Bearer app") => Shown::Other,
            Some("Bearer key") => Shown::Unknown,
            Some(_) => Shown::Wrong,
        },
    )
}

async fn status(running: &Running, application: &str, token: Option<&str>) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .post(running.url(&format!("/api/v1/app/{application}/msg")))
        .header("content-type", "application/json")
        .body(BODY);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status().as_u16()
}

fn know(running: &Running) {
    let id = |text: &str| ApplicationId::parse(text).unwrap();
    let owned = |text: &str, organisation: &str| Owned {
        id: id(text),
        organisation: organisation.to_owned(),
        uid: Some(id("shop")),
        throttle_rate: None,
    };
    let file = Registry::new([id("acme")], []).unwrap();
    let applications = [owned("app_1", "org_a"), owned("app_2", "org_b")];
    let mut stored = Registry::of("org_a");
    applications.into_iter().for_each(|owned| stored.own(owned));
    running
        .registry
        .send_replace(Arc::new(stored.beside(&file).unwrap()));
}

#[tokio::test]
async fn a_token_publishes_for_its_organisation_alone() {
    let broker = Scripted::new();
    let running = Running::with_tokens(IngestSettings::default(), broker, Some(read_token())).await;
    know(&running);
    for (application, token, expected) in [
        ("app_1", Some("a"), 202),
        ("shop", Some("a"), 202),
        ("acme", Some("a"), 202),
        ("app_2", Some("a"), 404),
        ("app_2", Some("b"), 202),
        ("app_1", Some("b"), 404),
        ("acme", Some("b"), 404),
        ("app_1", Some("app"), 403),
        ("app_1", Some("x"), 401),
        ("app_1", Some("key"), 401),
        ("none", Some("x"), 401),
        ("a%20b", Some("x"), 401),
        ("a%20b", Some("a"), 404),
        // On this machine nobody needs one, as long as none is set.
        ("app_1", None, 202),
        ("acme", None, 202),
    ] {
        assert_eq!(
            status(&running, application, token).await,
            expected,
            "{application} {token:?}"
        );
    }
    running.stop.cancel();
    running.ended().await;
}

#[tokio::test]
async fn what_may_be_newer_than_the_registry_is_to_come_again() {
    // Goal: an application or a key that is not known is 503 with Retry-After while the registry may be older than it; what is wrong whatever is
    // known stays that.
    let running = Running::with_tokens(IngestSettings::default(), Scripted::new(), Some(read_token())).await;
    know(&running);
    running.is_current.send_replace(false);
    for (application, token, expected) in [
        ("app_1", Some("a"), 202),
        ("acme", None, 202),
        ("app_3", Some("a"), 503),
        ("app_2", Some("a"), 503),
        ("app_3", None, 503),
        ("app_1", Some("key"), 503),
        ("app_3", Some("key"), 503),
        ("app_3", Some("x"), 401),
        ("app_3", Some("app"), 403),
        ("a%20b", Some("a"), 404),
    ] {
        assert_eq!(
            status(&running, application, token).await,
            expected,
            "{application} {token:?}"
        );
    }
    let answer = running.connect().await.post("/api/v1/app/app_3/msg", BODY).await;
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    running.is_current.send_replace(true);
    assert_eq!(status(&running, "app_3", Some("a")).await, 404);
    assert_eq!(status(&running, "app_1", Some("key")).await, 401);
    running.stop.cancel();
    running.ended().await;
}

#[tokio::test]
async fn the_token_of_the_settings_publishes_for_all() {
    let settings = IngestSettings {
        token: Some(Token::new("s3cret").unwrap()),
        ..IngestSettings::default()
    };
    let running = Running::with_tokens(settings, Scripted::new(), Some(read_token())).await;
    know(&running);
    for (application, token, expected) in [
        ("app_1", Some("s3cret"), 202),
        ("app_2", Some("s3cret"), 202),
        ("app_1", Some("a"), 202),
        ("app_2", Some("a"), 404),
        ("app_1", None, 401),
        ("app_1", Some("x"), 401),
    ] {
        assert_eq!(
            status(&running, application, token).await,
            expected,
            "{application} {token:?}"
        );
    }
    running.stop.cancel();
    running.ended().await;
}
