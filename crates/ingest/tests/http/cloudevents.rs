//! CloudEvents over HTTP.

use hooklane_ingest::IngestSettings;
use hooklane_telemetry::Metric;
use hooklane_types::{ApplicationId, EventId, ProducerId};
use serde_json::json;

use crate::fixture::{PATH, Running};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn derived(source: &str, id: &str) -> EventId {
    let application = ApplicationId::parse("acme").unwrap();
    EventId::derived(&application, Some(source), &ProducerId::parse(id).unwrap())
}

#[tokio::test]
async fn binary_mode_is_published_as_data_with_its_headers() {
    // Goal: any media type; the data byte for byte, the attributes as ce-* headers, the id of source and id together.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let headers = [
        "ce-specversion: 1.0",
        "ce-id: 42/7",
        "ce-source: https://shop.example",
        "CE-Type: order.paid",
        "ce-comment: Euro%20%E2%82%AC",
        &format!("ce-traceparent: {TRACE}"),
        "content-type: text/xml; charset=utf-8",
        "x-other: 1",
    ];
    let data = b"<a>\xff\r\n</a>";
    let answer = ingest.connect().await.request("POST", PATH, &headers, data).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let event = broker.published().remove(0);
    assert_eq!(event.payload, data.as_slice());
    assert_eq!(event.content_type, "text/xml; charset=utf-8");
    assert_eq!(event.id, derived("https://shop.example", "42/7"));
    assert_eq!(event.event_type.as_str(), "order.paid");
    assert_eq!(event.traceparent.as_deref(), Some(TRACE));
    let names: Vec<&str> = event.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "ce-comment",
            "ce-id",
            "ce-source",
            "ce-specversion",
            "ce-traceparent",
            "ce-type"
        ]
    );
    let out = answer.json();
    assert_eq!(
        (&out["id"], &out["eventId"]),
        (&json!(event.id.as_str()), &json!("42/7"))
    );
    assert_eq!(
        (&out["eventType"], &out["payload"]),
        (&json!("order.paid"), &json!({}))
    );
    assert_eq!(
        ingest.metrics.value(Metric::EventsAccepted, &["cloudevents"]),
        1.0
    );
}

#[tokio::test]
async fn structured_mode_is_published_as_it_came() {
    // Goal: the whole body is the payload, with its media type.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let body = r#"{ "specversion":"1.0", "id":"1","source":"/s","type":"a.b", "data":{"n":1.0} } "#;
    let header = "content-type: application/cloudevents+json; charset=utf-8";
    let answer = ingest
        .connect()
        .await
        .request("POST", PATH, &[header], body)
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let event = broker.published().remove(0);
    assert_eq!(event.payload, body);
    assert_eq!(event.content_type, "application/cloudevents+json; charset=utf-8");
    assert_eq!(event.id, derived("/s", "1"));
    assert!(event.headers.is_empty());
}

#[tokio::test]
async fn broken_events_are_refused_by_the_attributes_name() {
    // Goal: 400 that names what is wrong, in both modes, and nothing is published.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    let answer = connection
        .request(
            "POST",
            PATH,
            &["ce-specversion: 1.0", "ce-id: 1", "ce-type: a"],
            "",
        )
        .await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (400, Some("invalid_cloud_event"))
    );
    assert!(answer.text().contains("'source'"), "{answer:?}");
    let structured = "content-type: application/cloudevents+json";
    for (body, name) in [
        ("{}", "'specversion'"),
        ("[]", "JSON object"),
        ("{", "JSON object"),
    ] {
        let answer = connection.request("POST", PATH, &[structured], body).await;
        assert!(answer.status == 400 && answer.text().contains(name), "{answer:?}");
    }
    assert!(broker.published().is_empty());
    assert_eq!(ingest.metrics.value(Metric::EventsRefused, &["malformed"]), 4.0);
}
