//! The stage of the black-box tests: the built binary on a broker, a receiver, and a settings file in a directory of its own. The
//! broker is a real RabbitMQ, with ingest and dispatchers, or the embedded one, where one process is both.
#![allow(dead_code, unused_macros, unused_imports)] // every test file includes it and uses its own part

pub mod load;
mod processes;
pub mod shelf;

pub use processes::{Dispatcher, Ingest};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, Weak};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Receiver};
use hooklane_testkit::Port;
use hooklane_testkit::process::{self, Ended, Process, Spawn};
use hooklane_testkit::rabbitmq::{Rights, User, Vhost, shared};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for anything that should happen at once on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Long enough for a broker to come back and everything to be delivered.
pub const RECOVERY: Duration = Duration::from_secs(120);
/// A secret for endpoints.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The broker of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// RabbitMQ: an ingest, and any number of dispatchers.
    RabbitMq,
    /// The embedded one: a single `hooklane serve`, which is ingest and dispatcher.
    Embedded,
}

/// Makes of each `async fn name(on: On) -> Result<()>` two tests: `name::rabbitmq` and `name::embedded`.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[tokio::test]
                async fn rabbitmq() -> anyhow::Result<()> {
                    super::$name(crate::stage::On::RabbitMq).await
                }

                #[tokio::test]
                async fn embedded() -> anyhow::Result<()> {
                    super::$name(crate::stage::On::Embedded).await
                }
            }
        )*
    };
}
pub(crate) use on_both;

/// One installation under test.
pub struct Stage {
    /// Its broker.
    pub on: On,
    /// Where the settings file is, and the embedded broker's data directory.
    pub dir: TempDir,
    /// RabbitMQ's URL, as the processes get it.
    pub broker_url: String,
    /// The vhost, when the stage made one.
    pub vhost: Option<Vhost>,
    /// What the endpoints point at.
    pub receiver: Receiver,
    /// For HTTP requests of the test.
    pub http: reqwest::Client,
    /// Where `hooklane serve` listens, again after a restart.
    port: Option<Port>,
    /// The one that serves.
    serving: Mutex<Weak<Process>>,
}

impl Stage {
    /// A fresh installation: a vhost on the node that all tests of this file share, or a data directory.
    pub async fn on(on: On) -> Result<Stage> {
        match on {
            On::RabbitMq => Stage::new().await,
            On::Embedded => Stage::with(on, "").await,
        }
    }

    /// A fresh vhost on the node that all tests of this file share.
    pub async fn new() -> Result<Stage> {
        Stage::at_vhost(shared().await?.vhost().await?).await
    }

    /// In this vhost.
    pub async fn at_vhost(vhost: Vhost) -> Result<Stage> {
        let mut stage = Stage::at(vhost.url()).await?;
        stage.vhost = Some(vhost);
        Ok(stage)
    }

    /// On a RabbitMQ of the test's own.
    pub async fn at(broker_url: &str) -> Result<Stage> {
        Stage::with(On::RabbitMq, broker_url).await
    }

    async fn with(on: On, broker_url: &str) -> Result<Stage> {
        // Another test of the process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stage = Stage {
            on,
            dir: TempDir::new()?,
            broker_url: broker_url.to_owned(),
            vhost: None,
            receiver: Receiver::start(Options::default()).await?,
            http: reqwest::Client::builder().no_proxy().build()?,
            port: match on {
                On::RabbitMq => None,
                On::Embedded => Some(Port::lease()?),
            },
            serving: Mutex::default(),
        };
        stage.settings("", "")?;
        Ok(stage)
    }

    /// An account with the rights that `hooklane topology` prints for this role.
    pub async fn account(&self, role: &str) -> Result<User> {
        let printed: Value = serde_json::from_str(&self.run(&["topology", "--format", "json"]).await?)?;
        let right = |name: &str| {
            let text = printed["rights"][role][name].as_str();
            text.with_context(|| format!("no {name} of {role} in {printed}"))
        };
        let rights = Rights {
            configure: right("configure")?,
            write: right("write")?,
            read: right("read")?,
        };
        let vhost = self.vhost.as_ref().context("the stage has a vhost")?;
        vhost.user(role, rights).await
    }

    /// Of the two brokers, what is right for this one.
    pub fn by_broker<T>(&self, rabbitmq: T, embedded: T) -> T {
        match self.on {
            On::RabbitMq => rabbitmq,
            On::Embedded => embedded,
        }
    }

    /// Path of the settings file.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("hooklane.toml")
    }

    /// Where the embedded broker keeps its queue.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("hooklane-data")
    }

    /// Writes the settings: `sections` are whole sections (`[dispatcher]\n…`), `endpoints` the `[[endpoint]]` tables.
    pub fn settings(&self, sections: &str, endpoints: &str) -> Result<()> {
        let egress = if sections.contains("[egress]") {
            ""
        } else {
            "[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n"
        };
        let broker = match self.on {
            On::RabbitMq => format!("[broker]\nurl = \"{}\"\n", self.broker_url),
            On::Embedded => String::new(),
        };
        let text = format!("{broker}{egress}{sections}\n{endpoints}");
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

    /// Publishes an event of application `acme` from the shell, with more flags; gives what the command said.
    pub async fn publish(&self, event_type: &str, payload: &str, more: &[&str]) -> Result<String> {
        let mut arguments = vec!["publish", "--application", "acme"];
        arguments.extend(["--type", event_type, "--payload", payload]);
        arguments.extend(more);
        self.run(&arguments).await
    }

    /// Runs a command of the binary that is refused, and gives how it ended.
    pub async fn refused(&self, arguments: &[&str]) -> Result<Ended> {
        let ended = self.hooklane(arguments)?.run(SOON).await?;
        ensure!(!ended.status.success(), "{arguments:?} is not refused");
        Ok(ended)
    }

    /// What `hooklane status` says.
    pub async fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.run(&["status", "--format", "json"]).await?,
        )?)
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

    /// Messages in a queue, ready and unacked: as RabbitMQ's own tool counts them, or as `hooklane status` does, and then what the
    /// process has in hand counts for every queue.
    pub async fn depth(&self, queue: &str) -> Result<u64> {
        match self.on {
            On::RabbitMq => self.rabbitmq_depth(queue).await,
            On::Embedded => {
                // In this order and again: what is on its way from the queue to the process shows in one of the three.
                let before = self.in_hand().await?;
                let status = self.status().await?;
                let rows = status["queues"].as_array().context("it lists queues")?;
                let row = rows.iter().find(|row| row["name"] == queue);
                let ready = row.and_then(|row| row["messages"].as_u64());
                let ready = ready.with_context(|| format!("no queue {queue} in {status}"))?;
                let is_worked_at = self.in_hand().await? + before > 0;
                let is_shelf = ["dead", "faults"].contains(&queue);
                Ok(ready + u64::from(is_worked_at && !is_shelf))
            }
        }
    }

    async fn rabbitmq_depth(&self, queue: &str) -> Result<u64> {
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
