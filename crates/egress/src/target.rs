//! What a URL says to connect to.

use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;

/// The host of a URL, before anything was resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address, in whatever spelling: `Url` normalises `0x7f.1`, `2130706433` and full-width digits before.
    Literal(IpAddr),
    /// A name to resolve.
    Name(String),
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port: the scheme's own unless given.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
}

impl Target {
    /// The target of an absolute `http` or `https` URI; none for anything else.
    pub fn of(uri: &Uri) -> Option<Target> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let host = match bare.parse() {
            Ok(address) => Host::Literal(address),
            Err(_) => Host::Name(host.to_ascii_lowercase()),
        };
        Some(Target {
            host,
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
        })
    }

    /// The host as a person reads it.
    pub(crate) fn display(&self) -> String {
        match &self.host {
            Host::Literal(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }
}
