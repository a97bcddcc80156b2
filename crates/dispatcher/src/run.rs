//! Starts a dispatcher's tasks, owns them, and ends them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hooklane_broker::{Queue, RecordWriter, SharedBroker};
use hooklane_egress::Client;
use hooklane_store::Claims;
use hooklane_telemetry::Metrics;
use hooklane_types::{Origin, Registry};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::core::Core;
use crate::error::DispatcherError;
use crate::settings::{DispatcherSettings, EVENT_BYTES_LIMIT, Shutdown};
use crate::worker::{self, Budget, Work};
use crate::{backlog, control, faults, suspects};

/// What the loops may take beyond the grace time, for closing channels, before they are broken off.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What a dispatcher works with.
pub struct Ports {
    /// Where messages come from, and where retries and dead letters go.
    pub broker: SharedBroker,
    /// What makes the attempts.
    pub client: Client,
    /// Which events were taken lately.
    pub claims: Arc<dyn Claims>,
    /// Applications and endpoints, as they change.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// Whether what the registry does not have is not there. While it is false, that is not known yet, and waits.
    pub is_current: watch::Receiver<bool>,
    /// What records events that came over AMQP, and every attempt.
    pub records: RecordWriter,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

/// Runs a dispatcher until `shutdown` says stop. The registry must have been loaded once. The broker stays open: whoever made it
/// shuts it down.
///
/// After `shutdown.stop` nothing new is taken, what is in flight is finished and settled within the grace time, and the
/// rest is given back. After `shutdown.now` all is broken off at once.
///
/// # Errors
/// [`DispatcherError`]: a setting is zero, one of its tasks died, or the broker was shut down under it.
pub async fn run(
    settings: DispatcherSettings,
    ports: Ports,
    shutdown: Shutdown,
) -> Result<(), DispatcherError> {
    check(&settings)?;
    let now = shutdown.now.clone();
    let core = Arc::new(Core::new(settings, ports, shutdown));
    tokio::select! {
        biased;
        () = now.cancelled() => {
            tracing::warn!("told to end at once: what is in flight is broken off and comes again");
            Ok(())
        }
        ended = supervise(core) => ended,
    }
}

fn check(settings: &DispatcherSettings) -> Result<(), DispatcherError> {
    for (setting, value) in [
        ("in_flight_max", settings.in_flight_max),
        ("retries_in_flight_max", settings.retries_in_flight_max),
    ] {
        if value == 0 {
            return Err(DispatcherError::Zero { setting });
        }
    }
    if settings.event_bytes_max > EVENT_BYTES_LIMIT {
        return Err(DispatcherError::EventLimit {
            bytes: settings.event_bytes_max,
        });
    }
    Ok(())
}

type Ended = (&'static str, Result<(), DispatcherError>);

/// Owns the tasks. A loop that ends before the stop ends the dispatcher; the tasks beside them end with the loops.
async fn supervise(core: Arc<Core>) -> Result<(), DispatcherError> {
    let (pause, paused) = watch::channel(false);
    let mut beside = JoinSet::new();
    beside.spawn(named("backlog", done(backlog::run(core.clone(), pause))));
    beside.spawn(named("control", done(control::run(core.clone()))));
    beside.spawn(named("registry", done(follow_registry(core.clone()))));
    let mut loops = JoinSet::new();
    for work in works(&core, &paused) {
        loops.spawn(named(work.queue.name(), worker::run(core.clone(), work)));
    }
    loops.spawn(named("suspects", suspects::run(core.clone())));
    let stop = core.shutdown.stop.clone();
    let first = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ended = loops.join_next() => ended,
        ended = beside.join_next() => ended,
    };
    if let Some(ended) = first {
        let cause = died(ended);
        // Whatever died: what is in flight in the other loops is settled before the process ends.
        stop.cancel();
        let _ = finish(&core, loops).await;
        return Err(cause);
    }
    tracing::info!("stopping: nothing new is taken, attempts in flight are finished");
    finish(&core, loops).await
}

async fn named<F>(name: &'static str, task: F) -> Ended
where
    F: Future<Output = Result<(), DispatcherError>>,
{
    let ended = std::panic::AssertUnwindSafe(task).catch_unwind().await;
    let ended = ended.unwrap_or_else(|panic| {
        Err(DispatcherError::TaskDied {
            task: name,
            cause: faults::panic_text(&*panic).to_owned(),
        })
    });
    (name, ended)
}

async fn done(task: impl Future<Output = ()>) -> Result<(), DispatcherError> {
    task.await;
    Ok(())
}

/// The loops over work queues: first attempts and retries have budgets of their own.
fn works(core: &Core, paused: &watch::Receiver<bool>) -> [Work; 3] {
    let settings = &core.settings;
    let first = Arc::new(Budget::new(settings.in_flight_max));
    let retries = Arc::new(Budget::new(settings.retries_in_flight_max));
    // Its sender is gone at once: nobody can pause it.
    let (_, never_paused) = watch::channel(false);
    [
        Work {
            queue: Queue::Events,
            origin: Origin::Events,
            budget: first.clone(),
            bytes_max: settings.events_bytes_max(),
            paused: paused.clone(),
        },
        Work {
            queue: Queue::Ordered,
            origin: Origin::Ordered,
            budget: first,
            bytes_max: settings.ordered_bytes_max(),
            paused: paused.clone(),
        },
        Work {
            queue: Queue::Deliveries,
            origin: Origin::Deliveries,
            budget: retries,
            bytes_max: settings.deliveries_bytes_max(),
            paused: never_paused,
        },
    ]
}

/// Whoever keeps the registry may end before us; what was loaded last then stays in force.
async fn follow_registry(core: Arc<Core>) {
    let mut registry = core.registry_changes();
    while registry.changed().await.is_ok() {
        let registry = registry.borrow_and_update().clone();
        core.endpoints.follow(&registry);
        core.unknown.forget();
    }
    std::future::pending().await
}

async fn finish(core: &Core, mut loops: JoinSet<Ended>) -> Result<(), DispatcherError> {
    let all = async {
        let mut result = Ok(());
        while let Some(ended) = loops.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                // Shut down together: the broker may end first.
                Ok((_, Err(DispatcherError::BrokerShutDown { .. }))) => {}
                other => result = Err(died(other)),
            }
        }
        result
    };
    let within = core.settings.grace + CLOSE_WITHIN;
    tokio::time::timeout(within, all).await.unwrap_or_else(|_| {
        tracing::warn!("the broker's channels could not be closed in time; what was not acked comes again");
        Ok(())
    })
}

fn died(ended: Result<Ended, JoinError>) -> DispatcherError {
    match ended {
        Ok((_, Err(error))) => error,
        Ok((task, Ok(()))) => DispatcherError::TaskDied {
            task,
            cause: "it ended by itself".to_owned(),
        },
        Err(error) => DispatcherError::TaskDied {
            task: "a loop",
            cause: error.to_string(),
        },
    }
}
