use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hooklane_signing::Verifier;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Error;
use crate::log::{Log, Request};
use crate::reply::Reply;
use crate::script::{Scripts, lock};
use crate::server::{Shared, accept};
use crate::verdict::Verifiers;

/// How a receiver is set up. [`Options::default`] listens on a free port of 127.0.0.1, without TLS.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Serves HTTPS with this. An empty `alpn_protocols` is filled from `protocol`.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Which versions of HTTP are spoken.
    pub protocol: Protocol,
    /// How many requests are kept for [`Receiver::received`]; older ones are only counted.
    pub requests_kept_max: usize,
    /// A longer request body is answered with 413 and not recorded.
    pub body_bytes_max: usize,
}

/// Which versions of HTTP a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// What the client begins with (or chose by ALPN).
    Auto,
    /// HTTP/1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

impl Protocol {
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Protocol::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            tls: None,
            protocol: Protocol::Auto,
            requests_kept_max: 100_000,
            body_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// A running webhook receiver. Dropping it closes its port and connections.
pub struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Starts to listen; the runtime of the caller serves.
    ///
    /// # Errors
    /// [`Error::Listen`] when the address cannot be had.
    pub async fn start(options: Options) -> Result<Receiver, Error> {
        let failed = |source| Error::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            scripts: Scripts::new(),
            verifiers: Verifiers::default(),
            log: Mutex::new(Log::new(options.requests_kept_max)),
            arrivals: watch::Sender::new(0),
            connections_opened: AtomicU64::new(0),
            bytes_sent: Arc::default(),
            broken_requests: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            in_flight_peak: AtomicU64::new(0),
            body_bytes_max: options.body_bytes_max,
            protocol: options.protocol,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let tls = options.tls.map(|config| acceptor(config, options.protocol));
        shared.tasks.spawn(accept(listener, tls, shared.clone()));
        Ok(Receiver {
            address,
            scheme,
            shared,
        })
    }

    /// The address it listens on, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path (which begins with `/`) by address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The URL of a path under another host name, same port.
    pub fn url_by_name(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.address.port())
    }

    /// Scripts a path: one reply per request from now on, the last repeats. No replies means `200 OK`.
    pub fn script(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.shared.scripts.set(path, replies.into_iter().collect());
    }

    /// Scripts a path by a closure that sees each request.
    pub fn script_with(&self, path: &str, decide: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.shared.scripts.set_closure(path, Arc::new(decide));
    }

    /// Scripts all paths that have no script of their own.
    pub fn script_default(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.scripts.set_default(replies.into_iter().collect());
    }

    /// Scripts all paths that have no script of their own, by a closure that sees each request.
    pub fn script_default_with(&self, decide: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        self.shared.scripts.set_default_closure(Arc::new(decide));
    }

    /// Verifies the signatures of requests to a path from now on. Scripts see the verdict; nothing is refused by itself.
    pub fn verify(&self, path: &str, verifier: Verifier) {
        self.shared.verifiers.set(path, verifier);
    }

    /// Verifies the requests to all paths that have no verifier of their own.
    pub fn verify_default(&self, verifier: Verifier) {
        self.shared.verifiers.set_default(verifier);
    }

    /// The requests that are kept, oldest first.
    pub fn received(&self) -> Vec<Request> {
        self.look(|log| log.requests().cloned().collect())
    }

    /// The kept requests of one path, oldest first.
    pub fn received_at(&self, path: &str) -> Vec<Request> {
        self.look(|log| {
            log.requests()
                .filter(|request| request.path.as_ref() == path)
                .cloned()
                .collect()
        })
    }

    /// Reads the log in place; arrivals wait meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Log) -> T) -> T {
        look(&lock(&self.shared.log))
    }

    /// How many requests arrived in all.
    pub fn total(&self) -> u64 {
        self.look(Log::total)
    }

    /// How often each webhook-id arrived, at whatever path.
    pub fn by_webhook_id(&self) -> HashMap<String, u64> {
        self.look(Log::by_webhook_id)
    }

    /// Forgets requests and counts per path and id; scripts and connections stay.
    pub fn forget(&self) {
        lock(&self.shared.log).clear();
    }

    /// How many connections were accepted so far.
    pub fn connections_opened(&self) -> u64 {
        self.shared.connections_opened.load(Ordering::Relaxed)
    }

    /// Bytes of answer bodies handed to the connections so far (ahead of the peer by at most the socket buffers).
    pub fn body_bytes_sent(&self) -> u64 {
        self.shared.bytes_sent.load(Ordering::Relaxed)
    }

    /// Requests that broke off within the body, or whose body was too long.
    pub fn broken_requests(&self) -> u64 {
        self.shared.broken_requests.load(Ordering::Relaxed)
    }

    /// Requests that have begun and whose answer was not wholly sent yet.
    pub fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// The most that were ever in flight at once.
    pub fn in_flight_peak(&self) -> u64 {
        self.shared.in_flight_peak.load(Ordering::Relaxed)
    }

    /// Waits until `count` requests have arrived in all.
    ///
    /// # Errors
    /// [`Error::Deadline`] with how many came.
    pub async fn wait_for(&self, count: u64, deadline: Duration) -> Result<(), Error> {
        self.wait_until(&format!("{count} requests"), deadline, |log| log.total() >= count)
            .await
    }

    /// Waits until `count` requests have arrived at a path.
    ///
    /// # Errors
    /// [`Error::Deadline`] with how many came.
    pub async fn wait_for_at(&self, path: &str, count: u64, deadline: Duration) -> Result<(), Error> {
        let what = format!("{count} requests at {path}");
        self.wait_until(&what, deadline, |log| log.count_at(path) >= count)
            .await
    }

    /// Waits until the predicate holds; it is asked now and after every arrival (so it should be cheap).
    ///
    /// # Errors
    /// [`Error::Deadline`] with `what` was waited for.
    pub async fn wait_until(
        &self,
        what: &str,
        deadline: Duration,
        mut holds: impl FnMut(&Log) -> bool,
    ) -> Result<(), Error> {
        let mut arrivals = self.shared.arrivals.subscribe();
        let waiting = async {
            loop {
                arrivals.borrow_and_update();
                if self.look(&mut holds) {
                    return;
                }
                arrivals
                    .changed()
                    .await
                    .expect("the receiver holds the sender for as long as it lives");
            }
        };
        match tokio::time::timeout(deadline, waiting).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Deadline {
                what: what.to_owned(),
                deadline,
                seen: self.look(describe),
            }),
        }
    }

    /// Closes port and connections, and returns when all of its tasks have ended.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

fn acceptor(config: Arc<rustls::ServerConfig>, protocol: Protocol) -> TlsAcceptor {
    if !config.alpn_protocols.is_empty() {
        return config.into();
    }
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = protocol.alpn();
    Arc::new(config).into()
}

/// What had arrived when a wait failed: total, distinct ids, and the last few requests.
fn describe(log: &Log) -> String {
    const LAST: usize = 5;
    let last: Vec<String> = log
        .requests()
        .rev()
        .take(LAST)
        .map(|request| {
            format!(
                "{} {} {}",
                request.method,
                request.path,
                request.webhook_id().unwrap_or("-")
            )
        })
        .collect();
    format!(
        "{} requests came, {} deliveries; the last: [{}]",
        log.total(),
        log.distinct(),
        last.join(", ")
    )
}
