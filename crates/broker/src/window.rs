//! Publishes without a confirm: how many at once, and until when each is waited for. The same for every broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hooklane_telemetry::{Metric, Metrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::port::BrokerError;

/// Bytes are counted in these: a semaphore's permits are few enough then.
const UNIT_BYTES: usize = 1024;

/// Bounds publishes by their number and by the bytes of their bodies.
pub(crate) struct Window {
    publishes: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    units_max: usize,
}

/// A publish's place in the window, until the broker has answered: a caller's deadline does not free what the broker still holds.
pub(crate) type Places = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// What goes with a publish to whoever carries it out.
pub(crate) struct Ticket {
    /// Takes the answer.
    pub(crate) reply: oneshot::Sender<Result<(), BrokerError>>,
    /// To be set while it may arrive although nobody hears of it.
    pub(crate) sent: Arc<AtomicBool>,
    /// To be kept for as long as its body.
    pub(crate) places: Places,
}

impl Window {
    pub(crate) fn new(publishes_max: usize, bytes_max: usize) -> Window {
        let units_max = bytes_max / UNIT_BYTES;
        Window {
            publishes: Arc::new(Semaphore::new(publishes_max)),
            bytes: Arc::new(Semaphore::new(units_max)),
            units_max,
        }
    }

    /// Hands a publish with so long a body in, once there is a place for it, and waits for its answer. `hand_in` says whether
    /// there is still anybody to carry it out, `trouble` what stands in the way when the time is over.
    pub(crate) async fn publish(
        &self,
        body_bytes: usize,
        within: Duration,
        trouble: impl Fn() -> String,
        hand_in: impl FnOnce(Ticket) -> bool,
    ) -> Result<(), BrokerError> {
        let until = Instant::now() + within;
        let sent = Arc::new(AtomicBool::new(false));
        let late = || {
            let last_error = trouble();
            match sent.load(Ordering::Acquire) {
                true => BrokerError::Unconfirmed {
                    waited: within,
                    last_error,
                },
                false => BrokerError::Unavailable(last_error),
            }
        };
        let places = match timeout_at(until, self.places(body_bytes)).await {
            Err(_) => return Err(late()),
            Ok(Err(_closed)) => return Err(BrokerError::ShutDown),
            Ok(Ok(places)) => places,
        };
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket {
            reply,
            sent: sent.clone(),
            places,
        };
        if !hand_in(ticket) {
            return Err(BrokerError::ShutDown);
        }
        match timeout_at(until, answer).await {
            Err(_) => Err(late()),
            Ok(Err(_dropped)) => Err(BrokerError::ShutDown),
            Ok(Ok(result)) => result,
        }
    }

    async fn places(&self, body_bytes: usize) -> Result<Places, tokio::sync::AcquireError> {
        // A body larger than the whole window goes alone.
        let units = (body_bytes / UNIT_BYTES + 1).min(self.units_max);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Ok((
            self.publishes.clone().acquire_owned().await?,
            self.bytes.clone().acquire_many_owned(units).await?,
        ))
    }
}

/// Counts how a publish ended.
pub(crate) fn count(metrics: &Metrics, result: &Result<(), BrokerError>) {
    let label = match result {
        Ok(()) => "confirmed",
        Err(BrokerError::Full | BrokerError::Refused(_)) => "refused",
        Err(_) => "failed",
    };
    metrics.count(Metric::BrokerPublishes, &[label]);
}
