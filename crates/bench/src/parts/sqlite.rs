//! A table as a queue, for the bare loop on SQLite: one thread owns the file and does one transaction after the other.

use std::path::Path;
use std::sync::mpsc;

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// The table. Clones are the same one.
#[derive(Clone)]
pub struct Table {
    work: mpsc::Sender<Work>,
}

impl Table {
    /// Opens or makes the file: WAL, and `fsync` at each commit.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(directory: &Path) -> anyhow::Result<Table> {
        let mut connection = Connection::open(directory.join("bare.sqlite"))?;
        connection.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);",
        )?;
        let (work, inbox) = mpsc::channel::<Work>();
        std::thread::Builder::new()
            .name("bare-sqlite".to_owned())
            .spawn(move || {
                while let Ok(work) = inbox.recv() {
                    work(&mut connection);
                }
            })?;
        Ok(Table { work })
    }

    /// Inserts bodies with numbers from `first` on, in one transaction.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn insert(&self, first: i64, bodies: Vec<String>) -> anyhow::Result<()> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached("INSERT INTO messages VALUES (?1, ?2)")?;
                for (seq, body) in (first..).zip(bodies) {
                    insert.execute((seq, body.as_bytes()))?;
                }
            }
            transaction.commit()
        })
        .await
    }

    /// The next bodies behind this number.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn after(&self, seq: i64, count: usize) -> anyhow::Result<Vec<(i64, Vec<u8>)>> {
        self.run(move |connection| {
            let text = "SELECT seq, body FROM messages WHERE seq > ?1 ORDER BY seq LIMIT ?2";
            let mut select = connection.prepare_cached(text)?;
            let rows = select.query_map((seq, count as i64), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
        .await
    }

    /// Deletes these, in one transaction.
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn delete(&self, seqs: Vec<i64>) -> anyhow::Result<()> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            {
                let mut delete = transaction.prepare_cached("DELETE FROM messages WHERE seq = ?1")?;
                for seq in seqs {
                    delete.execute([seq])?;
                }
            }
            transaction.commit()
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Nobody waits any more only when the process ends.
            let _ = answer.send(work(connection));
        });
        self.work
            .send(work)
            .ok()
            .context("the thread of SQLite has ended")?;
        Ok(answered.await.context("the thread of SQLite has ended")??)
    }
}
