use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::leash;

const BIN_DEFAULT: &str = "/usr/lib/rabbitmq/bin";
/// How many messages a quorum queue holds in all is told by its tick only, every 5 s unless set. A test that waits for an empty
/// queue would spend most of its time on that.
const ADVANCED: &str = "[{rabbit, [{quorum_tick_interval, 1000}]}].\n";

/// Which RabbitMQ is run: a directory of binaries, perhaps inside another root directory.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    bin: PathBuf,
    root: Option<PathBuf>,
}

impl Installation {
    pub(crate) fn find() -> Result<Installation> {
        let bin = std::env::var_os("HOOKLANE_TEST_RABBITMQ_BIN").unwrap_or_else(|| BIN_DEFAULT.into());
        let root = std::env::var_os("HOOKLANE_TEST_RABBITMQ_CHROOT").filter(|root| !root.is_empty());
        let found = Installation {
            bin: bin.into(),
            root: root.map(PathBuf::from),
        };
        let server = found.outside(&found.bin.join("rabbitmq-server"));
        ensure!(
            server.exists(),
            "{} is missing: install rabbitmq-server, or name another directory in HOOKLANE_TEST_RABBITMQ_BIN",
            server.display()
        );
        if let Some(root) = &found.root {
            // Without it the memory monitor does not start (seen with 4.0.5): no alarm, and an error that does not say why.
            ensure!(
                root.join("proc/self").exists(),
                "nothing is mounted on {0}/proc: run `mount -t proc proc {0}/proc`",
                root.display()
            );
        }
        Ok(found)
    }

    /// A path inside the root directory, as seen from here.
    fn outside(&self, inside: &Path) -> PathBuf {
        match &self.root {
            Some(root) => root.join(inside.strip_prefix("/").unwrap_or(inside)),
            None => inside.to_owned(),
        }
    }

    /// A path from here, as a program inside the root directory sees it.
    fn inside(&self, outside: &Path) -> PathBuf {
        match self
            .root
            .as_ref()
            .and_then(|root| outside.strip_prefix(root).ok())
        {
            Some(inside) => Path::new("/").join(inside),
            None => outside.to_owned(),
        }
    }

    fn program(&self, inside: &Path) -> Command {
        let mut command = match &self.root {
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(inside);
                command
            }
            None => Command::new(inside),
        };
        for (name, _) in std::env::vars_os() {
            // Settings of the system's node, or of an outer run, must not reach ours.
            if name.to_string_lossy().starts_with("RABBITMQ_") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// The directory that the nodes of one cluster share, with the Erlang cookie by which they know each other.
pub(crate) struct Base {
    pub(crate) installation: Installation,
    /// The port of their epmd.
    pub(crate) epmd_port: u16,
    dir: TempDir,
}

impl Base {
    pub(crate) fn create(epmd_port: u16) -> Result<Base> {
        let installation = Installation::find()?;
        let parent = match &installation.root {
            Some(_) => installation.outside(Path::new("/tmp")),
            None => std::env::temp_dir(),
        };
        let dir = tempfile::Builder::new()
            .prefix("hooklane-rabbitmq-")
            .tempdir_in(&parent);
        let dir = dir.with_context(|| format!("cannot create a directory in {}", parent.display()))?;
        leash::remove_at_end(dir.path())?;
        let base = Base {
            installation,
            epmd_port,
            dir,
        };
        let home = base.dir.path().join("home");
        fs::create_dir(&home)?;
        let cookie = home.join(".erlang.cookie");
        fs::write(&cookie, format!("HOOKLANE{}", std::process::id()))?;
        // Erlang refuses a cookie that others may read.
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o600))?;
        Ok(base)
    }

    /// A program of the installation, with what every Erlang program of this cluster must know.
    pub(crate) fn program(&self, inside: &Path) -> Command {
        let mut command = self.installation.program(inside);
        command
            .env("HOME", self.installation.inside(&self.dir.path().join("home")))
            .env("LC_ALL", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Servers and CLI would start an epmd when ours is gone (a vhost is deleted while its node ends): a daemon
            // that no group of ours holds. Not ERL_FLAGS: the scripts of RabbitMQ 4 overwrite that.
            .env("ERL_ZFLAGS", "-start_epmd false")
            // The CLI listens too; this range is no client port range, and disjoint from the servers'.
            .env("RABBITMQ_CTL_DIST_PORT_MIN", "23000")
            .env("RABBITMQ_CTL_DIST_PORT_MAX", "23999");
        command
    }
}

/// The files and environment of one node.
pub(crate) struct Site {
    pub(crate) base: Arc<Base>,
    pub(crate) name: String,
    dir: PathBuf,
    amqp_port: u16,
    distribution_port: u16,
}

impl Site {
    /// Lays out the node's directory.
    pub(crate) fn create(base: Arc<Base>, name: &str, ports: (u16, u16), files: &Files) -> Result<Site> {
        let dir = base.dir.path().join(name);
        fs::create_dir(&dir)?;
        let (amqp_port, distribution_port) = ports;
        let site = Site {
            base,
            name: format!("{name}@localhost"),
            dir,
            amqp_port,
            distribution_port,
        };
        fs::write(site.dir.join("rabbitmq.conf"), &files.conf)?;
        fs::write(site.dir.join("advanced.config"), ADVANCED)?;
        fs::write(site.dir.join("env.conf"), "")?;
        fs::write(
            site.dir.join("plugins"),
            format!("[{}].\n", files.plugins.join(",")),
        )?;
        for (file, content) in &files.pem {
            let mut options = fs::OpenOptions::new();
            let file = site.dir.join(file);
            std::io::Write::write_all(
                &mut options.write(true).create(true).mode(0o600).open(file)?,
                content.as_bytes(),
            )?;
        }
        Ok(site)
    }

    /// The path of a file of this node, as the node sees it.
    pub(crate) fn inside(base: &Base, name: &str, file: &str) -> PathBuf {
        base.installation.inside(&base.dir.path().join(name).join(file))
    }

    /// The process id of the Erlang machine, as it wrote it at its start.
    pub(crate) fn pid(&self) -> Result<u32> {
        let file = self.dir.join("pid");
        let text = fs::read_to_string(&file).with_context(|| format!("no pid file {}", file.display()))?;
        text.trim().parse().context("the pid file holds no number")
    }

    /// A node that is killed leaves its pid file; a new one must not be mistaken for it.
    pub(crate) fn forget_pid(&self) -> Result<()> {
        match fs::remove_file(self.dir.join("pid")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A tool of the installation (`rabbitmq-server`, `rabbitmqctl`, …) for this node.
    pub(crate) fn tool(&self, tool: &str) -> Command {
        let path = |file: &str| -> OsString { self.base.installation.inside(&self.dir.join(file)).into() };
        let mut command = self.base.program(&self.base.installation.bin.join(tool));
        command
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_PORT", self.amqp_port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", path("generated"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", path("env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            // The distribution port would listen on all interfaces.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env("RABBITMQ_ALLOW_INPUT", "");
        command
    }
}

/// What is written into a node's directory.
pub(crate) struct Files {
    pub(crate) conf: String,
    pub(crate) plugins: Vec<String>,
    /// Name and content.
    pub(crate) pem: Vec<(&'static str, String)>,
}
