//! Limits of attempts a second: each endpoint's own, and each application's over all its endpoints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hooklane_policy::pacing::Reservation;
use hooklane_policy::throttle::{Pace, Throttle, Visitor};
use hooklane_types::{ApplicationId, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dispatchers::Known;
use crate::endpoints::Moment;

/// Most deliveries that wait in memory for their turn under one limit: an eighth of the process's places.
const WAITING_MAX: usize = 64;

/// Where deliveries under one limit pass one by one.
pub(crate) struct Turnstile {
    throttle: Mutex<Throttle>,
    /// Taken by the one whose turn is next, in the order of asking.
    next: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Turnstile {
    fn default() -> Turnstile {
        Turnstile {
            throttle: Mutex::default(),
            next: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }
}

impl Turnstile {
    fn lock(&self) -> MutexGuard<'_, Throttle> {
        // A few numbers, which are right after any panic.
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> u32 {
        (WAITING_MAX - self.waiting.available_permits()) as u32
    }
}

struct Limit {
    turnstile: Arc<Turnstile>,
    pace: Pace,
}

impl Limit {
    fn wait(&self, now: Moment) -> Option<Duration> {
        let wait = self.turnstile.lock().wait(now.monotonic_ms, self.pace);
        (!wait.is_zero()).then_some(wait)
    }
}

/// The limits that hold for one delivery: none, one or two.
pub(crate) struct Limits {
    limits: Vec<Limit>,
    from_ms: u64,
    visitor: Visitor,
}

/// The delivery's turn did not come within the time that it may wait in memory, or will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotNow;

impl Limits {
    /// Those with a rate, as this process's share of them.
    pub(crate) fn of(
        limited: impl Iterator<Item = (hooklane_types::ThrottleRate, Arc<Turnstile>)>,
        known: Known,
        visitor: Visitor,
    ) -> Limits {
        let limits = limited.map(|(rate, turnstile)| Limit {
            turnstile,
            pace: Pace::share(rate, known.dispatchers),
        });
        Limits {
            limits: limits.collect(),
            from_ms: known.from_ms,
            visitor,
        }
    }

    /// For a delivery under no limit.
    pub(crate) fn none() -> Limits {
        Limits {
            limits: Vec::new(),
            from_ms: 0,
            visitor: Visitor::New,
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Whether the delivery stays for its turn; otherwise it parks.
    pub(crate) fn let_in(&self, now: Moment) -> bool {
        let now_ms = now.monotonic_ms;
        self.is_empty()
            || now_ms >= self.from_ms
                && self.limits.iter().all(|Limit { turnstile, pace }| {
                    let waiting = turnstile.waiting();
                    let throttle = turnstile.lock();
                    (waiting as usize) < WAITING_MAX && throttle.lets_in(now_ms, *pace, waiting, self.visitor)
                })
    }

    /// Waits for the delivery's turn under every limit. It is its turn when this returns: the attempt has to begin then.
    pub(crate) async fn pass(&self, moment: impl Fn() -> Moment, wait_max: Duration) -> Result<(), NotNow> {
        if self.is_empty() {
            return Ok(());
        }
        let waiting = self
            .limits
            .iter()
            .map(|limit| limit.turnstile.waiting.clone().try_acquire_owned());
        let waiting: Result<Vec<OwnedSemaphorePermit>, _> = waiting.collect();
        let _waiting = waiting.map_err(|_| NotNow)?;
        let turn = async {
            let mut next = Vec::with_capacity(self.limits.len());
            for limit in &self.limits {
                // Always the endpoint's first: two never hold one and wait for the other's. Its turn comes before the application's
                // is asked for, whose other endpoints would wait for it too.
                next.push(limit.turnstile.next.clone().acquire_owned().await);
                while let Some(wait) = limit.wait(moment()) {
                    tokio::time::sleep(wait).await;
                }
            }
            while let Err(wait) = self.take(moment()) {
                tokio::time::sleep(wait).await;
            }
        };
        tokio::time::timeout(wait_max, turn).await.map_err(|_| NotNow)
    }

    /// Takes from all buckets, or from none.
    fn take(&self, now: Moment) -> Result<(), Duration> {
        let now_ms = now.monotonic_ms;
        let mut locked: Vec<_> = self
            .limits
            .iter()
            .map(|limit| (limit.turnstile.lock(), limit.pace))
            .collect();
        let wait = locked
            .iter()
            .map(|(throttle, pace)| throttle.wait(now_ms, *pace))
            .max()
            .unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for (throttle, pace) in &mut locked {
            throttle.take(now_ms, *pace);
        }
        Ok(())
    }

    /// The delivery's next slot, under all limits; none where there is no limit.
    pub(crate) fn reserve(&self, now: Moment) -> Option<Reservation> {
        let now_ms = now.monotonic_ms;
        let turns = self.limits.iter().map(|Limit { turnstile, pace }| {
            let waiting = turnstile.waiting();
            turnstile.lock().reserve(now_ms, *pace, waiting, self.from_ms)
        });
        Some(turns.reduce(|one, other| one.later(other))?.reservation())
    }
}

/// The limits of applications.
#[derive(Default)]
pub(crate) struct ApplicationLimits(Mutex<HashMap<ApplicationId, Arc<Turnstile>>>);

impl ApplicationLimits {
    /// The turnstile of one application, made when it is asked for first.
    pub(crate) fn of(&self, application: &ApplicationId) -> Arc<Turnstile> {
        let mut known = self.lock();
        if let Some(turnstile) = known.get(application) {
            return turnstile.clone();
        }
        known.entry(application.clone()).or_default().clone()
    }

    /// Forgets those that have no limit any more.
    pub(crate) fn follow(&self, registry: &Registry) {
        self.lock()
            .retain(|application, _| registry.throttle_rate(application).is_some());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ApplicationId, Arc<Turnstile>>> {
        // A map of shared states is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
