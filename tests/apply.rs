//! `hooklane apply`: a file is made so, again and again without harm.

mod served;
#[path = "management/stage.rs"]
mod stage;

use anyhow::{Result, ensure};
use serde_json::json;
use stage::Stage;

const FIRST: &str = r#"
[[event_type]]
name = "invoice.paid"
description = "An invoice was paid"

[[application]]
uid = "acme"
name = "Acme"
metadata = { plan = "gold" }

[[application.endpoint]]
uid = "billing"
url = "https://billing.example.com/hook"
eventTypes = ["invoice.paid"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
headers = { "X-Shop" = "7", Authorization = "Bearer s3cret" }
hooklane = { retry = { delays = [5, 60] } }

[[application.endpoint]]
uid = "audit"
url = "https://audit.example.com/hook"
"#;

/// Another URL, one endpoint less, and the rest as it was.
fn second() -> String {
    let kept = FIRST
        .split("[[application.endpoint]]")
        .take(2)
        .collect::<Vec<_>>();
    kept.join("[[application.endpoint]]").replace("/hook", "/v2")
}

struct Applied {
    stage: Stage,
    token: String,
}

impl Applied {
    async fn run(&self, text: &str, more: &[&str]) -> Result<String> {
        std::fs::write(self.stage.dir.path().join("apply.toml"), text)?;
        let arguments = [&["apply", "-f", "apply.toml", "--url", &self.stage.url], more].concat();
        let spawn = hooklane_testkit::process::hooklane()?
            .args(arguments)
            .env("TOKEN", &self.token)
            .cwd(self.stage.dir.path());
        let ended = spawn.run(served::SOON).await?;
        ensure!(ended.status.success(), "{}", ended.stderr);
        Ok(ended.stdout)
    }
}

#[tokio::test]
async fn a_file_is_made_so_again_and_again_and_pruned() -> Result<()> {
    // Goal: what is said before is what is done; a second time nothing is; what the file does not say stays, until it is pruned.
    let stage = Stage::start("").await?;
    let token = stage.token(&[]).await?;
    stage
        .make(&token, "/app", json!({"name": "Old", "uid": "old"}))
        .await?;
    let applied = Applied { stage, token };
    let (stage, token) = (&applied.stage, &applied.token);

    let would = applied.run(FIRST, &["--dry-run"]).await?;
    ensure!(
        would.contains("+ endpoint acme/billing") && would.contains("would be made: 4"),
        "{would}"
    );
    ensure!(
        stage.send(token, "GET", "/app/acme", None).await?.status == 404,
        "a dry run made it"
    );

    let done = applied.run(FIRST, &[]).await?;
    ensure!(done.contains("made: 4"), "{done}");
    let path = "/app/acme/endpoint/billing";
    let billing = stage.get(token, path).await?;
    ensure!(
        billing["hooklane"]["retry"]["delays"] == json!([5, 60])
            || billing["hooklane"]["retry"]["delays"] == json!([5.0, 60.0]),
        "{billing}"
    );
    let secret = stage.get(token, &format!("{path}/secret")).await?;
    ensure!(
        secret["key"] == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "{secret}"
    );
    let headers = stage.get(token, &format!("{path}/headers")).await?;
    ensure!(
        headers["headers"] == json!({"x-shop": "7"}) && headers["sensitive"] == json!(["authorization"]),
        "{headers}"
    );

    let again = applied.run(FIRST, &[]).await?;
    ensure!(again.trim() == "nothing to do", "{again}");

    // By hand, and not in the file: it stays.
    let by_hand = json!({"description": "by hand"});
    stage.send(token, "PATCH", path, Some(by_hand)).await?;
    let done = applied.run(&second(), &[]).await?;
    ensure!(
        done.contains("~ endpoint acme/billing: url") && done.contains("changed: 1"),
        "{done}"
    );
    let billing = stage.get(token, path).await?;
    ensure!(
        billing["url"] == "https://billing.example.com/v2" && billing["description"] == "by hand",
        "{billing}"
    );
    ensure!(
        stage
            .send(token, "GET", "/app/acme/endpoint/audit", None)
            .await?
            .status
            == 200
    );

    let would = applied.run(&second(), &["--prune", "--dry-run"]).await?;
    ensure!(
        would.contains("- endpoint acme/audit") && would.contains("- application old"),
        "{would}"
    );
    ensure!(
        stage.send(token, "GET", "/app/old", None).await?.status == 200,
        "a dry run pruned"
    );
    applied.run(&second(), &["--prune"]).await?;
    for gone in ["/app/acme/endpoint/audit", "/app/old"] {
        ensure!(
            stage.send(token, "GET", gone, None).await?.status == 404,
            "{gone} is there"
        );
    }
    let again = applied.run(&second(), &["--prune"]).await?;
    ensure!(again.trim() == "nothing to do", "{again}");
    Ok(())
}

#[tokio::test]
async fn what_the_api_refuses_is_told_with_what_it_is_about() -> Result<()> {
    // Goal: a field that does not exist, a file that is no TOML, a name that is missing, no token: each in words, with an exit code that says so.
    let stage = Stage::start("").await?;
    let token = stage.token(&[]).await?;
    let cases = [
        (
            "[[application]]\nuid = \"a\"\nname = \"A\"\ncolour = \"red\"\n",
            "colour",
        ),
        ("[[application]\n", "not TOML"),
        ("[[application]]\nname = \"A\"\n", "needs a `uid`"),
        ("[[webhook]]\n", "webhook"),
    ];
    for (text, told) in cases {
        std::fs::write(stage.dir.path().join("apply.toml"), text)?;
        let spawn = hooklane_testkit::process::hooklane()?
            .args(["apply", "-f", "apply.toml", "--url", &stage.url])
            .env("TOKEN", &token)
            .cwd(stage.dir.path());
        let ended = spawn.run(served::SOON).await?;
        ensure!(
            !ended.status.success() && ended.stderr.contains(told),
            "{told}: {}",
            ended.stderr
        );
    }
    let spawn = hooklane_testkit::process::hooklane()?
        .args([
            "apply",
            "-f",
            "apply.toml",
            "--url",
            &stage.url,
            "--token-env",
            "HOOKLANE_NO_SUCH",
        ])
        .cwd(stage.dir.path());
    let ended = spawn.run(served::SOON).await?;
    ensure!(!ended.status.success(), "it ran without a token");
    Ok(())
}
