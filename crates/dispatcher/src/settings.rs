//! What an operator sets, checked by the `cli`.

use std::collections::HashMap;
use std::time::Duration;

use hooklane_types::ApplicationId;
use tokio_util::sync::CancellationToken;

/// Share of `bodies_bytes_max` for each consumption, in hundredths. Events get most: they are the fast path, and a
/// retry's body waited in the broker before.
const EVENTS_SHARE: u64 = 45;
const ORDERED_SHARE: u64 = 10;
const DELIVERIES_SHARE: u64 = 40;
const SUSPECTS_SHARE: u64 = 5;

/// Largest value of `event_bytes_max`: RabbitMQ 4 takes messages up to 16 MiB, and the envelope needs its share.
pub const EVENT_BYTES_LIMIT: usize = 15 * 1024 * 1024;

/// Settings of a dispatcher.
#[derive(Clone, Debug)]
pub struct DispatcherSettings {
    /// What the names of exchanges and queues begin with. What comes from `<prefix>.ingest` is believed to be from our
    /// ingest, so it must be the broker's prefix.
    pub prefix: String,
    /// The process's name in `hooklane status`.
    pub pod: String,
    /// No other dispatcher takes from these queues, so that limits of attempts a second are this one's alone. Otherwise each keeps
    /// its share.
    pub is_alone: bool,
    /// Most messages of `events` and `ordered` in work at once: first attempts.
    pub in_flight_max: usize,
    /// Most messages of `deliveries` in work at once: retries and slices.
    pub retries_in_flight_max: usize,
    /// Most bytes of message bodies held at once, over all queues.
    pub bodies_bytes_max: u64,
    /// A larger body is a fault. At most [`EVENT_BYTES_LIMIT`].
    pub event_bytes_max: usize,
    /// How long attempts in flight may finish after a stop.
    pub grace: Duration,
    /// With more messages in `deliveries`, no new events are taken until it has under 80 % of this.
    pub inner_backlog_max: u64,
    /// How long one publish to the broker is waited for before it is tried again.
    pub publish_timeout: Duration,
    /// Whose a message is that names no application.
    pub default_application: Option<ApplicationId>,
    /// Whose endpoints are told of deliveries that fail; its id or uid.
    pub operational_application: Option<ApplicationId>,
    /// Which applications a broker user may speak for. Empty: every user for all.
    pub broker_users: HashMap<String, UserApplications>,
}

/// The applications that one broker user may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserApplications {
    /// `"*"`.
    All,
    /// These.
    These(Vec<ApplicationId>),
}

impl UserApplications {
    /// Whether the application is among them.
    pub fn include(&self, application: &ApplicationId) -> bool {
        match self {
            UserApplications::All => true,
            UserApplications::These(applications) => applications.contains(application),
        }
    }
}

impl Default for DispatcherSettings {
    fn default() -> DispatcherSettings {
        DispatcherSettings {
            prefix: "hooklane".to_owned(),
            pod: "dispatcher".to_owned(),
            is_alone: false,
            in_flight_max: 512,
            retries_in_flight_max: 256,
            bodies_bytes_max: 64 * 1024 * 1024,
            event_bytes_max: 1024 * 1024,
            grace: Duration::from_secs(25),
            inner_backlog_max: 100_000,
            publish_timeout: Duration::from_secs(10),
            default_application: None,
            operational_application: None,
            broker_users: HashMap::new(),
        }
    }
}

impl DispatcherSettings {
    pub(crate) fn events_bytes_max(&self) -> u64 {
        self.bodies_bytes_max * EVENTS_SHARE / 100
    }

    pub(crate) fn ordered_bytes_max(&self) -> u64 {
        self.bodies_bytes_max * ORDERED_SHARE / 100
    }

    pub(crate) fn deliveries_bytes_max(&self) -> u64 {
        self.bodies_bytes_max * DELIVERIES_SHARE / 100
    }

    pub(crate) fn suspects_bytes_max(&self) -> u64 {
        self.bodies_bytes_max * SUSPECTS_SHARE / 100
    }
}

/// How a dispatcher is told to end.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take nothing new, finish what is in flight within the grace time (SIGTERM).
    pub stop: CancellationToken,
    /// End at once (the second signal).
    pub now: CancellationToken,
}
