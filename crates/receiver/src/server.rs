use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Sending;
use crate::log::{Log, Request};
use crate::receiver::Protocol;
use crate::reply::{Action, Body, Reply};
use crate::script::{Scripts, lock};
use crate::socket::Socket;
use crate::verdict::Verifiers;

/// After an accept that failed (out of file descriptors) the next one waits this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);
/// A TLS handshake that takes longer is given up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

/// What the accept loop, its connections and the `Receiver` share.
pub(crate) struct Shared {
    pub(crate) scripts: Scripts,
    pub(crate) verifiers: Verifiers,
    pub(crate) log: Mutex<Log>,
    /// Goes up with every request; waiters hang on it.
    pub(crate) arrivals: watch::Sender<u64>,
    pub(crate) connections_opened: AtomicU64,
    pub(crate) bytes_sent: Arc<AtomicU64>,
    pub(crate) broken_requests: AtomicU64,
    pub(crate) in_flight: AtomicU64,
    pub(crate) in_flight_peak: AtomicU64,
    pub(crate) body_bytes_max: usize,
    pub(crate) protocol: Protocol,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// Counts a request as in flight for as long as it lives.
pub(crate) struct InFlight(Arc<Shared>);

impl InFlight {
    fn begin(shared: &Arc<Shared>) -> InFlight {
        let now = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        shared.in_flight_peak.fetch_max(now, Ordering::Relaxed);
        InFlight(shared.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, as its requests see it.
struct Connection {
    shared: Arc<Shared>,
    number: u64,
    peer: SocketAddr,
    server_name: Option<Arc<str>>,
    client_certificate: Option<Bytes>,
    reset_on_drop: Arc<AtomicBool>,
    end: CancellationToken,
}

/// Accepts until told to stop. Errors of one connection end that connection only.
pub(crate) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serving = serve(stream, peer, tls.clone(), shared.clone());
                shared.tasks.spawn(serving);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let number = shared.connections_opened.fetch_add(1, Ordering::Relaxed) + 1;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the connection is gone before it was served");
    }
    let reset_on_drop = Arc::new(AtomicBool::new(false));
    let socket = Socket::new(stream, reset_on_drop.clone());
    let mut connection = Connection {
        end: shared.stop.child_token(),
        shared,
        number,
        peer,
        server_name: None,
        client_certificate: None,
        reset_on_drop,
    };
    let Some(tls) = tls else {
        return connection.run(socket).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(socket));
    let stream = tokio::select! {
        () = connection.end.cancelled() => return,
        stream = handshake => stream,
    };
    match stream {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            connection.server_name = session.server_name().map(Arc::from);
            connection.client_certificate = session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|certificate| Bytes::copy_from_slice(certificate));
            connection.run(stream).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, %peer, "the TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
    }
}

impl Connection {
    async fn run(self, io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        builder.http2().timer(TokioTimer::new());
        let builder = match self.shared.protocol {
            Protocol::Http1 => builder.http1_only(),
            Protocol::Http2 => builder.http2_only(),
            Protocol::Auto => builder,
        };
        let connection = Arc::new(self);
        let of_requests = connection.clone();
        let service = service_fn(move |request| {
            let connection = of_requests.clone();
            async move { Ok::<_, Infallible>(connection.handle(request).await) }
        });
        let serving = builder.serve_connection(TokioIo::new(io), service);
        tokio::select! {
            () = connection.end.cancelled() => {}
            served = serving => if let Err(error) = served {
                tracing::debug!(%error, connection = connection.number, "a connection ended early");
            },
        }
    }

    async fn handle(&self, request: http::Request<Incoming>) -> Response<Sending> {
        let in_flight = InFlight::begin(&self.shared);
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, self.shared.body_bytes_max).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                self.shared.broken_requests.fetch_add(1, Ordering::Relaxed);
                let status = match error.is::<LengthLimitError>() {
                    true => StatusCode::PAYLOAD_TOO_LARGE,
                    false => StatusCode::BAD_REQUEST,
                };
                return self.answer(status, Body::Full(Bytes::new()), in_flight);
            }
        };
        let request = self.describe(head, body);
        let reply = self.shared.scripts.next(&request);
        lock(&self.shared.log).add(request);
        self.shared.arrivals.send_modify(|count| *count += 1);
        self.act(reply, in_flight).await
    }

    fn describe(&self, head: http::request::Parts, body: Bytes) -> Request {
        let verdict = self.shared.verifiers.judge(head.uri.path(), &head.headers, &body);
        Request {
            verdict,
            at: Instant::now(),
            wall_clock: SystemTime::now(),
            method: head.method,
            path: Arc::from(head.uri.path()),
            query: head.uri.query().map(Arc::from),
            headers: head.headers,
            body,
            connection: self.number,
            http_version: head.version,
            peer: self.peer,
            server_name: self.server_name.clone(),
            client_certificate: self.client_certificate.clone(),
        }
    }

    async fn act(&self, reply: Reply, in_flight: InFlight) -> Response<Sending> {
        if !reply.delay_before.is_zero() {
            tokio::time::sleep(reply.delay_before).await;
        }
        match reply.action {
            Action::Answer {
                status,
                headers,
                body,
            } => {
                let mut response = self.answer(status, body, in_flight);
                *response.headers_mut() = headers;
                return response;
            }
            Action::Hang => {}
            Action::Close => self.end.cancel(),
            Action::Reset => {
                self.reset_on_drop.store(true, Ordering::Relaxed);
                self.end.cancel();
            }
        }
        // Held while it waits: a request without an answer is in flight until its connection ends.
        let _in_flight = in_flight;
        std::future::pending().await
    }

    fn answer(&self, status: StatusCode, body: Body, in_flight: InFlight) -> Response<Sending> {
        let mut response = Response::new(Sending::new(body, self.shared.bytes_sent.clone(), in_flight));
        *response.status_mut() = status;
        response
    }
}
