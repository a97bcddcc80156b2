//! The management API of `hooklane serve`, by the client libraries that platforms run, and by requests of every kind.

mod served;
#[path = "management/stage.rs"]
mod stage;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::process::Spawn;
use hooklane_testkit::{eventually, javascript, python};
use serde_json::{Value, json};
use served::{End, SOON, contents};
use stage::{Stage, Store, on_both_stores};

async fn managed_by(script: Spawn, store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let ended = script
        .args([&stage.url, &token, &stage.receiver.url("/hook")])
        .run(SOON)
        .await?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let ids: Vec<&str> = ended.stdout.split_whitespace().collect();
    let [message, application, endpoint] = ids[..] else {
        anyhow::bail!("{}", ended.stdout);
    };
    let received = stage.received(1).await?;
    let request = &received[0];
    ensure!(request.header("svix-id") == Some(message), "{request:?}");
    ensure!(request.header("x-tenant") == Some("7"), "the header is sent");
    // Signed with the secret of today.
    let key = stage
        .get(&token, &format!("/app/{application}/endpoint/{endpoint}/secret"))
        .await?;
    stage::verify(request, key["key"].as_str().context("a key")?)?;
    ensure!(stage.is_kept_in(store).await?, "it was kept elsewhere");
    Ok(())
}

on_both_stores!(
    svix_of_pypi_manages_what_is_there,
    svix_of_npm_manages_what_is_there,
    what_was_made_is_in_force_when_it_is_answered,
    deliveries_wait_for_a_disabled_endpoint_and_end_with_a_deleted_one,
    everything_outlives_the_process_and_nothing_is_readable_at_rest,
    without_the_right_key_it_does_not_start_and_a_key_can_be_replaced,
    a_request_with_an_idempotency_key_is_carried_out_once,
    a_token_publishes_for_its_own_organisation_alone,
    what_is_not_understood_is_refused_by_its_name,
    an_application_is_known_by_its_uid_to_every_way_of_publishing,
);

async fn svix_of_pypi_manages_what_is_there(store: Store) -> Result<()> {
    managed_by(python::script(stage::file("client.py"))?, store).await
}

async fn svix_of_npm_manages_what_is_there(store: Store) -> Result<()> {
    managed_by(javascript::script(stage::file("client.js"))?, store).await
}

async fn what_was_made_is_in_force_when_it_is_answered(store: Store) -> Result<()> {
    // Goal: application, endpoint and event right behind each other, many times: no event misses its endpoint.
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    for n in 0..30 {
        let uid = format!("app-{n}");
        stage
            .make(&token, "/app", json!({"name": "x", "uid": uid}))
            .await?;
        let url = stage.receiver.url(&format!("/hook/{n}"));
        let path = format!("/app/{uid}/endpoint");
        stage.make(&token, &path, json!({"url": url})).await?;
        stage.publish(&token, &uid, "a.b").await?;
    }
    stage.received(30).await?;
    ensure!(stage.receiver.by_webhook_id().len() == 30);
    // And what was changed: the next event goes by the change.
    let path = "/app/app-0/endpoint";
    let list = stage.get(&token, path).await?;
    let id = list["data"][0]["id"].as_str().context("an id")?.to_owned();
    stage.receiver.forget();
    let patched = stage
        .send(
            &token,
            "PATCH",
            &format!("{path}/{id}"),
            Some(json!({"eventTypes": ["other"]})),
        )
        .await?;
    ensure!(patched.status == 200, "{patched:?}");
    stage.publish(&token, "app-0", "a.b").await?;
    stage.publish(&token, "app-0", "other").await?;
    ensure!(
        stage.received(1).await?.len() == 1,
        "an event came that was not wanted"
    );
    Ok(())
}

async fn deliveries_wait_for_a_disabled_endpoint_and_end_with_a_deleted_one(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let (_, endpoint) = stage.pair(&token, "acme").await?;
    let path = format!("/app/acme/endpoint/{endpoint}");
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    stage.publish(&token, "acme", "a.b").await?;
    stage.receiver.wait_for(1, SOON).await?;
    stage
        .send(&token, "PATCH", &path, Some(json!({"disabled": true})))
        .await?;
    stage.receiver.script_with("/hook", |_| Reply::ok());
    stage.receiver.forget();
    tokio::time::sleep(Duration::from_secs(7)).await;
    ensure!(stage.receiver.total() == 0, "a disabled endpoint was tried");
    stage
        .send(&token, "PATCH", &path, Some(json!({"disabled": false})))
        .await?;
    stage.receiver.wait_for(1, SOON).await?;

    stage.receiver.script_with("/hook", |_| Reply::status(500));
    stage.receiver.forget();
    stage.publish(&token, "acme", "a.b").await?;
    stage.receiver.wait_for(1, SOON).await?;
    let deleted = stage.send(&token, "DELETE", &path, None).await?;
    ensure!(deleted.status == 204, "{deleted:?}");
    eventually("the dead letter of a removed endpoint", SOON, || async {
        let letters = stage.ok(&["dead", "list"]).await?;
        ensure!(letters.contains("endpoint_removed"), "{letters}");
        Ok(())
    })
    .await
}

async fn everything_outlives_the_process_and_nothing_is_readable_at_rest(store: Store) -> Result<()> {
    let mut stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let (application, endpoint) = stage.pair(&token, "acme").await?;
    let path = format!("/app/acme/endpoint/{endpoint}");
    let key = stage.get(&token, &format!("{path}/secret")).await?;
    let secret = key["key"].as_str().context("a key")?.to_owned();
    let header = json!({"headers": {"x-key": "s3cret-of-the-receiver"}});
    stage
        .send(&token, "PUT", &format!("{path}/headers"), Some(header))
        .await?;
    // Also where an answer that holds a secret is kept for its idempotency key.
    let rotate = format!("{path}/secret/rotate");
    let rotated = stage.with_key(&token, &rotate, "key-1", json!({})).await?;
    ensure!(rotated.status == 200, "{rotated:?}");
    let (replaced, key) = (secret, rotated.body);
    let secret = key["key"].as_str().context("a key")?.to_owned();
    stage.end(End::Kill9).await?;
    for (place, bytes) in stage.at_rest().await? {
        for secret in [
            secret.as_str(),
            &secret[6..],
            &replaced[6..],
            "s3cret-of-the-receiver",
        ] {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            ensure!(!found, "a secret stands in {place}");
        }
    }
    stage.serve().await?;
    let found = stage.get(&token, "/app/acme").await?;
    ensure!(found["id"] == application.as_str());
    ensure!(stage.get(&token, &format!("{path}/secret")).await? == key);
    stage.publish(&token, "acme", "a.b").await?;
    stage::verify(&stage.received(1).await?[0], &secret)
}

async fn without_the_right_key_it_does_not_start_and_a_key_can_be_replaced(store: Store) -> Result<()> {
    let mut stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let (_, endpoint) = stage.pair(&token, "acme").await?;
    let secret = format!("/app/acme/endpoint/{endpoint}/secret");
    let before = stage.get(&token, &secret).await?;
    stage.end(End::Terminate).await?;
    let kept = fs::read_to_string(stage.data().join("store.key"))?
        .trim()
        .to_owned();
    fs::remove_file(stage.data().join("store.key"))?;
    if store == Store::Sqlite {
        let words = stage.refuses_to_serve(&[]).await?;
        ensure!(
            words.contains("store.key is missing") && words.contains("encryption_key"),
            "{words}"
        );
        ensure!(!stage.data().join("store.key").exists(), "a fresh key was made");
    }
    let fresh = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    let only_fresh = [("HOOKLANE_API__ENCRYPTION_KEY", fresh)];
    let words = stage.refuses_to_serve(&only_fresh).await?;
    ensure!(
        words.contains("start with the key that sealed them") && words.contains(&endpoint),
        "{words}"
    );
    let both = [
        ("HOOKLANE_API__ENCRYPTION_KEY", fresh),
        ("HOOKLANE_API__ENCRYPTION_KEY_BEFORE", kept.as_str()),
    ];
    stage.serve_with(&both).await?;
    ensure!(stage.get(&token, &secret).await? == before);
    // What is written from now on needs the new key alone.
    stage
        .send(&token, "POST", &format!("{secret}/rotate"), Some(json!({})))
        .await?;
    let after = stage.get(&token, &secret).await?;
    stage.end(End::Terminate).await?;
    stage.serve_with(&only_fresh).await?;
    ensure!(stage.get(&token, &secret).await? == after && after != before);
    Ok(())
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_nothing_is_touched() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let token = stage.token(&[]).await?;
    stage.pair(&token, "acme").await?;
    stage.end(End::Terminate).await?;
    let told = stage.ok(&["check"]).await?;
    ensure!(told.contains("store.sqlite is whole"), "{told}");
    let store = stage.data().join("store.sqlite");
    let whole = fs::read(&store)?;
    let mut damaged = whole.clone();
    damaged[4096..8192].fill(0xa5);
    for (bytes, words) in [
        (damaged.as_slice(), "store.sqlite is damaged"),
        (b"my notes", "is not a store of Hooklane"),
    ] {
        fs::write(&store, bytes)?;
        let before = contents(&stage.data())?;
        let told = stage.refuses_to_serve(&[]).await?;
        ensure!(told.contains(words), "{told}");
        let checked = stage.run(&["check"]).await?;
        ensure!(
            checked.stdout.contains(words) && !checked.status.success(),
            "{}",
            checked.stdout
        );
        ensure!(contents(&stage.data())? == before, "something was changed");
    }
    fs::write(&store, whole)?;
    stage.serve().await?;
    stage.get(&token, "/app/acme").await.map(drop)
}

#[tokio::test]
async fn a_drain_does_not_leave_endpoints_behind() -> Result<()> {
    // Goal: what waits for an endpoint that the dispatchers there do not know would be given up.
    let mut stage = Stage::start("").await?;
    let token = stage.token(&[]).await?;
    let (_, endpoint) = stage.pair(&token, "acme").await?;
    stage.end(End::Terminate).await?;
    let drain = ["drain", "--to", "amqp://127.0.0.1:1"];
    let ended = stage.run(&drain).await?;
    ensure!(
        ended.status.code() == Some(1) && ended.stderr.contains("1 endpoint made through the API"),
        "{}",
        ended.stderr
    );
    stage.serve().await?;
    stage
        .send(&token, "DELETE", &format!("/app/acme/endpoint/{endpoint}"), None)
        .await?;
    stage.end(End::Terminate).await?;
    let ended = stage.run(&drain).await?;
    ensure!(
        ended.stderr.contains("127.0.0.1:1") && !ended.stderr.contains("API"),
        "{}",
        ended.stderr
    );
    Ok(())
}

async fn a_request_with_an_idempotency_key_is_carried_out_once(store: Store) -> Result<()> {
    let mut stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    let application = || json!({"name": "x"});
    let first = stage.with_key(&token, "/app", "key-1", application()).await?;
    let again = stage.with_key(&token, "/app", "key-1", application()).await?;
    ensure!(
        first.status == 201 && again.status == 201 && again.body == first.body,
        "{again:?}"
    );
    // Many at once, over a restart, and refusals too.
    let many = (0..8).map(|_| stage.with_key(&token, "/app", "key-2", application()));
    let many = futures_util::future::join_all(many)
        .await
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        many.iter()
            .all(|answer| answer.body == many[0].body && answer.status == 201),
        "{many:?}"
    );
    let wrong = json!({"name": ""});
    for _ in 0..2 {
        let refused = stage.with_key(&token, "/app", "key-3", wrong.clone()).await?;
        ensure!(refused.status == 422, "{refused:?}");
    }
    stage.end(End::Kill9).await?;
    stage.serve().await?;
    let again = stage.with_key(&token, "/app", "key-1", application()).await?;
    ensure!(again.status == 201 && again.body == first.body, "{again:?}");
    let count = stage.get(&token, "/app").await?["data"]
        .as_array()
        .map_or(0, Vec::len);
    ensure!(count == 2, "{count} applications");
    // Another body with it is a mistake; another organisation's key, and another path's, is another key.
    let other = stage
        .with_key(&token, "/app", "key-1", json!({"name": "y"}))
        .await?;
    ensure!(other.status == 409, "{other:?}");
    let elsewhere = stage.token(&["--organisation", "org_other"]).await?;
    let made = stage.with_key(&elsewhere, "/app", "key-1", application()).await?;
    ensure!(
        made.status == 201 && made.body["id"] != first.body["id"],
        "{made:?}"
    );
    let kind = json!({"name": "a.b", "description": "x"});
    ensure!(stage.with_key(&token, "/event-type", "key-1", kind).await?.status == 201);
    let unauthorised = stage.with_key("wrong", "/app", "key-1", application()).await?;
    ensure!(unauthorised.status == 401, "{unauthorised:?}");
    Ok(())
}

async fn a_token_publishes_for_its_own_organisation_alone(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let own = stage.token(&[]).await?;
    let (application, _) = stage.pair(&own, "acme").await?;
    let of_other_organisation = stage.token(&["--organisation", "org_other"]).await?;
    let of_application = stage.token(&["--application", &application]).await?;
    for (token, expected) in [
        (own.as_str(), 202),
        (&of_other_organisation, 404),
        (&of_application, 403),
        ("nonsense", 401),
    ] {
        let event = json!({"eventType": "a.b", "payload": {}});
        let answer = stage
            .send(token, "POST", &format!("/app/{application}/msg"), Some(event))
            .await?;
        ensure!(answer.status == expected, "{token}: {answer:?}");
    }
    Ok(())
}

async fn what_is_not_understood_is_refused_by_its_name(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    for (method, path, body, field) in [
        ("POST", "/app", json!({"name": "x", "colour": "red"}), "colour"),
        ("POST", "/app", json!({"name": "x", "rateLimit": 0}), "rateLimit"),
        (
            "POST",
            "/app",
            json!({"name": "x", "throttleRate": 5, "rateLimit": 6}),
            "rateLimit",
        ),
        ("POST", "/app", json!({"name": 5}), "name"),
        (
            "POST",
            "/app",
            json!({"name": "x", "metadata": {"a": 1}}),
            "metadata",
        ),
        (
            "POST",
            "/app?get_if_exist=true",
            json!({"name": "x"}),
            "get_if_exist",
        ),
        (
            "POST",
            "/event-type",
            json!({"name": "x", "description": "y", "schema": {}}),
            "schema",
        ),
        ("GET", "/app?limit=251", Value::Null, "limit"),
        ("GET", "/app?order=up", Value::Null, "order"),
        ("GET", "/app?iterator=a&iterator=b", Value::Null, "iterator"),
    ] {
        let body = (!body.is_null()).then_some(body);
        let answer = stage.send(&token, method, path, body).await?;
        ensure!(answer.status == 422, "{method} {path}: {answer:?}");
        ensure!(
            answer.body["detail"][0]["loc"].to_string().contains(field),
            "{answer:?}"
        );
    }
    for (method, path, expected, code) in [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/app/none", 404, "not_found"),
        ("GET", "/app/%ff", 404, "not_found"),
        ("GET", "/app/%00/endpoint/%2e%2e", 404, "not_found"),
        ("DELETE", "/app", 405, "method_not_allowed"),
    ] {
        let answer = stage.send(&token, method, path, None).await?;
        ensure!(
            answer.status == expected && answer.body["code"] == code,
            "{method} {path}: {answer:?}"
        );
    }
    for body in ["", "{", "[1]", "\"x\"", "{\"name\":\"\\ud800\"}", "\u{0}"] {
        let answer = stage
            .raw(&token, "POST", "/app", body.as_bytes().to_vec())
            .await?;
        ensure!((400..500).contains(&answer.status), "{body:?}: {answer:?}");
    }
    let counted = stage.metrics().await?;
    ensure!(
        counted.contains("hooklane_api_requests_total{outcome=\"4xx\"}"),
        "{counted}"
    );
    let large = stage.raw(&token, "POST", "/app", vec![b' '; 600 * 1024]).await?;
    ensure!(
        large.status == 413 && large.body["code"] == "payload_too_large",
        "{large:?}"
    );
    Ok(())
}

async fn an_application_is_known_by_its_uid_to_every_way_of_publishing(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let token = stage.token(&[]).await?;
    stage.pair(&token, "acme").await?;
    let by_socket = [
        "publish",
        "--application",
        "acme",
        "--type",
        "a.b",
        "--payload",
        "{}",
        "--id",
        "order-1",
    ];
    stage.ok(&by_socket).await?;
    stage.receiver.wait_for(1, SOON).await?;
    // Over HTTP the same event has the same id: it is a repeat.
    let event = json!({"eventType": "a.b", "payload": {}, "eventId": "order-1"});
    stage.send(&token, "POST", "/app/acme/msg", Some(event)).await?;
    stage.publish(&token, "acme", "a.b").await?;
    let received = stage.received(2).await?;
    ensure!(
        stage.receiver.by_webhook_id().len() == 2 && received.len() == 2,
        "the repeat was delivered"
    );
    Ok(())
}
