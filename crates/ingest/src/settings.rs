//! What an operator sets, and what is refused before the first connection.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;

use crate::auth::Token;

/// Bodies beyond this are no webhooks, and RabbitMQ's own bound for a message lies here (128 MiB in 3.x, less in 4.x).
const BODY_BYTES_UPPER: usize = 128 * 1024 * 1024;
/// More connections than descriptors that a process usually gets.
const CONNECTIONS_UPPER: usize = 1_000_000;

/// Settings of the ingest.
#[derive(Clone, Debug)]
pub struct IngestSettings {
    /// What publishers must show as `Authorization: Bearer …`. `None` only on loopback.
    pub token: Option<Token>,
    /// Networks that may connect, judged on the address of the connection; empty allows all.
    pub allowed_networks: Vec<IpNet>,
    /// Serve TLS.
    pub tls: Option<TlsSettings>,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Bytes of request bodies held at once by the process; over it publishers get 503. A body counts once, while it
    /// can stand in memory up to three times: as read, as envelope, as answer.
    pub bodies_held_bytes_max: usize,
    /// Wait for the broker's confirm.
    pub publish_timeout: Duration,
    /// From a request's first byte to the end of its headers; also for a TLS handshake.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// A connection without a request is closed after this time. Longer than the pools of usual clients keep theirs idle.
    pub idle_timeout: Duration,
    /// At a stop, requests in flight get this long.
    pub grace: Duration,
    /// Connections at once; more wait in the listener's backlog.
    pub connections_max: usize,
}

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Asks for a reload at once; files are also looked at every few seconds.
    pub reload: Arc<Notify>,
}

impl Default for IngestSettings {
    fn default() -> IngestSettings {
        IngestSettings {
            token: None,
            allowed_networks: Vec::new(),
            tls: None,
            body_bytes_max: 1024 * 1024,
            bodies_held_bytes_max: 64 * 1024 * 1024,
            publish_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(100),
            grace: Duration::from_secs(10),
            connections_max: 4096,
        }
    }
}

impl IngestSettings {
    /// Checks the settings against each other and the address that is listened on. `has_tokens` says whether tokens are taken that the
    /// settings do not know.
    ///
    /// # Errors
    /// The first rule that is broken, with the setting's name.
    pub fn validate(&self, listen: SocketAddr, has_tokens: bool) -> Result<(), SettingsError> {
        if self.token.is_none() && !has_tokens && !listen.ip().to_canonical().is_loopback() {
            return Err(SettingsError::OpenToAll { listen });
        }
        let bounds = [
            ("ingest.body_limit", self.body_bytes_max, BODY_BYTES_UPPER),
            (
                "ingest.bodies_held_limit",
                self.bodies_held_bytes_max,
                u32::MAX as usize,
            ),
            ("ingest.connections_max", self.connections_max, CONNECTIONS_UPPER),
        ];
        for (setting, value, upper) in bounds {
            if value == 0 || value > upper {
                return Err(SettingsError::OutOfRange {
                    setting,
                    value,
                    upper,
                });
            }
        }
        if self.bodies_held_bytes_max < self.body_bytes_max {
            return Err(SettingsError::NoRoomForOneBody {
                held: self.bodies_held_bytes_max,
                body: self.body_bytes_max,
            });
        }
        Ok(())
    }

    /// The longest life of a request: body, confirm, and as long as a body for the answer.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.body_timeout * 2 + self.publish_timeout
    }
}

/// A rule that the settings break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Anybody who reaches the address could publish.
    #[error(
        "ingest.listen is {listen}, which is not loopback, and no token is set: set ingest.token, ingest.token_file or \
         ingest.token_env, or listen on 127.0.0.1"
    )]
    OpenToAll {
        /// The address.
        listen: SocketAddr,
    },
    /// Zero, or too large.
    #[error("{setting} is {value}; it must be from 1 to {upper}")]
    OutOfRange {
        /// Its name in the settings file.
        setting: &'static str,
        /// What it is.
        value: usize,
        /// The largest allowed.
        upper: usize,
    },
    /// The largest body could never be read.
    #[error("ingest.bodies_held_limit ({held} bytes) is smaller than ingest.body_limit ({body} bytes)")]
    NoRoomForOneBody {
        /// Bytes held at most.
        held: usize,
        /// Largest body.
        body: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str, settings: &IngestSettings) -> Result<(), SettingsError> {
        settings.validate(address.parse().unwrap(), false)
    }

    #[test]
    fn listening_off_loopback_needs_a_token() {
        let open = IngestSettings::default();
        for address in [
            "127.0.0.1:80",
            "127.8.0.1:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert_eq!(at(address, &open), Ok(()), "{address}");
        }
        for address in ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[::ffff:10.0.0.1]:80"] {
            let error = at(address, &open).unwrap_err();
            assert!(error.to_string().contains("ingest.token"), "{error}");
        }
        let closed = IngestSettings {
            token: Some(Token::new("secret").unwrap()),
            ..IngestSettings::default()
        };
        assert_eq!(at("0.0.0.0:80", &closed), Ok(()));
    }

    #[test]
    fn bounds_must_leave_room_for_one_body() {
        let none = IngestSettings {
            body_bytes_max: 0,
            ..IngestSettings::default()
        };
        assert!(matches!(
            at("127.0.0.1:80", &none),
            Err(SettingsError::OutOfRange {
                setting: "ingest.body_limit",
                ..
            })
        ));
        let tight = IngestSettings {
            bodies_held_bytes_max: 1024,
            ..IngestSettings::default()
        };
        assert!(matches!(
            at("127.0.0.1:80", &tight),
            Err(SettingsError::NoRoomForOneBody { .. })
        ));
    }
}
