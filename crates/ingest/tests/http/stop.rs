//! A stop: finish what was begun, begin nothing.

use std::time::Duration;

use hooklane_ingest::IngestSettings;
use tokio::net::TcpStream;

use crate::fixture::{BODY, PATH, Running, http2};

#[tokio::test]
async fn requests_in_flight_are_finished_and_nothing_new_begins() {
    // Goal: at a stop HTTP/1 and HTTP/2 publishes in flight get their 202, idle connections end, new ones are refused.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    broker.hold();
    let mut idle = ingest.connect().await;
    assert_eq!(idle.request("GET", "/healthz", &[], "").await.status, 200);
    let mut first = ingest.connect().await;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    );
    first.send(format!("{head}{BODY}")).await;
    let sending = http2().post(ingest.url(PATH)).body(BODY).send();
    let second = tokio::spawn(async move { sending.await.unwrap().status().as_u16() });
    broker.wait_for_publishes(2).await;

    ingest.stop.cancel();
    assert!(idle.is_ended().await);
    assert!(TcpStream::connect(ingest.address).await.is_err());
    assert!(!ingest.task.is_finished());

    broker.confirm_all();
    let answer = first.answer().await;
    assert_eq!(answer.status, 202);
    assert!(first.is_ended().await);
    assert_eq!(second.await.unwrap(), 202);
    ingest.ended().await;
}

#[tokio::test]
async fn what_does_not_finish_within_the_grace_is_ended() {
    // Goal: a stop takes no longer than the grace, whatever hangs.
    let settings = IngestSettings {
        grace: Duration::from_millis(300),
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    broker.hold();
    let mut hanging = ingest.connect().await;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    );
    hanging.send(format!("{head}{BODY}")).await;
    broker.wait_for_publishes(1).await;
    ingest.stop.cancel();
    ingest.ended().await;
    assert!(hanging.is_ended().await);
}
