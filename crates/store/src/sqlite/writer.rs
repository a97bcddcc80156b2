//! The one thread that owns the file. What was settled while it wrote goes into its next transaction.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{io, mem, thread};

use hooklane_telemetry::{Metric, Metrics};
use tokio::sync::{oneshot, watch};

use super::file::{ClaimsFile, Row};

/// Most rows that wait to be written, while they cannot be; then the oldest are given up. 2 MB.
const WAITING_MAX: usize = 100_000;
/// Under load a transaction begins so long after the one before: each writes whole pages, however few events are in it.
const INTERVAL: Duration = Duration::from_millis(2);
/// What the disk refused is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    waiting: VecDeque<Row>,
    /// Whoever wants to know when what waits is written.
    told: Vec<oneshot::Sender<()>>,
    /// Nothing can be written now: nobody is kept waiting for it.
    failing: bool,
    stopping: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics; what a poisoned one lost would let a repeat through, no more.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's handle. It ends with [`Writer::stop`].
pub(crate) struct Writer {
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Receiver<()>,
}

impl Writer {
    pub(crate) fn start(file: ClaimsFile, metrics: Arc<Metrics>) -> io::Result<Writer> {
        let shared = Arc::new(Shared::default());
        let (alive, ended) = watch::channel(());
        let work = Work {
            file,
            shared: shared.clone(),
            metrics: metrics.clone(),
        };
        let ending = Ending(shared.clone());
        let thread = thread::Builder::new().name("claims".to_owned()).spawn(move || {
            // Dropped in this order, by a panic too: the file is closed before anybody hears that it has ended.
            let _alive = alive;
            let _ending = ending;
            work.run();
        })?;
        Ok(Writer {
            shared,
            metrics,
            thread: Mutex::new(Some(thread)),
            ended,
        })
    }

    /// Has a row written, some time.
    pub(crate) fn write_later(&self, row: Row) {
        self.add(&mut self.shared.lock(), row);
        self.shared.changed.notify_one();
    }

    fn add(&self, state: &mut State, row: Row) {
        state.waiting.push_back(row);
        if state.waiting.len() > WAITING_MAX {
            state.waiting.pop_front();
            self.metrics.count(Metric::ClaimsUnsavedDropped, &[]);
        }
    }

    /// Has a row written. What is returned ends when it was, or will not be for a while; none when that is known already.
    pub(crate) fn write(&self, row: Row) -> Option<oneshot::Receiver<()>> {
        let mut state = self.shared.lock();
        self.add(&mut state, row);
        let written = (!state.failing).then(|| {
            let (told, written) = oneshot::channel();
            state.told.push(told);
            written
        });
        drop(state);
        self.shared.changed.notify_one();
        written
    }

    pub(crate) fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.changed.notify_one();
    }

    /// Waits until the file is closed.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // One transaction at most. Its panic was told when it happened.
            let _ = thread.join();
        }
    }
}

/// Whatever ends the thread, nobody waits for it afterwards.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.failing = true;
        state.told.clear();
    }
}

struct Work {
    file: ClaimsFile,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
}

impl Work {
    fn run(mut self) {
        let mut failing = false;
        while let Some((rows, told)) = self.next() {
            let begun = Instant::now();
            let written = self.file.write(&rows, wall_ms());
            let stopping = match written {
                Ok(()) => {
                    let settled = rows.iter().filter(|row| matches!(row, Row::Settled(_))).count();
                    self.metrics.add(Metric::ClaimsSaved, &[], settled as f64);
                    if mem::take(&mut failing) {
                        tracing::info!(entries = rows.len(), "ids are written to disk again");
                    }
                    self.done(Vec::new(), failing)
                }
                Err(error) => {
                    self.metrics.count(Metric::ClaimsSaveFailures, &[]);
                    if !mem::replace(&mut failing, true) {
                        tracing::warn!(
                            %error,
                            "ids cannot be written to disk: until they are, a restart forgets them, and their repeats are delivered"
                        );
                    }
                    self.done(rows, failing)
                }
            };
            // Whoever waits hears it now: that the checkpoint may take long is no reason to keep a delivery.
            for told in told {
                let _ = told.send(());
            }
            if let Err(error) = self.file.checkpoint_if_long() {
                tracing::debug!(%error, "the log of claims stays long for now");
            }
            match (stopping, failing) {
                (true, true) => break,
                (false, true) => self.rest(AGAIN_AFTER),
                (_, false) => self.rest(INTERVAL.saturating_sub(begun.elapsed())),
            }
        }
        let left = self.shared.lock().waiting.len();
        if left > 0 {
            tracing::warn!(
                entries = left,
                "ids were not written to disk: their repeats will be delivered"
            );
        }
    }

    /// What is to be written; none at the end.
    fn next(&self) -> Option<(Vec<Row>, Vec<oneshot::Sender<()>>)> {
        let mut state = self.shared.lock();
        while state.waiting.is_empty() && !state.stopping {
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.waiting.is_empty() {
            return None;
        }
        Some((mem::take(&mut state.waiting).into(), mem::take(&mut state.told)))
    }

    /// Puts back what was not written, in front. Whether it is the end.
    fn done(&self, unwritten: Vec<Row>, failing: bool) -> bool {
        let mut state = self.shared.lock();
        for row in unwritten.into_iter().rev() {
            state.waiting.push_front(row);
        }
        state.failing = failing;
        if failing {
            state.told.clear();
        }
        self.metrics
            .set(Metric::ClaimsUnsaved, &[], state.waiting.len() as f64);
        state.stopping
    }

    /// Waits, unless it is the end.
    fn rest(&self, duration: Duration) {
        let state = self.shared.lock();
        // Its result says why it ended, which `next` finds out by itself.
        let _ = self
            .shared
            .changed
            .wait_timeout_while(state, duration, |state| !state.stopping);
    }
}

/// By the machine's clock: what is written outlives the monotonic one.
pub(crate) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
