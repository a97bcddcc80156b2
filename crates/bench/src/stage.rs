//! Where a case runs: the broker, a directory, and the processes that it starts there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::options::Options;
use crate::part::Part;
use crate::parts::{amqp, fill, http, receiver};
use crate::process::Process;
use crate::rabbitmq::Place;
use crate::settings::{APPLICATION, Settings};
use crate::usage::{Watched, listener};

/// Longest a publisher may take.
pub const PUBLISH_MAX: Duration = Duration::from_secs(600);
/// Events without a confirm, where that is not what is measured.
const WINDOW: usize = 500;
/// HTTP connections of a publisher.
const HTTP_CONNECTIONS: u64 = 128;
/// What fills an embedded queue: so many share a commit.
const EMBEDDED_WINDOW: usize = 256;

/// What is measured.
pub enum On {
    /// A broker on this machine.
    RabbitMq {
        /// How it is reached.
        url: String,
        /// What the bench has there.
        place: Box<Place>,
        /// Its process, as far as it may be seen.
        pid: Option<u32>,
    },
    /// The queue of `hooklane serve`.
    Embedded,
}

/// A case's stage.
pub struct Stage<'a> {
    /// What to measure.
    pub options: &'a Options,
    /// On what.
    pub on: On,
    /// For requests to services.
    http: reqwest::Client,
    directory: TempDir,
    /// The database server's process, as far as it may be seen.
    store_pid: Option<u32>,
}

/// Events that a producer publishes.
#[derive(Clone, Copy)]
pub struct Load {
    /// How many.
    pub count: u64,
    /// Of how many types.
    pub types: u64,
    /// A steady pace, or as fast as it goes.
    pub per_second: Option<f64>,
    /// Most without a confirm, over AMQP.
    pub window: usize,
    /// Whether each bears an id of the producer's, over HTTP; over AMQP it does.
    pub is_named: bool,
}

impl Load {
    /// This many of one type, as fast as it goes.
    pub fn of(count: u64) -> Load {
        Load {
            count,
            types: 1,
            per_second: None,
            window: WINDOW,
            is_named: true,
        }
    }
}

impl<'a> Stage<'a> {
    /// Takes the prefix and declares the topology, or makes a directory.
    pub async fn open(options: &'a Options) -> anyhow::Result<Stage<'a>> {
        let on = match &options.broker {
            None => On::Embedded,
            Some(url) => {
                let port = loopback_port(url)?;
                let place = Box::new(Place::take(url, &options.prefix).await?);
                On::RabbitMq {
                    url: url.clone(),
                    place,
                    pid: listener(port),
                }
            }
        };
        let stage = Stage {
            options,
            on,
            http: reqwest::Client::builder().no_proxy().build()?,
            directory: tempfile::Builder::new().prefix("hooklane-bench-").tempdir()?,
            store_pid: options.store.as_deref().and_then(server_of),
        };
        if let Err(error) = stage.declare().await {
            stage.close().await?;
            return Err(error);
        }
        Ok(stage)
    }

    /// Deletes what was made on the broker.
    pub async fn close(self) -> anyhow::Result<()> {
        if let On::RabbitMq { place, .. } = self.on {
            let deleted = place.delete().await;
            place.close().await;
            deleted.context("the bench's queues could not be deleted")?;
        }
        Ok(())
    }

    async fn declare(&self) -> anyhow::Result<()> {
        let On::RabbitMq { place, .. } = &self.on else {
            return Ok(());
        };
        self.settings().write(&self.file())?;
        let declared = Command::new(&self.options.executable)
            .args(["topology", "--declare", "--config"])
            .arg(self.file())
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(
            declared.status.success(),
            "the topology could not be declared: {}",
            String::from_utf8_lossy(&declared.stderr).trim()
        );
        place.declare_bare().await
    }

    /// Makes room for a run: empty queues, or a fresh directory.
    pub async fn renew(&self) -> anyhow::Result<()> {
        match &self.on {
            On::RabbitMq { place, .. } => place.purge().await,
            On::Embedded => {
                for directory in [self.data(), self.bare_data()] {
                    if directory.exists() {
                        std::fs::remove_dir_all(&directory)?;
                    }
                }
                Ok(std::fs::create_dir(self.bare_data())?)
            }
        }
    }

    /// Sees that everything was acked, and nothing given up.
    pub async fn nothing_left(&self) -> anyhow::Result<()> {
        if let On::RabbitMq { place, .. } = &self.on {
            let left = place.left().await?;
            ensure!(
                left == 0,
                "{left} messages are left in events, deliveries or on the shelves"
            );
        }
        Ok(())
    }

    /// Settings without an endpoint, and without a history.
    pub fn settings(&self) -> Settings {
        match &self.on {
            On::RabbitMq { url, .. } => Settings::rabbitmq(url, &self.options.prefix),
            On::Embedded => Settings::embedded(&self.data()).history(false),
        }
    }

    /// Settings without an endpoint, with a history, and with claims in the store beside it; none where there is no store for it.
    pub fn settings_with_history(&self, claims: bool) -> Option<Settings> {
        match &self.on {
            On::RabbitMq { url, .. } => {
                let store = self.options.store.as_ref()?;
                Some(Settings::rabbitmq(url, &self.options.prefix).postgres(store, claims))
            }
            On::Embedded => Some(Settings::embedded(&self.data()).history(true)),
        }
    }

    /// Starts what records, where that is a process of its own.
    pub async fn recorder(&self, settings: &Settings) -> anyhow::Result<Option<Process>> {
        match &self.on {
            On::RabbitMq { .. } => Ok(Some(self.service("control", settings).await?.0)),
            On::Embedded => Ok(None),
        }
    }

    /// The directory of the bare loop's file.
    pub fn bare_data(&self) -> PathBuf {
        self.directory.path().join("bare")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("hooklane.toml")
    }

    /// Starts a part.
    pub async fn part(&self, name: &'static str, part: &Part) -> anyhow::Result<Process> {
        Process::part(&self.options.executable, self.directory.path(), name, part).await
    }

    /// Starts a receiver; gives its address too.
    pub async fn receiver(&self, fail_first: u64) -> anyhow::Result<(Process, SocketAddr)> {
        let spec = receiver::Spec { fail_first };
        let mut process = self.part("receiver", &Part::Receiver(spec)).await?;
        let address = process.ready().await?.context("a receiver has an address")?;
        Ok((process, address))
    }

    /// Starts what delivers: a dispatcher, or `serve`; gives where it listens, too.
    pub async fn deliverer(&self, settings: &Settings) -> anyhow::Result<(Process, SocketAddr)> {
        let name = match &self.on {
            On::RabbitMq { .. } => "dispatcher",
            On::Embedded => "serve",
        };
        self.service(name, settings).await
    }

    /// Starts an ingest; gives where it listens, too.
    pub async fn ingest(&self, settings: &Settings) -> anyhow::Result<(Process, SocketAddr)> {
        self.service("ingest", settings).await
    }

    async fn service(
        &self,
        name: &'static str,
        settings: &Settings,
    ) -> anyhow::Result<(Process, SocketAddr)> {
        settings.write(&self.file())?;
        let file = self.file().display().to_string();
        let arguments = [
            self.options.end_with_stdin,
            name,
            "--config",
            &file,
            "--listen",
            "127.0.0.1:0",
        ];
        let mut process = Process::start(&self.options.executable, self.directory.path(), name, &arguments)?;
        let address = process.serves(&self.http).await?;
        Ok((process, address))
    }

    /// Publishes events that wait, while nothing delivers.
    pub async fn fill(&self, load: Load) -> anyhow::Result<()> {
        let mut publisher = match &self.on {
            On::RabbitMq { .. } => self.amqp(load).await?,
            On::Embedded => self.filler(load).await?,
        };
        publisher.go().await?;
        publisher.done(PUBLISH_MAX).await?;
        publisher.stop().await
    }

    /// A publisher that is ready: over AMQP, or over HTTP to `serve`, which listens there.
    pub async fn publisher(&self, serve: SocketAddr, load: Load) -> anyhow::Result<Process> {
        match &self.on {
            On::RabbitMq { .. } => self.amqp(load).await,
            On::Embedded => self.over_http(serve, load).await,
        }
    }

    /// A publisher over AMQP, by the publish contract.
    pub async fn amqp(&self, load: Load) -> anyhow::Result<Process> {
        let (url, place) = self.rabbitmq()?;
        let to = amqp::To::Exchange {
            name: place.events(),
            application: APPLICATION.to_owned(),
        };
        self.amqp_to(url, to, load).await
    }

    /// A publisher over AMQP to the bare loop's queue.
    pub async fn bare_amqp(&self, load: Load) -> anyhow::Result<Process> {
        let (url, place) = self.rabbitmq()?;
        let to = amqp::To::Queue { name: place.bare() };
        self.amqp_to(url, to, load).await
    }

    async fn amqp_to(&self, url: &str, to: amqp::To, load: Load) -> anyhow::Result<Process> {
        let spec = amqp::Spec {
            url: url.to_owned(),
            to,
            count: load.count,
            window: load.window,
            types: load.types,
            per_second: load.per_second,
        };
        let mut process = self.part("publisher", &Part::Amqp(spec)).await?;
        process.ready().await?;
        Ok(process)
    }

    /// A publisher over HTTP.
    pub async fn over_http(&self, ingest: SocketAddr, load: Load) -> anyhow::Result<Process> {
        let spec = http::Spec {
            address: ingest,
            application: APPLICATION.to_owned(),
            count: load.count,
            connections: HTTP_CONNECTIONS,
            types: load.types,
            per_second: load.per_second,
            is_named: load.is_named,
        };
        let mut process = self.part("publisher", &Part::Http(spec)).await?;
        process.ready().await?;
        Ok(process)
    }

    /// What publishes into the embedded queue without a service.
    pub async fn filler(&self, load: Load) -> anyhow::Result<Process> {
        let spec = fill::Spec {
            directory: self.data(),
            application: APPLICATION.to_owned(),
            count: load.count,
            window: EMBEDDED_WINDOW,
            types: load.types,
        };
        let mut process = self.part("publisher", &Part::Fill(spec)).await?;
        process.ready().await?;
        Ok(process)
    }

    /// The broker.
    pub fn rabbitmq(&self) -> anyhow::Result<(&str, &Place)> {
        match &self.on {
            On::RabbitMq { url, place, .. } => Ok((url, place)),
            On::Embedded => anyhow::bail!("there is no broker"),
        }
    }

    /// These processes, the broker's and the database server's.
    pub fn watched_with_store(&self, processes: &[&Process]) -> Watched {
        let mut watched = self.watched(processes);
        watched.0.extend(self.store_pid.map(|pid| ("postgres", pid)));
        watched
    }

    /// These processes, and the broker's.
    pub fn watched(&self, processes: &[&Process]) -> Watched {
        let mut watched: Vec<_> = processes
            .iter()
            .map(|process| (process.name(), process.pid()))
            .collect();
        if let On::RabbitMq { pid: Some(pid), .. } = self.on {
            watched.push(("rabbitmq", pid));
        }
        Watched(watched)
    }
}

/// The process of a database server of this machine.
fn server_of(url: &str) -> Option<u32> {
    listener(url::Url::parse(url).ok()?.port().unwrap_or(5432))
}

/// The bench measures one machine: a broker elsewhere is refused, since its queues may be somebody's.
fn loopback_port(url: &str) -> anyhow::Result<u16> {
    let url = url::Url::parse(url).context("--broker is no URL")?;
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        // The host of a scheme that URLs do not know stays text.
        Some(url::Host::Domain(name)) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    ensure!(
        is_loopback,
        "the bench runs on a broker of this machine only: --broker amqp://user:password@127.0.0.1:5672"
    );
    Ok(url.port().unwrap_or(5672))
}
