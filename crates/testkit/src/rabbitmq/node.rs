use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::ctl::Ctl;
use super::epmd::Epmd;
use super::site::{Base, Files, Site};
use super::{START_MAX, STOP_MAX, amqp_url};
use crate::child::Child;
use crate::ports::Port;
use crate::tls::Authority;

/// What the server prints when it accepts connections.
const READY: &str = "completed with";
/// After the last process of a node was killed, its output closes at once.
const GONE_MAX: Duration = Duration::from_secs(30);

/// How a node is set up.
#[derive(Clone, Default)]
pub struct Options {
    conf: String,
    plugins: Vec<String>,
    tls: Option<(Arc<Authority>, ClientCertificates)>,
}

#[derive(Clone, Copy)]
enum ClientCertificates {
    Ignored,
    Required,
}

impl Options {
    /// Adds a line to `rabbitmq.conf`.
    pub fn conf(mut self, line: &str) -> Options {
        self.conf.push_str(line);
        self.conf.push('\n');
        self
    }

    /// Enables a plugin.
    pub fn plugin(mut self, name: &str) -> Options {
        self.plugins.push(name.to_owned());
        self
    }

    /// Listens for `amqps` too, with a certificate of this authority for `localhost` and `127.0.0.1`.
    pub fn tls(mut self, authority: &Arc<Authority>) -> Options {
        self.tls = Some((authority.clone(), ClientCertificates::Ignored));
        self
    }

    /// As [`Options::tls`], and clients need a certificate of the same authority.
    pub fn mutual_tls(mut self, authority: &Arc<Authority>) -> Options {
        self.tls = Some((authority.clone(), ClientCertificates::Required));
        self
    }
}

/// A private RabbitMQ node. Dropping it kills it and removes its data; so does the end of this process, whatever its way.
pub struct Node {
    // Dropped in this order: the server, its name server, the directory.
    server: Mutex<Option<Arc<Child>>>,
    site: Arc<Site>,
    ctl: Ctl,
    ports: Ports,
    _epmd: Arc<Epmd>,
}

struct Ports {
    amqp: Port,
    _distribution: Port,
    amqps: Option<Port>,
    management: Option<Port>,
}

impl Node {
    /// Starts a node with default options and waits until it accepts connections (about 5 s).
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not start, with what it printed.
    pub async fn start() -> Result<Node> {
        Node::start_with(Options::default()).await
    }

    /// Starts a node.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with(options: Options) -> Result<Node> {
        let port = Port::lease()?;
        let base = Arc::new(Base::create(port.number())?);
        let epmd = Arc::new(Epmd::start(&base, port).await?);
        let node = Node::prepare(base, epmd, "t1", &options)?;
        node.restart().await?;
        Ok(node)
    }

    /// Lays out a node without starting it.
    pub(crate) fn prepare(base: Arc<Base>, epmd: Arc<Epmd>, name: &str, options: &Options) -> Result<Node> {
        let with_management = options
            .plugins
            .iter()
            .any(|plugin| plugin == "rabbitmq_management");
        let ports = Ports {
            amqp: Port::lease()?,
            _distribution: Port::lease()?,
            amqps: options.tls.is_some().then(Port::lease).transpose()?,
            management: with_management.then(Port::lease).transpose()?,
        };
        let files = files(&base, name, options, &ports)?;
        let numbers = (ports.amqp.number(), ports._distribution.number());
        let site = Arc::new(Site::create(base, name, numbers, &files)?);
        Ok(Node {
            server: Mutex::default(),
            ctl: Ctl::own(site.clone()),
            site,
            ports,
            _epmd: epmd,
        })
    }

    /// The URL for `guest` in the default vhost.
    pub fn amqp_url(&self) -> String {
        self.amqp_url_for("guest", "guest", "/")
    }

    /// The URL for a user in a vhost.
    pub fn amqp_url_for(&self, user: &str, password: &str, vhost: &str) -> String {
        amqp_url(
            "amqp",
            user,
            password,
            &format!("127.0.0.1:{}", self.ports.amqp.number()),
            vhost,
        )
    }

    /// The `amqps` URL for a user in a vhost, by the name `localhost`.
    ///
    /// # Panics
    /// When the node was started without TLS.
    pub fn amqps_url_for(&self, user: &str, password: &str, vhost: &str) -> String {
        let port = self
            .ports
            .amqps
            .as_ref()
            .expect("the node was started with Options::tls");
        amqp_url(
            "amqps",
            user,
            password,
            &format!("localhost:{}", port.number()),
            vhost,
        )
    }

    /// The AMQP port.
    pub fn port(&self) -> u16 {
        self.ports.amqp.number()
    }

    /// The port of the management API, when that plugin is on.
    pub fn management_port(&self) -> Option<u16> {
        self.ports.management.as_ref().map(Port::number)
    }

    /// `name@localhost`.
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// Runs `rabbitmqctl` and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        self.ctl.run(arguments).await
    }

    /// The handle behind [`Node::ctl`], to take elsewhere.
    pub fn control(&self) -> Ctl {
        self.ctl.clone()
    }

    /// Creates a vhost where `guest` may do everything, and returns the URL for it.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn vhost(&self, name: &str) -> Result<String> {
        self.ctl(&["add_vhost", name]).await?;
        self.ctl(&["set_permissions", "-p", name, "guest", ".*", ".*", ".*"])
            .await?;
        Ok(self.amqp_url_for("guest", "guest", name))
    }

    /// Creates a user with rights (patterns: configure, write, read) in one vhost, and returns the URL.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn add_user(
        &self,
        name: &str,
        password: &str,
        vhost: &str,
        rights: [&str; 3],
    ) -> Result<String> {
        let [configure, write, read] = rights;
        self.ctl(&["add_user", name, password]).await?;
        self.ctl(&["set_permissions", "-p", vhost, name, configure, write, read])
            .await?;
        Ok(self.amqp_url_for(name, password, vhost))
    }

    /// Ends the node with SIGKILL and returns when it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill9(&self) -> Result<()> {
        let server = self.running()?;
        server.kill_group();
        self.gone(&server, GONE_MAX).await
    }

    /// Ends the node with SIGTERM and returns when it is gone.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub async fn stop(&self) -> Result<()> {
        let server = self.running()?;
        // The Erlang machine gets the signal: the script around it would wait for a control program.
        let pid = i32::try_from(self.site.pid()?)
            .ok()
            .and_then(Pid::from_raw)
            .context("no process id")?;
        kill_process(pid, Signal::TERM).context("cannot signal the node")?;
        self.gone(&server, STOP_MAX).await
    }

    /// Starts the node again with its data, after stopping it if it runs, and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start, with what it printed.
    pub async fn restart(&self) -> Result<()> {
        if self.is_running() {
            self.stop().await?;
        }
        self.launch()?;
        self.ready().await
    }

    /// Starts the server without waiting: the nodes of a cluster wait for each other.
    pub(crate) fn launch(&self) -> Result<()> {
        self.site.forget_pid()?;
        let child = Child::spawn(self.site.tool("rabbitmq-server"))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(child));
        Ok(())
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        let server = self.running()?;
        let ready = server.output().wait_for(READY, START_MAX).await;
        ready
            .map(drop)
            .with_context(|| format!("{} did not start", self.name()))
    }

    /// Whether the node was started and not ended by us since.
    pub fn is_running(&self) -> bool {
        self.server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// What the node has printed since its last start.
    ///
    /// # Errors
    /// When it does not run.
    pub fn output(&self) -> Result<String> {
        Ok(self.running()?.output().stdout())
    }

    /// Raises the memory alarm (publishers are blocked from then on), or lets it go.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn set_memory_alarm(&self, on: bool) -> Result<()> {
        let watermark: &[&str] = if on {
            &["0.0000001"]
        } else {
            &["absolute", MEMORY_MAX]
        };
        self.ctl(&[&["set_vm_memory_high_watermark"], watermark].concat())
            .await
            .map(drop)
    }

    /// Makes the node close all client connections.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn close_all_connections(&self) -> Result<()> {
        self.ctl(&["close_all_connections", "--global", "closed by a test"])
            .await
            .map(drop)
    }

    fn running(&self) -> Result<Arc<Child>> {
        match &*self.server.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(server) => Ok(server.clone()),
            None => bail!("{} does not run", self.site.name),
        }
    }

    async fn gone(&self, server: &Child, deadline: Duration) -> Result<()> {
        server.wait(deadline).await?;
        // The Erlang machine is a grandchild; its end shows by its output closing. Its ports are free then.
        server.output().wait_for_end(GONE_MAX).await?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

const MEMORY_MAX: &str = "1GB";

/// `rabbitmq.conf`, and the certificates that it names.
fn files(base: &Base, name: &str, options: &Options, ports: &Ports) -> Result<Files> {
    let mut conf = format!(
        "listeners.tcp.1 = 127.0.0.1:{}\n\
         vm_memory_high_watermark.absolute = {MEMORY_MAX}\n\
         disk_free_limit.absolute = 100MB\n\
         raft.wal_max_size_bytes = 16777216\n",
        ports.amqp.number()
    );
    if let Some(port) = &ports.management {
        write!(
            conf,
            "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n",
            port.number()
        )?;
    }
    let mut pem = Vec::new();
    if let (Some((authority, clients)), Some(port)) = (&options.tls, &ports.amqps) {
        let identity = authority.server(&["localhost", "127.0.0.1"])?;
        writeln!(conf, "listeners.ssl.1 = 127.0.0.1:{}", port.number())?;
        pem.push(("ca.pem", authority.ca_pem().to_owned()));
        pem.push(("cert.pem", identity.certificate_pem().to_owned()));
        pem.push(("key.pem", identity.key_pem().to_owned()));
        for (key, file) in [
            ("cacertfile", "ca.pem"),
            ("certfile", "cert.pem"),
            ("keyfile", "key.pem"),
        ] {
            writeln!(
                conf,
                "ssl_options.{key} = {}",
                Site::inside(base, name, file).display()
            )?;
        }
        let (verify, required) = match clients {
            ClientCertificates::Ignored => ("verify_none", false),
            ClientCertificates::Required => ("verify_peer", true),
        };
        writeln!(
            conf,
            "ssl_options.verify = {verify}\nssl_options.fail_if_no_peer_cert = {required}"
        )?;
    }
    conf.push_str(&options.conf);
    Ok(Files {
        conf,
        plugins: options.plugins.clone(),
        pem,
    })
}
