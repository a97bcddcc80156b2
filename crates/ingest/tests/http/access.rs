//! Who may publish.

use std::sync::Arc;

use hooklane_ingest::{IngestError, IngestSettings, Ports, SettingsError, Token, run};
use hooklane_telemetry::{Metric, Metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fixture::{BODY, PATH, Running};
use crate::scripted::Scripted;

#[tokio::test]
async fn only_the_token_publishes() {
    // Goal: 401 with its challenge, and no word about applications, without the token; operators' paths need none.
    let settings = IngestSettings {
        token: Some(Token::new("s3cret").unwrap()),
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    let mut connection = ingest.connect().await;
    for header in [
        "x-none: 1",
        "authorization: Bearer wrong",
        "authorization: Basic s3cret",
    ] {
        for path in [PATH, "/api/v1/app/nobody/msg"] {
            let answer = connection.request("POST", path, &[header], BODY).await;
            assert_eq!(
                (answer.status, answer.json()["code"].as_str()),
                (401, Some("authentication_failed"))
            );
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert!(broker.published().is_empty());
    let answer = connection
        .request("POST", PATH, &["authorization: Bearer s3cret"], BODY)
        .await;
    assert_eq!(answer.status, 202);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(
            connection.request("GET", path, &[], "").await.status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        ingest.metrics.value(Metric::EventsRefused, &["unauthorized"]),
        6.0
    );
}

#[tokio::test]
async fn addresses_outside_the_list_get_403_everywhere() {
    // Goal: the list judges the connection's address, for every path, whatever headers claim.
    let settings = IngestSettings {
        allowed_networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    let mut connection = ingest.connect().await;
    for (method, path) in [
        ("POST", PATH),
        ("GET", "/metrics"),
        ("GET", "/healthz"),
        ("GET", "/none"),
    ] {
        let answer = connection
            .request(method, path, &["x-forwarded-for: 10.0.0.1"], BODY)
            .await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (403, Some("permission_denied")),
            "{path}"
        );
    }
    assert!(broker.published().is_empty());
    assert_eq!(ingest.metrics.value(Metric::EventsRefused, &["address"]), 4.0);
}

#[tokio::test]
async fn addresses_on_the_list_are_served() {
    // Goal: the same list with loopback in it serves loopback.
    let networks = vec!["10.0.0.0/8".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
    let (ingest, _broker) = Running::scripted(IngestSettings {
        allowed_networks: networks,
        ..IngestSettings::default()
    })
    .await;
    assert_eq!(ingest.connect().await.post(PATH, BODY).await.status, 202);
}

#[tokio::test]
async fn it_does_not_listen_off_loopback_without_a_token() {
    // Goal: an open ingest does not start by accident.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let registry = watch::Sender::new(Arc::default());
    let ports = Ports {
        broker: Scripted::new(),
        records: hooklane_broker::RecordWriter::off(),
        ids: None,
        registry: registry.subscribe(),
        is_current: watch::channel(true).1,
        metrics: Arc::new(Metrics::new()),
        read_token: None,
        routes: Default::default(),
    };
    let ended = run(
        IngestSettings::default(),
        ports,
        listener,
        CancellationToken::new(),
    );
    let error = ended.await.unwrap_err();
    assert!(
        matches!(&error, IngestError::Settings(SettingsError::OpenToAll { .. })),
        "{error}"
    );
}
