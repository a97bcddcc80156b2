//! Static keys of the management API: `hooklane key`, beside a process that serves and without one.

mod served;
#[path = "management/stage.rs"]
mod stage;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::eventually;
use serde_json::json;
use served::{End, SOON};
use stage::Stage;

/// A revocation is in force within a second; three times that is waited for.
const IN_FORCE: Duration = Duration::from_secs(3);

async fn create(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let told = stage.ok(&[&["key", "create"], arguments].concat()).await?;
    Ok(told.trim().to_owned())
}

/// The id of the key with this name.
async fn id(stage: &Stage, name: &str) -> Result<String> {
    let listed = stage.ok(&["key", "list"]).await?;
    let line = listed
        .lines()
        .find(|line| line.contains(name))
        .context(listed.clone())?;
    Ok(line.split_whitespace().next().context("an id")?.to_owned())
}

async fn status(stage: &Stage, key: &str, path: &str) -> Result<u16> {
    Ok(stage.send(key, "GET", path, None).await?.status)
}

#[tokio::test]
async fn a_key_is_taken_at_once_and_a_revoked_one_no_more() -> Result<()> {
    let stage = Stage::start("").await?;
    let key = create(&stage, &["billing service"]).await?;
    ensure!(key.starts_with("hlk_"), "{key}");
    let (application, _) = stage.pair(&key, "acme").await?;
    stage.publish(&key, "acme", "a.b").await?;
    stage.received(1).await?;
    let (other, _) = stage.pair(&key, "other").await?;
    // By uid, and kept by id.
    let of_application = create(&stage, &["portal", "--application", "acme"]).await?;
    for (path, expected) in [
        (format!("/app/{application}/endpoint"), 200),
        ("/app/acme".to_owned(), 200),
        (format!("/app/{other}"), 404),
        ("/app".to_owned(), 403),
    ] {
        let found = status(&stage, &of_application, &path).await?;
        ensure!(found == expected, "{path}: {found}");
    }
    let listed = stage.ok(&["key", "list"]).await?;
    ensure!(
        listed.contains("billing service") && listed.contains(&application) && !listed.contains("hlk_"),
        "{listed}"
    );
    let id = id(&stage, "billing service").await?;
    stage.ok(&["key", "revoke", &id]).await?;
    eventually("the revocation", IN_FORCE, || async {
        let found = status(&stage, &key, "/app").await?;
        ensure!(found == 401, "{found}");
        Ok(())
    })
    .await?;
    // To ingest as well, and the other key still opens.
    let event = json!({"eventType": "a.b", "payload": {}});
    let refused = stage.send(&key, "POST", "/app/acme/msg", Some(event)).await?;
    ensure!(refused.status == 401, "{refused:?}");
    ensure!(status(&stage, &of_application, "/app/acme").await? == 200);
    let again = stage.run(&["key", "revoke", &id]).await?;
    ensure!(
        !again.status.success() && again.stderr.contains("key list"),
        "{}",
        again.stderr
    );
    let nowhere = stage
        .run(&["key", "create", "x", "--application", "nobody"])
        .await?;
    ensure!(
        !nowhere.status.success() && nowhere.stderr.contains("nobody"),
        "{}",
        nowhere.stderr
    );
    Ok(())
}

#[tokio::test]
async fn a_key_ends_at_its_time() -> Result<()> {
    let stage = Stage::start("").await?;
    let key = create(&stage, &["short", "--valid-for", "3s"]).await?;
    ensure!(status(&stage, &key, "/app").await? == 200);
    eventually("its end", SOON, || async {
        let found = status(&stage, &key, "/app").await?;
        ensure!(found == 401, "{found}");
        Ok(())
    })
    .await?;
    let listed = stage.ok(&["key", "list"]).await?;
    ensure!(listed.contains("(over)"), "{listed}");
    Ok(())
}

#[tokio::test]
async fn keys_are_made_without_a_process_too_and_only_their_hashes_are_kept() -> Result<()> {
    let mut stage = Stage::start("").await?;
    let first = create(&stage, &["first"]).await?;
    stage.end(End::Terminate).await?;
    let second = create(&stage, &["second"]).await?;
    let first_id = id(&stage, "first").await?;
    stage.ok(&["key", "revoke", &first_id]).await?;
    for entry in fs::read_dir(stage.data())? {
        let entry = entry?;
        let bytes = fs::read(entry.path()).unwrap_or_default();
        for key in [&first, &second] {
            let secret = key.rsplit('_').next().context("a secret")?;
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            ensure!(!found, "a key stands in {:?}", entry.file_name());
        }
    }
    stage.serve().await?;
    ensure!(status(&stage, &second, "/app").await? == 200);
    ensure!(status(&stage, &first, "/app").await? == 401);
    // A killed process leaves its socket behind.
    stage.end(End::Kill9).await?;
    let third = create(&stage, &["third"]).await?;
    stage.serve().await?;
    ensure!(status(&stage, &third, "/app").await? == 200);
    Ok(())
}
