//! Settings: defaults, then a TOML file, then the environment, then flags; every problem of all of them in one report.
//!
//! [`source`] reads and merges (the `config` crate), [`table`] takes typed values out of the merged tree and knows which keys
//! were asked for, and one file per section says what can be set there.

mod api;
mod application;
mod broker;
mod dispatcher;
mod document;
mod egress;
mod embedded;
mod endpoint;
mod fingerprint;
mod ingest;
mod log;
mod place;
mod problem;
mod registry;
mod retry;
mod secret;
mod signature;
mod source;
mod stamp;
mod store;
mod table;
mod value;
pub mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;

use hooklane_egress::EgressSettings;
use hooklane_types::{ApplicationId, Registry};

pub use api::ApiSection;
pub use broker::BrokerSettings;
pub use dispatcher::DispatcherSection;
pub use embedded::EmbeddedSection;
pub use ingest::IngestSection;
pub use log::LogSettings;
pub use problem::{Problem, Report};
pub use secret::read_secret_file;
pub use source::{FILE_DEFAULT, Flag, Sources};
pub use store::StoreSection;

use application::Applications;
use broker::Need;
use dispatcher::FromElsewhere;
use endpoint::Surroundings;
use fingerprint::Fingerprint;
use secret::{Fetch, SecretText};
use table::{Load, Table};

/// Whose a message is that names no application, unless set.
const DEFAULT_APPLICATION: &str = "default";

/// Who reads the settings: decides what must be there, and which secrets are fetched from outside of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `hooklane ingest`: needs no endpoint's secret, and is not given one.
    Ingest,
    /// `hooklane dispatcher`.
    Dispatcher,
    /// `hooklane control`: the management API and the recorder.
    Control,
    /// `hooklane serve`: all of them, on a queue of its own.
    Serve,
    /// A command that talks to the broker, or to the queue of `hooklane serve`.
    Client,
    /// A command that talks to RabbitMQ.
    Operator,
    /// `hooklane token` and `hooklane key`
    Token,
    /// `hooklane migrate`
    Store,
    /// `hooklane check`: looks at everything.
    Check,
    /// A command that talks to nobody.
    Offline,
}

impl Role {
    /// Endpoints stand in the file only. A dispatcher that knows none acks events as wanted by nobody, and gives up whatever waits
    /// for an endpoint: started in the wrong directory, it would do nothing but harm.
    fn needs_file(self) -> bool {
        matches!(self, Role::Dispatcher | Role::Serve)
    }

    fn need(self) -> Need {
        match self {
            Role::Ingest | Role::Dispatcher | Role::Control | Role::Operator => Need::Url,
            Role::Serve | Role::Client | Role::Check => Need::Any,
            Role::Token | Role::Store | Role::Offline => Need::Nothing,
        }
    }

    fn is_listening_for_events(self) -> bool {
        matches!(self, Role::Ingest | Role::Control | Role::Serve | Role::Check)
    }

    /// Who follows a store opens what is sealed in it, and knows tokens.
    fn api_secrets(self, store: &StoreSection) -> Fetch {
        match self {
            Role::Control | Role::Serve | Role::Token | Role::Check => Fetch::Yes,
            Role::Ingest | Role::Dispatcher if store.postgres.is_some() => Fetch::Yes,
            _ => Fetch::No,
        }
    }

    fn store_secrets(self) -> Fetch {
        match self {
            Role::Client | Role::Operator | Role::Offline => Fetch::No,
            _ => Fetch::Yes,
        }
    }

    fn endpoint_secrets(self) -> Fetch {
        if matches!(self, Role::Dispatcher | Role::Serve | Role::Check) {
            Fetch::Yes
        } else {
            Fetch::No
        }
    }
}

/// Everything but applications and endpoints: fixed while a process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[broker]`
    pub broker: BrokerSettings,
    /// `[embedded]`
    pub embedded: EmbeddedSection,
    /// `[store]`
    pub store: StoreSection,
    /// `[api]`
    pub api: ApiSection,
    /// `[ingest]`
    pub ingest: IngestSection,
    /// `[dispatcher]`
    pub dispatcher: DispatcherSection,
    /// `[egress]`
    pub egress: EgressSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `default_application`
    pub default_application: ApplicationId,
}

/// What one load gave.
#[derive(Debug)]
pub struct Loaded {
    /// The fixed part.
    pub settings: Settings,
    /// Applications and endpoints. Endpoints only where their secrets were fetched.
    pub registry: Arc<Registry>,
    /// How many `[[endpoint]]` tables there are.
    pub endpoint_count: usize,
    /// The file's text, to notice changes; there are secrets in it.
    file_text: SecretText,
    fingerprint: Fingerprint,
}

impl Loaded {
    /// Whether secrets stand in the file itself: a guess by the text, good enough for a warning.
    pub fn holds_secrets(&self) -> bool {
        let is_secret = |line: &str| {
            let key = line.split('=').next().unwrap_or_default().trim();
            matches!(
                key,
                "secret" | "secrets" | "token" | "bearer_token" | "basic_auth" | "proxy"
            ) || (key == "url" && (line.contains("amqp") || line.contains("postgres")))
        };
        self.file_text.expose().lines().any(is_secret)
    }
}

/// Reads a TOML file that holds no settings.
///
/// # Errors
/// When it is no TOML, with the line.
pub fn parse_toml(name: &str, text: &str) -> Result<serde_json::Value, Report> {
    let read = document::parse(name, text).map_err(|problem| Report::new(vec![problem]))?;
    let read = config::Value::new(None, config::ValueKind::Table(read));
    read.try_deserialize().map_err(|error| {
        Report::new(vec![Problem {
            place: name.to_owned(),
            key: String::new(),
            wrong: error.to_string(),
            remedy: "write texts, numbers, lists and tables".to_owned(),
        }])
    })
}

/// Loads settings.
///
/// # Errors
/// Every problem at once.
pub fn load(sources: &Sources, role: Role) -> Result<Loaded, Report> {
    let text = sources
        .read_file()
        .map_err(|problem| Report::new(vec![problem]))?;
    match (missing_file(sources, role), load_text(sources, role, text)) {
        (None, loaded) => loaded,
        // Endpoints stand in the store.
        (Some(_), Ok(loaded)) if role == Role::Dispatcher && loaded.settings.store.postgres.is_some() => {
            Ok(loaded)
        }
        (Some(missing), Ok(_)) => Err(Report::new(vec![missing])),
        (Some(missing), Err(report)) => Err(Report::new([&[missing], report.problems()].concat())),
    }
}

fn missing_file(sources: &Sources, role: Role) -> Option<Problem> {
    let is_missing = role.needs_file() && sources.path().is_none();
    is_missing.then(|| Problem {
        place: FILE_DEFAULT.to_owned(),
        key: String::new(),
        wrong: "there is no such file here, and none is named: without endpoints every delivery would be given up".to_owned(),
        remedy: "start in the file's directory, name it with --config or HOOKLANE_CONFIG, or write one with `hooklane init`".to_owned(),
    })
}

/// Loads settings with the file's text already read.
///
/// # Errors
/// Every problem at once.
pub fn load_text(sources: &Sources, role: Role, file_text: String) -> Result<Loaded, Report> {
    let (loaded, problems, _) = read(sources, role, file_text);
    match loaded {
        Some(loaded) if problems.is_empty() => Ok(loaded),
        _ => Err(Report::new(problems)),
    }
}

/// Loads what can be loaded, for `hooklane check`: the settings as far as they are right, and every problem.
pub fn inspect(sources: &Sources, role: Role) -> (Option<Loaded>, Vec<Problem>) {
    match sources.read_file() {
        Ok(text) => {
            let (loaded, mut problems, _) = read(sources, role, text);
            problems.extend(missing_file(sources, role));
            (loaded, Report::new(problems).problems().to_vec())
        }
        Err(problem) => (None, vec![problem]),
    }
}

/// Reads all that can be read: the result, the problems, and the keys that were asked for.
fn read(
    sources: &Sources,
    role: Role,
    file_text: String,
) -> (Option<Loaded>, Vec<Problem>, BTreeSet<String>) {
    let merged = match sources.merge(&file_text) {
        Ok(merged) => merged,
        Err(problem) => return (None, vec![problem], BTreeSet::new()),
    };
    let load = Load::new(sources);
    let root = Table::root(&load, &merged);
    let application: Option<ApplicationId> = root.field("default_application").map_or_else(
        || ApplicationId::parse(DEFAULT_APPLICATION).ok(),
        |field| field.read(),
    );
    // A wrong one is in the report; the rest of the settings is read as if it had been left out.
    let application = application.or_else(|| ApplicationId::parse(DEFAULT_APPLICATION).ok());
    let Some(application) = application else {
        return (None, load.finish().0, BTreeSet::new());
    };
    let (settings, applications) = sections(&root, role, &application);
    let around = Surroundings {
        application: application.clone(),
        timeout: settings.dispatcher.attempt_timeout,
        in_flight_max: settings.dispatcher.endpoint_in_flight_max,
        https_only: settings.egress.https_only,
        fetch: role.endpoint_secrets(),
    };
    let endpoints = registry::read(root.tables("endpoint"), &around);
    root.finish();
    let (problems, known) = load.finish();
    let ids = applications
        .ids
        .into_iter()
        .chain([application])
        .chain(endpoints.applications);
    let registry = Registry::new(ids, endpoints.endpoints);
    let registry = registry.map(|registry| registry.with_throttle_rates(applications.throttle_rates));
    let loaded = registry.ok().map(|registry| Loaded {
        fingerprint: Fingerprint::of(&merged, &settings.dispatcher.settings.broker_users),
        settings,
        registry: Arc::new(registry),
        endpoint_count: endpoints.count,
        file_text: SecretText::new(file_text),
    });
    (loaded, problems, known)
}

fn sections(root: &Table<'_>, role: Role, application: &ApplicationId) -> (Settings, Applications) {
    let mut applications = application::read(root.tables("application"));
    let broker = broker::read(root.section("broker"), role.need());
    let embedded = embedded::read(root.section("embedded"));
    let store = store::read(root.section("store"), role.store_secrets());
    let api = api::read(root.section("api"), role.api_secrets(&store));
    let ingest = ingest::read(
        root.section("ingest"),
        broker.publish_timeout,
        role.is_listening_for_events(),
        matches!(role, Role::Serve | Role::Control),
    );
    let elsewhere = FromElsewhere {
        prefix: broker.prefix.clone(),
        publish_timeout: broker.publish_timeout,
        body_bytes_max: ingest.settings.body_bytes_max,
        default_application: application.clone(),
        operational_application: root.read("operational_application"),
        broker_users: std::mem::take(&mut applications.broker_users),
    };
    let dispatcher = dispatcher::read(root.section("dispatcher"), elsewhere);
    let egress = egress::read(root.section("egress"));
    let log = log::read(root.section("log"));
    let settings = Settings {
        broker,
        embedded,
        store,
        api,
        ingest,
        dispatcher,
        egress,
        log,
        default_application: application.clone(),
    };
    (settings, applications)
}

#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod watch_tests;
