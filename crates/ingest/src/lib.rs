#![doc = include_str!("../README.md")]

mod access;
mod activity;
mod allow;
mod answer;
mod auth;
mod body;
mod cloudevents;
mod error;
mod form;
mod ids;
mod line;
mod message;
mod publish;
mod router;
mod serve;
mod settings;
mod socket;
mod tls;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hooklane_broker::{RecordWriter, SharedBroker};
use hooklane_store::PublishedIds;
use hooklane_telemetry::Metrics;
use hooklane_types::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use access::{ReadToken, Shown};
pub use auth::{Token, TokenError};
pub use error::IngestError;
pub use settings::{IngestSettings, SettingsError, TlsSettings};
pub use tls::TlsError;

use body::Bodies;
use ids::Ids;
use publish::Ingest;
use serve::Server;
use tls::Certificates;

/// What ingest works with.
pub struct Ports {
    /// Where events are published.
    pub broker: SharedBroker,
    /// What records events.
    pub records: RecordWriter,
    /// Which ids of producers have published; none where nothing knows, and a repeat is accepted.
    pub ids: Option<Arc<dyn PublishedIds>>,
    /// Which applications there are.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What tokens other than the one of the settings allow; none where there are no others.
    pub read_token: Option<ReadToken>,
    /// Paths that are served beside those of ingest.
    pub routes: axum::Router,
}

/// Serves until `shutdown`, then finishes requests in flight within the grace time of the settings.
///
/// # Errors
/// Before the first connection: when the settings or the TLS files are wrong. Afterwards nothing ends it but `shutdown`.
pub async fn run(
    settings: IngestSettings,
    ports: Ports,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), IngestError> {
    let address = listener.local_addr().map_err(IngestError::Listener)?;
    settings.validate(address, ports.read_token.is_some())?;
    let Ports {
        broker,
        records,
        ids,
        registry,
        metrics,
        read_token,
        routes,
    } = ports;
    let certificates = match settings.tls.clone() {
        Some(tls) => Some(Certificates::load(tls).await?),
        None => None,
    };
    let bodies = Bodies::new(settings.bodies_held_bytes_max, metrics.clone());
    let ingest = Arc::new(Ingest {
        settings,
        broker,
        records,
        ids: Ids::new(ids, metrics.clone()),
        is_refused: AtomicBool::new(false),
        registry,
        metrics,
        bodies,
        read_token,
        is_local: address.ip().to_canonical().is_loopback(),
    });
    let server = Arc::new(Server {
        router: router::router(ingest.clone(), routes),
        ingest,
        tls: certificates.as_ref().map(Certificates::current),
        stop: shutdown,
        end: CancellationToken::new(),
    });
    tracing::info!(%address, tls = certificates.is_some(), "ingest listens");
    let follow = async {
        match certificates {
            Some(certificates) => certificates.follow().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serve::serve(server, listener) => {}
        () = follow => {}
    }
    tracing::info!(%address, "ingest stopped");
    Ok(())
}
