//! Why no connection came about.

use std::io;
use std::net::SocketAddr;

use hooklane_types::FailureKind;

use crate::guard::Blocked;

/// Texts name hosts and addresses, never paths or credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{host} is not reached: {blocked}")]
    Blocked { host: String, blocked: Blocked },
    #[error("{host} cannot be resolved: {reason}")]
    Dns { host: String, reason: String },
    #[error("no connection to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no connection to {address} within {seconds:.1} s")]
    ConnectTimeout { address: SocketAddr, seconds: f32 },
    #[error("the proxy does not connect to {address}: {reason}")]
    Proxy { address: SocketAddr, reason: String },
    #[error("TLS handshake with {host}: {source}")]
    Tls { host: String, source: io::Error },
    #[error("TLS handshake with {host} not finished within {seconds} s")]
    TlsTimeout { host: String, seconds: u64 },
    #[error("{host} is no name that a certificate can have")]
    ServerName { host: String },
    #[error("no http or https URL with a host")]
    NoTarget,
}

impl ConnectError {
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            ConnectError::Blocked { .. } => FailureKind::Blocked,
            ConnectError::Dns { .. } => FailureKind::Dns,
            ConnectError::Connect { .. }
            | ConnectError::ConnectTimeout { .. }
            | ConnectError::Proxy { .. } => FailureKind::Connect,
            ConnectError::Tls { .. } | ConnectError::TlsTimeout { .. } => FailureKind::Tls,
            ConnectError::ServerName { .. } | ConnectError::NoTarget => FailureKind::Configuration,
        }
    }
}
