use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::access::{Access, FIRST_DATABASE};
use super::database::Database;
use super::installation::Installation;
use super::kill::kill_all;
use super::options::Options;
use super::{GONE_MAX, START_MAX, STOP_MAX};
use crate::child::Child;
use crate::leash;
use crate::ports::Port;
use crate::process::Signal;

/// Who may do all, and the password.
const USER: &str = "hooklane";
const PASSWORD: &str = "hooklane";
/// What the server prints when it accepts connections.
const READY: &str = "database system is ready to accept connections";
/// `fsync` stays on: tests kill servers, and believe what they find afterwards.
const CONF: &str = "listen_addresses = '127.0.0.1'\n\
                    max_connections = 200\n\
                    shared_buffers = 32MB\n\
                    max_wal_size = 128MB\n\
                    min_wal_size = 32MB\n\
                    lc_messages = 'C'\n\
                    timezone = 'UTC'\n\
                    log_timezone = 'UTC'\n";

/// A private PostgreSQL server. Dropping it kills it and removes its data; so does the end of this process, whatever its way.
pub struct Server {
    process: Mutex<Option<Arc<Child>>>,
    access: Access,
    port: Port,
    dir: TempDir,
}

impl Server {
    /// Makes a server with default options and waits until it accepts connections (about 2 s).
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start, with what it printed.
    pub async fn start() -> Result<Server> {
        Server::start_with(Options::default()).await
    }

    /// Makes a server and starts it.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(options: Options) -> Result<Server> {
        let installation = Installation::find()?;
        let dir = tempfile::Builder::new().prefix("hooklane-postgres-").tempdir()?;
        leash::remove_at_end(dir.path())?;
        leash::run_at_end(&remove_segment(dir.path()))?;
        installation.give(dir.path())?;
        let port = Port::lease()?;
        let server = Server {
            process: Mutex::default(),
            access: Access {
                installation,
                account: format!("{USER}:{PASSWORD}"),
                authority: format!("127.0.0.1:{}", port.number()),
            },
            port,
            dir,
        };
        server.lay_out(&options).await?;
        server.restart().await?;
        Ok(server)
    }

    /// The URL of the database `postgres`, for a user who may do all.
    pub fn url(&self) -> String {
        self.access.url(FIRST_DATABASE)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Makes a fresh database (about 0.1 s).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn database(&self) -> Result<Database> {
        Database::create(&self.access).await
    }

    /// Runs a statement with `psql` and returns the rows, columns separated by `|`.
    ///
    /// # Errors
    /// When it fails, with what the server said.
    pub async fn psql(&self, statement: &str) -> Result<String> {
        self.access.psql(FIRST_DATABASE, &[statement]).await
    }

    /// Ends all processes of the server with SIGKILL, and returns when they are gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill9(&self) -> Result<()> {
        let process = self.running()?;
        let killed = process.clone();
        tokio::task::spawn_blocking(move || kill_all(&killed)).await?;
        self.gone(&process).await
    }

    /// Ends the server, which ends its connections first, and returns when it is gone.
    ///
    /// # Errors
    /// When it does not run, or not end.
    pub async fn stop(&self) -> Result<()> {
        let process = self.running()?;
        // A fast shutdown; at SIGTERM it would wait for its clients.
        process.signal(Signal::INT)?;
        self.gone(&process).await
    }

    /// Starts the server again with its data, after stopping it if it runs, and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start, with what it printed.
    pub async fn restart(&self) -> Result<()> {
        if self.is_running() {
            self.stop().await?;
        }
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data());
        let process = Arc::new(Child::spawn(command)?);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process.clone());
        let ready = process.output().wait_for(READY, START_MAX).await;
        ready.map(drop).context("PostgreSQL did not start")
    }

    /// Whether the server was started and not ended by us since.
    pub fn is_running(&self) -> bool {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// What the server has printed since its last start.
    ///
    /// # Errors
    /// When it does not run.
    pub fn output(&self) -> Result<String> {
        Ok(self.running()?.output().stderr())
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of the server's, as its user.
    fn program(&self, name: &str) -> Command {
        let mut command = self.access.installation.program_as_user(name);
        command.current_dir(self.dir.path());
        command
    }

    /// Makes the data directory.
    async fn lay_out(&self, options: &Options) -> Result<()> {
        self.write("password", PASSWORD)?;
        let mut command = self.program("initdb");
        command.arg("-D").arg(self.data()).args([
            "-U",
            USER,
            "--pwfile=password",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            // An order of texts that is not that of their bytes, as many installations have it.
            "--locale-provider=icu",
            "--icu-locale=en",
            "--no-sync",
            "--no-instructions",
        ]);
        let made = Child::spawn(command)?;
        let status = made.wait(START_MAX).await.context("initdb")?;
        ensure!(status.success(), "initdb: {status}\n{}", made.output().tail());
        let mut conf = format!(
            "{CONF}port = {}\nunix_socket_directories = '{}'\n",
            self.port.number(),
            self.dir.path().display()
        );
        if let Some(authority) = &options.tls {
            let identity = authority.server(&["localhost"])?;
            self.write("server.crt", identity.certificate_pem())?;
            self.write("server.key", identity.key_pem())?;
            self.write(
                "data/pg_hba.conf",
                "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
            )?;
            conf.push_str("ssl = on\nssl_cert_file = '../server.crt'\nssl_key_file = '../server.key'\n");
        }
        conf.push_str(&options.conf);
        self.write("data/postgresql.conf", &conf)
    }

    /// Writes a file that only the server's user may read.
    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.dir.path().join(name);
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let written = options
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, content.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        self.access.installation.give(&path)
    }

    fn running(&self) -> Result<Arc<Child>> {
        match &*self.process.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(process) => Ok(process.clone()),
            None => bail!("PostgreSQL does not run"),
        }
    }

    async fn gone(&self, process: &Child) -> Result<()> {
        process.wait(STOP_MAX).await?;
        // Every process of the server holds it open.
        process.output().wait_for_end(GONE_MAX).await?;
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &*self.process.lock().unwrap_or_else(PoisonError::into_inner) {
            kill_all(process);
        }
        let mut remove = Command::new("/bin/sh");
        remove.arg("-c").arg(remove_segment(self.dir.path()));
        remove
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A server that was stopped has removed it itself.
        remove.status().ok();
    }
}

/// A killed server leaves a segment of shared memory behind, of which a system has only some thousands. Its file names it.
fn remove_segment(dir: &Path) -> String {
    format!(
        "ipcrm -m $(sed -n '7s/.* //p' '{}/data/postmaster.pid') 2>/dev/null",
        dir.display()
    )
}
