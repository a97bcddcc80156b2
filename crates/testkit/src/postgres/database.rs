use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use super::access::{Access, FIRST_DATABASE};

/// A database of one test. Dropping it deletes it in the background, whoever is connected.
pub struct Database {
    name: String,
    url: String,
    access: Access,
}

impl Database {
    pub(crate) async fn create(access: &Access) -> Result<Database> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Nobody may be connected to a template while it is copied; nobody can be to this one.
        let create = format!("CREATE DATABASE {name} TEMPLATE template0");
        access.psql(FIRST_DATABASE, &[&create]).await?;
        Ok(Database {
            url: access.url(&name),
            name,
            access: access.clone(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, for a user who may do all.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same by way of another address (a proxy's).
    pub fn url_by(&self, address: SocketAddr) -> String {
        self.access.url_by(&address.to_string(), &self.name)
    }

    /// Host and port of the server, as a proxy's target.
    pub fn authority(&self) -> &str {
        &self.access.authority
    }

    /// Runs a statement with `psql` and returns the rows, columns separated by `|`.
    ///
    /// # Errors
    /// When it fails, with what the server said.
    pub async fn psql(&self, statement: &str) -> Result<String> {
        self.access.psql(&self.name, &[statement]).await
    }

    /// Ends connections to this database whose last statement begins with this text (`""`: all), and says how many.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn end_connections(&self, statement: &str) -> Result<usize> {
        let statement = statement.replace('\'', "''");
        let ended = self
            .access
            .psql(
                FIRST_DATABASE,
                &[&format!(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE datname = '{}' AND starts_with(query, '{statement}')",
                    self.name
                )],
            )
            .await?;
        Ok(ended.parse()?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let mut command = self.access.command(FIRST_DATABASE, &[&drop]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // Not waited for by the test; a thread reaps it. If it fails, the database goes with the server.
        if let Ok(mut child) = command.spawn() {
            std::thread::spawn(move || child.wait());
        }
    }
}
