//! How to reach RabbitMQ, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};

use crate::topology::{EVENTS_BYTES_MAX, Names, NamesError, Topology};

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
    /// A command: connects when it must.
    Operator,
}

impl Role {
    /// Its name, as it stands in the connection's name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Ingest => "ingest",
            Role::Dispatcher => "dispatcher",
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
        "the broker's URL {0}; it is amqp[s]://user:password@host:port/vhost, special characters percent-encoded"
    )]
    Url(&'static str),
    /// The prefix can't be used.
    #[error(transparent)]
    Prefix(#[from] NamesError),
    /// Certificate and key belong together.
    #[error("a client certificate needs its key, and a key its certificate")]
    ClientCertificate,
}

/// A broker's address with the account. Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    uri: AMQPUri,
}

impl BrokerUrl {
    /// Reads `amqp[s]://user:password@host:port/vhost`. Without an account it is `guest`, without a vhost `/`.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn parse(text: &str) -> Result<BrokerUrl, SettingsError> {
        let url = url::Url::parse(text).map_err(|_| SettingsError::Url("is no URL"))?;
        let scheme = match url.scheme() {
            "amqp" => AMQPScheme::AMQP,
            "amqps" => AMQPScheme::AMQPS,
            _ => return Err(SettingsError::Url("is neither amqp nor amqps")),
        };
        let host = match url.host_str() {
            Some(host) if !host.is_empty() => decoded(host.trim_start_matches('[').trim_end_matches(']'))?,
            _ => return Err(SettingsError::Url("names no host")),
        };
        let guest = AMQPUserInfo::default();
        let userinfo = AMQPUserInfo {
            username: if url.username().is_empty() {
                guest.username
            } else {
                decoded(url.username())?
            },
            password: url.password().map_or(Ok(guest.password), decoded)?,
        };
        let vhost = match url.path() {
            "" | "/" => "/".to_owned(),
            path if path[1..].contains('/') => {
                return Err(SettingsError::Url(
                    "has a '/' in its vhost that is not written as %2F",
                ));
            }
            path => decoded(&path[1..])?,
        };
        let port = url.port().unwrap_or_else(|| scheme.default_port());
        let authority = AMQPAuthority { userinfo, host, port };
        Ok(BrokerUrl {
            uri: AMQPUri {
                scheme,
                authority,
                vhost,
                query: AMQPQueryString::default(),
            },
        })
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.uri.authority.host
    }

    /// The account's name.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.uri
    }
}

fn decoded(text: &str) -> Result<String, SettingsError> {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    String::from_utf8(bytes).map_err(|_| SettingsError::Url("has percent-encoding that is not UTF-8"))
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri {
            scheme,
            authority,
            vhost,
            ..
        } = &self.uri;
        let AMQPAuthority { userinfo, host, port } = authority;
        write!(
            f,
            "{scheme}://{}@{host}:{port} vhost {vhost:?}",
            userinfo.username
        )
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self}, password hidden)")
    }
}

/// Everything that a process must know to use RabbitMQ.
#[derive(Clone, Debug)]
pub struct RabbitMqSettings {
    /// The broker.
    pub url: BrokerUrl,
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
    /// Heartbeat interval, whole seconds. Not zero: a half-open connection would never be noticed.
    pub heartbeat: Duration,
    /// Most bytes in `events` and in `ordered`.
    pub events_bytes_max: u64,
    /// What this process does.
    pub role: Role,
    /// What names this process among others of its role in the connection's name: `<pid>@<host>`.
    pub name: String,
}

impl RabbitMqSettings {
    /// Settings with defaults for everything else: prefix `hooklane`, declaring, the system's authorities.
    ///
    /// # Errors
    /// When the URL can't be read.
    pub fn new(role: Role, url: &str) -> Result<RabbitMqSettings, SettingsError> {
        Ok(RabbitMqSettings {
            url: BrokerUrl::parse(url)?,
            prefix: "hooklane".to_owned(),
            declare: Declare::Create,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            connect_timeout: CONNECT_TIMEOUT,
            heartbeat: HEARTBEAT,
            events_bytes_max: EVENTS_BYTES_MAX,
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
        Ok(Topology::new(self.names()?, self.events_bytes_max))
    }

    /// The name by which the broker's tools show a connection.
    pub(crate) fn connection_name(&self, purpose: &str) -> String {
        format!("hooklane {} {} ({purpose})", self.role.name(), self.name)
    }
}

/// For people who look at the broker's connections; nothing depends on it.
fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_with_special_characters_are_decoded() {
        // Goal: passwords from generators hold every character.
        let url = BrokerUrl::parse("amqps://ann%40x:p%2Fa%3As%25@mq.example/%2Fprod").expect("valid");
        assert_eq!(
            (url.user(), url.vhost(), url.host()),
            ("ann@x", "/prod", "mq.example")
        );
        assert_eq!(url.uri().authority.userinfo.password, "p/a:s%");
        assert_eq!(url.uri().authority.port, 5671);
    }

    #[test]
    fn vhost_and_account_have_defaults() {
        // Goal: `amqp://host/` means `/` to everybody but the letter of AMQP's URI draft.
        for text in ["amqp://127.0.0.1", "amqp://127.0.0.1/", "amqp://127.0.0.1/%2f"] {
            let url = BrokerUrl::parse(text).expect(text);
            assert_eq!(
                (url.host(), url.vhost(), url.user()),
                ("127.0.0.1", "/", "guest"),
                "{text}"
            );
        }
        assert_eq!(BrokerUrl::parse("amqp://[::1]:1/x").expect("valid").host(), "::1");
    }

    #[test]
    fn passwords_are_never_shown() {
        // Goal: settings are logged.
        let settings = RabbitMqSettings::new(Role::Ingest, "amqp://ann:hunter2@h/v").expect("valid");
        assert!(!format!("{settings:?} {}", settings.url).contains("hunter2"));
    }

    #[test]
    fn urls_that_are_none_are_refused_without_repeating_them() {
        // Goal: a typo in the URL must not put the password into a log.
        for bad in [
            "",
            "http://u:hunter2@h",
            "amqp:///v",
            "amqp://h/a/b",
            "amqp://u:%ff@h",
        ] {
            let error = BrokerUrl::parse(bad).expect_err(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
