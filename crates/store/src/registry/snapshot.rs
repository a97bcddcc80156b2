//! The catalog in a file, for a start while the store is away. The secrets in it are sealed, as they are in the store.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hooklane_types::UnixMillis;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::fresh::{self, Fresh};
use crate::catalog::{Address, Catalog, CatalogError, Change, Document, Kind, Revision};

/// The file is written anew at most this often.
const REST: Duration = Duration::from_secs(5);
/// After a failure.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
const VERSION: u32 = 1;

/// A file, opened. It is read once, a document at a time: a hundred thousand endpoints are never in memory beside what is made of them.
#[derive(Debug)]
pub struct Snapshot(BufReader<File>);

/// A line of the file. The first says what it is, the last where it ends.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Snapshot {
        version: u32,
    },
    Document {
        kind: String,
        scope: String,
        id: String,
        uid: Option<String>,
        created_at_ms: i64,
        updated_at_ms: i64,
        revision: u64,
        content: String,
    },
    End {
        revision: u64,
    },
}

impl Snapshot {
    /// Opens a file; none when there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Option<Snapshot>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Snapshot(BufReader::new(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells each document, and returns the revision that they are of. An error says that what was told is not all.
    pub(super) fn tell(self, tell: &mut dyn FnMut(Document)) -> io::Result<Revision> {
        let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        for (at, line) in self.0.lines().enumerate() {
            let line = serde_json::from_str(&line?)
                .map_err(|error| damaged(format!("line {} is no snapshot's: {error}", at + 1)))?;
            match line {
                Line::Snapshot { version: VERSION } if at == 0 => {}
                Line::Document {
                    kind,
                    scope,
                    id,
                    uid,
                    created_at_ms,
                    updated_at_ms,
                    revision,
                    content,
                } if at > 0 => {
                    let kind = Kind::of_name(&kind)
                        .ok_or_else(|| damaged(format!("line {} is of the kind {kind:?}", at + 1)))?;
                    tell(Document {
                        address: Address { kind, scope, id },
                        uid,
                        created_at: UnixMillis(created_at_ms),
                        updated_at: UnixMillis(updated_at_ms),
                        revision: Revision(revision),
                        content,
                    });
                }
                Line::End { revision } if at > 0 => return Ok(Revision(revision)),
                _ => return Err(damaged(format!("line {} is not of this version", at + 1))),
            }
        }
        Err(damaged("its end is missing".to_owned()))
    }
}

/// Keeps a file as new as what is routed by.
#[derive(Clone)]
pub struct SnapshotKeeper {
    /// What is kept.
    pub catalog: Arc<dyn Catalog>,
    /// Where.
    pub path: PathBuf,
    /// When it changes.
    pub applied: watch::Receiver<Revision>,
}

impl SnapshotKeeper {
    /// Until `stop`. A file that is there stays until a whole one takes its place.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_written = None;
        let mut is_told = false;
        let keep = async {
            loop {
                let revision = *self.applied.borrow_and_update();
                if is_written != Some(revision) {
                    match self.written(&stop).await {
                        Ok(()) => (is_written, is_told) = (Some(revision), false),
                        Err(error) => {
                            match std::mem::replace(&mut is_told, true) {
                                false => {
                                    warn!(path = %self.path.display(), "no snapshot of the store is written: {error}")
                                }
                                true => debug!(%error, "still no snapshot of the store"),
                            }
                            sleep(AGAIN_AFTER).await;
                            continue;
                        }
                    }
                }
                sleep(REST).await;
                if self.applied.changed().await.is_err() {
                    return;
                }
            }
        };
        stop.run_until_cancelled(keep).await;
    }

    /// Writes it on a thread where waiting for the disk does no harm; one file at a time.
    async fn written(&self, stop: &CancellationToken) -> Result<(), Error> {
        let (keeper, stop, runtime) = (self.clone(), stop.clone(), Handle::current());
        let writing = spawn_blocking(move || {
            // The thread cannot be cancelled from outside.
            let written = runtime.block_on(stop.run_until_cancelled(keeper.write()));
            written.unwrap_or(Ok(()))
        });
        writing.await.map_err(io::Error::other)?
    }

    async fn write(&self) -> Result<(), Error> {
        fresh::clear_away(&self.path);
        let mut writer = BufWriter::new(Fresh::make(&self.path)?);
        add(&mut writer, &Line::Snapshot { version: VERSION })?;
        let mut result = Ok(());
        let mut tell = |change| {
            if let (Change::Put(document), Ok(())) = (change, &result) {
                result = add(&mut writer, &of(document));
            }
        };
        let revision = self.catalog.changes(Revision::NONE, &mut tell).await?;
        result?;
        add(&mut writer, &Line::End { revision: revision.0 })?;
        let fresh = writer.into_inner().map_err(|error| error.into_error())?;
        fresh.take_place()?;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{0}; make its directory writable, or take `snapshot` out of [store]")]
    File(#[from] io::Error),
}

fn add(writer: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *writer, line)?;
    writer.write_all(b"\n")
}

fn of(document: Document) -> Line {
    Line::Document {
        kind: document.address.kind.name().to_owned(),
        scope: document.address.scope,
        id: document.address.id,
        uid: document.uid,
        created_at_ms: document.created_at.0,
        updated_at_ms: document.updated_at.0,
        revision: document.revision.0,
        content: document.content,
    }
}
