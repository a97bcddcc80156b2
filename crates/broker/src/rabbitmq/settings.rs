//! How to reach RabbitMQ, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use super::url::BrokerUrls;
use crate::topology::{Bounds, Names, NamesError, Topology};

/// To a broker on the other side of the world a TLS handshake takes a second; ten say that something is wrong.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A dead peer is noticed within twice this time.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What a process does on the broker: decides which connections are opened from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Publishes only.
    Ingest,
    /// Publishes and consumes.
    Dispatcher,
    /// Publishes and consumes records.
    Control,
    /// A command: connects when it must.
    Operator,
}

impl Role {
    /// Its name, as it stands in the connection's name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Dispatcher => "dispatcher",
            Role::Control => "control",
            Role::Operator => "operator",
        }
    }
}

/// Who makes exchanges and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declare {
    /// Every process, idempotently; without the right it only looks whether they are there.
    Create,
    /// The operator; processes only look.
    Passive,
}

/// Why settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL can't be read. It is not repeated here: it may hold a password.
    #[error(
        "the broker's URL {0}; it is amqp[s]://user:password@host:port/vhost, special characters percent-encoded; for \
         the nodes of a cluster several whole URLs, with commas between"
    )]
    Url(&'static str),
    /// The prefix can't be used.
    #[error(transparent)]
    Prefix(#[from] NamesError),
    /// Certificate and key belong together.
    #[error("a client certificate needs its key, and a key its certificate")]
    ClientCertificate,
}

/// Everything that a process must know to use RabbitMQ.
#[derive(Clone, Debug)]
pub struct RabbitMqSettings {
    /// The broker: one URL, or one for each of its nodes.
    pub urls: BrokerUrls,
    /// What stands before all names.
    pub prefix: String,
    /// Who makes exchanges and queues.
    pub declare: Declare,
    /// Certificates (PEM) of the only authorities to trust; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain (PEM), read at every connect.
    pub client_certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub client_key: Option<PathBuf>,
    /// Time for name, TCP and TLS, and again for the AMQP handshake.
    pub connect_timeout: Duration,
    /// Heartbeat interval, whole seconds, where the URL sets none. Not zero: a half-open connection would never be noticed.
    pub heartbeat: Duration,
    /// Most bytes that wait in the queues that have a bound.
    pub bounds: Bounds,
    /// What this process does.
    pub role: Role,
    /// What names this process among others of its role in the connection's name: `<pid>@<host>`.
    pub name: String,
}

impl RabbitMqSettings {
    /// Settings for these URLs (see [`BrokerUrls::parse`]), with defaults for everything else: prefix `hooklane`, declaring,
    /// the system's authorities.
    ///
    /// # Errors
    /// When a URL can't be read.
    pub fn new(role: Role, urls: &str) -> Result<RabbitMqSettings, SettingsError> {
        Ok(RabbitMqSettings {
            urls: BrokerUrls::parse(urls)?,
            prefix: "hooklane".to_owned(),
            declare: Declare::Create,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            connect_timeout: CONNECT_TIMEOUT,
            heartbeat: HEARTBEAT,
            bounds: Bounds::default(),
            role,
            name: format!("{}@{}", std::process::id(), host_name()),
        })
    }

    /// The names that these settings lead to.
    ///
    /// # Errors
    /// When the prefix can't be used.
    pub fn names(&self) -> Result<Names, SettingsError> {
        Ok(Names::new(&self.prefix)?)
    }

    /// The topology that these settings lead to.
    ///
    /// # Errors
    /// When the prefix can't be used.
    pub fn topology(&self) -> Result<Topology, SettingsError> {
        if self.client_certificate.is_some() != self.client_key.is_some() {
            return Err(SettingsError::ClientCertificate);
        }
        Ok(Topology::new(self.names()?, self.bounds))
    }

    /// The name by which the broker's tools show a connection.
    pub(crate) fn connection_name(&self, purpose: &str) -> String {
        format!("hooklane {} {} ({purpose})", self.role.name(), self.name)
    }
}

/// The machine's name, for people; nothing depends on it.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        // Goal: settings are logged.
        let settings = RabbitMqSettings::new(Role::Ingest, "amqp://ann:hunter2@h/v").expect("valid");
        assert!(!format!("{settings:?} {}", settings.urls).contains("hunter2"));
    }
}
