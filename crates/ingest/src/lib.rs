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
mod front;
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
pub use front::{Front, Waiting};
pub use settings::{IngestSettings, SettingsError, TlsSettings};
pub use tls::TlsError;

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
    /// Whether an application or a key that is not known is not there. While it is false, that is not known yet: whoever names one is told
    /// to come again.
    pub is_current: watch::Receiver<bool>,
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
    let waiting = Waiting {
        why: watch::channel(None).1,
        metrics: ports.metrics.clone(),
        has_tokens: ports.read_token.is_some(),
    };
    let front = Front::open(settings, waiting, listener, shutdown).await?;
    front.run(ports).await;
    Ok(())
}
