//! An ingest that listens before it has anything to work with.

use std::sync::Arc;

use hooklane_ingest::{Front, IngestSettings, Ports, Waiting};
use hooklane_telemetry::Metrics;
use hooklane_types::{ApplicationId, Registry};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::fixture::{BODY, PATH, client};
use crate::scripted::Scripted;

#[tokio::test]
async fn who_waits_says_why_and_the_same_connection_works_once_it_is_over() {
    // Goal: liveness, the reason and 503 with a time meanwhile; then the event is taken, on the connection that was refused.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let metrics = Arc::new(Metrics::new());
    let (_sender, why) = watch::channel(Some("waiting for the store".to_owned()));
    let waiting = Waiting {
        why,
        metrics: metrics.clone(),
        has_tokens: false,
    };
    let stop = CancellationToken::new();
    let front = Front::open(IngestSettings::default(), waiting, listener, stop.clone());
    let front = front.await.unwrap();
    let (done, is_over) = oneshot::channel();
    let registry = [ApplicationId::parse("acme").unwrap()];
    let registry = watch::channel(Arc::new(Registry::new(registry, []).unwrap())).1;
    let ports = Ports {
        broker: Scripted::new(),
        records: hooklane_broker::RecordWriter::off(),
        ids: None,
        registry,
        is_current: watch::channel(true).1,
        metrics,
        read_token: None,
        routes: Default::default(),
    };
    let task = tokio::spawn(async move {
        front.beside(is_over).await.unwrap();
        front.run(ports).await;
    });

    let http = client(reqwest::Client::builder().pool_max_idle_per_host(1));
    let get = async |path: &str| {
        let answer = http.get(format!("{url}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/metrics").await.0, 200);
    let (status, text) = get("/readyz").await;
    assert!(status == 503 && text.contains("waiting for the store"), "{text}");
    let publish = async || {
        let request = http.post(format!("{url}{PATH}")).body(BODY);
        request
            .header("content-type", "application/json")
            .send()
            .await
            .unwrap()
    };
    let refused = publish().await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert!(refused.text().await.unwrap().contains("service_unavailable"));
    assert_eq!(get("/api/v1/app/").await.0, 503);

    done.send(()).unwrap();
    while get("/readyz").await.0 != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(publish().await.status(), 202);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_stop_while_it_waits_ends_its_connections() {
    // Goal: whoever waits can be ended in order; nobody is left hanging.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let waiting = Waiting {
        why: watch::channel(None).1,
        metrics: Arc::new(Metrics::new()),
        has_tokens: false,
    };
    let stop = CancellationToken::new();
    let front = Front::open(IngestSettings::default(), waiting, listener, stop.clone());
    let front = front.await.unwrap();
    let http = client(reqwest::Client::builder());
    let asked = async {
        let before = http.get(format!("{url}/healthz")).send().await.unwrap().status();
        stop.cancel();
        before
    };
    assert_eq!(front.beside(asked).await, 200);
    drop(front);
    assert!(http.get(format!("{url}/healthz")).send().await.is_err());
}
