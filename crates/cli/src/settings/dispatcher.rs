//! `[dispatcher]`.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hooklane_dispatcher::{DispatcherSettings, EVENT_BYTES_LIMIT, UserApplications};
use hooklane_store::CLAIM_ENTRIES_DEFAULT;
use hooklane_types::ApplicationId;
use hooklane_types::endpoint::{MAX_IN_FLIGHT_DEFAULT, TIMEOUT_DEFAULT};

use super::endpoint::{IN_FLIGHT_MAX, TIMEOUT_MAX, TIMEOUT_MIN};
use super::table::Table;

/// Where a dispatcher's metrics and health are asked for.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8072);

/// The section.
#[derive(Clone, Debug)]
pub struct DispatcherSection {
    /// Where to listen for operators' tools.
    pub listen: SocketAddr,
    /// For endpoints that set no `timeout`.
    pub attempt_timeout: Duration,
    /// For endpoints that set no `max_in_flight`.
    pub endpoint_in_flight_max: u32,
    /// Most ids in the window in which a repeated event is noticed.
    pub claim_entries_max: usize,
    /// The rest.
    pub settings: DispatcherSettings,
}

/// What the dispatcher is told from other sections.
pub struct FromElsewhere {
    /// `broker.prefix`.
    pub prefix: String,
    /// `broker.publish_timeout`.
    pub publish_timeout: Duration,
    /// `ingest.body_limit`.
    pub body_bytes_max: usize,
    /// `default_application`.
    pub default_application: ApplicationId,
    /// `operational_application`.
    pub operational_application: Option<ApplicationId>,
    /// Of all `[[application]]`.
    pub broker_users: HashMap<String, UserApplications>,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>, elsewhere: FromElsewhere) -> DispatcherSection {
    let defaults = DispatcherSettings::default();
    let listen = table.read_or("listen", LISTEN_DEFAULT);
    let attempt_timeout = table.duration("attempt_timeout", TIMEOUT_DEFAULT, TIMEOUT_MIN..=TIMEOUT_MAX);
    let endpoint_in_flight_max =
        table.number("endpoint_in_flight_max", MAX_IN_FLIGHT_DEFAULT, 1..=IN_FLIGHT_MAX);
    let claim_entries_max = table.number("claim_entries_max", CLAIM_ENTRIES_DEFAULT, 1..=100_000_000);
    // A prefetch has 16 bits.
    let in_flight = 1..=usize::from(u16::MAX);
    let event_bytes_max = table.size(
        "event_bytes_max",
        defaults.event_bytes_max as u64,
        1..=EVENT_BYTES_LIMIT as u64,
    );
    let settings = DispatcherSettings {
        pod: table.read_or("pod", pod()),
        is_alone: defaults.is_alone,
        in_flight_max: table.number("in_flight_max", defaults.in_flight_max, in_flight.clone()),
        retries_in_flight_max: table.number(
            "retries_in_flight_max",
            defaults.retries_in_flight_max,
            in_flight,
        ),
        bodies_bytes_max: table.size(
            "bodies_bytes_max",
            defaults.bodies_bytes_max,
            (1 << 20)..=(1 << 40),
        ),
        event_bytes_max: usize::try_from(event_bytes_max).unwrap_or(usize::MAX),
        grace: table.duration(
            "grace",
            defaults.grace,
            Duration::ZERO..=Duration::from_secs(3600),
        ),
        inner_backlog_max: table.number("inner_backlog_max", defaults.inner_backlog_max, 1..=1_000_000_000),
        prefix: elsewhere.prefix,
        publish_timeout: elsewhere.publish_timeout,
        default_application: Some(elsewhere.default_application),
        operational_application: elsewhere.operational_application,
        broker_users: elsewhere.broker_users,
    };
    if settings.event_bytes_max as u64 > settings.bodies_bytes_max {
        table.problem(
            "bodies_bytes_max",
            "smaller than `event_bytes_max`: no event of that size could be held",
            "make it at least as large as `event_bytes_max`; fifty times is usual",
        );
    }
    if elsewhere.body_bytes_max > settings.event_bytes_max {
        table.problem(
            "event_bytes_max",
            "smaller than `ingest.body_limit`: an event that was accepted would become a fault",
            "make it at least as large as `body_limit` in [ingest]",
        );
    }
    table.finish();
    DispatcherSection {
        listen,
        attempt_timeout,
        endpoint_in_flight_max,
        claim_entries_max,
        settings,
    }
}

/// The machine's name and the process's id: unique enough to be told apart in `hooklane status`.
fn pod() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    format!(
        "{}-{}",
        if name.is_empty() { "dispatcher" } else { name },
        std::process::id()
    )
}
