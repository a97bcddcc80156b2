//! From a URI to a connection. The guard stands here, between knowing an address and connecting to it, so that
//! neither literal addresses nor names, cached or fresh, get around it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hooklane_telemetry::{Metric, Metrics};
use http::Uri;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tower::Service;

use crate::connect_error::ConnectError;
use crate::guard::{Blocked, judge};
use crate::proxy::Proxy;
use crate::resolve::Resolver;
use crate::stream::{OpenConnections, Stream, Transport};
use crate::target::{Host, Target};

/// Longest time to a connection, over all addresses. An attempt's own deadline may be shorter; this one also bounds
/// connections that hyper goes on opening for the pool after their attempt took another one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most time for an address while there is another to try.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What all connectors share.
pub(crate) struct Network {
    pub(crate) resolver: Resolver,
    pub(crate) allowed: Vec<IpNet>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) connections: Arc<OpenConnections>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Opens the connections of one TLS profile.
#[derive(Clone)]
pub(crate) struct Connector {
    network: Arc<Network>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    pub(crate) fn new(network: Arc<Network>, tls: Arc<ClientConfig>) -> Connector {
        Connector { network, tls }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, ConnectError> {
        let target = Target::of(&uri).ok_or(ConnectError::NoTarget)?;
        let addresses = self.network.judged(&target).await?;
        let (transport, remote) = self.network.open(&addresses).await?;
        let slot = self.network.connections.opened();
        let stream = if target.tls {
            let tls = handshake(self.tls, &target.display(), transport).await?;
            let kind = match tls.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) => "resumed",
                _ => "full",
            };
            self.network.metrics.count(Metric::TlsHandshakes, &[kind]);
            Stream::tls(tls, remote, slot)
        } else {
            Stream::plain(transport, remote, slot)
        };
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

impl Network {
    /// The addresses of a target that may be connected to: at least one.
    async fn judged(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        let resolved;
        let addresses: &[IpAddr] = match &target.host {
            Host::Literal(address) => std::slice::from_ref(address),
            Host::Name(name) => {
                resolved = self
                    .resolver
                    .resolve(name)
                    .await
                    .map_err(|reason| ConnectError::Dns {
                        host: name.clone(),
                        reason: reason.to_string(),
                    })?;
                &resolved
            }
        };
        let mut judged = Vec::with_capacity(addresses.len());
        let mut blocked: Option<Blocked> = None;
        for address in addresses {
            match judge(*address, &self.allowed) {
                Ok(()) => judged.push(SocketAddr::new(*address, target.port)),
                Err(verdict) => {
                    self.metrics.count(Metric::AddressesBlocked, &[]);
                    blocked = Some(verdict);
                }
            }
        }
        match (judged.is_empty(), blocked) {
            (true, Some(blocked)) => Err(ConnectError::Blocked {
                host: target.display(),
                blocked,
            }),
            (true, None) => Err(ConnectError::Dns {
                host: target.display(),
                reason: "it has no address".to_owned(),
            }),
            (false, _) => Ok(judged),
        }
    }

    /// The first connection that comes about, address by address.
    async fn open(&self, addresses: &[SocketAddr]) -> Result<(Transport, SocketAddr), ConnectError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut failure = ConnectError::NoTarget;
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let is_last = index + 1 == addresses.len();
            let share = if is_last { left } else { left.min(ADDRESS_TIMEOUT) };
            match timeout(share, self.open_one(*address)).await {
                Ok(Ok(transport)) => return Ok((transport, *address)),
                Ok(Err(error)) => failure = error,
                Err(_) => {
                    failure = ConnectError::ConnectTimeout {
                        address: *address,
                        seconds: share.as_secs_f32(),
                    }
                }
            }
        }
        Err(failure)
    }

    async fn open_one(&self, address: SocketAddr) -> Result<Transport, ConnectError> {
        match &self.proxy {
            Some(proxy) => proxy.connect(&self.resolver, address).await,
            None => match tcp(address).await {
                Ok(stream) => Ok(Transport::Tcp(stream)),
                Err(source) => Err(ConnectError::Connect { address, source }),
            },
        }
    }
}

/// A TCP connection that sends at once: requests are written whole, so waiting to fill segments only costs time.
pub(crate) async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Speaks TLS to `host` over a transport.
pub(crate) async fn handshake<T>(
    config: Arc<ClientConfig>,
    host: &str,
    transport: T,
) -> Result<tokio_rustls::client::TlsStream<T>, ConnectError>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::ServerName {
        host: host.to_owned(),
    })?;
    match timeout(
        HANDSHAKE_TIMEOUT,
        TlsConnector::from(config).connect(name, transport),
    )
    .await
    {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(ConnectError::Tls {
            host: host.to_owned(),
            source,
        }),
        Err(_) => Err(ConnectError::TlsTimeout {
            host: host.to_owned(),
            seconds: HANDSHAKE_TIMEOUT.as_secs(),
        }),
    }
}
