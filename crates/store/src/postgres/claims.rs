//! Claims of all processes that share a schema.
//!
//! - Whatever came while one batch was under way goes into the next: a statement for all claims in it, one for what was settled, one for what
//!   was given back. Those of one id are one row of it: a burst of copies costs no more than one, and holds up no other id.
//! - A claim holds for a day, by the server's clock. One that was not settled within half an hour is nobody's: its process has died, or could
//!   not say that it gave the event back.
//! - Commits wait for no disk: a crash of the server may cost the claims of the last moments, and repeats of those are delivered.
//! - While the server is away, claims fail at once. What was settled or given back waits, and is told when it is there again.

mod queue;
mod statements;
mod waiting;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hooklane_types::{ApplicationId, EventId};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::queue::{Op, Queue};
use self::statements::Batch;
use super::error::{Fault, PostgresError};
use super::pool::Connections;
use super::settings::PostgresSettings;
use crate::claims::{ClaimError, ClaimWindow, Claims, Verdict};
use crate::key::Key;

/// Nobody waits for the disk.
pub(super) const SESSION: &str = "-c synchronous_commit=off";
/// A call that takes longer is of no use to anybody.
pub(super) const CALL_MAX: Duration = Duration::from_secs(1);
/// Each task has its own: it is there, with its statements, before the first event.
const CONNECTIONS: usize = 1;
/// While the server is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between two looks for claims that are too old.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Most of them that go with one statement.
const TIDY_MAX: i64 = 1_000;
/// How long a stop waits for what is still to be told.
const SHUT_DOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Claims in a schema.
pub struct PostgresClaims {
    queue: Arc<Queue>,
    window: Arc<Mutex<ClaimWindow>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl PostgresClaims {
    /// Connects to nothing yet, and brings the schema to no format. To be called within the runtime that it is used in.
    ///
    /// # Errors
    /// [`PostgresError::Settings`], [`PostgresError::Unavailable`].
    pub fn new(settings: &PostgresSettings) -> Result<PostgresClaims, PostgresError> {
        let mut settings = settings.clone();
        settings.connections_max = CONNECTIONS;
        settings.connect_max = settings.connect_max.min(CALL_MAX);
        settings.call_max = settings.call_max.min(CALL_MAX);
        let connections = || Connections::with(&settings, SESSION);
        let queue = Arc::new(Queue::default());
        let window = Arc::new(Mutex::new(ClaimWindow {
            entries: 0,
            seconds: 0.0,
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(work(connections()?, queue.clone()));
        let tidying = tidy(connections()?, window.clone());
        let stopped = queue.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = tidying => {}
                () = stopped.stopped() => {}
            }
        });
        Ok(PostgresClaims {
            queue,
            window,
            tasks: tokio::sync::Mutex::new(tasks),
        })
    }

    /// Tells the server what waits, if it answers. What is settled afterwards is not kept.
    pub async fn shut_down(&self) {
        self.queue.stop();
        let mut tasks = self.tasks.lock().await;
        let all = async { while tasks.join_next().await.is_some() {} };
        // What is not told by then is not told: its messages come again, or its claims end by themselves.
        let _ = timeout(SHUT_DOWN_TIMEOUT, all).await;
    }
}

#[async_trait]
impl Claims for PostgresClaims {
    async fn claim(
        &self,
        application: &ApplicationId,
        event: &EventId,
        redelivered: bool,
        _now_ms: u64,
    ) -> Result<Verdict, ClaimError> {
        let (tell, told) = oneshot::channel();
        self.queue.add(Op::Claim {
            key: Key::of(application, event),
            redelivered,
            tell,
        });
        told.await
            .unwrap_or_else(|_| Err(ClaimError("the store is not asked any more".to_owned())))
    }

    async fn settle(&self, application: &ApplicationId, event: &EventId) {
        let (tell, told) = oneshot::channel();
        let key = Key::of(application, event);
        if self.queue.add(Op::Settle { key, tell }) {
            // Dropped: it is not known when it will be.
            let _ = told.await;
        }
    }

    fn release(&self, application: &ApplicationId, event: &EventId) {
        let key = Key::of(application, event);
        self.queue.add(Op::Release { key });
    }

    fn window(&self, _now_ms: u64) -> ClaimWindow {
        *self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Batch after batch, until the stop.
async fn work(connections: Connections, queue: Arc<Queue>) {
    let mut is_away = false;
    // Where that fails the first batch says so.
    let _: Result<(), Fault> = async {
        let client = connections.get().await?;
        let done = connections.limit(statements::prepare(&client)).await;
        connections.put_back(client, done)
    }
    .await;
    while let Some(ops) = queue.next().await {
        let batch = Batch::of(ops);
        let done: Result<_, Fault> = async {
            let client = connections.get().await?;
            let done = connections.limit(batch.carry_out(&client)).await;
            connections.put_back(client, done)
        }
        .await;
        match done {
            Ok(verdicts) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("claims are answered again");
                }
                batch.tell(verdicts);
            }
            Err(fault) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!("events are delivered unclaimed, for the store cannot be asked: {fault}");
                }
                queue.rest(batch.failed(&fault.to_string()));
                tokio::select! {
                    () = sleep(AGAIN_AFTER) => queue.go_on(),
                    () = queue.stopped() => return,
                }
            }
        }
    }
}

/// Removes what is too old, and measures what is left.
async fn tidy(connections: Connections, window: Arc<Mutex<ClaimWindow>>) {
    loop {
        let tidied: Result<_, Fault> = async {
            let client = connections.get().await?;
            let done = connections.limit(statements::tidy(&client, TIDY_MAX)).await;
            connections.put_back(client, done)
        }
        .await;
        let rest = match tidied {
            Ok((found, is_more)) => {
                *window.lock().unwrap_or_else(PoisonError::into_inner) = found;
                if is_more { Duration::ZERO } else { TIDY_EVERY }
            }
            Err(fault) => {
                tracing::debug!("old claims stay for now: {fault}");
                TIDY_EVERY
            }
        };
        sleep(rest).await;
    }
}
