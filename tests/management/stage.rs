//! A `hooklane serve` that is managed over HTTP, and a receiver.
#![allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "each test binary uses a part of it"
)]

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Request;
use hooklane_signing::{HeaderFamily, Scheme, Secret, TOLERANCE_S, Verifier};
use hooklane_testkit::postgres::{self, Database};
use hooklane_testkit::python::workspace_root;
use serde_json::{Value, json};

use crate::served::{self, End, SOON, Serving};

/// Where an installation keeps what is made over its API, and the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In its data directory.
    Sqlite,
    /// In a database of its own.
    Postgres,
}

/// Makes of each `async fn name(store: Store) -> Result<()>` two tests: `name::sqlite` and `name::postgres`.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[tokio::test]
                async fn sqlite() -> anyhow::Result<()> {
                    super::$name(crate::stage::Store::Sqlite).await
                }

                #[tokio::test]
                async fn postgres() -> anyhow::Result<()> {
                    super::$name(crate::stage::Store::Postgres).await
                }
            }
        )*
    };
}
pub(crate) use on_both_stores;

/// An installation, and the process that serves it.
pub struct Stage {
    installation: served::Stage,
    serving: Option<Serving>,
    pub url: String,
    /// None where the store is in the data directory.
    database: Option<Database>,
}

/// The directory, the receiver and the commands are the installation's.
impl Deref for Stage {
    type Target = served::Stage;

    fn deref(&self) -> &served::Stage {
        &self.installation
    }
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
        Stage::on(Store::Sqlite, settings).await
    }

    /// Likewise, on this store.
    pub async fn on(store: Store, settings: &str) -> Result<Stage> {
        let database = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(postgres::shared().await?.database().await?),
        };
        let section = database.as_ref().map_or_else(String::new, |database| {
            format!("[store]\nurl = \"{}\"\n", database.url())
        });
        let settings = format!("{settings}\n{section}");
        let mut stage = Stage {
            installation: served::Stage::with(&settings, |_| String::new()).await?,
            serving: None,
            url: String::new(),
            database,
        };
        stage.serve().await?;
        Ok(stage)
    }

    /// Whether what was made stands in this store, and not in the other.
    pub async fn is_kept_in(&self, store: Store) -> Result<bool> {
        let is_in_directory = self.data().join("store.sqlite").exists();
        let is_in_database = match &self.database {
            None => false,
            Some(database) => {
                let sql = "SELECT count(*) > 0 FROM hooklane.documents";
                database.psql(sql).await? == "t"
            }
        };
        Ok((is_in_directory, is_in_database) == (store == Store::Sqlite, store == Store::Postgres))
    }

    /// What lies in the data directory and in the database, and where.
    pub async fn at_rest(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.data())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            all.push((name, fs::read(entry.path()).unwrap_or_default()));
        }
        if let Some(database) = &self.database {
            let sql = "SELECT content FROM hooklane.documents UNION ALL SELECT encode(body, 'escape') FROM hooklane.responses";
            let rows = database.psql(sql).await?;
            ensure!(!rows.is_empty(), "the database is empty");
            all.push(("the database".to_owned(), rows.into_bytes()));
        }
        Ok(all)
    }

    pub async fn serve(&mut self) -> Result<()> {
        self.serve_with(&[]).await
    }

    pub async fn serve_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        let serving = self.installation.serve_with(variables).await?;
        self.url.clone_from(&serving.url);
        self.serving = Some(serving);
        Ok(())
    }

    /// What it says that does not start.
    pub async fn refuses_to_serve(&self, variables: &[(&str, &str)]) -> Result<String> {
        let ended = self.installation.serving(variables)?.run(SOON).await?;
        ensure!(!ended.status.success(), "it started");
        Ok(ended.stderr)
    }

    pub async fn end(&mut self, end: End) -> Result<()> {
        self.serving.take().context("it runs")?.end(end).await
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
