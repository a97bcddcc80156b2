//! A `hooklane serve` that is managed over HTTP, and a receiver.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Receiver, Request};
use hooklane_signing::{HeaderFamily, Scheme, Secret, TOLERANCE_S, Verifier};
use hooklane_testkit::process::{self, Ended, Process, Spawn};
use hooklane_testkit::python::workspace_root;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const SOON: Duration = Duration::from_secs(60);

pub struct Stage {
    pub dir: TempDir,
    pub receiver: Receiver,
    pub url: String,
    http: reqwest::Client,
    process: Option<Process>,
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// JSON; null where there is none.
    pub body: Value,
}

/// A file beside this one.
pub fn file(name: &str) -> PathBuf {
    workspace_root().join("tests/management").join(name)
}

/// Checks a request's signature in the form that API-made endpoints get.
pub fn verify(request: &Request, secret: &str) -> Result<()> {
    let scheme = Scheme::Standard(HeaderFamily::Svix);
    let verifier = Verifier::new(scheme, vec![Secret::parse(secret)?])?;
    let now_s = jiff::Timestamp::now().as_second();
    verifier.verify(|name| request.header(name), &request.body, now_s, TOLERANCE_S)?;
    Ok(())
}

impl Stage {
    /// Starts it with these lines in its file, and with no endpoint there.
    pub async fn start(settings: &str) -> Result<Stage> {
        let receiver = Receiver::start(Options::default()).await?;
        let dir = tempfile::tempdir()?;
        let file = format!("{settings}\n[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n");
        std::fs::write(dir.path().join("hooklane.toml"), file)?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut stage = Stage {
            dir,
            receiver,
            url: String::new(),
            http: reqwest::Client::builder().no_proxy().build()?,
            process: None,
        };
        stage.serve().await?;
        Ok(stage)
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("hooklane-data")
    }

    fn serving(&self, variables: &[(&str, &str)]) -> Result<Spawn> {
        let spawn = process::hooklane()?
            .args(["serve", "--listen", "127.0.0.1:0"])
            .cwd(self.dir.path());
        Ok(variables
            .iter()
            .fold(spawn, |spawn, (name, value)| spawn.env(name, value)))
    }

    pub async fn serve(&mut self) -> Result<()> {
        self.serve_with(&[]).await
    }

    pub async fn serve_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        let process = self.serving(variables)?.start()?;
        let line = process.wait_for_line("listening on http", SOON).await?.text;
        self.url = line.split_whitespace().last().context("a URL")?.to_owned();
        self.process = Some(process);
        Ok(())
    }

    /// What it says that does not start.
    pub async fn refuses_to_serve(&self, variables: &[(&str, &str)]) -> Result<String> {
        let ended = self.serving(variables)?.run(SOON).await?;
        ensure!(!ended.status.success(), "it started");
        Ok(ended.stderr)
    }

    pub async fn stop(&mut self) -> Result<()> {
        let process = self.process.take().context("it runs")?;
        process.terminate()?;
        ensure!(process.wait(SOON).await?.success(), "it failed at its end");
        Ok(())
    }

    pub async fn kill9(&mut self) -> Result<()> {
        self.process.take().context("it runs")?.kill9().await
    }

    /// The data directory's names and contents; but for the lock file, which says who had it last.
    pub fn contents(&self) -> Result<BTreeMap<OsString, Vec<u8>>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(self.data())? {
            let entry = entry?;
            if entry.file_name() != "queue.lock" {
                found.insert(entry.file_name(), std::fs::read(entry.path())?);
            }
        }
        Ok(found)
    }

    pub async fn run(&self, arguments: &[&str]) -> Result<Ended> {
        let command = process::hooklane()?.args(arguments).cwd(self.dir.path());
        command.run(SOON).await
    }

    /// The output of a command.
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

    /// A token by `hooklane token`.
    pub async fn token(&self, arguments: &[&str]) -> Result<String> {
        let told = self.ok(&[&["token"], arguments].concat()).await?;
        Ok(told.trim().to_owned())
    }

    pub async fn send(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Result<Answer> {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        self.raw(token, method, path, body).await
    }

    pub async fn raw(&self, token: &str, method: &str, path: &str, body: Vec<u8>) -> Result<Answer> {
        answer(self.request(token, method, path)?.body(body)).await
    }

    /// A POST with an idempotency key.
    pub async fn with_key(&self, token: &str, path: &str, key: &str, body: Value) -> Result<Answer> {
        let request = self.request(token, "POST", path)?.header("idempotency-key", key);
        answer(request.body(body.to_string())).await
    }

    fn request(&self, token: &str, method: &str, path: &str) -> Result<reqwest::RequestBuilder> {
        let url = format!("{}/api/v1{path}", self.url);
        let request = self
            .http
            .request(method.parse()?, url)
            .header("content-type", "application/json");
        Ok(match token.is_empty() {
            true => request,
            false => request.bearer_auth(token),
        })
    }

    pub async fn metrics(&self) -> Result<String> {
        let answer = self.http.get(format!("{}/metrics", self.url)).send().await?;
        Ok(answer.text().await?)
    }

    pub async fn get(&self, token: &str, path: &str) -> Result<Value> {
        let answer = self.send(token, "GET", path, None).await?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        Ok(answer.body)
    }

    pub async fn make(&self, token: &str, path: &str, body: Value) -> Result<Value> {
        let answer = self.send(token, "POST", path, Some(body)).await?;
        ensure!(answer.status == 201, "{path}: {answer:?}");
        Ok(answer.body)
    }

    /// An application with this uid, and an endpoint of it at `/hook`: their ids.
    pub async fn pair(&self, token: &str, uid: &str) -> Result<(String, String)> {
        let application = self.make(token, "/app", json!({"name": uid, "uid": uid})).await?;
        let url = self.receiver.url("/hook");
        let path = format!("/app/{uid}/endpoint");
        let endpoint = self.make(token, &path, json!({"url": url})).await?;
        let id = |made: &Value| made["id"].as_str().map(str::to_owned).context("an id");
        Ok((id(&application)?, id(&endpoint)?))
    }

    pub async fn publish(&self, token: &str, application: &str, event_type: &str) -> Result<()> {
        let event = json!({"eventType": event_type, "payload": {"a": 1}});
        let answer = self
            .send(token, "POST", &format!("/app/{application}/msg"), Some(event))
            .await?;
        ensure!(answer.status == 202, "{answer:?}");
        Ok(())
    }

    /// What was received, once there are as many.
    pub async fn received(&self, count: u64) -> Result<Vec<Request>> {
        self.receiver.wait_for(count, SOON).await?;
        Ok(self.receiver.received())
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    let body = match text.is_empty() {
        true => Value::Null,
        false => serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?,
    };
    Ok(Answer { status, body })
}
