//! One POST, under one deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hooklane_telemetry::Metrics;
use hooklane_types::{FailureKind, TlsFiles};
use http::header::RETRY_AFTER;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tokio::time::{Instant, timeout_at};

use crate::answer::{Answer, Failure, Response};
use crate::connector::Network;
use crate::failure::classify;
use crate::profiles::{Maker, Profiles};
use crate::proxy::Proxy;
use crate::request::{self, Request};
use crate::resolve::Resolver;
use crate::sessions::Sessions;
use crate::settings::{EgressError, EgressSettings};
use crate::stream::{OpenConnections, Remote};
use crate::tls::{self, TlsError};

/// Longest wait for a body once the status is known: the status has decided, and a receiver that hangs within its
/// body should not hold an attempt's place for the rest of the timeout.
const BODY_WAIT_MAX: Duration = Duration::from_secs(2);
/// Read and thrown away beyond what is kept: a body that ends so soon saves its connection.
const BODY_DRAIN_BYTES_MAX: usize = 64 * 1024;
/// Longest attempt, whatever was asked for; keeps the sum of times from overflowing.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Longest `Retry-After` handed on, in bytes: a date has 29.
const RETRY_AFTER_BYTES_MAX: usize = 128;

/// The HTTP client. Clones share pools and caches.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    https_only: bool,
    answer_bytes_max: usize,
    profiles: Profiles,
}

impl Client {
    /// Makes a client. Reads the system's certificate authorities and, without `dns_servers`, its resolver
    /// configuration: from the disk, so call it at start.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub fn new(settings: EgressSettings, metrics: Arc<Metrics>) -> Result<Client, EgressError> {
        let roots = tls::system_roots();
        let sessions = Sessions::new(settings.tls_sessions_max, metrics.clone());
        let profile_next = Arc::new(AtomicU64::new(1));
        let proxy = match &settings.proxy {
            None => None,
            Some(url) => {
                // A proxy is spoken to in HTTP/1.1; profile 0 is its own.
                let files = TlsFiles::default();
                let tls = tls::client_config(&files, &roots, sessions.of_profile(0), &[b"http/1.1"]);
                Some(Proxy::new(url, tls.map_err(setup)?)?)
            }
        };
        let network = Arc::new(Network {
            resolver: Resolver::new(&settings, metrics.clone())?,
            allowed: settings.allowed_networks.clone(),
            proxy,
            connections: OpenConnections::new(settings.connections_idle_max, metrics.clone()),
            metrics,
        });
        let maker = Maker {
            network,
            roots,
            sessions,
            profile_next,
            connections_idle_max: settings.connections_idle_max,
            connection_idle: settings.connection_idle,
        };
        let profiles = Profiles::new(&settings, maker).map_err(setup)?;
        Ok(Client {
            inner: Arc::new(Inner {
                https_only: settings.https_only,
                answer_bytes_max: settings.answer_bytes_max,
                profiles,
            }),
        })
    }

    /// POSTs once. Never fails by itself: what went wrong is in the answer.
    pub async fn post(&self, request: Request) -> Answer {
        let begun = Instant::now();
        let deadline = begun + request.timeout.min(TIMEOUT_MAX);
        let (result, remote) = self.attempt(request, deadline).await;
        Answer {
            result,
            duration: begun.elapsed(),
            remote,
        }
    }

    async fn attempt(
        &self,
        request: Request,
        deadline: Instant,
    ) -> (Result<Response, Failure>, Option<SocketAddr>) {
        let Request {
            url,
            headers,
            body,
            timeout,
            tls,
            auth,
        } = request;
        match url.scheme() {
            "https" => {}
            "http" if !self.inner.https_only => {}
            "http" => return (Err(refused("http is not allowed (https_only is set)")), None),
            _ => return (Err(refused("the URL is neither http nor https")), None),
        }
        let mut request = match request::build(&url, headers, auth.as_ref(), body) {
            Ok(request) => request,
            Err(failure) => return (Err(failure), None),
        };
        let connection = capture_connection(&mut request);
        let sending = async {
            let http = self
                .inner
                .profiles
                .http(&tls)
                .await
                .map_err(|error| refused(error.to_string()))?;
            http.request(request).await.map_err(|error| classify(&error))
        };
        match timeout_at(deadline, sending).await {
            Ok(Ok(answer)) => {
                let remote = answer.extensions().get::<Remote>().map(|remote| remote.0);
                (Ok(self.response(answer, deadline).await), remote)
            }
            Ok(Err(failure)) => (Err(failure), remote(&connection)),
            Err(_) => {
                let remote = remote(&connection);
                let missing = if remote.is_some() {
                    "no status"
                } else {
                    "no connection"
                };
                let detail = format!("{missing} within {} ms", timeout.as_millis());
                (Err(Failure::new(FailureKind::Timeout, detail)), remote)
            }
        }
    }

    async fn response(&self, answer: http::Response<Incoming>, deadline: Instant) -> Response {
        let status = answer.status().as_u16();
        let version = answer.version();
        let retry_after = answer
            .headers()
            .get(RETRY_AFTER)
            .filter(|value| value.len() <= RETRY_AFTER_BYTES_MAX)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = answer.into_body();
        let (body, body_cut) = if body.is_end_stream() {
            (Bytes::new(), false)
        } else {
            read(
                body,
                self.inner.answer_bytes_max,
                deadline.min(Instant::now() + BODY_WAIT_MAX),
            )
            .await
        };
        Response {
            status,
            retry_after,
            body,
            body_cut,
            version,
        }
    }
}

/// The beginning of a body, and whether something of it is missing. Dropping the body cuts the connection (or resets
/// the stream) where it did not end.
async fn read(mut body: Incoming, bytes_max: usize, deadline: Instant) -> (Bytes, bool) {
    let mut kept = BytesMut::new();
    let mut passed_bytes = 0;
    let reading = async {
        while let Some(frame) = body.frame().await {
            // The status has decided: a broken body changes nothing.
            let Ok(frame) = frame else { return false };
            let Some(data) = frame.data_ref() else { continue };
            kept.extend_from_slice(&data[..data.len().min(bytes_max - kept.len())]);
            passed_bytes += data.len();
            if passed_bytes > bytes_max.saturating_add(BODY_DRAIN_BYTES_MAX) {
                return false;
            }
        }
        true
    };
    let has_ended = timeout_at(deadline, reading).await.unwrap_or(false);
    let is_cut = !has_ended || passed_bytes > kept.len();
    (kept.freeze(), is_cut)
}

fn remote(connection: &CaptureConnection) -> Option<SocketAddr> {
    let mut extras = http::Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extras);
    extras.get::<Remote>().map(|remote| remote.0)
}

fn refused(detail: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Configuration, detail)
}

fn setup(error: TlsError) -> EgressError {
    match error {
        TlsError::Setup(source) => EgressError::Tls(source),
        other => EgressError::Tls(rustls::Error::General(other.to_string())),
    }
}
