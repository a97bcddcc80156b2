//! What an endpoint of the API has beyond Svix's: when failed attempts are repeated, and in which format requests are signed.

mod served;
#[path = "management/stage.rs"]
mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Reply, Request};
use hooklane_signing::{Encoding, Hash, HeaderFamily, HmacFormat, Scheme, Secret, TOLERANCE_S, Verifier};
use hooklane_testkit::eventually;
use serde_json::{Value, json};
use served::SOON;
use stage::Stage;

const PATH: &str = "/app/acme/endpoint/hook";
const VERBATIM: &str = "a secret of the receiver's own";
const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn stage(token: &mut String) -> Result<Stage> {
    let stage = Stage::start("").await?;
    *token = stage.token(&[]).await?;
    stage
        .make(token, "/app", json!({"name": "Acme", "uid": "acme"}))
        .await?;
    Ok(stage)
}

async fn endpoint(stage: &Stage, token: &str, mut more: Value) -> Result<Value> {
    more["url"] = json!(stage.receiver.url("/hook"));
    more["uid"] = json!("hook");
    stage.make(token, "/app/acme/endpoint", more).await
}

fn verify(request: &Request, scheme: Scheme, secret: &str) -> Result<()> {
    let secret = match scheme.takes_verbatim() {
        true => Secret::verbatim(secret)?,
        false => Secret::parse(secret)?,
    };
    let verifier = Verifier::new(scheme, vec![secret])?;
    let now_s = jiff::Timestamp::now().as_second();
    verifier.verify(|name| request.header(name), &request.body, now_s, TOLERANCE_S)?;
    Ok(())
}

#[tokio::test]
async fn each_format_signs_as_it_says() -> Result<()> {
    let mut token = String::new();
    let stage = stage(&mut token).await?;
    let hmac =
        json!({"hmac": {"header": "X-Signature", "hash": "sha512", "encoding": "base64", "prefix": "v0="}});
    let format = HmacFormat::new("x-signature", Hash::Sha512, Encoding::Base64, "v0=")?;
    for (signature, scheme, secret) in [
        (
            json!("standard-svix"),
            Scheme::Standard(HeaderFamily::Svix),
            STANDARD,
        ),
        (
            json!("standard"),
            Scheme::Standard(HeaderFamily::Webhook),
            STANDARD,
        ),
        (json!("github"), Scheme::GitHub, VERBATIM),
        (json!("stripe"), Scheme::Stripe, VERBATIM),
        (hmac, Scheme::Hmac(format), VERBATIM),
    ] {
        stage.receiver.forget();
        let body = json!({"hooklane": {"signature": signature}, "secret": secret});
        let made = endpoint(&stage, &token, body).await?;
        ensure!(made["hooklane"]["signature"] == signature, "{made}");
        stage.publish(&token, "acme", "a.b").await?;
        let received = stage.received(1).await?;
        verify(&received[0], scheme, secret).with_context(|| format!("{signature}"))?;
        let key = stage.get(&token, &format!("{PATH}/secret")).await?;
        ensure!(key["key"] == secret, "{key}");
        ensure!(stage.send(&token, "DELETE", PATH, None).await?.status == 204);
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_format_is_in_force_with_the_next_event_and_a_put_without_it_changes_nothing()
-> Result<()> {
    let mut token = String::new();
    let stage = stage(&mut token).await?;
    let made = endpoint(&stage, &token, json!({"secret": STANDARD})).await?;
    ensure!(
        made["hooklane"] == json!({"retry": null, "signature": "standard-svix"}),
        "{made}"
    );
    let change = json!({"hooklane": {"signature": "github", "retry": {"delays": [1]}}});
    let patched = stage.send(&token, "PATCH", PATH, Some(change)).await?;
    ensure!(patched.status == 200, "{patched:?}");
    // As Svix's clients send it, which do not know the field.
    let url = json!({"url": stage.receiver.url("/hook"), "uid": "hook"});
    let put = stage.send(&token, "PUT", PATH, Some(url)).await?;
    let kept = json!({"retry": {"delays": [1]}, "signature": "github"});
    ensure!(put.status == 200 && put.body["hooklane"] == kept, "{put:?}");
    stage.publish(&token, "acme", "a.b").await?;
    verify(&stage.received(1).await?[0], Scheme::GitHub, STANDARD)?;
    // A secret of this format, and then back: it is no standard one.
    let rotate = format!("{PATH}/secret/rotate");
    let key = json!({"key": VERBATIM, "gracePeriodSeconds": 0});
    let rotated = stage.send(&token, "POST", &rotate, Some(key)).await?;
    ensure!(rotated.status == 200, "{rotated:?}");
    let back = stage
        .send(
            &token,
            "PATCH",
            PATH,
            Some(json!({"hooklane": {"signature": null}})),
        )
        .await?;
    ensure!(
        back.status == 422 && back.body.to_string().contains("rotate it first"),
        "{back:?}"
    );
    ensure!(!back.body.to_string().contains(VERBATIM), "{back:?}");
    let rotated = stage
        .send(&token, "POST", &rotate, Some(json!({"gracePeriodSeconds": 0})))
        .await?;
    ensure!(rotated.status == 200, "{rotated:?}");
    let back = stage
        .send(&token, "PATCH", PATH, Some(json!({"hooklane": null})))
        .await?;
    ensure!(
        back.body["hooklane"] == json!({"retry": null, "signature": "standard-svix"}),
        "{back:?}"
    );
    stage.receiver.forget();
    stage.publish(&token, "acme", "a.b").await?;
    let secret = rotated.body["key"].as_str().context("a key")?;
    verify(
        &stage.received(1).await?[0],
        Scheme::Standard(HeaderFamily::Svix),
        secret,
    )
}

#[tokio::test]
async fn a_schedule_of_its_own_is_kept() -> Result<()> {
    let mut token = String::new();
    let stage = stage(&mut token).await?;
    let retry = json!({"attempts": 3, "first": 1, "factor": 1, "jitter": 0});
    let made = endpoint(&stage, &token, json!({"hooklane": {"retry": retry}})).await?;
    ensure!(
        made["hooklane"]["retry"] == json!({"attempts": 3, "first": 1, "factor": 1.0, "jitter": 0.0}),
        "{made}"
    );
    stage.receiver.script_with("/hook", |_| Reply::status(500));
    stage.publish(&token, "acme", "a.b").await?;
    eventually("the dead letter after three attempts", SOON, || async {
        let letters = stage.ok(&["dead", "list"]).await?;
        ensure!(letters.contains("exhausted"), "{letters}");
        Ok(())
    })
    .await?;
    ensure!(stage.receiver.total() == 3, "{} attempts", stage.receiver.total());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_its_name() -> Result<()> {
    let mut token = String::new();
    let stage = stage(&mut token).await?;
    endpoint(&stage, &token, json!({})).await?;
    let headers = json!({"headers": {"stripe-signature": "mine"}});
    ensure!(
        stage
            .send(&token, "PUT", &format!("{PATH}/headers"), Some(headers))
            .await?
            .status
            == 204
    );
    for (hooklane, field) in [
        (json!({"retries": 1}), "retries"),
        (json!({"retry": {"delays": [1], "attempts": 2}}), "retry"),
        (json!({"retry": {"attempts": 0}}), "retry"),
        (json!({"retry": {"delay": [1]}}), "delay"),
        (json!({"signature": "md5"}), "signature"),
        (json!({"signature": {"hmac": {"header": "host"}}}), "signature"),
        (
            json!({"signature": {"hmac": {"header": "x", "salt": "y"}}}),
            "salt",
        ),
        (json!({"signature": "stripe"}), "stripe-signature"),
    ] {
        let refused = stage
            .send(&token, "PATCH", PATH, Some(json!({"hooklane": hooklane})))
            .await?;
        ensure!(
            refused.status == 422 && refused.body.to_string().contains(field),
            "{field}: {refused:?}"
        );
    }
    let patched = stage
        .send(
            &token,
            "PATCH",
            PATH,
            Some(json!({"hooklane": {"signature": "github"}})),
        )
        .await?;
    ensure!(patched.status == 200, "{patched:?}");
    let headers = json!({"headers": {"X-Hub-Signature": "mine"}});
    let refused = stage
        .send(&token, "PUT", &format!("{PATH}/headers"), Some(headers))
        .await?;
    ensure!(refused.status == 422, "{refused:?}");
    Ok(())
}
