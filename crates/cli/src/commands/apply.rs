//! `hooklane apply`: what a file says is made so, over the management API.

mod compare;
mod file;
mod remote;

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};

use self::compare::differing;
use self::file::{Application, Declared};
use self::remote::Remote;
use super::{block_on, print};

/// Makes event types, applications and endpoints as a file says, over the management API; again and again without harm.
#[derive(Args)]
pub struct Apply {
    /// What there shall be: TOML, with the names of the API's fields (docs/API.md)
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8071")]
    url: String,
    /// An environment variable that holds a token for the whole organisation (`hooklane token`)
    #[arg(long, value_name = "NAME", default_value = "TOKEN")]
    token_env: String,
    /// Deletes what the file does not name: applications, endpoints of applications, event types
    #[arg(long)]
    prune: bool,
    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,
}

/// What was done, or would be.
#[derive(Default)]
struct Done {
    made: u64,
    changed: u64,
    deleted: u64,
}

impl Apply {
    /// Makes it so, thing by thing: what went before a failure stays, and the next time goes on from there.
    pub fn run(self) -> anyhow::Result<()> {
        let declared = file::read(&self.file)?;
        let remote = Remote::new(&self.url, &self.token_env)?;
        block_on(self.carry_out(&remote, declared))
    }

    async fn carry_out(&self, remote: &Remote, declared: Declared) -> anyhow::Result<()> {
        let mut done = Done::default();
        for (name, fields) in &declared.event_types {
            let what = format!("event type {name}");
            self.one(remote, &mut done, &what, "/event-type", name, fields)
                .await
                .context(what)?;
        }
        for (uid, application) in &declared.applications {
            self.application(remote, &mut done, uid, application).await?;
        }
        if self.prune {
            self.prune(remote, &mut done, &declared).await?;
        }
        let Done {
            made,
            changed,
            deleted,
        } = done;
        let would = if self.dry_run { "would be " } else { "" };
        print::line(match made + changed + deleted {
            0 => "nothing to do".to_owned(),
            _ => format!("{would}made: {made}, {would}changed: {changed}, {would}deleted: {deleted}"),
        })
    }

    async fn application(
        &self,
        remote: &Remote,
        done: &mut Done,
        uid: &str,
        application: &Application,
    ) -> anyhow::Result<()> {
        let what = format!("application {uid}");
        let is_there = self
            .one(remote, done, &what, "/app", uid, &application.fields)
            .await
            .context(what)?;
        for (endpoint, fields) in &application.endpoints {
            let what = format!("endpoint {uid}/{endpoint}");
            if !is_there && self.dry_run {
                print::line(format_args!("+ {what}"))?;
                done.made += 1;
                continue;
            }
            let path = format!("/app/{uid}/endpoint");
            let mut fields = fields.clone();
            // These have paths of their own.
            let secret = fields.remove("secret");
            let headers = fields.remove("headers");
            let was_there = remote.get(&format!("{path}/{endpoint}")).await?.is_some();
            let mut made = fields.clone();
            made.extend(
                secret
                    .clone()
                    .filter(|_| !was_there)
                    .map(|secret| ("secret".to_owned(), secret)),
            );
            let fields = if was_there { &fields } else { &made };
            self.one(remote, done, &what, &path, endpoint, fields)
                .await
                .with_context(|| what.clone())?;
            if was_there || !self.dry_run {
                let path = format!("{path}/{endpoint}");
                self.secret(remote, done, &what, &path, secret.filter(|_| was_there))
                    .await
                    .with_context(|| what.clone())?;
                self.headers(remote, done, &what, &path, headers)
                    .await
                    .with_context(|| what.clone())?;
            }
        }
        Ok(())
    }

    /// Makes or changes one thing. Whether it was there.
    async fn one(
        &self,
        remote: &Remote,
        done: &mut Done,
        what: &str,
        path: &str,
        name: &str,
        fields: &Map<String, Value>,
    ) -> anyhow::Result<bool> {
        let Some(found) = remote.get(&format!("{path}/{name}")).await? else {
            print::line(format_args!("+ {what}"))?;
            done.made += 1;
            if !self.dry_run {
                remote.send("POST", path, &Value::Object(fields.clone())).await?;
            }
            return Ok(false);
        };
        let differing = differing(fields, &found);
        if !differing.is_empty() {
            print::line(format_args!("~ {what}: {}", differing.join(", ")))?;
            done.changed += 1;
            if !self.dry_run {
                let patch: Map<String, Value> = fields
                    .iter()
                    .filter(|(key, _)| differing.contains(key))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                remote
                    .send("PATCH", &format!("{path}/{name}"), &Value::Object(patch))
                    .await?;
            }
        }
        Ok(true)
    }

    async fn secret(
        &self,
        remote: &Remote,
        done: &mut Done,
        what: &str,
        path: &str,
        wanted: Option<Value>,
    ) -> anyhow::Result<()> {
        let Some(wanted) = wanted else {
            return Ok(());
        };
        let found = remote.get(&format!("{path}/secret")).await?.unwrap_or_default();
        if found["key"] != wanted {
            print::line(format_args!(
                "~ {what}: secret; the old one signs for another day"
            ))?;
            done.changed += 1;
            if !self.dry_run {
                remote
                    .send(
                        "POST",
                        &format!("{path}/secret/rotate"),
                        &json!({ "key": wanted }),
                    )
                    .await?;
            }
        }
        Ok(())
    }

    /// Values that are credentials are not shown again: of those only the names are compared.
    async fn headers(
        &self,
        remote: &Remote,
        done: &mut Done,
        what: &str,
        path: &str,
        wanted: Option<Value>,
    ) -> anyhow::Result<()> {
        let Some(Value::Object(wanted)) = wanted else {
            return Ok(());
        };
        let found = remote.get(&format!("{path}/headers")).await?.unwrap_or_default();
        if !compare::same_headers(&wanted, &found) {
            print::line(format_args!("~ {what}: headers"))?;
            done.changed += 1;
            if !self.dry_run {
                remote
                    .send("PUT", &format!("{path}/headers"), &json!({ "headers": wanted }))
                    .await?;
            }
        }
        Ok(())
    }

    async fn prune(&self, remote: &Remote, done: &mut Done, declared: &Declared) -> anyhow::Result<()> {
        let mut gone = Vec::new();
        for found in remote.list("/app").await? {
            let uid = found["uid"].as_str().unwrap_or_default();
            let id = found["id"].as_str().unwrap_or_default();
            let Some(application) = declared.applications.get(uid) else {
                let shown = if uid.is_empty() { id } else { uid };
                gone.push((format!("application {shown}"), format!("/app/{id}")));
                continue;
            };
            for endpoint in remote.list(&format!("/app/{id}/endpoint")).await? {
                let name = endpoint["uid"].as_str().unwrap_or_default();
                if !application.endpoints.contains_key(name) {
                    let endpoint = endpoint["id"].as_str().unwrap_or_default();
                    let shown = if name.is_empty() { endpoint } else { name };
                    gone.push((
                        format!("endpoint {uid}/{shown}"),
                        format!("/app/{id}/endpoint/{endpoint}"),
                    ));
                }
            }
        }
        for found in remote.list("/event-type").await? {
            let name = found["name"].as_str().unwrap_or_default();
            if !declared.event_types.contains_key(name) {
                gone.push((format!("event type {name}"), format!("/event-type/{name}")));
            }
        }
        for (what, path) in gone {
            print::line(format_args!("- {what}"))?;
            done.deleted += 1;
            if !self.dry_run {
                remote.delete(&path).await.context(what)?;
            }
        }
        Ok(())
    }
}
