//! What this process knows of each endpoint: how it stands, its attempts in flight, its slots. Soft state: lost with the
//! process, dropped when the endpoint leaves the registry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hooklane_policy::health::{AttemptToken, Health};
use hooklane_policy::pacing::{Pacer, Reservation, Room};
use hooklane_policy::throttle::Visitor;
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::control::{EndpointCondition, EndpointStatus};
use hooklane_types::{Endpoint, EndpointId, Registry, UnixMillis};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::dispatchers::Known;
use crate::labels::{self, Labels};
use crate::throttle::{ApplicationLimits, Limits, Turnstile};

/// Deliveries wait in memory for an attempt of their endpoint to end when that is to be expected within this time, in
/// milliseconds; what would wait longer parks. An endpoint that gets more than it can take holds its share of the process's
/// places no longer than this, so that with 512 places others still get 2,500 a second; shorter, and a burst to a quick
/// endpoint parks (three broker operations each) where it would be served within a moment.
const WAIT_EXPECTED_MAX_MS: f64 = 200.0;
/// Most deliveries of one endpoint that wait so.
const WAITING_MAX: usize = 1_024;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) wall: UnixMillis,
    pub(crate) monotonic_ms: u64,
}

/// How an endpoint stands, asked before an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Standing {
    /// Serve it; where no attempt may begin all the same: it is over its limit.
    Well,
    /// It, or its application, is over its limit of attempts a second.
    Throttled,
    /// It answered 410.
    Gone,
    /// It asked for a pause.
    Paused { until: UnixMillis },
    /// An attempt hangs. Its timeout ends it at the latest, on the monotonic clock.
    Sick { until_ms: u64 },
}

struct State {
    /// Where it is: what is heard from another URL, to which attempts are in flight still, says nothing about it.
    configured: Arc<Endpoint>,
    health: Health,
    pacer: Pacer,
    paused_until: Option<UnixMillis>,
    gone: bool,
    slots: Arc<Semaphore>,
    slots_max: u32,
    last: Option<(&'static str, UnixMillis)>,
}

/// The soft state of one endpoint.
pub(crate) struct EndpointState {
    label: Arc<str>,
    /// The endpoint left the registry: its label is forgotten, and an attempt that ends later must not bring it back.
    removed: AtomicBool,
    waiting: Arc<Semaphore>,
    /// Made when it is limited first.
    turnstile: OnceLock<Arc<Turnstile>>,
    state: Mutex<State>,
}

/// An attempt's place at its endpoint. Ends with [`Slot::end`], or, when the attempt was broken off, by being dropped.
pub(crate) struct Slot {
    endpoint: Arc<EndpointState>,
    token: Option<AttemptToken>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// The attempt ended.
    pub(crate) fn end(mut self, outcome: &'static str, success: bool, took: Duration, now: UnixMillis) {
        let mut state = self.endpoint.lock();
        if let Some(token) = self.token.take() {
            state.health.end(token, success);
        }
        state.pacer.observe(took);
        state.last = Some((outcome, now));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            self.endpoint.lock().health.end(token, false);
        }
    }
}

impl State {
    fn must_be_well(&mut self, endpoint: &Endpoint, now: Moment) -> Result<(), Standing> {
        if self.gone {
            return Err(Standing::Gone);
        }
        match self.paused_until {
            Some(until) if until > now.wall => return Err(Standing::Paused { until }),
            _ => self.paused_until = None,
        }
        match self.health.sick_since(now.monotonic_ms) {
            Some(since_ms) => Err(Standing::Sick {
                until_ms: since_ms.saturating_add(endpoint.timeout.as_millis() as u64),
            }),
            None => Ok(()),
        }
    }
}

impl EndpointState {
    fn new(label: Arc<str>, endpoint: &Arc<Endpoint>) -> EndpointState {
        let slots_max = endpoint.max_in_flight;
        EndpointState {
            label,
            removed: AtomicBool::new(false),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            turnstile: OnceLock::new(),
            state: Mutex::new(State {
                configured: endpoint.clone(),
                health: Health::new(),
                pacer: Pacer::new(),
                paused_until: None,
                gone: false,
                slots: Arc::new(Semaphore::new(slots_max as usize)),
                slots_max,
                last: None,
            }),
        }
    }

    /// Its label in metrics.
    pub(crate) fn label(&self) -> &str {
        if self.removed.load(Ordering::Relaxed) {
            labels::OTHER
        } else {
            &self.label
        }
    }

    /// A free place for an attempt at an endpoint that is well, and its turn under the limits of attempts a second, waited for
    /// where that is to be expected soon. What was heard of the endpoint meanwhile holds: no attempt begins after a 410, a pause
    /// or an attempt that hangs.
    ///
    /// # Errors
    /// How it stands when no attempt may begin; [`Standing::Well`] means over its limit of attempts at once.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        limits: &Limits,
        moment: impl Fn() -> Moment + Copy,
        wait_max: Duration,
    ) -> Result<Slot, Standing> {
        let (slots, waiting_max) = {
            let mut state = self.lock();
            let now = moment();
            state.must_be_well(endpoint, now)?;
            if !limits.let_in(now) {
                return Err(Standing::Throttled);
            }
            match state.slots.clone().try_acquire_owned() {
                Ok(permit) if limits.is_empty() => return Ok(self.begin(&mut state, permit, now)),
                Ok(permit) => (Ok(permit), 0),
                Err(_) => (Err(state.slots.clone()), waiting_max(&state) as usize),
            }
        };
        let permit = match slots {
            Ok(permit) => permit,
            Err(slots) => self.wait_for_place(slots, waiting_max, wait_max).await?,
        };
        // Last of all waits: an attempt whose turn came later than it asked must not begin together with the next one's.
        let turn = limits.pass(moment, wait_max).await;
        turn.map_err(|_| Standing::Throttled)?;
        let mut state = self.lock();
        let now = moment();
        state.must_be_well(endpoint, now)?;
        Ok(self.begin(&mut state, permit, now))
    }

    async fn wait_for_place(
        &self,
        slots: Arc<Semaphore>,
        waiting_max: usize,
        wait_max: Duration,
    ) -> Result<OwnedSemaphorePermit, Standing> {
        if WAITING_MAX - self.waiting.available_permits() >= waiting_max {
            return Err(Standing::Well);
        }
        let over_its_limit = |_| Standing::Well;
        let waiting = self.waiting.clone().try_acquire_owned().map_err(over_its_limit)?;
        let Ok(Ok(permit)) = tokio::time::timeout(wait_max, slots.acquire_owned()).await else {
            return Err(Standing::Well);
        };
        drop(waiting);
        Ok(permit)
    }

    fn begin(self: &Arc<Self>, state: &mut State, permit: OwnedSemaphorePermit, now: Moment) -> Slot {
        Slot {
            endpoint: self.clone(),
            token: Some(state.health.begin(now.monotonic_ms)),
            _permit: permit,
        }
    }

    fn turnstile(&self) -> Arc<Turnstile> {
        self.turnstile.get_or_init(Arc::default).clone()
    }

    /// The endpoint's next free slot for a delivery that parks; `free_from_ms` on the monotonic clock.
    pub(crate) fn reserve(&self, now_ms: u64, free_from_ms: u64) -> Reservation {
        let mut state = self.lock();
        let room = Room {
            concurrency: state.slots_max,
            waiting: waiting_max(&state),
        };
        state.pacer.reserve(now_ms, room, free_from_ms)
    }

    /// This URL answered 410: the endpoint gets nothing more, if it is there still. Says whether that is new.
    pub(crate) fn mark_gone(&self, url: &Url) -> bool {
        let mut state = self.lock();
        state.configured.url == *url && !std::mem::replace(&mut state.gone, true)
    }

    /// This URL asked for a pause. The longest one holds.
    pub(crate) fn pause_until(&self, url: &Url, until: UnixMillis) {
        let mut state = self.lock();
        if state.configured.url != *url {
            return;
        }
        state.paused_until = Some(state.paused_until.map_or(until, |earlier| earlier.max(until)));
    }

    fn in_flight(state: &State) -> u32 {
        state
            .slots_max
            .saturating_sub(state.slots.available_permits() as u32)
    }

    /// What is configured changed, and holds now; an endpoint that was gone gets another chance, and one that moved begins anew.
    fn configure(&self, endpoint: &Arc<Endpoint>) {
        let mut state = self.lock();
        // What others changed is no news of this one.
        if Arc::ptr_eq(&state.configured, endpoint) {
            return;
        }
        let before = std::mem::replace(&mut state.configured, endpoint.clone());
        state.gone = false;
        if before.url != endpoint.url {
            state.paused_until = None;
            state.health.forget();
        }
        if state.slots_max != endpoint.max_in_flight {
            // Attempts in flight keep their permits of the old set; for one attempt's time both counts may be in use.
            state.slots = Arc::new(Semaphore::new(endpoint.max_in_flight as usize));
            state.slots_max = endpoint.max_in_flight;
        }
    }

    fn status(&self, endpoint: &Endpoint, now: Moment) -> EndpointStatus {
        let mut state = self.lock();
        let standing = match state.must_be_well(endpoint, now) {
            Err(Standing::Gone) => EndpointCondition::Gone,
            Err(Standing::Paused { .. }) => EndpointCondition::Paused,
            Err(Standing::Sick { .. }) => EndpointCondition::Sick,
            Err(Standing::Well | Standing::Throttled) | Ok(()) => EndpointCondition::Ok,
        };
        EndpointStatus {
            id: endpoint.id.clone(),
            state: condition(endpoint, standing),
            in_flight: EndpointState::in_flight(&state),
            last_outcome: state.last.map(|(outcome, _)| outcome.to_owned()),
            last_at: state.last.map(|(_, at)| at),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock; soft state is good enough after it all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an operator disabled is that, whatever it answered last.
fn condition(endpoint: &Endpoint, standing: EndpointCondition) -> EndpointCondition {
    if endpoint.disabled {
        EndpointCondition::Disabled
    } else {
        standing
    }
}

/// How many may wait so that the last of them is served within [`WAIT_EXPECTED_MAX_MS`].
fn waiting_max(state: &State) -> u32 {
    let attempt_ms = state.pacer.estimate().as_secs_f64() * 1000.0;
    let rounds = WAIT_EXPECTED_MAX_MS / attempt_ms.max(1.0);
    (f64::from(state.slots_max) * rounds).min(WAITING_MAX as f64) as u32
}

/// The soft state of all endpoints that this process has had to do with.
pub(crate) struct Endpoints {
    labels: Labels,
    applications: ApplicationLimits,
    states: Mutex<HashMap<EndpointId, Arc<EndpointState>>>,
}

impl Endpoints {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Endpoints {
        Endpoints {
            labels: Labels::new(metrics),
            applications: ApplicationLimits::default(),
            states: Mutex::new(HashMap::new()),
        }
    }

    /// The state of one endpoint, made when it is asked for first.
    pub(crate) fn of(&self, endpoint: &Arc<Endpoint>) -> Arc<EndpointState> {
        let mut states = self.lock();
        if let Some(state) = states.get(&endpoint.id) {
            return state.clone();
        }
        let state = Arc::new(EndpointState::new(self.labels.label(&endpoint.id), endpoint));
        states.insert(endpoint.id.clone(), state.clone());
        state
    }

    /// The limits of attempts a second that hold for a delivery to an endpoint.
    pub(crate) fn limits(
        &self,
        endpoint: &Arc<Endpoint>,
        registry: &Registry,
        known: impl FnOnce() -> Known,
        visitor: Visitor,
    ) -> Limits {
        let application = registry.throttle_rate(&endpoint.application);
        if endpoint.throttle_rate.is_none() && application.is_none() {
            return Limits::none();
        }
        let own = endpoint
            .throttle_rate
            .map(|rate| (rate, self.of(endpoint).turnstile()));
        let application = application.map(|rate| (rate, self.applications.of(&endpoint.application)));
        Limits::of(own.into_iter().chain(application), known(), visitor)
    }

    /// Another registry is in force: endpoints that left are forgotten, the others configured anew.
    pub(crate) fn follow(&self, registry: &Registry) {
        self.applications.follow(registry);
        let mut states = self.lock();
        states.retain(|id, state| match registry.endpoint(id) {
            Some(endpoint) => {
                state.configure(endpoint);
                true
            }
            None => {
                state.removed.store(true, Ordering::Relaxed);
                self.labels.forget(id);
                false
            }
        });
    }

    /// How each endpoint of the registry stands, in no order; also those that nothing was sent to yet.
    pub(crate) fn status(&self, registry: &Registry, now: Moment) -> Vec<EndpointStatus> {
        registry
            .endpoints()
            .map(|endpoint| {
                // The lock is taken for each alone: a long answer holds up no delivery.
                let known = self.lock().get(&endpoint.id).cloned();
                match known {
                    Some(state) => state.status(endpoint, now),
                    None => EndpointStatus {
                        id: endpoint.id.clone(),
                        state: condition(endpoint, EndpointCondition::Ok),
                        in_flight: 0,
                        last_outcome: None,
                        last_at: None,
                    },
                }
            })
            .collect()
    }

    /// Sets the gauges that follow from the state: sick endpoints, attempts in flight per endpoint.
    pub(crate) fn measure(&self, metrics: &Metrics, now: Moment) {
        let states = self.lock();
        let (mut sick, mut in_flight) = (0u32, HashMap::<&str, u32>::new());
        for state in states.values() {
            let guard = state.lock();
            sick += u32::from(guard.health.is_sick(now.monotonic_ms));
            *in_flight.entry(&state.label).or_default() += EndpointState::in_flight(&guard);
        }
        metrics.set(Metric::EndpointsSick, &[], f64::from(sick));
        for (label, count) in in_flight {
            metrics.set(Metric::EndpointInFlight, &[label], f64::from(count));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, Arc<EndpointState>>> {
        // A map of shared states is whole after any panic.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
