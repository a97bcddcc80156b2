//! Who may not see something does not see it, nor whether it is there: every path and method of the description, which is made from the
//! routes, with every token that must not pass.

mod served;
#[path = "management/stage.rs"]
mod stage;

use std::fs;

use anyhow::{Context, Result, ensure};
use hooklane_api::{Algorithm, Tokens};
use hooklane_receiver::Reply;
use hooklane_testkit::eventually;
use hooklane_types::UnixMillis;
use serde_json::{Map, Value, json};
use served::SOON;
use stage::{Answer, Stage, Store, on_both_stores};

/// In every text of what must not be seen.
const MARK: &str = "mark7f3a";
const HOUR_MS: i64 = 3_600_000;
const ORGANISATION: &str = "org_23rb8YdGqMT0qIzpgGwdXfHirMu";

/// An operation, and how to ask for it.
struct Operation {
    method: String,
    path: String,
    body: Option<Value>,
    is_open: bool,
    needs_organisation: bool,
}

impl Operation {
    /// Of every path and method that is served.
    async fn all(stage: &Stage) -> Result<Vec<Operation>> {
        let document = stage.get("", "/openapi.json").await?;
        let paths = document["paths"].as_object().context("paths")?;
        let mut all = Vec::new();
        for (path, methods) in paths {
            for (method, described) in methods.as_object().context("methods")? {
                let schema = &described["requestBody"]["content"]["application/json"]["schema"];
                let name = schema["$ref"]
                    .as_str()
                    .unwrap_or_default()
                    .trim_start_matches('#');
                all.push(Operation {
                    method: method.to_uppercase(),
                    path: path.trim_start_matches("/api/v1").to_owned(),
                    body: document.pointer(name).filter(|_| !name.is_empty()).map(least),
                    is_open: described.get("security").is_none(),
                    needs_organisation: described["description"]
                        .as_str()
                        .is_some_and(|text| text.contains("token of the organisation")),
                });
            }
        }
        ensure!(all.len() > 20, "{}", all.len());
        Ok(all)
    }

    /// What it is about belongs to an application, or is a job of its organisation.
    fn of_application(&self) -> bool {
        let names = ["{app_id}", "{dead_letter_id}", "/dead-letter/job/{job_id}"];
        names.iter().any(|name| self.path.contains(name))
    }

    /// It is the business of whoever runs Hooklane alone.
    fn of_operator(&self) -> bool {
        self.path == "/fault" || self.path.starts_with("/fault/")
    }

    /// Whether it makes what is not there, under the name in its path.
    fn makes(&self) -> bool {
        self.method == "PUT"
            && (self.path.ends_with("/{app_id}") || self.path.ends_with("/{event_type_name}"))
    }

    async fn ask(&self, stage: &Stage, token: &str, names: &[(&str, &str)]) -> Result<Answer> {
        let mut path = self.path.clone();
        for (name, value) in names {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        ensure!(!path.contains('{'), "{path}: what is it called?");
        stage.send(token, &self.method, &path, self.body.clone()).await
    }
}

/// The least that a schema takes.
fn least(schema: &Value) -> Value {
    let required = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let value = |name: &str| match name {
        "url" => json!("https://example.com/"),
        "headers" | "payload" => json!({}),
        "since" => json!("2026-01-01T00:00:00Z"),
        _ => json!("x"),
    };
    let members: Map<String, Value> = required.map(|name| (name.to_owned(), value(name))).collect();
    Value::Object(members)
}

fn signed(secret: &str, ends_at: UnixMillis) -> Result<String> {
    let tokens = Tokens::new(Algorithm::Hs256, secret)?;
    Ok(tokens.make(ORGANISATION, None, UnixMillis(ends_at.0 - HOUR_MS), ends_at)?)
}

async fn key(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let told = stage.ok(&[&["key", "create"], arguments].concat()).await?;
    Ok(told.trim().to_owned())
}

async fn revoked(stage: &Stage) -> Result<String> {
    let made = key(stage, &["to be revoked"]).await?;
    let id = made
        .trim_start_matches("hlk_")
        .split('_')
        .next()
        .context("an id")?;
    stage.ok(&["key", "revoke", &format!("key_{id}")]).await?;
    Ok(made)
}

/// Everything that belongs to one application, with its marks.
async fn marked(stage: &Stage, token: &str) -> Result<Vec<(&'static str, String)>> {
    let id = |made: &Value| made["id"].as_str().map(str::to_owned).context("an id");
    let application = json!({"name": MARK, "uid": MARK, "metadata": {MARK: MARK}});
    let application = id(&stage.make(token, "/app", application).await?)?;
    let endpoint = json!({"url": stage.receiver.url(&format!("/{MARK}")), "description": MARK, "uid": MARK});
    let path = format!("/app/{application}/endpoint");
    let endpoint = id(&stage.make(token, &path, endpoint).await?)?;
    let headers = json!({"headers": {format!("x-{MARK}"): MARK}});
    let path = format!("{path}/{endpoint}/headers");
    ensure!(stage.send(token, "PUT", &path, Some(headers)).await?.status == 204);
    let message = json!({"eventType": "a.b", "payload": {MARK: MARK}, "eventId": MARK});
    let path = format!("/app/{application}/msg");
    let message = id(&stage.send(token, "POST", &path, Some(message)).await?.body)?;
    stage.received(1).await?;
    let path = format!("/app/{application}/attempt/msg/{message}");
    let attempt = eventually("the attempt in the history", SOON, || async {
        id(&stage.get(token, &path).await?["data"][0])
    })
    .await?;
    let (dead_letter, fault, job) = shelved(stage, token).await?;
    Ok(vec![
        ("dead_letter_id", dead_letter),
        ("fault_id", fault),
        ("job_id", job),
        ("app_id", application),
        ("endpoint_id", endpoint),
        ("msg_id", message),
        ("attempt_id", attempt),
        ("event_type_name", "x".to_owned()),
    ])
}

/// A dead letter of a second application, a fault, and a job of the operator's organisation.
async fn shelved(stage: &Stage, token: &str) -> Result<(String, String, String)> {
    let gone = format!("/gone-{MARK}");
    stage.receiver.script(&gone, [Reply::status(410)]);
    stage
        .make(token, "/app", json!({"name": "gone", "uid": "gone"}))
        .await?;
    let endpoint = json!({"url": stage.receiver.url(&gone)});
    stage.make(token, "/app/gone/endpoint", endpoint).await?;
    let message = json!({"eventType": "a.b", "payload": {MARK: MARK}});
    let sent = stage.send(token, "POST", "/app/gone/msg", Some(message)).await?;
    ensure!(sent.status == 202, "{sent:?}");
    let payload = format!("\"{MARK}\"");
    let publish = [
        "publish",
        "--application",
        "nobody",
        "--type",
        "a.b",
        "--payload",
        &payload,
    ];
    stage.ok(&publish).await?;
    let only = async |path: &str| {
        eventually(path, SOON, || async {
            let list = stage.get(token, path).await?;
            let id = list["data"][0]["id"].as_str();
            id.map(str::to_owned).context("nothing lies there")
        })
        .await
    };
    let (dead_letter, fault) = (only("/dead-letter").await?, only("/fault").await?);
    let nothing = json!({"filter": {"id": "msg_nothing"}});
    let job = stage
        .send(token, "POST", "/dead-letter/replay", Some(nothing))
        .await?;
    let id = job.body["id"].as_str().context("a job")?.to_owned();
    Ok((dead_letter, fault, id))
}

/// All that can be seen of it.
async fn seen(stage: &Stage, token: &str) -> Result<Vec<Value>> {
    let endpoint = format!("/app/{MARK}/endpoint/{MARK}");
    let mut all = Vec::new();
    for path in [
        format!("/app/{MARK}"),
        format!("/app/{MARK}/endpoint"),
        endpoint.clone(),
        format!("{endpoint}/headers"),
        format!("{endpoint}/secret"),
        format!("/app/{MARK}/msg"),
        format!("/app/{MARK}/attempt/endpoint/{MARK}"),
        "/dead-letter".to_owned(),
        "/fault".to_owned(),
    ] {
        let mut found = stage.get(token, &path).await?;
        // Of a shelf it is sealed, each time anew.
        if let Some(found) = found.as_object_mut() {
            found.remove("iterator");
        }
        all.push(found);
    }
    Ok(all)
}

on_both_stores!(
    a_token_that_is_not_taken_opens_nothing_and_hears_nothing,
    another_organisation_sees_nothing_and_cannot_tell_what_is_there,
    another_application_of_the_organisation_sees_nothing_either,
);

async fn a_token_that_is_not_taken_opens_nothing_and_hears_nothing(store: Store) -> Result<()> {
    // With a token in the settings, publishing on loopback needs one too.
    let stage = Stage::on(store, "[ingest]\ntoken = \"of-the-settings-alone\"\n").await?;
    let own = stage.token(&[]).await?;
    let names = marked(&stage, &own).await?;
    let names: Vec<(&str, &str)> = names
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let before = seen(&stage, &own).await?;
    let secret = fs::read_to_string(stage.data().join("api.secret"))?
        .trim()
        .to_owned();
    let now = UnixMillis(jiff::Timestamp::now().as_millisecond());
    let live = UnixMillis(now.0 + HOUR_MS);
    let claims = own.split('.').nth(1).context("claims")?;
    let valid_key = key(&stage, &["valid"]).await?;
    let over = key(&stage, &["over", "--valid-for", "1ms"]).await?;
    ensure!(stage.send(&valid_key, "GET", "/app", None).await?.status == 200);
    ensure!(
        stage
            .send(&signed(&secret, live)?, "GET", "/app", None)
            .await?
            .status
            == 200
    );
    let tokens = [
        ("none", String::new()),
        ("nonsense", "nonsense".to_owned()),
        ("over", signed(&secret, UnixMillis(now.0 - HOUR_MS))?),
        // {"alg":"none","typ":"JWT"}
        (
            "unsigned",
            format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."),
        ),
        ("cut off", own[..own.len() - 2].to_owned()),
        (
            "of another secret",
            signed("another secret of some length", live)?,
        ),
        (
            "a key of nobody",
            format!("hlk_0123456789abcdef_{}", "0".repeat(64)),
        ),
        (
            "a key that is cut off",
            valid_key[..valid_key.len() - 1].to_owned(),
        ),
        (
            "a key without its secret",
            valid_key[..valid_key.len() - 64].to_owned(),
        ),
        ("a key that is over", over),
        ("a key that was revoked", revoked(&stage).await?),
    ];
    for operation in Operation::all(&stage).await? {
        let mut heard = Vec::new();
        for (what, token) in &tokens {
            let answer = operation.ask(&stage, token, &names).await?;
            let (method, path) = (&operation.method, &operation.path);
            if operation.is_open {
                ensure!(
                    !answer.body.to_string().contains(MARK),
                    "{method} {path} with {what}"
                );
                continue;
            }
            ensure!(answer.status == 401, "{method} {path} with {what}: {answer:?}");
            heard.push(answer.body);
        }
        ensure!(
            heard.windows(2).all(|two| two[0] == two[1]),
            "{} {}: {heard:?}",
            operation.method,
            operation.path
        );
    }
    ensure!(seen(&stage, &own).await? == before);
    Ok(())
}

async fn another_organisation_sees_nothing_and_cannot_tell_what_is_there(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let own = stage.token(&[]).await?;
    let names = marked(&stage, &own).await?;
    let names: Vec<(&str, &str)> = names
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let before = seen(&stage, &own).await?;
    let nothing: Vec<(&str, &str)> = names.iter().map(|(name, _)| (*name, "nothing")).collect();
    for (n, operation) in Operation::all(&stage).await?.iter().enumerate() {
        // One for each operation: what it makes is its own.
        let organisation = format!("org_other{n}");
        let signed = stage.token(&["--organisation", &organisation]).await?;
        let key = key(&stage, &["x", "--organisation", &organisation]).await?;
        for token in [signed, key] {
            let (method, path) = (&operation.method, &operation.path);
            let answer = operation.ask(&stage, &token, &names).await?;
            ensure!(
                !answer.body.to_string().contains(MARK),
                "{method} {path}: {answer:?}"
            );
            if operation.of_operator() {
                ensure!(answer.status == 403, "{method} {path}: {answer:?}");
            }
            if operation.makes() || !operation.of_application() {
                continue;
            }
            ensure!(answer.status == 404, "{method} {path}: {answer:?}");
            let of_nothing = operation.ask(&stage, &token, &nothing).await?;
            // What it was called is said again.
            let told = names.iter().fold(answer.body.to_string(), |told, (_, value)| {
                told.replace(value, "nothing")
            });
            ensure!(
                of_nothing.body == told.parse::<Value>()?,
                "{method} {path}: {told}, {of_nothing:?}"
            );
        }
    }
    ensure!(seen(&stage, &own).await? == before);
    Ok(())
}

async fn another_application_of_the_organisation_sees_nothing_either(store: Store) -> Result<()> {
    let stage = Stage::on(store, "").await?;
    let own = stage.token(&[]).await?;
    let names = marked(&stage, &own).await?;
    let names: Vec<(&str, &str)> = names
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let before = seen(&stage, &own).await?;
    let (other, _) = stage.pair(&own, "other").await?;
    let signed = stage.token(&["--application", &other]).await?;
    let key = key(&stage, &["x", "--application", "other"]).await?;
    for operation in Operation::all(&stage).await? {
        // It ends the token that it is asked with.
        if operation.path == "/auth/logout" {
            continue;
        }
        for token in [&signed, &key] {
            let (method, path) = (&operation.method, &operation.path);
            let answer = operation.ask(&stage, token, &names).await?;
            ensure!(
                !answer.body.to_string().contains(MARK),
                "{method} {path}: {answer:?}"
            );
            let expected = match (operation.needs_organisation, operation.of_application()) {
                (true, _) => 403,
                (false, true) => 404,
                (false, false) => continue,
            };
            ensure!(answer.status == expected, "{method} {path}: {answer:?}");
        }
    }
    ensure!(seen(&stage, &own).await? == before);
    Ok(())
}
