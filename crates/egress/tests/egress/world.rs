//! A client that may reach the loopback network, and its metrics.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hooklane_egress::{Answer, Client, EgressSettings, Failure, Request, Response};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{FailureKind, TlsFiles};

/// Longer than any test should take.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub client: Client,
    pub metrics: Arc<Metrics>,
}

impl World {
    /// A client with these changes to settings that allow http and 127.0.0.0/8.
    pub fn with(change: impl FnOnce(&mut EgressSettings)) -> World {
        let mut settings = EgressSettings {
            https_only: false,
            allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
            ..EgressSettings::default()
        };
        change(&mut settings);
        let metrics = Arc::new(Metrics::new());
        World {
            client: Client::new(settings, metrics.clone()).unwrap(),
            metrics,
        }
    }

    pub fn new() -> World {
        World::with(|_| {})
    }

    pub async fn post(&self, url: &str) -> Answer {
        self.client.post(request(url)).await
    }

    pub async fn status(&self, url: &str) -> u16 {
        self.ok(request(url)).await.status
    }

    pub async fn ok(&self, request: Request) -> Response {
        self.client
            .post(request)
            .await
            .result
            .unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    pub async fn failure(&self, request: Request) -> Failure {
        match self.client.post(request).await.result {
            Ok(response) => panic!("a status came: {response:?}"),
            Err(failure) => failure,
        }
    }

    pub async fn kind(&self, url: &str) -> FailureKind {
        self.failure(request(url)).await.kind
    }

    pub fn value(&self, metric: Metric, labels: &[&str]) -> f64 {
        self.metrics.value(metric, labels)
    }
}

pub fn request(url: &str) -> Request {
    Request {
        url: url.parse().unwrap(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: "{\"a\": 1.0}".into(),
        timeout: PATIENCE,
        tls: TlsFiles::default(),
        auth: None,
    }
}

pub fn trusting(ca: &Path) -> TlsFiles {
    TlsFiles {
        ca: Some(ca.to_owned()),
        client: None,
    }
}
