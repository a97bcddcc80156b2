//! What all tasks of a dispatcher share.

use std::sync::Arc;

use hooklane_broker::{Ack, SharedBroker};
use hooklane_egress::Client;
use hooklane_telemetry::Metrics;
use hooklane_types::Registry;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::claims::Guard;
use crate::clock::Clock;
use crate::dispatchers::Dispatchers;
use crate::drops::Drops;
use crate::endpoints::{Endpoints, Moment};
use crate::run::Ports;
use crate::settings::{DispatcherSettings, Shutdown};
use crate::settle::{GivenBack, Settle};
use crate::unknown::Unknown;

/// From this size on, a body is copied only beside few others.
const LARGE_BODY_BYTES: usize = 1024 * 1024;
/// Messages with large bodies whose consequence holds a copy of them, at once.
const LARGE_COPIES_MAX: usize = 2;

/// The ports, and the state of this process.
pub(crate) struct Core {
    pub(crate) settings: DispatcherSettings,
    pub(crate) broker: SharedBroker,
    pub(crate) client: Client,
    registry: watch::Receiver<Arc<Registry>>,
    is_current: watch::Receiver<bool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
    pub(crate) clock: Clock,
    pub(crate) claims: Guard,
    pub(crate) endpoints: Endpoints,
    pub(crate) dispatchers: Dispatchers,
    pub(crate) unknown: Unknown,
    pub(crate) drops: Drops,
    pub(crate) settle: Settle,
    large_copies: Semaphore,
    /// Exchange that only Hooklane's ingest may write to.
    pub(crate) ingest_exchange: String,
}

impl Core {
    pub(crate) fn new(settings: DispatcherSettings, ports: Ports, shutdown: Shutdown) -> Core {
        let Ports {
            broker,
            client,
            claims,
            registry,
            is_current,
            records,
            metrics,
        } = ports;
        Core {
            clock: Clock::new(),
            claims: Guard::new(claims, metrics.clone()),
            endpoints: Endpoints::new(metrics.clone()),
            dispatchers: Dispatchers::new(settings.is_alone),
            unknown: Unknown::default(),
            drops: Drops::default(),
            settle: Settle::new(broker.clone(), records, settings.publish_timeout),
            large_copies: Semaphore::new(LARGE_COPIES_MAX),
            ingest_exchange: format!("{}.ingest", settings.prefix),
            settings,
            broker,
            client,
            registry,
            is_current,
            metrics,
            shutdown,
        }
    }

    /// The registry in force.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.registry.borrow().clone()
    }

    /// Follows the registry.
    pub(crate) fn registry_changes(&self) -> watch::Receiver<Arc<Registry>> {
        self.registry.clone()
    }

    /// Whether what the registry does not have is not there. To be asked before the registry is looked at.
    pub(crate) fn is_current(&self) -> bool {
        *self.is_current.borrow()
    }

    /// Room for a copy of a large body, which few messages make at once; small ones need none.
    pub(crate) async fn room_for_copy(&self, bytes: usize) -> Result<Option<SemaphorePermit<'_>>, GivenBack> {
        match bytes > LARGE_BODY_BYTES {
            true => self.large_copies.acquire().await.map(Some).map_err(|_| GivenBack),
            false => Ok(None),
        }
    }

    /// Now, on both clocks.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            wall: self.clock.now(),
            monotonic_ms: self.clock.monotonic_ms(),
        }
    }

    /// Whether the process takes nothing new.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shutdown.stop.is_cancelled()
    }
}

/// One message in hand.
#[derive(Clone, Copy)]
pub(crate) struct InHand<'a> {
    pub(crate) core: &'a Core,
    pub(crate) ack: &'a dyn Ack,
    /// The attempts that messages of this kind may make at once.
    pub(crate) attempts: &'a Semaphore,
}

impl<'a> InHand<'a> {
    /// Whether what an attempt needs beside its place is there still.
    pub(crate) fn is_ready(&self) -> bool {
        !self.core.is_stopping() && self.core.settle.is_ready() && self.ack.is_live()
    }

    /// Waits for everything that an attempt needs before its endpoint is looked at: the broker takes its outcome, and
    /// there is room for it. A process that stops begins none.
    pub(crate) async fn may_attempt(&self) -> Result<SemaphorePermit<'a>, GivenBack> {
        let core = self.core;
        if core.is_stopping() {
            return Err(GivenBack);
        }
        let permit = match self.attempts.try_acquire() {
            // The fast path: nothing to wait for.
            Ok(permit) if core.settle.is_ready() => permit,
            taken => {
                let ready = async {
                    let permit = match taken {
                        Ok(permit) => Ok(permit),
                        Err(_) => self.attempts.acquire().await,
                    };
                    core.settle.ready().await;
                    permit
                };
                tokio::select! {
                    biased;
                    () = core.shutdown.stop.cancelled() => return Err(GivenBack),
                    permit = ready => permit.map_err(|_| GivenBack)?,
                }
            }
        };
        if self.ack.is_live() {
            Ok(permit)
        } else {
            Err(GivenBack)
        }
    }
}
