//! What an operator can set, and why a client cannot be made from it.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

/// Settings of a [`crate::Client`]. Every cache has its bound here.
#[derive(Clone)]
pub struct EgressSettings {
    /// Refuse `http` URLs.
    pub https_only: bool,
    /// Networks that endpoints may reach although they lie inside.
    pub allowed_networks: Vec<IpNet>,
    /// Reach everything by `CONNECT` through this proxy: `http(s)://user:password@host:port`. The environment is never asked.
    pub proxy: Option<Url>,
    /// Name servers to ask; empty for the system's configuration, `/etc/hosts` included.
    pub dns_servers: Vec<SocketAddr>,
    /// Most names in the DNS cache.
    pub dns_entries_max: usize,
    /// Most servers in the TLS session cache.
    pub tls_sessions_max: usize,
    /// A connection opened while more than this are open is not kept after its request.
    pub connections_idle_max: usize,
    /// How long an idle connection is kept.
    pub connection_idle: Duration,
    /// Most bytes kept of an answer's body.
    pub answer_bytes_max: usize,
    /// Most sets of TLS files in memory; the least recently used one yields, with its idle connections.
    pub clients_max: usize,
}

impl Default for EgressSettings {
    fn default() -> EgressSettings {
        EgressSettings {
            https_only: true,
            allowed_networks: Vec::new(),
            proxy: None,
            dns_servers: Vec::new(),
            dns_entries_max: 10_000,
            tls_sessions_max: 10_000,
            connections_idle_max: 1_000,
            // Below the 60 s after which common load balancers close idle connections, so that we close first.
            connection_idle: Duration::from_secs(30),
            answer_bytes_max: 64 * 1024,
            clients_max: 256,
        }
    }
}

impl std::fmt::Debug for EgressSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The proxy's URL carries a password.
        let proxy = self.proxy.as_ref().map(|url| url.host_str().unwrap_or_default());
        f.debug_struct("EgressSettings")
            .field("https_only", &self.https_only)
            .field("allowed_networks", &self.allowed_networks)
            .field("proxy", &proxy)
            .field("dns_servers", &self.dns_servers)
            .field("dns_entries_max", &self.dns_entries_max)
            .field("tls_sessions_max", &self.tls_sessions_max)
            .field("connections_idle_max", &self.connections_idle_max)
            .field("connection_idle", &self.connection_idle)
            .field("answer_bytes_max", &self.answer_bytes_max)
            .field("clients_max", &self.clients_max)
            .finish()
    }
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// A setting makes no sense; the text names the rule.
    #[error("setting {setting}: {rule}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The resolver cannot be set up.
    #[error("cannot set up name resolution")]
    Resolver(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// rustls refuses our setup.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}
