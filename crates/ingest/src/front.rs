//! The door: it is open before there is anything to work with, so that whoever asks hears why it waits and when to come again.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use hooklane_telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Ports;
use crate::body::Bodies;
use crate::error::IngestError;
use crate::ids::Ids;
use crate::publish::Ingest;
use crate::router;
use crate::serve::{self, Server};
use crate::settings::IngestSettings;
use crate::tls::Certificates;

/// What is known before there are ports.
pub struct Waiting {
    /// What is waited for, in words, as `/readyz` says it.
    pub why: watch::Receiver<Option<String>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the ports will take tokens that the settings do not know.
    pub has_tokens: bool,
}

/// An ingest that listens. Until it runs, `/healthz` and `/metrics` are served, `/readyz` says why it waits, and everything else is answered 503.
pub struct Front {
    address: SocketAddr,
    server: Arc<Server>,
    listener: TcpListener,
    connections: TaskTracker,
    certificates: Option<Certificates>,
}

impl Front {
    /// Checks the settings, and reads the certificate. The first connection is taken by [`Front::beside`] or [`Front::run`].
    ///
    /// # Errors
    /// When the settings or the TLS files are wrong.
    pub async fn open(
        settings: IngestSettings,
        waiting: Waiting,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<Front, IngestError> {
        let address = listener.local_addr().map_err(IngestError::Listener)?;
        settings.validate(address, waiting.has_tokens)?;
        let certificates = match settings.tls.clone() {
            Some(tls) => Some(Certificates::load(tls).await?),
            None => None,
        };
        let server = Arc::new(Server {
            waiting: router::waiting(waiting.metrics.clone(), waiting.why),
            router: OnceLock::new(),
            permits: Arc::new(Semaphore::new(settings.connections_max)),
            settings,
            metrics: waiting.metrics,
            tls: certificates.as_ref().map(Certificates::current),
            stop: shutdown,
            end: CancellationToken::new(),
        });
        Ok(Front {
            address,
            server,
            listener,
            connections: TaskTracker::new(),
            certificates,
        })
    }

    /// Answers while this work goes on.
    pub async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let answering = async {
            serve::accept(&self.server, &self.listener, &self.connections).await;
            // Stopped: the work ends by itself.
            std::future::pending().await
        };
        tokio::select! {
            done = work => done,
            done = answering => done,
        }
    }

    /// Takes events until it is told to stop, then finishes requests in flight within the grace time of the settings.
    pub async fn run(self, ports: Ports) {
        let Front {
            address,
            server,
            listener,
            connections,
            certificates,
        } = self;
        let (ingest, routes) = ingest(&server, ports, address);
        // Nobody else sets it: this takes the only front of the server.
        let _ = server.router.set(router::router(ingest, routes));
        tracing::info!(%address, tls = certificates.is_some(), "ingest listens");
        let follow = async {
            match certificates {
                Some(certificates) => certificates.follow().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = serve::serve(server, listener, connections) => {}
            () = follow => {}
        }
        tracing::info!(%address, "ingest stopped");
    }
}

fn ingest(server: &Server, ports: Ports, address: SocketAddr) -> (Arc<Ingest>, axum::Router) {
    let Ports {
        broker,
        records,
        ids,
        registry,
        is_current,
        metrics,
        read_token,
        routes,
    } = ports;
    let settings = server.settings.clone();
    let ingest = Ingest {
        bodies: Bodies::new(settings.bodies_held_bytes_max, metrics.clone()),
        settings,
        broker,
        records,
        ids: Ids::new(ids, metrics.clone()),
        is_refused: AtomicBool::new(false),
        registry,
        is_current,
        metrics,
        read_token,
        is_local: address.ip().to_canonical().is_loopback(),
    };
    (Arc::new(ingest), routes)
}
