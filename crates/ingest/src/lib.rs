#![doc = include_str!("../README.md")]

mod activity;
mod allow;
mod answer;
mod auth;
mod body;
mod cloudevents;
mod error;
mod form;
mod line;
mod message;
mod publish;
mod router;
mod serve;
mod settings;
mod socket;
mod tls;

use std::sync::Arc;

use hooklane_broker::SharedBroker;
use hooklane_telemetry::Metrics;
use hooklane_types::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use auth::{Token, TokenError};
pub use error::IngestError;
pub use settings::{IngestSettings, SettingsError, TlsSettings};
pub use tls::TlsError;

use body::Bodies;
use publish::Ingest;
use serve::Server;
use tls::Certificates;

/// Serves until `shutdown`, then finishes requests in flight within the grace time of the settings.
///
/// # Errors
/// Before the first connection: when the settings or the TLS files are wrong. Afterwards nothing ends it but `shutdown`.
pub async fn run(
    settings: IngestSettings,
    broker: SharedBroker,
    registry: watch::Receiver<Arc<Registry>>,
    metrics: Arc<Metrics>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), IngestError> {
    let address = listener.local_addr().map_err(IngestError::Listener)?;
    settings.validate(address)?;
    let certificates = match settings.tls.clone() {
        Some(tls) => Some(Certificates::load(tls).await?),
        None => None,
    };
    let bodies = Bodies::new(settings.bodies_held_bytes_max, metrics.clone());
    let ingest = Arc::new(Ingest {
        settings,
        broker,
        registry,
        metrics,
        bodies,
    });
    let server = Arc::new(Server {
        router: router::router(ingest.clone()),
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
