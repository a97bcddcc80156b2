//! The stage of the black-box tests: the built binary as ingest and dispatchers against a real RabbitMQ, a receiver, and a settings
//! file in a directory of its own.
#![allow(dead_code)] // every test file includes it and uses its own part

pub mod load;
pub mod shelf;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Receiver};
use hooklane_testkit::process::{self, Process, Spawn};
use hooklane_testkit::rabbitmq::{Vhost, shared};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Long enough for anything that should happen at once on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Long enough for a broker to come back and everything to be delivered.
pub const RECOVERY: Duration = Duration::from_secs(120);
/// A secret for endpoints.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One installation under test.
pub struct Stage {
    /// Where the settings file is.
    pub dir: TempDir,
    /// The broker's URL, as the processes get it.
    pub broker_url: String,
    /// The vhost, when the stage made one.
    pub vhost: Option<Vhost>,
    /// What the endpoints point at.
    pub receiver: Receiver,
    /// For HTTP requests of the test.
    pub http: reqwest::Client,
}

/// A running `hooklane ingest`.
pub struct Ingest {
    /// The process.
    pub process: Process,
    /// `http://127.0.0.1:port`.
    pub url: String,
}

/// A running `hooklane dispatcher`.
pub struct Dispatcher {
    /// The process.
    pub process: Process,
    /// `http://127.0.0.1:port` of its metrics.
    pub url: String,
}

impl Stage {
    /// A fresh vhost on the node that all tests of this file share.
    pub async fn new() -> Result<Stage> {
        let vhost = shared().await?.vhost().await?;
        let mut stage = Stage::at(vhost.url()).await?;
        stage.vhost = Some(vhost);
        Ok(stage)
    }

    /// On a broker of the test's own.
    pub async fn at(broker_url: &str) -> Result<Stage> {
        // Another test of the process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stage = Stage {
            dir: TempDir::new()?,
            broker_url: broker_url.to_owned(),
            vhost: None,
            receiver: Receiver::start(Options::default()).await?,
            http: reqwest::Client::builder().no_proxy().build()?,
        };
        stage.settings("", "")?;
        Ok(stage)
    }

    /// Path of the settings file.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("hooklane.toml")
    }

    /// Writes the settings: `sections` are whole sections (`[dispatcher]\n…`), `endpoints` the `[[endpoint]]` tables.
    pub fn settings(&self, sections: &str, endpoints: &str) -> Result<()> {
        let egress = if sections.contains("[egress]") {
            ""
        } else {
            "[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n"
        };
        let text = format!(
            "[broker]\nurl = \"{}\"\n{egress}{sections}\n{endpoints}",
            self.broker_url
        );
        std::fs::write(self.file(), text).context("write the settings")
    }

    /// An endpoint of application `acme` at this path of the receiver, with more keys.
    pub fn endpoint(&self, id: &str, path: &str, more: &str) -> String {
        let url = self.receiver.url(path);
        format!(
            "[[endpoint]]\nid = \"{id}\"\napplication = \"acme\"\nurl = \"{url}\"\nsecret = \"{SECRET}\"\n{more}\n"
        )
    }

    /// `hooklane` in the stage's directory.
    pub fn hooklane(&self, arguments: &[&str]) -> Result<Spawn> {
        Ok(process::hooklane()?.args(arguments).cwd(self.dir.path()))
    }

    /// Runs a command of the binary to its end and gives its standard output.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.hooklane(arguments)?.run_ok(SOON).await
    }

    /// Starts an ingest on a free port and waits until it listens.
    pub async fn ingest(&self) -> Result<Ingest> {
        let (process, url) = self.service(&["ingest", "--listen", "127.0.0.1:0"]).await?;
        Ok(Ingest { process, url })
    }

    /// Starts a dispatcher and waits until it is ready.
    pub async fn dispatcher(&self) -> Result<Dispatcher> {
        let (process, url) = self.service(&["dispatcher", "--listen", "127.0.0.1:0"]).await?;
        Ok(Dispatcher { process, url })
    }

    /// Starts this many dispatchers.
    pub async fn dispatchers(&self, count: usize) -> Result<Vec<Dispatcher>> {
        let mut started = Vec::new();
        for _ in 0..count {
            started.push(self.dispatcher().await?);
        }
        Ok(started)
    }

    async fn service(&self, arguments: &[&str]) -> Result<(Process, String)> {
        let process = self.hooklane(arguments)?.start()?;
        let line = process.wait_for_line("listening on http", SOON).await?;
        let at = line.text.find("http").context("the line holds a URL")?;
        let url = line.text[at..]
            .split_whitespace()
            .next()
            .context("the line holds a URL")?
            .to_owned();
        let ready = format!("{url}/readyz");
        hooklane_testkit::eventually("the process to be ready", SOON, || async {
            let answer = self.http.get(&ready).send().await?;
            ensure!(answer.status().is_success(), "{}", answer.text().await?);
            Ok(())
        })
        .await
        .with_context(|| process.output().tail())?;
        Ok((process, url))
    }

    /// The ids that the broker holds nowhere any more: waits until the queue is empty.
    pub async fn wait_empty(&self, queue: &str, deadline: Duration) -> Result<()> {
        self.wait_depth(queue, deadline, |depth| depth == 0).await
    }

    /// Waits until the depth of a queue (ready and unacked) is as wanted.
    pub async fn wait_depth(
        &self,
        queue: &str,
        deadline: Duration,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<()> {
        hooklane_testkit::eventually(&format!("the depth of {queue}"), deadline, || async {
            let depth = self.depth(queue).await?;
            ensure!(wanted(depth), "{queue} holds {depth} messages");
            Ok(())
        })
        .await
    }

    /// Messages in a queue, ready and unacked, as the broker's own tool counts them.
    pub async fn depth(&self, queue: &str) -> Result<u64> {
        let vhost = self.vhost.as_ref().context("the stage has a vhost")?;
        let rows = vhost
            .ctl(&[
                "list_queues",
                "-p",
                vhost.name(),
                "--no-table-headers",
                "name",
                "messages",
            ])
            .await?;
        let name = format!("hooklane.{queue}");
        let row = rows
            .lines()
            .find_map(|row| row.split_once('\t').filter(|(found, _)| *found == name));
        let (_, count) = row.with_context(|| format!("no queue {name} in:\n{rows}"))?;
        Ok(count.trim().parse()?)
    }
}

impl Ingest {
    /// Publishes a payload under an event type and gives the answer's `id`.
    pub async fn publish(&self, http: &reqwest::Client, event_type: &str, payload: &str) -> Result<String> {
        let body = format!(r#"{{"eventType":"{event_type}","payload":{payload}}}"#);
        let answer = self.post(http, "acme", body).await?;
        ensure!(answer.0 == 202, "answered {} {}", answer.0, answer.1);
        Ok(answer.1["id"]
            .as_str()
            .context("the answer has an id")?
            .to_owned())
    }

    /// Posts a body to an application's messages; status and JSON of the answer.
    pub async fn post(
        &self,
        http: &reqwest::Client,
        application: &str,
        body: String,
    ) -> Result<(u16, Value)> {
        let answer = http
            .post(format!("{}/api/v1/app/{application}/msg", self.url))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((
            status,
            serde_json::from_str(&text).unwrap_or_else(|_| json!(text)),
        ))
    }
}

impl Dispatcher {
    /// The sum of a metric over all its labels that contain `labels`.
    pub async fn metric(&self, http: &reqwest::Client, name: &str, labels: &str) -> Result<f64> {
        let text = http
            .get(format!("{}/metrics", self.url))
            .send()
            .await?
            .text()
            .await?;
        let mut sum = 0.0;
        for line in text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(labels))
        {
            let after = line.as_bytes().get(name.len());
            if after == Some(&b'{') || after == Some(&b' ') {
                let value = line.rsplit(' ').next().context("a sample has a value")?;
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }
}

/// What a receiver counted, against what was accepted: every id arrived. Gives the number of repeats.
pub fn assert_all_arrived(receiver: &Receiver, accepted: &[String]) -> Result<u64> {
    let counts: HashMap<String, u64> = receiver.by_webhook_id();
    let lost: Vec<_> = accepted.iter().filter(|id| !counts.contains_key(*id)).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} accepted events never arrived, like {:?}",
        lost.len(),
        accepted.len(),
        &lost[..1]
    );
    let foreign: Vec<_> = counts.keys().filter(|id| !accepted.contains(id)).collect();
    ensure!(
        foreign.is_empty(),
        "{} ids arrived that nobody published, like {:?}",
        foreign.len(),
        &foreign[..1]
    );
    Ok(counts.values().map(|count| count - 1).sum())
}
