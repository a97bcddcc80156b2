//! One connection: TCP or TLS, handshake with a deadline, and a way to end it that cannot hang.

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_rs::{Runtime, Tokio, TokioRuntime};
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;

use super::settings::RabbitMqSettings;
use super::tls;
use super::transport::{Mended, MendingTokio};
use super::url::BrokerUrl;

/// lapin's close was seen to hang for ever, once in about 75 runs.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// Certificate or key files can't be used.
    #[error("{0}")]
    Tls(String),
    /// Name, TCP, TLS or handshake did not end in time.
    #[error("no answer within {} ms while {doing}", waited.as_millis())]
    Timeout {
        /// How long it was waited for.
        waited: Duration,
        /// What was waited for.
        doing: &'static str,
    },
    /// The broker can't be reached, or refused us.
    #[error("{0}")]
    Refused(#[from] lapin::Error),
    /// None of several nodes can be used; in the order of the settings.
    #[error("{}", each(.0))]
    Nowhere(Vec<(BrokerUrl, ConnectError)>),
}

fn each(tried: &[(BrokerUrl, ConnectError)]) -> String {
    let each: Vec<_> = tried
        .iter()
        .map(|(url, error)| format!("{url}: {error}"))
        .collect();
    each.join("; ")
}

/// Opens a plain connection that nobody supervises, for commands: shelves, `check`. End it by [`close`].
///
/// # Errors
/// See [`ConnectError`].
pub async fn open(settings: &RabbitMqSettings, purpose: &str) -> Result<Connection, ConnectError> {
    let (_, opened) = anywhere(settings, purpose, 0).await?;
    Ok(opened.connection)
}

/// Closes a connection, and waits for it no longer than two seconds.
pub async fn close(connection: &Connection) {
    // Whether the other side says goodbye changes nothing for us.
    let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "OK".into())).await;
}

/// A connection together with its socket, so that it can be ended even if lapin hangs.
pub(crate) struct Link {
    connection: Connection,
    socket: Socket,
    url: BrokerUrl,
    node: usize,
}

impl Link {
    pub(crate) async fn open(settings: &RabbitMqSettings, purpose: &str) -> Result<Link, ConnectError> {
        Link::open_from(settings, purpose, 0).await
    }

    /// Tries the nodes in turn, beginning with this one (counted on from the last to the first again).
    pub(crate) async fn open_from(
        settings: &RabbitMqSettings,
        purpose: &str,
        first: usize,
    ) -> Result<Link, ConnectError> {
        let (node, Opened { connection, socket }) = anywhere(settings, purpose, first).await?;
        let url = settings.urls.all()[node].clone();
        Ok(Link {
            connection,
            socket,
            url,
            node,
        })
    }

    /// Where it leads to.
    pub(crate) fn url(&self) -> &BrokerUrl {
        &self.url
    }

    /// Which of the settings' URLs that is, counted from 0.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) async fn close(&self) {
        close(&self.connection).await;
        self.socket.end();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Also ends lapin's thread for it, which would otherwise wait on a half-open socket.
        self.socket.end();
    }
}

/// A second handle to the connection's socket, there as soon as TCP is connected.
#[derive(Clone, Default)]
struct Socket(Arc<OnceLock<std::net::TcpStream>>);

impl Socket {
    fn remember(&self, tcp: &impl AsFd) -> std::io::Result<()> {
        let second = tcp.as_fd().try_clone_to_owned()?;
        // There is one: lapin is told not to retry.
        let _ = self.0.set(second.into());
        Ok(())
    }

    fn end(&self) {
        if let Some(socket) = self.0.get() {
            // An error says that it has ended already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

struct Opened {
    connection: Connection,
    socket: Socket,
}

/// The first node, from `first` on, that can be used, and a connection to it.
async fn anywhere(
    settings: &RabbitMqSettings,
    purpose: &str,
    first: usize,
) -> Result<(usize, Opened), ConnectError> {
    let urls = settings.urls.all();
    let mut failed = Vec::new();
    for node in (first..first + urls.len()).map(|node| node % urls.len()) {
        match handshake(settings, &urls[node], purpose).await {
            Ok(opened) => return Ok((node, opened)),
            Err(error) if urls.len() == 1 => return Err(error),
            Err(error) => failed.push((node, error)),
        }
    }
    // By their order in the settings: wherever the round began, the same trouble reads the same.
    failed.sort_by_key(|(node, _)| *node);
    let tried = failed
        .into_iter()
        .map(|(node, error)| (urls[node].clone(), error))
        .collect();
    Err(ConnectError::Nowhere(tried))
}

async fn handshake(
    settings: &RabbitMqSettings,
    url: &BrokerUrl,
    purpose: &str,
) -> Result<Opened, ConnectError> {
    let connector = if url.is_tls() {
        Some(tls::connector(settings).await?)
    } else {
        None
    };
    let mut uri = url.uri().clone();
    let heartbeat_s = settings.heartbeat.as_secs().clamp(1, u64::from(u16::MAX));
    uri.query.heartbeat = uri.query.heartbeat.or(u16::try_from(heartbeat_s).ok());
    // No auto recovery: what was unacked and unconfirmed at the loss is our business.
    let properties =
        ConnectionProperties::default().with_connection_name(settings.connection_name(purpose).into());
    let socket = Socket::default();
    let connect_timeout = settings.connect_timeout;
    let connect = {
        let socket = socket.clone();
        let tokio = TokioRuntime::tokio_current();
        // lapin's own connect has no deadline with tokio, so name, TCP and TLS are ours.
        async move |uri: AMQPUri, _: Runtime<MendingTokio>| {
            let transport = async {
                let plain = AMQPUri {
                    scheme: AMQPScheme::AMQP,
                    ..uri.clone()
                };
                let stream = plain
                    .connect_with_config_async(TLSConfig::default(), &tokio)
                    .await?;
                if let AsyncTcpStream::Plain(tcp) = &stream {
                    socket.remember(tcp.get_ref())?;
                }
                let stream = match &connector {
                    Some(connector) => stream.into_rustls(connector, &uri.authority.host).await?,
                    None => stream,
                };
                // What lapin takes for plain has its TLS inside.
                let mended = Mended::new(stream, uri.query.frame_max);
                Ok(AsyncTcpStream::Plain(mended))
            };
            let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut);
            timeout(connect_timeout, transport)
                .await
                .unwrap_or_else(|_| Err(timed_out()))
                .map_err(lapin::Error::from)
        }
    };
    let runtime = Runtime::new(MendingTokio(Tokio::current()));
    let connecting = Connection::connector(uri, runtime, connect, properties);
    // Twice: once for the transport, which has its own deadline, once for the AMQP handshake.
    match timeout(2 * connect_timeout, connecting).await {
        Ok(Ok(connection)) => Ok(Opened { connection, socket }),
        Ok(Err(error)) => {
            socket.end();
            Err(error.into())
        }
        Err(_) => {
            socket.end();
            Err(ConnectError::Timeout {
                waited: 2 * connect_timeout,
                doing: "connecting",
            })
        }
    }
}
