//! The one thread that owns the file, and does what it is asked in turn.

use std::path::Path;
use std::thread::{self, JoinHandle};

use hooklane_sqlite::FileError;
use tokio::sync::{mpsc, oneshot};

use super::file::HistoryFile;
use crate::history::HistoryError;

/// Most questions and batches that wait; whoever comes then waits to get in.
const WAITING_MAX: usize = 64;

type Job = Box<dyn FnOnce(&mut HistoryFile) + Send>;

/// The thread's handle. When it is dropped, what waits is done, and the file is closed.
pub(super) struct Owner {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Owner {
    pub(super) fn start(mut file: HistoryFile, directory: &Path) -> Result<Owner, FileError> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING_MAX);
        let run = move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&mut file);
                // After the answer: nobody waits for it.
                if let Err(error) = file.checkpoint_if_long() {
                    tracing::debug!(%error, "the log of history stays long for now");
                }
            }
        };
        let thread = thread::Builder::new().name("history".to_owned()).spawn(run);
        let thread = thread.map_err(|source| FileError::Io {
            doing: "start a thread for",
            path: HistoryFile::path(directory),
            source,
        })?;
        Ok(Owner {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Has something done. Dropped half way, it is finished all the same.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HistoryFile) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let ended = || HistoryError::Unavailable("its thread has ended".to_owned());
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |file| {
            // Nobody may be there any more to hear it.
            let _ = tell.send(work(file));
        });
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(job).await.map_err(|_| ended())?;
        told.await.map_err(|_| ended())?
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Each job is bounded. Its panic was told when it happened.
            let _ = thread.join();
        }
    }
}
