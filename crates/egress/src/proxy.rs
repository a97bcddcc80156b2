//! The operator's proxy. It is told the address that we judged, never a name: what it resolved itself, nobody judged.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use url::{Host, Url};

use crate::connect_error::ConnectError;
use crate::connector::{handshake, tcp};
use crate::resolve::Resolver;
use crate::settings::EgressError;
use crate::stream::Transport;

/// Longest head of the proxy's answer to `CONNECT`, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// A proxy that understands `CONNECT`.
pub(crate) struct Proxy {
    host: Host<String>,
    port: u16,
    /// `Proxy-Authorization`, a secret.
    authorization: Option<String>,
    /// Set for an `https` proxy.
    tls: Option<Arc<ClientConfig>>,
}

impl Proxy {
    /// Reads the setting. `tls` serves where the proxy is `https`.
    pub(crate) fn new(url: &Url, tls: Arc<ClientConfig>) -> Result<Proxy, EgressError> {
        let refused = |rule| EgressError::Setting {
            setting: "proxy",
            rule,
        };
        let tls = match url.scheme() {
            "https" => Some(tls),
            "http" => None,
            _ => return Err(refused("must be an http or https URL")),
        };
        let host = url.host().ok_or(refused("must have a host"))?.to_owned();
        let port = url.port_or_known_default().ok_or(refused("must have a port"))?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let mut plain = decoded(user).ok_or(refused("must have a user name in UTF-8"))?;
                plain.push(':');
                plain.push_str(
                    &decoded(password.unwrap_or_default()).ok_or(refused("must have a password in UTF-8"))?,
                );
                Some(format!("Basic {}", BASE64_STANDARD.encode(plain)))
            }
        };
        Ok(Proxy {
            host,
            port,
            authorization,
            tls,
        })
    }

    /// A connection to `target` through the proxy.
    pub(crate) async fn connect(
        &self,
        resolver: &Resolver,
        target: SocketAddr,
    ) -> Result<Transport, ConnectError> {
        let failed = |reason: String| ConnectError::Proxy {
            address: target,
            reason,
        };
        // The proxy is the operator's own choice: it usually stands inside, and is not judged.
        let mut stream = self.reach(resolver).await.map_err(failed)?;
        match &mut stream {
            Transport::Tcp(stream) => self.negotiate(stream, target).await,
            Transport::Tls(stream) => self.negotiate(stream, target).await,
        }
        .map_err(failed)?;
        Ok(stream)
    }

    async fn reach(&self, resolver: &Resolver) -> Result<Transport, String> {
        let addresses: Arc<[IpAddr]> = match &self.host {
            Host::Ipv4(address) => Arc::from([IpAddr::V4(*address)]),
            Host::Ipv6(address) => Arc::from([IpAddr::V6(*address)]),
            Host::Domain(name) => resolver
                .resolve(name)
                .await
                .map_err(|reason| format!("{name} cannot be resolved: {reason}"))?,
        };
        let mut failure = "the proxy has no address".to_owned();
        for address in addresses.iter() {
            match tcp(SocketAddr::new(*address, self.port)).await {
                Ok(stream) => return self.secured(stream).await,
                Err(error) => failure = format!("the proxy is not reached: {error}"),
            }
        }
        Err(failure)
    }

    async fn secured(&self, stream: tokio::net::TcpStream) -> Result<Transport, String> {
        let Some(config) = &self.tls else {
            return Ok(Transport::Tcp(stream));
        };
        let host = match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let stream = handshake(config.clone(), &host, stream)
            .await
            .map_err(|error| error.to_string())?;
        Ok(Transport::Tls(Box::new(stream)))
    }

    /// Says `CONNECT` (RFC 9110, 9.3.6) and reads exactly the head of the answer.
    async fn negotiate<S>(&self, stream: &mut S, target: SocketAddr) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error: std::io::Error| format!("the proxy broke off: {error}");
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= HEAD_BYTES_MAX {
                return Err(format!(
                    "the proxy answered with more than {HEAD_BYTES_MAX} bytes"
                ));
            }
            // Byte by byte: what follows the head belongs to the target. A head is short, and comes once per connection.
            head.push(stream.read_u8().await.map_err(broken)?);
        }
        match status(&head) {
            Some(200..=299) => Ok(()),
            Some(status) => Err(format!("the proxy answered {status}")),
            None => Err("the proxy did not answer in HTTP".to_owned()),
        }
    }
}

/// The status of an HTTP/1 head.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head
        .strip_prefix(b"HTTP/1.0 ")
        .or_else(|| head.strip_prefix(b"HTTP/1.1 "))?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}

/// Undoes the percent encoding of a URL's user info.
fn decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                plain.push(value);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_is_decoded_and_nothing_else() {
        assert_eq!(decoded("p%40ss%3Aw").as_deref(), Some("p@ss:w"));
        assert_eq!(decoded("100%").as_deref(), Some("100%"));
        assert_eq!(decoded("%zz").as_deref(), Some("%zz"));
        assert_eq!(decoded("%ff"), None);
    }

    #[test]
    fn only_a_status_line_of_http_1_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407 \r\n\r\n"), Some(407));
        assert_eq!(status(b"SSH-2.0-x\r\n\r\n"), None);
        assert_eq!(status(b"HTTP/1.1 2"), None);
    }
}
