//! Where a shelf is read: one reading at a time, in tasks of their own. Who asked may be gone before a reading ends; the shelf is put back in order
//! all the same.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Kind;
use super::dead_letter::DeadLetters;
use super::fault::Faults;
use super::job::{Job, Jobs};
use super::port::{Reading, Shelf, ShelfError};

/// How long a request waits for a shelf that somebody else reads: a list takes seconds at most, a replay perhaps hours.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether another process still reads it.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Requests that wait for one shelf at once.
const WAITING_MAX: usize = 32;
/// How long what is being read may take, at the end of the process, to be put back in order.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why a shelf was not read.
pub(crate) enum Unread {
    /// A job of this process has it.
    Job(Arc<Job>),
    /// Others wait for it already.
    Busy,
    /// See there.
    Shelf(ShelfError),
    /// The task broke down.
    Broken,
}

impl From<ShelfError> for Unread {
    fn from(error: ShelfError) -> Unread {
        Unread::Shelf(error)
    }
}

/// One shelf, with who reads it in this process.
pub struct Desk<K: Kind> {
    shelf: Arc<dyn Shelf<K>>,
    turn: Arc<Semaphore>,
    waiting: Semaphore,
    pub(super) jobs: Jobs,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Both shelves.
pub struct Shelves {
    pub(super) dead_letters: Desk<DeadLetters>,
    pub(super) faults: Desk<Faults>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Shelves {
    /// These.
    pub fn new(dead_letters: Arc<dyn Shelf<DeadLetters>>, faults: Arc<dyn Shelf<Faults>>) -> Shelves {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Shelves {
            dead_letters: Desk::new(dead_letters, &tasks, &stop),
            faults: Desk::new(faults, &tasks, &stop),
            tasks,
            stop,
        }
    }

    /// Ends whatever reads a shelf, in order. What was not replayed or purged is still there.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(END_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "a shelf was not put back in order in time: its messages may have changed their order"
            );
        }
    }
}

impl<K: Kind> Desk<K> {
    fn new(shelf: Arc<dyn Shelf<K>>, tasks: &TaskTracker, stop: &CancellationToken) -> Desk<K> {
        Desk {
            shelf,
            turn: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING_MAX),
            jobs: Jobs::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        }
    }

    /// The shelf, and the turn at it, which whoever reads it keeps.
    pub(super) async fn turn(&self) -> Result<(Arc<dyn Shelf<K>>, OwnedSemaphorePermit), Unread> {
        let _waits = self.waiting.try_acquire().map_err(|_| Unread::Busy)?;
        let turn = timeout(PATIENCE, self.turn.clone().acquire_owned()).await;
        match turn {
            Ok(turn) => Ok((self.shelf.clone(), turn.expect("this semaphore is never closed"))),
            Err(_) => Err(self.jobs.running().map_or(Unread::Busy, Unread::Job)),
        }
    }

    /// Reads. Ends in order when nobody waits for it any more.
    pub(super) async fn read<T, F>(
        &self,
        reading: Reading<K>,
        read: impl Fn(Arc<dyn Shelf<K>>, Arc<Reading<K>>) -> F + Send + Sync + 'static,
    ) -> Result<T, Unread>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ShelfError>> + Send,
    {
        let (shelf, turn) = self.turn().await?;
        let _unless_gone = reading.stop.clone().drop_guard();
        let reading = Arc::new(reading);
        let task = self.tasks.spawn(async move {
            let _turn = turn;
            patiently(PATIENCE, || read(shelf.clone(), reading.clone())).await
        });
        Ok(task.await.map_err(|_| Unread::Broken)??)
    }
}

/// Tries again for so long while another process reads the shelf.
pub(super) async fn patiently<T, F>(within: Duration, mut read: impl FnMut() -> F) -> Result<T, ShelfError>
where
    F: Future<Output = Result<T, ShelfError>>,
{
    let until = Instant::now() + within;
    loop {
        match read().await {
            Err(ShelfError::Held(_)) if Instant::now() < until => {
                let _ = timeout_at(until, sleep(AGAIN_AFTER)).await;
            }
            read => return read,
        }
    }
}
