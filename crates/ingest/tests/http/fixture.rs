//! A running ingest.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::SharedBroker;
use hooklane_ingest::{IngestError, IngestSettings, Ports, ReadToken, run};
use hooklane_store::PublishedIds;
use hooklane_telemetry::Metrics;
use hooklane_types::{ApplicationId, Registry};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::raw::Connection;
use crate::scripted::Scripted;

pub const PATH: &str = "/api/v1/app/acme/msg";
pub const BODY: &str = r#"{"eventType":"invoice.paid","payload":{"n":1.0}}"#;

pub struct Running {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<(), IngestError>>,
    pub registry: watch::Sender<Arc<Registry>>,
    pub is_current: watch::Sender<bool>,
}

impl Running {
    /// With a scripted broker.
    pub async fn scripted(settings: IngestSettings) -> (Running, Arc<Scripted>) {
        let broker = Scripted::new();
        (Running::start(settings, broker.clone()).await, broker)
    }

    pub async fn start(settings: IngestSettings, broker: SharedBroker) -> Running {
        Running::with_tokens(settings, broker, None).await
    }

    pub async fn with_tokens(
        settings: IngestSettings,
        broker: SharedBroker,
        read_token: Option<ReadToken>,
    ) -> Running {
        Running::with(settings, broker, read_token, None).await
    }

    /// With a store of ids.
    pub async fn with_ids(ids: Arc<dyn PublishedIds>) -> (Running, Arc<Scripted>) {
        let broker = Scripted::new();
        let running = Running::with(IngestSettings::default(), broker.clone(), None, Some(ids));
        (running.await, broker)
    }

    async fn with(
        settings: IngestSettings,
        broker: SharedBroker,
        read_token: Option<ReadToken>,
        ids: Option<Arc<dyn PublishedIds>>,
    ) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let stop = CancellationToken::new();
        let applications = [ApplicationId::parse("acme").unwrap()];
        let registry = watch::Sender::new(Arc::new(Registry::new(applications, []).unwrap()));
        let is_current = watch::Sender::new(true);
        let ports = Ports {
            broker,
            records: hooklane_broker::RecordWriter::off(),
            ids,
            registry: registry.subscribe(),
            is_current: is_current.subscribe(),
            metrics: metrics.clone(),
            read_token,
            routes: Default::default(),
        };
        let running = run(settings, ports, listener, stop.clone());
        Running {
            address,
            metrics,
            stop,
            task: tokio::spawn(running),
            registry,
            is_current,
        }
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for the end.
    pub async fn ended(self) {
        timeout(Duration::from_secs(20), self.task)
            .await
            .expect("it ends")
            .unwrap()
            .unwrap();
    }
}

/// HTTP/2's own default; reqwest's is larger than the answers here.
const WINDOW_BYTES: u32 = 65_535;

/// A client that speaks HTTP/2 from the first byte on.
pub fn http2() -> reqwest::Client {
    client(
        reqwest::Client::builder()
            .http2_prior_knowledge()
            .http2_initial_stream_window_size(WINDOW_BYTES),
    )
}

/// reqwest builds a TLS connector even for plain HTTP, and wants a provider for it.
pub fn client(builder: reqwest::ClientBuilder) -> reqwest::Client {
    let _already = rustls::crypto::ring::default_provider().install_default();
    builder.no_proxy().build().unwrap()
}
