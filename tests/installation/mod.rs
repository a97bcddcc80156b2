//! Processes on RabbitMQ and PostgreSQL, for tests of what they share.
#![allow(dead_code)] // every test file includes it and uses its own part

use anyhow::{Context, Result, ensure};
use hooklane_testkit::eventually;
use hooklane_testkit::postgres::{Database, Server};
use hooklane_testkit::process::Process;
use hooklane_testkit::rabbitmq::shared;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};

const KEY: &str = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
const JWT_SECRET: &str = "a secret of 16 bytes or more";
/// The store, and everything else.
pub struct Pods {
    pub stage: Stage,
    pub server: Server,
    pub database: Database,
    pub token: String,
}

/// A process.
pub struct Pod {
    pub process: Process,
    pub url: String,
}

impl Pods {
    pub async fn new() -> Result<Pods> {
        Pods::with("").await
    }

    /// With these lines in `[store]`.
    pub async fn with(store: &str) -> Result<Pods> {
        let stage = Stage::at_vhost(shared().await?.vhost().await?).await?;
        let server = Server::start().await?;
        let database = server.database().await?;
        let sections = format!(
            "[store]\nurl = \"{}\"\nsnapshot = \"{}\"\n{store}\n[api]\nencryption_key = \"{KEY}\"\njwt_secret = \"{JWT_SECRET}\"\n",
            database.url(),
            stage.dir.path().join("snapshot.json").display()
        );
        stage.settings(&sections, "")?;
        let token = stage.run(&["token"]).await?.trim().to_owned();
        Ok(Pods {
            stage,
            server,
            database,
            token,
        })
    }

    /// Begins a process; it may wait for something.
    pub fn begin(&self, role: &str, variables: &[(&str, &str)]) -> Result<Process> {
        let spawn = self.stage.hooklane(&[role, "--listen", "127.0.0.1:0"])?;
        let spawn = variables
            .iter()
            .fold(spawn, |spawn, (name, value)| spawn.env(name, value));
        spawn.start()
    }

    pub async fn start(&self, role: &str) -> Result<Pod> {
        is_up(self.begin(role, &[])?).await
    }

    pub async fn send(&self, pod: &Pod, path: &str, body: Value) -> Result<Value> {
        let answer = self
            .stage
            .http
            .post(format!("{}/api/v1{path}", pod.url))
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// What is at this path.
    pub async fn get(&self, pod: &Pod, path: &str) -> Result<Value> {
        let request = self.stage.http.get(format!("{}/api/v1{path}", pod.url));
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// An application and its endpoint, through control.
    pub async fn pair(&self, control: &Pod, uid: &str) -> Result<String> {
        self.send(control, "/app", json!({"name": uid, "uid": uid}))
            .await?;
        let url = self.stage.receiver.url(&format!("/hook/{uid}"));
        let made = self
            .send(control, &format!("/app/{uid}/endpoint"), json!({"url": url}))
            .await?;
        Ok(made["id"].as_str().context("an id")?.to_owned())
    }

    pub async fn publish(&self, ingest: &Pod, uid: &str, n: usize) -> Result<()> {
        let event = json!({"eventType": "a.b", "payload": {"n": n}});
        self.send(ingest, &format!("/app/{uid}/msg"), event)
            .await
            .map(drop)
    }

    /// A process's metric, over all labels; 0 before it is first counted.
    pub async fn metric(&self, pod: &Pod, name: &str) -> Result<f64> {
        let answer = self.stage.http.get(format!("{}/metrics", pod.url)).send().await?;
        let text = answer.text().await?;
        let mut sum = 0.0;
        for line in text.lines().filter_map(|line| line.strip_prefix(name)) {
            if line.starts_with([' ', '{']) {
                let value = line.rsplit(' ').next().context("a value")?;
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// Waits until the history has as many events and attempts, each once.
    pub async fn recorded(&self, count: usize) -> Result<()> {
        let sql = "SELECT (SELECT count(*) FROM hooklane.events WHERE event_type IS NOT NULL) || ' ' || \
                   (SELECT count(*) FROM hooklane.attempts) || ' ' || (SELECT count(*) FROM hooklane.destinations WHERE dead IS NULL)";
        eventually("the history", SOON, || async {
            let found = self.database.psql(sql).await?;
            ensure!(
                found == format!("{count} {count} {count}"),
                "{found}, not {count}"
            );
            Ok(())
        })
        .await
    }
}

/// Waits until it can work.
pub async fn is_up(process: Process) -> Result<Pod> {
    let pod = listens(process).await?;
    eventually("the process to be ready", SOON, || async {
        let (status, text) = pod.asked("/readyz").await?;
        ensure!(status == 200, "{status} {text}");
        Ok(())
    })
    .await?;
    Ok(pod)
}

/// Waits until it listens; it may wait for something else.
pub async fn listens(process: Process) -> Result<Pod> {
    let line = process.wait_for_line("listening on http", SOON).await?.text;
    let url = line.split_whitespace().last().context("a URL")?.to_owned();
    Ok(Pod { process, url })
}

impl Pod {
    /// Status and text of a path.
    pub async fn asked(&self, path: &str) -> Result<(u16, String)> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let answer = http.get(format!("{}{path}", self.url)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}

/// A producer that speaks AMQP.
pub struct Producer {
    channel: Channel,
    _connection: Connection,
}

impl Producer {
    pub async fn connect(pods: &Pods) -> Result<Producer> {
        let connection = Connection::connect(&pods.stage.broker_url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Producer {
            channel,
            _connection: connection,
        })
    }

    /// Publishes an event of this application with this id; the broker's confirm is to be waited for.
    pub async fn begin(&self, application: &str, id: &str) -> Result<PublisherConfirm> {
        let mut headers = FieldTable::default();
        headers.insert("application".into(), AMQPValue::LongString(application.into()));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(id.into())
            .with_headers(headers);
        let options = BasicPublishOptions::default();
        let exchange = "hooklane.events".into();
        let publish = self
            .channel
            .basic_publish(exchange, "a.b".into(), options, b"{}", properties);
        Ok(publish.await?)
    }

    /// Publishes it up to the confirm.
    pub async fn publish(&self, application: &str, id: &str) -> Result<()> {
        let confirm = self.begin(application, id).await?.await?;
        ensure!(confirm.is_ack(), "the broker refused {id}");
        Ok(())
    }
}

pub async fn end(pod: Pod) -> Result<()> {
    pod.process.terminate()?;
    let status = pod.process.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", pod.process.output().tail());
    Ok(())
}
