//! The processes of an installation.

use std::sync::{Arc, PoisonError, Weak};

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::{Process, Spawn};
use serde_json::{Value, json};

use super::{On, SOON, Stage};

/// What takes events: a running `hooklane ingest`, or `hooklane serve`.
pub struct Ingest {
    /// The process.
    pub process: Arc<Process>,
    /// `http://127.0.0.1:port`.
    pub url: String,
}

/// What delivers: a running `hooklane dispatcher`, or `hooklane serve`.
pub struct Dispatcher {
    /// The process.
    pub process: Arc<Process>,
    /// `http://127.0.0.1:port` of its metrics.
    pub url: String,
}

/// On the embedded broker each of these gives the one process, which is started when none runs.
impl Stage {
    /// Starts an ingest on a free port and waits until it is ready.
    pub async fn ingest(&self) -> Result<Ingest> {
        let (process, url) = match self.on {
            On::RabbitMq => self.service(self.ingest_command()?).await?,
            On::Embedded => self.serve().await?,
        };
        Ok(Ingest { process, url })
    }

    /// Starts a dispatcher and waits until it is ready.
    pub async fn dispatcher(&self) -> Result<Dispatcher> {
        match self.on {
            On::RabbitMq => self.dispatcher_by(self.dispatcher_command()?).await,
            On::Embedded => {
                let (process, url) = self.serve().await?;
                Ok(Dispatcher { process, url })
            }
        }
    }

    /// Starts a dispatcher by a command like [`Stage::dispatcher_command`] and waits until it is ready.
    pub async fn dispatcher_by(&self, command: Spawn) -> Result<Dispatcher> {
        let (process, url) = self.service(command).await?;
        if self.on == On::Embedded {
            *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&process);
        }
        Ok(Dispatcher { process, url })
    }

    /// Starts this many dispatchers; where one process is everything, it is one.
    pub async fn dispatchers(&self, count: usize) -> Result<Vec<Dispatcher>> {
        let mut started = Vec::new();
        for _ in 0..self.by_broker(count, 1) {
            started.push(self.dispatcher().await?);
        }
        Ok(started)
    }

    /// The command that takes events.
    pub fn ingest_command(&self) -> Result<Spawn> {
        match self.on {
            On::RabbitMq => self.hooklane(&["ingest", "--listen", "127.0.0.1:0"]),
            On::Embedded => self.serve_command(),
        }
    }

    /// The command that delivers.
    pub fn dispatcher_command(&self) -> Result<Spawn> {
        match self.on {
            On::RabbitMq => self.hooklane(&["dispatcher", "--listen", "127.0.0.1:0"]),
            On::Embedded => self.serve_command(),
        }
    }

    fn serve_command(&self) -> Result<Spawn> {
        let arguments = self.serve_arguments()?;
        self.hooklane(&arguments.each_ref().map(String::as_str))
    }

    /// What `hooklane` is started with to be everything.
    pub fn serve_arguments(&self) -> Result<[String; 3]> {
        let port = self.port.as_ref().context("a port is leased")?.number();
        Ok([
            "serve".to_owned(),
            "--listen".to_owned(),
            format!("127.0.0.1:{port}"),
        ])
    }

    async fn serve(&self) -> Result<(Arc<Process>, String)> {
        let port = self.port.as_ref().context("a port is leased")?.number();
        if let Some(running) = self.serving() {
            return Ok((running, format!("http://127.0.0.1:{port}")));
        }
        let Dispatcher { process, url } = self.dispatcher_by(self.serve_command()?).await?;
        Ok((process, url))
    }

    /// The process that is everything, if it runs.
    fn serving(&self) -> Option<Arc<Process>> {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        Weak::upgrade(&serving).filter(|process| process.exited().is_none())
    }

    /// Starts a service and waits until it is ready.
    async fn service(&self, command: Spawn) -> Result<(Arc<Process>, String)> {
        let process = command.start()?;
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
        Ok((Arc::new(process), url))
    }

    /// How many bytes of bodies the process that is everything has in hand; none when it does not run.
    pub(super) async fn in_hand(&self) -> Result<u64> {
        let Some(process) = self.serving() else {
            return Ok(0);
        };
        let port = self.port.as_ref().context("a port is leased")?.number();
        let url = format!("http://127.0.0.1:{port}");
        let bytes = Dispatcher { process, url }
            .metric(&self.http, "hooklane_bodies_held_bytes", "")
            .await?;
        Ok(bytes as u64)
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
        self.ask(http, application, body, |request| request).await
    }

    /// … with an `Idempotency-Key`.
    pub async fn post_with_key(
        &self,
        http: &reqwest::Client,
        application: &str,
        key: &str,
        body: String,
    ) -> Result<(u16, Value)> {
        self.ask(http, application, body, |request| {
            request.header("idempotency-key", key)
        })
        .await
    }

    async fn ask(
        &self,
        http: &reqwest::Client,
        application: &str,
        body: String,
        with: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<(u16, Value)> {
        let request = http
            .post(format!("{}/api/v1/app/{application}/msg", self.url))
            .header("content-type", "application/json")
            .body(body);
        let answer = with(request).send().await?;
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
