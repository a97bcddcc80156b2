//! A stage of one `hooklane serve` with a receiver, for tests of what is its own: the process, its commands, its data directory.
#![allow(dead_code)] // every test file includes it and uses its own part

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Receiver};
use hooklane_testkit::eventually;
use hooklane_testkit::process::{self, Ended, Process, Spawn};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const SOON: Duration = Duration::from_secs(60);

/// An installation.
pub struct Stage {
    pub dir: TempDir,
    pub receiver: Receiver,
    pub http: reqwest::Client,
}

/// The process that serves.
pub struct Serving {
    pub process: Process,
    pub url: String,
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Terminate,
    Kill9,
}

impl Stage {
    /// Two applications, `default` and `acme`, each with an endpoint at `/hook`; with these lines in front of them.
    pub async fn new(settings: &str) -> Result<Stage> {
        let endpoint = |application: &str, url: &str| {
            format!(
                "[[endpoint]]\nid = \"ep_{application}\"\napplication = \"{application}\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n\
                 retry = {{ attempts = 50, first = \"1s\", factor = 1, max = \"1m\", jitter = 0.0 }}\n",
            )
        };
        let both = |url: &str| format!("{}{}", endpoint("default", url), endpoint("acme", url));
        Stage::with(settings, both).await
    }

    /// With these endpoints, given the URL of `/hook`.
    pub async fn with(settings: &str, endpoints: impl Fn(&str) -> String) -> Result<Stage> {
        let receiver = Receiver::start(Options::default()).await?;
        let dir = tempfile::tempdir()?;
        let file = format!(
            "[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n{settings}\n{}",
            endpoints(&receiver.url("/hook"))
        );
        std::fs::write(dir.path().join("hooklane.toml"), file)?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Stage { dir, receiver, http })
    }

    /// Where the queue lies.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("hooklane-data")
    }

    pub async fn serve(&self) -> Result<Serving> {
        self.serve_with(&[]).await
    }

    /// The command that serves, with these variables.
    pub fn serving(&self, variables: &[(&str, &str)]) -> Result<Spawn> {
        let spawn = process::hooklane()?
            .args(["serve", "--listen", "127.0.0.1:0"])
            .cwd(self.dir.path());
        let with = |spawn: Spawn, (name, value): &(&str, &str)| spawn.env(name, value);
        Ok(variables.iter().fold(spawn, with))
    }

    pub async fn serve_with(&self, variables: &[(&str, &str)]) -> Result<Serving> {
        let process = self.serving(variables)?.start()?;
        let line = process.wait_for_line("listening on http", SOON).await?.text;
        let url = line.split_whitespace().last().context("a URL")?.to_owned();
        Ok(Serving { process, url })
    }

    pub async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        run(self.dir.path(), arguments).await
    }

    pub async fn ok(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.run(arguments).await?;
        ensure!(
            ended.status.success(),
            "{arguments:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        Ok(ended.stdout)
    }

    /// Publishes with an `eventId`; the answer.
    pub async fn post(
        &self,
        serving: &Serving,
        application: &str,
        id: &str,
        payload: &str,
    ) -> Result<reqwest::Response> {
        let body = json!({"eventType": "a.b", "eventId": id, "payload": {"text": payload}});
        Ok(self
            .http
            .post(format!("{}/api/v1/app/{application}/msg", serving.url))
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await?)
    }

    /// Publishes with an `eventId`.
    pub async fn publish(&self, serving: &Serving, application: &str, id: &str) -> Result<()> {
        let answer = self.post(serving, application, id, "").await?;
        ensure!(answer.status() == 202, "{answer:?}");
        Ok(())
    }

    /// Publishes with an `Idempotency-Key`.
    pub async fn publish_with_key(&self, serving: &Serving, key: &str) -> Result<()> {
        let answer = self
            .http
            .post(format!("{}/api/v1/app/default/msg", serving.url))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body("{\"eventType\":\"a.b\",\"payload\":{}}")
            .send()
            .await?;
        ensure!(answer.status() == 202, "{answer:?}");
        Ok(())
    }

    /// A metric without labels; 0 before it is first counted.
    pub async fn metric(&self, serving: &Serving, name: &str) -> Result<f64> {
        let text = self
            .http
            .get(format!("{}/metrics", serving.url))
            .send()
            .await?
            .text()
            .await?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map_or(Ok(0.0), str::parse)?)
    }

    /// Waits until a metric has this value.
    pub async fn counted(&self, serving: &Serving, name: &str, value: f64) -> Result<()> {
        eventually(&format!("{name} at {value}"), SOON, || async {
            let found = self.metric(serving, name).await?;
            ensure!(found == value, "{found}");
            Ok(())
        })
        .await
    }

    /// Waits until no event waits to be taken.
    pub async fn taken(&self) -> Result<()> {
        eventually("the queue of events to be taken", SOON, || async {
            let status: Value = serde_json::from_str(&self.ok(&["status", "--format", "json"]).await?)?;
            let queues = status["queues"].as_array().context("queues")?;
            let events = queues.iter().find(|queue| queue["name"] == "events");
            ensure!(events.context("events")?["messages"] == 0, "{status}");
            Ok(())
        })
        .await
    }

    /// Status and text of `/readyz`.
    pub async fn readiness(&self, serving: &Serving) -> Result<(u16, String)> {
        let answer = self.http.get(format!("{}/readyz", serving.url)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

impl Serving {
    /// Ends it, and waits for its end.
    pub async fn end(self, end: End) -> Result<()> {
        match end {
            End::Kill9 => self.process.kill9().await,
            End::Terminate => {
                self.process.terminate()?;
                ensure!(self.process.wait(SOON).await?.success(), "it failed at its end");
                Ok(())
            }
        }
    }
}

/// Runs a command in a directory.
pub async fn run(directory: &Path, arguments: &[&str]) -> Result<Ended> {
    process::hooklane()?
        .args(arguments)
        .cwd(directory)
        .run(SOON)
        .await
}

/// The names in a directory, with their contents; but for the lock file, which says who had it last.
pub fn contents(directory: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "queue.lock" {
            found.push((name, std::fs::read(entry.path()).unwrap_or_default()));
        }
    }
    found.sort();
    Ok(found)
}
