//! Accepting connections, serving each within its deadlines, and ending them at a stop.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use hooklane_telemetry::Metrics;
use http::{Request, Response, Version};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::activity::{Activity, Deadlines, InFlight, Verdict};
use crate::allow::allows;
use crate::answer::Refusal;
use crate::line::address_refused;
use crate::router::Peer;
use crate::settings::IngestSettings;
use crate::socket::Socket;

/// After an accept that failed (out of file descriptors) the next one waits this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How often a connection's deadlines are looked at: their precision.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that was asked to end gets this long.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Publishers send about ten headers; proxies add some.
const HEADERS_MAX: usize = 100;
/// All headers of a request, in bytes; in HTTP/1 also the most that is read ahead of a body.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Unread bytes that an HTTP/2 client may send ahead: of one request, and in all on the connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// An HTTP/2 client that is gone without a word is noticed by these.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What connections share.
pub(crate) struct Server {
    pub(crate) settings: IngestSettings,
    pub(crate) metrics: Arc<Metrics>,
    /// What answers until there is a router.
    pub(crate) waiting: Router,
    pub(crate) router: OnceLock<Router>,
    pub(crate) tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// One for each connection.
    pub(crate) permits: Arc<Semaphore>,
    /// Finish what was begun, begin nothing.
    pub(crate) stop: CancellationToken,
    /// End now.
    pub(crate) end: CancellationToken,
}

/// Serves until told to stop, then lets requests in flight finish within the grace.
pub(crate) async fn serve(server: Arc<Server>, listener: TcpListener, connections: TaskTracker) {
    accept(&server, &listener, &connections).await;
    drop(listener);
    connections.close();
    let grace = server.settings.grace;
    if timeout(grace, connections.wait()).await.is_err() {
        let left = connections.len();
        tracing::warn!(
            connections = left,
            grace_ms = grace.as_millis(),
            "requests did not finish within the grace"
        );
        server.end.cancel();
        connections.wait().await;
    }
}

/// Accepts until the stop. A connection's permit is taken before the connection: over the bound, clients wait in the listener's backlog.
/// Cancel safe.
pub(crate) async fn accept(server: &Arc<Server>, listener: &TcpListener, connections: &TaskTracker) {
    loop {
        let next = async {
            let permit = server
                .permits
                .clone()
                .acquire_owned()
                .await
                .expect("this semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = server.stop.cancelled() => return,
            next = next => next,
        };
        match accepted {
            // On a panic the connection ends with its task, and its permit comes back.
            Ok((stream, peer)) => drop(connections.spawn(connect(server.clone(), stream, peer, permit))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// One connection from beginning to end.
async fn connect(server: Arc<Server>, stream: TcpStream, peer: SocketAddr, _permit: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "a connection was gone before it was served");
        return;
    }
    let activity = Activity::new(Instant::now());
    let socket = Socket::new(stream, activity.clone());
    let connection = Connection {
        server,
        peer,
        activity,
    };
    let Some(config) = connection.server.tls.as_ref().map(|tls| tls.borrow().clone()) else {
        return connection.run(socket).await;
    };
    let handshake = timeout(
        connection.server.settings.header_timeout,
        TlsAcceptor::from(config).accept(socket),
    );
    let stream = tokio::select! {
        () = connection.server.stop.cancelled() => return,
        stream = handshake => stream,
    };
    match stream {
        Ok(Ok(stream)) => connection.run(stream).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

struct Connection {
    server: Arc<Server>,
    peer: SocketAddr,
    activity: Arc<Activity>,
}

impl Connection {
    async fn run(self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let deadlines = Deadlines::new(&self.server.settings);
        let connection = Arc::new(self);
        let of_requests = connection.clone();
        let service = service_fn(move |request| {
            let connection = of_requests.clone();
            async move { Ok::<_, Infallible>(connection.answer(request).await) }
        });
        let builder = protocols();
        let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stop, end) = (&connection.server.stop, &connection.server.end);
        // Set once the connection was asked to end; at a stop its time is the grace.
        let mut farewell: Option<Option<Instant>> = None;
        loop {
            tokio::select! {
                served = serving.as_mut() => {
                    if let Err(error) = served {
                        tracing::debug!(%error, peer = %connection.peer, "a connection ended early");
                    }
                    return;
                }
                () = end.cancelled() => return,
                () = stop.cancelled(), if farewell.is_none() => {
                    serving.as_mut().graceful_shutdown();
                    farewell = Some(None);
                }
                _ = looks.tick() => {
                    let now = Instant::now();
                    match (connection.activity.verdict(now, deadlines), farewell) {
                        (_, Some(Some(until))) if now > until => return,
                        (Verdict::Slow(why), _) => {
                            tracing::debug!(peer = %connection.peer, why, "a connection is ended");
                            return;
                        }
                        (Verdict::Idle, None) => {
                            serving.as_mut().graceful_shutdown();
                            farewell = Some(Some(now + FAREWELL_MAX));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Tracked> {
        let in_flight = self.activity.begin(request.version(), Instant::now());
        let multiplexed = request.version() == Version::HTTP_2;
        let response = self.route(request.map(Body::new)).await;
        if !multiplexed && !response.status().is_success() {
            self.activity.linger();
        }
        response.map(|body| Tracked {
            body,
            has_begun: false,
            in_flight: Arc::new(in_flight),
        })
    }

    fn route(&self, mut request: Request<Body>) -> impl Future<Output = Response<Body>> + use<> {
        let server = &*self.server;
        let allowed = allows(&server.settings.allowed_networks, self.peer.ip());
        let routed = if allowed {
            request.extensions_mut().insert(Peer(self.peer));
            let router = server.router.get().unwrap_or(&server.waiting);
            Some(router.clone().call(request))
        } else {
            address_refused(self.peer, &server.metrics);
            None
        };
        async move {
            match routed {
                Some(routed) => routed.await.unwrap_or_else(|never| match never {}),
                None => Refusal::AddressNotAllowed.response(),
            }
        }
    }
}

/// An answer's body. Its request is in flight for as long as the body or any of its bytes live: HTTP/2 takes over all bytes
/// at once, and keeps them until the client opens its window.
struct Tracked {
    body: Body,
    has_begun: bool,
    in_flight: Arc<InFlight>,
}

/// Bytes on their way.
struct Unsent {
    bytes: Bytes,
    _in_flight: Arc<InFlight>,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if std::mem::replace(&mut self.has_begun, true) && frame.is_some() {
            self.in_flight.goes_on(Instant::now());
        }
        let in_flight = &self.in_flight;
        let track = |bytes| {
            Bytes::from_owner(Unsent {
                bytes,
                _in_flight: in_flight.clone(),
            })
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(track))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// HTTP/1 and HTTP/2, told apart by the first bytes. Hyper's own header timeout would end idle connections as well, so
/// slow headers are `activity`'s business.
fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
