//! The window that outlives the process, for one process with a data directory.
//!
//! Claims are looked up in memory; settled ones are written to a file, and read from it at the start. What holds:
//! - An unsettled claim is not kept. Its message comes again and says so; kept, it would swallow what a producer publishes anew.
//! - [`settle`](crate::Claims::settle) ends when the claim is with the operating system, a few milliseconds later. A message that is acked
//!   after that is noticed as a repeat however the process ends.
//! - There is no `fsync` for it: a power cut, or a crash of the system, costs what was settled since the last checkpoint (up to 2 MiB of log,
//!   some 10,000 events under load), of which the system has written most within 30 s. Repeats of those are delivered, under the same id.
//! - While the disk takes nothing, or has less than 32 MiB left, which the queue needs more, claims wait in memory (100,000 of them), and nobody
//!   waits for them. They are written when there is room again.
//! - Published ids ([`PublishedIds`](crate::PublishedIds)) are kept beside them, and nobody waits until they are written.
//! - The file belongs to one queue ([`FoundClaims::belongs_to`]): beside an older copy of it, what waits there could be taken for settled.

pub mod catalog;
mod file;
mod found;
pub mod history;
mod published;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hooklane_sqlite::FileError;
use hooklane_telemetry::Metrics;
use hooklane_types::{ApplicationId, EventId};

pub use file::FILE;
pub use found::FoundClaims;

use self::file::{CLAIMS, ClaimsFile, Row};
use self::published::PublishedWindow;
use self::writer::{Writer, wall_ms};
use crate::claims::{ClaimError, ClaimWindow, Claims, Verdict};
use crate::key::Key;
use crate::process::ProcessClaims;

/// One transaction may be under way on a slow disk, and another may follow.
const SHUT_DOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Claims in `claims.sqlite`: those of the process, of which the settled ones are written.
pub struct DurableClaims {
    claims: ProcessClaims,
    published: Mutex<PublishedWindow>,
    writer: Writer,
}

/// Whether the directory has a file of claims. Reads its header, and changes nothing.
///
/// # Errors
/// When it has one that is not ours, or newer.
pub fn find(directory: &Path) -> Result<bool, FileError> {
    CLAIMS.find(directory)
}

impl DurableClaims {
    /// Reads the window, and starts the thread that writes to the file.
    fn start(file: ClaimsFile, metrics: Arc<Metrics>) -> Result<DurableClaims, FileError> {
        let claims = ProcessClaims::new(file.entries_max());
        let now_ms = wall_ms();
        // A clock that was set back makes nothing younger than new.
        file.read(|key, at_ms| {
            claims.lock().restore(key, at_ms.saturating_sub(now_ms).min(0));
        })?;
        let mut published = PublishedWindow::new(file.entries_max());
        file.read_published(|key, found| {
            published.insert(key, found);
        })?;
        let path = file.path();
        let writer = Writer::start(file, metrics).map_err(|source| FileError::Io {
            doing: "start a thread for",
            path,
            source,
        })?;
        Ok(DurableClaims {
            claims,
            published: Mutex::new(published),
            writer,
        })
    }

    fn published(&self) -> MutexGuard<'_, PublishedWindow> {
        // No code under this lock panics; were it poisoned all the same, a lost id is only accepted once more.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, and closes the file. What is settled afterwards is not kept.
    pub async fn shut_down(&self) {
        self.writer.stop();
        // What hangs ends with the process.
        let _ = tokio::time::timeout(SHUT_DOWN_TIMEOUT, self.writer.ended()).await;
    }
}

#[async_trait]
impl Claims for DurableClaims {
    async fn claim(
        &self,
        application: &ApplicationId,
        event: &EventId,
        redelivered: bool,
        now_ms: u64,
    ) -> Result<Verdict, ClaimError> {
        self.claims.claim(application, event, redelivered, now_ms).await
    }

    async fn settle(&self, application: &ApplicationId, event: &EventId) {
        let key = Key::of(application, event);
        let is_new = self.claims.lock().settle(key);
        let written = if is_new {
            self.writer.write(Row::Settled(key))
        } else {
            None
        };
        if let Some(written) = written {
            // Dropped: it is not known when it will be.
            let _ = written.await;
        }
    }

    fn release(&self, application: &ApplicationId, event: &EventId) {
        self.claims.release(application, event);
    }

    fn window(&self, now_ms: u64) -> ClaimWindow {
        self.claims.window(now_ms)
    }
}
