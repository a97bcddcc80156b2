//! The connection as hyper sees it: plain or TLS, direct or through the proxy, and counted while it lives.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hooklane_telemetry::{Metric, Metrics};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How bytes get to the target, or to the proxy that passes them on.
pub(crate) enum Transport {
    Tcp(TcpStream),
    /// A proxy that is itself spoken to in TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is spoken over the transport.
enum Layer {
    Plain(Transport),
    Tls(Box<TlsStream<Transport>>),
}

/// The address connected to, as it travels with hyper's answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote(pub(crate) SocketAddr);

/// One connection.
pub(crate) struct Stream {
    layer: Layer,
    remote: SocketAddr,
    slot: Slot,
}

impl Stream {
    pub(crate) fn plain(transport: Transport, remote: SocketAddr, slot: Slot) -> Stream {
        Stream {
            layer: Layer::Plain(transport),
            remote,
            slot,
        }
    }

    pub(crate) fn tls(stream: TlsStream<Transport>, remote: SocketAddr, slot: Slot) -> Stream {
        Stream {
            layer: Layer::Tls(Box::new(stream)),
            remote,
            slot,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(Remote(self.remote));
        if self.slot.surplus {
            // It serves its request and closes: so the pool stays within its bound.
            connected.poison();
        }
        match &self.layer {
            Layer::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

/// Counts open connections.
pub(crate) struct OpenConnections {
    open: AtomicUsize,
    open_max: usize,
    metrics: Arc<Metrics>,
}

impl OpenConnections {
    pub(crate) fn new(open_max: usize, metrics: Arc<Metrics>) -> Arc<OpenConnections> {
        Arc::new(OpenConnections {
            open: AtomicUsize::new(0),
            open_max,
            metrics,
        })
    }

    /// Counts a connection that was just opened, until its slot is dropped.
    pub(crate) fn opened(self: &Arc<OpenConnections>) -> Slot {
        let others = self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.count(Metric::ConnectionsOpened, &[]);
        self.metrics.count(Metric::ConnectionsOpen, &[]);
        Slot {
            connections: self.clone(),
            surplus: others >= self.open_max,
        }
    }
}

/// One open connection's place in the count.
pub(crate) struct Slot {
    connections: Arc<OpenConnections>,
    surplus: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        self.connections.metrics.add(Metric::ConnectionsOpen, &[], -1.0);
    }
}

/// Passes reading and writing on to whichever stream an enum holds.
macro_rules! pass_on {
    ($owner:ty, $($field:ident.)? [$($variant:path),+]) => {
        impl AsyncRead for $owner {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match &mut self.get_mut()$(.$field)? {
                    $($variant(stream) => Pin::new(stream).poll_read(cx, buffer),)+
                }
            }
        }

        impl AsyncWrite for $owner {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match &mut self.get_mut()$(.$field)? {
                    $($variant(stream) => Pin::new(stream).poll_write(cx, bytes),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match &mut self.get_mut()$(.$field)? {
                    $($variant(stream) => Pin::new(stream).poll_write_vectored(cx, parts),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match &self$(.$field)? {
                    $($variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match &mut self.get_mut()$(.$field)? {
                    $($variant(stream) => Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match &mut self.get_mut()$(.$field)? {
                    $($variant(stream) => Pin::new(stream).poll_shutdown(cx),)+
                }
            }
        }
    };
}

pass_on!(Transport, [Transport::Tcp, Transport::Tls]);
pass_on!(Stream, layer.[Layer::Plain, Layer::Tls]);
