//! Everything is bounded.

use std::time::Duration;

use bytes::Bytes;
use hooklane_ingest::IngestSettings;
use hooklane_telemetry::Metric;
use hooklane_testkit::eventually;
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::fixture::{BODY, PATH, Running, http2};

const HEAD: &str = "POST /api/v1/app/acme/msg HTTP/1.1\r\nhost: localhost\r\n";

/// Small enough for tests; the watch looks once a second.
fn tight() -> IngestSettings {
    IngestSettings {
        body_bytes_max: 1000,
        bodies_held_bytes_max: 1500,
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..IngestSettings::default()
    }
}

/// A message of exactly so many bytes.
fn message(bytes: usize) -> String {
    let frame = r#"{"eventType":"a","payload":{"x":""}}"#;
    frame.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - frame.len())))
}

fn chunked(body: &str, chunk: usize) -> String {
    let chunks: String = body
        .as_bytes()
        .chunks(chunk)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()))
        .collect();
    format!("{HEAD}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

#[tokio::test]
async fn a_body_of_the_limit_passes_and_one_byte_more_does_not() {
    // Goal: the limit is exact, for declared and chunked bodies alike, and the refused connection ends.
    let (ingest, broker) = Running::scripted(tight()).await;
    let mut connection = ingest.connect().await;
    assert_eq!(connection.post(PATH, message(1000)).await.status, 202);
    connection.send(chunked(&message(1000), 300)).await;
    assert_eq!(connection.answer().await.status, 202);
    assert_eq!(broker.published()[0].payload, broker.published()[1].payload);

    let answer = connection.post(PATH, message(1001)).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (413, Some("payload_too_large"))
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.is_ended().await);

    let mut connection = ingest.connect().await;
    connection.send(chunked(&message(1001), 300)).await;
    assert_eq!(connection.answer().await.status, 413);
    assert!(connection.is_ended().await);
    assert_eq!(broker.published().len(), 2);
    assert_eq!(ingest.metrics.value(Metric::EventsRefused, &["too_large"]), 2.0);
    assert_eq!(ingest.metrics.value(Metric::BytesHeld, &[]), 0.0);
}

#[tokio::test]
async fn who_sends_megabytes_over_the_limit_still_sees_the_413() {
    // Goal: the answer is not lost in a reset while the publisher is still sending, declared or chunked.
    let (ingest, _broker) = Running::scripted(tight()).await;
    let large = "x".repeat(8 * 1024 * 1024);
    let mut connection = ingest.connect().await;
    assert_eq!(connection.post(PATH, &large).await.status, 413);
    let mut connection = ingest.connect().await;
    connection.send(chunked(&large, 64 * 1024)).await;
    assert_eq!(connection.answer().await.status, 413);
}

#[tokio::test]
async fn a_publisher_that_asks_first_is_told_before_it_sends() {
    // Goal: Expect: 100-continue gets 100 for a body that will be read, and 413 at once for one that won't.
    let (ingest, _broker) = Running::scripted(tight()).await;
    let mut connection = ingest.connect().await;
    connection
        .send(format!(
            "{HEAD}expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            BODY.len()
        ))
        .await;
    assert_eq!(connection.answer().await.status, 100);
    connection.send(BODY).await;
    assert_eq!(connection.answer().await.status, 202);

    connection
        .send(format!(
            "{HEAD}expect: 100-continue\r\ncontent-length: 1001\r\n\r\n"
        ))
        .await;
    assert_eq!(connection.answer().await.status, 413);
}

#[tokio::test]
async fn slow_clients_are_ended() {
    // Goal: no request, half a header, half a body, silence after a request: each ends at its deadline.
    let settings = IngestSettings {
        idle_timeout: Duration::from_millis(600),
        ..tight()
    };
    let (ingest, _broker) = Running::scripted(settings).await;
    let mut silent = ingest.connect().await;
    let mut half_header = ingest.connect().await;
    half_header.send(HEAD).await;
    let mut half_preface = ingest.connect().await;
    half_preface.send("PRI * HT").await;
    let mut half_body = ingest.connect().await;
    half_body
        .send(format!("{HEAD}content-length: 100\r\n\r\nhalf"))
        .await;
    let mut idle = ingest.connect().await;
    assert_eq!(idle.post(PATH, BODY).await.status, 202);
    let mut second_half_header = ingest.connect().await;
    assert_eq!(second_half_header.post(PATH, BODY).await.status, 202);
    second_half_header.send(HEAD).await;

    let answer = half_body.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    for connection in [
        &mut silent,
        &mut half_header,
        &mut half_preface,
        &mut half_body,
        &mut idle,
        &mut second_half_header,
    ] {
        assert!(connection.is_ended().await);
    }
}

#[tokio::test]
async fn bodies_of_all_requests_together_are_bounded() {
    // Goal: over the bytes that the process may hold publishers get 503, and room comes back with the confirm.
    let (ingest, broker) = Running::scripted(tight()).await;
    broker.hold();
    let mut first = ingest.connect().await;
    let large = message(1000);
    first
        .send(format!("{HEAD}content-length: 1000\r\n\r\n{large}"))
        .await;
    broker.wait_for_publishes(1).await;
    assert_eq!(ingest.metrics.value(Metric::BytesHeld, &[]), 1000.0);

    for request in [
        format!("{HEAD}content-length: 1000\r\n\r\n{large}"),
        chunked(&large, 600),
    ] {
        let mut second = ingest.connect().await;
        second.send(request).await;
        let answer = second.answer().await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    }
    broker.confirm_all();
    assert_eq!(first.answer().await.status, 202);
    assert_eq!(ingest.connect().await.post(PATH, &large).await.status, 202);
    assert_eq!(ingest.metrics.value(Metric::EventsRefused, &["busy"]), 2.0);
}

#[tokio::test]
async fn connections_over_the_bound_wait_for_their_turn() {
    // Goal: a second connection is served once the first is gone.
    let settings = IngestSettings {
        connections_max: 1,
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    let mut first = ingest.connect().await;
    assert_eq!(first.post(PATH, BODY).await.status, 202);
    let mut second = ingest.connect().await;
    second
        .send(format!("{HEAD}content-length: {}\r\n\r\n{BODY}", BODY.len()))
        .await;
    assert_eq!(first.post(PATH, BODY).await.status, 202);
    assert_eq!(
        broker.published().len(),
        2,
        "the second connection is not served yet"
    );
    drop(first);
    assert_eq!(second.answer().await.status, 202);
}

#[tokio::test]
async fn headers_are_bounded() {
    // Goal: neither large headers nor many are read to the end.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let large = format!("x-large: {}", "x".repeat(64 * 1024));
    assert_eq!(
        ingest
            .connect()
            .await
            .request("POST", PATH, &[&large], BODY)
            .await
            .status,
        431
    );
    let many = vec!["x-many: 1"; 200];
    assert_eq!(
        ingest
            .connect()
            .await
            .request("POST", PATH, &many, BODY)
            .await
            .status,
        431
    );
    assert!(broker.published().is_empty());
}

#[tokio::test]
async fn http_2_has_the_same_limits_and_many_requests_at_once() {
    // Goal: one HTTP/2 connection carries many publishes in flight, and a body over the limit ends only its own.
    let settings = IngestSettings {
        body_bytes_max: 100_000,
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    broker.hold();
    let client = http2();
    let url = ingest.url(PATH);
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let sending = client.post(&url).body(BODY).send();
            tokio::spawn(async move { sending.await.unwrap() })
        })
        .collect();
    broker.wait_for_publishes(50).await;
    let refused = client.post(&url).body(message(100_001)).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), refused.version()),
        (413, reqwest::Version::HTTP_2)
    );
    let chunks = [message(60_000), message(60_000)]
        .map(|chunk| Ok::<_, std::io::Error>(Frame::data(Bytes::from(chunk))));
    let chunks = StreamBody::new(futures_util::stream::iter(chunks));
    let refused = client
        .post(&url)
        .body(reqwest::Body::wrap(chunks))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status().as_u16(), 413);
    broker.confirm_all();
    for request in requests {
        assert_eq!(request.await.unwrap().status().as_u16(), 202);
    }
    let large = client.post(&url).body(message(100_000)).send().await.unwrap();
    assert_eq!(large.status().as_u16(), 202);
    assert!(large.bytes().await.unwrap().len() > 99_000);
}

#[tokio::test]
async fn a_publisher_that_goes_away_is_counted() {
    // Goal: no publish request is without its line and its count.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    broker.hold();
    let mut connection = ingest.connect().await;
    connection
        .send(format!("{HEAD}content-length: {}\r\n\r\n{BODY}", BODY.len()))
        .await;
    broker.wait_for_publishes(1).await;
    drop(connection);
    eventually(
        "the count of abandoned requests",
        Duration::from_secs(10),
        || async {
            let abandoned = ingest.metrics.value(Metric::EventsRefused, &["abandoned"]);
            anyhow::ensure!(abandoned == 1.0, "{abandoned}");
            Ok(())
        },
    )
    .await
    .unwrap();
    assert_eq!(ingest.metrics.value(Metric::BytesHeld, &[]), 0.0);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    // Goal: a publisher that stops reading holds its bytes no longer than the idle time.
    let settings = IngestSettings {
        body_bytes_max: 8 * 1024 * 1024,
        idle_timeout: Duration::from_millis(500),
        body_timeout: Duration::from_secs(2),
        publish_timeout: Duration::from_secs(1),
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    let mut connection = ingest.connect().await;
    // More than both sockets' buffers take.
    connection
        .send(format!(
            "{HEAD}content-length: 8388608\r\n\r\n{}",
            message(8_388_608)
        ))
        .await;
    broker.wait_for_publishes(1).await;
    eventually("the bytes to come back", Duration::from_secs(20), || async {
        let held = ingest.metrics.value(Metric::BytesHeld, &[]);
        anyhow::ensure!(held == 0.0, "{held} bytes are held");
        Ok(())
    })
    .await
    .unwrap();
    drop(connection);
}

#[tokio::test]
async fn an_http_2_client_that_opens_no_window_ends_with_its_connection() {
    // Goal: flow control stalls an answer without a blocked socket; the request's own deadline ends it.
    let settings = IngestSettings {
        body_timeout: Duration::from_millis(300),
        publish_timeout: Duration::from_millis(300),
        ..IngestSettings::default()
    };
    let (ingest, broker) = Running::scripted(settings).await;
    let client = http2();
    // The answer is larger than the window that a client opens at first, and nobody reads it.
    let answer = client.post(ingest.url(PATH)).body(message(1_000_000));
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
    assert_eq!(broker.published().len(), 1);
    eventually("the bytes to come back", Duration::from_secs(20), || async {
        let held = ingest.metrics.value(Metric::BytesHeld, &[]);
        anyhow::ensure!(held == 0.0, "{held} bytes are held");
        Ok(())
    })
    .await
    .unwrap();
    drop(answer);
}
