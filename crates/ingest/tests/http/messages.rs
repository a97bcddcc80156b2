//! What a publisher sends and is told.

use std::time::Duration;

use hooklane_broker::{BrokerError, BrokerState};
use hooklane_ingest::IngestSettings;
use hooklane_telemetry::Metric;
use serde_json::json;

use crate::fixture::{BODY, PATH, Running};

#[tokio::test]
async fn a_message_is_accepted_with_message_out() {
    // Goal: 202 with the API's answer, the payload in it as it came, on both spellings of the path.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    let body =
        r#"{"eventType":"invoice.paid","payload":{ "n":1.0, "n":2 },"eventId":"e-1","channels":["a"]}"#;
    for path in [PATH, "/api/v1/app/acme/msg/"] {
        let answer = connection.post(path, body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(
            answer.text().contains(r#""payload":{ "n":1.0, "n":2 }"#),
            "{answer:?}"
        );
        let out = answer.json();
        assert_eq!(out["eventType"], "invoice.paid");
        assert_eq!(out["eventId"], "e-1");
        assert_eq!(out["channels"], json!(["a"]));
        assert!(out["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(out["id"], broker.published().last().unwrap().id.as_str());
    }
    assert_eq!(ingest.metrics.value(Metric::EventsAccepted, &["http"]), 2.0);
    assert_eq!(ingest.metrics.value(Metric::PublishSeconds, &[]), 2.0);
    assert_eq!(ingest.metrics.value(Metric::BytesHeld, &[]), 0.0);
}

#[tokio::test]
async fn the_payload_is_left_out_of_the_answer_on_request() {
    // Goal: with_content=false answers without the payload, and publishes it all the same.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let answer = ingest
        .connect()
        .await
        .post(&format!("{PATH}?with_content=false"), BODY)
        .await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["payload"], json!({}));
    assert_eq!(broker.published()[0].payload, r#"{"n":1.0}"#);
    let answer = ingest
        .connect()
        .await
        .post(&format!("{PATH}?with_content=perhaps"), BODY)
        .await;
    assert_eq!(
        (answer.status, answer.json()["detail"][0]["loc"].clone()),
        (422, json!(["query", "with_content"]))
    );
}

#[tokio::test]
async fn an_event_id_gives_the_same_id_again_and_none_gives_a_fresh_one() {
    // Goal: publishing again is harmless with an eventId, and never merges events without one.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    for _ in 0..2 {
        connection
            .post(PATH, r#"{"eventType":"a","payload":{},"eventId":"e-1"}"#)
            .await;
        connection.post(PATH, r#"{"eventType":"a","payload":{}}"#).await;
    }
    let ids: Vec<String> = broker
        .published()
        .iter()
        .map(|event| event.id.to_string())
        .collect();
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[1], ids[3]);
    assert_eq!(
        broker.published()[0].producer_id.as_ref().unwrap().as_str(),
        "e-1"
    );
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repeat_harmless_where_no_event_id_does() {
    // Goal: the Svix API's header: the same key, the same id; eventId goes before it; a key is no eventId; a bad one is named.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    let key = "idempotency-key: k-1";
    let with_id = r#"{"eventType":"a","payload":{},"eventId":"k-1"}"#;
    for (headers, body) in [
        (&[key][..], BODY),
        (&[key][..], BODY),
        (&["idempotency-key: k-2"][..], BODY),
        (&[key][..], with_id),
        (&[][..], with_id),
    ] {
        let answer = connection.request("POST", PATH, headers, body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    let ids: Vec<_> = broker
        .published()
        .iter()
        .map(|event| event.id.to_string())
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[3]);
    assert_eq!(ids[3], ids[4]);
    // A dispatcher claims what has a producer's id only.
    assert_eq!(
        broker.published()[0].producer_id.as_ref().unwrap().as_str(),
        "k-1"
    );

    let long = format!("idempotency-key: {}", "k".repeat(1025));
    for headers in [&["idempotency-key: "][..], &[key, key][..], &[long.as_str()][..]] {
        let answer = connection.request("POST", PATH, headers, BODY).await;
        assert_eq!(
            (answer.status, answer.json()["detail"][0]["loc"].clone()),
            (422, json!(["header", "idempotency-key"])),
            "{headers:?}"
        );
    }
    assert_eq!(broker.published().len(), 5);
}

#[tokio::test]
async fn a_valid_traceparent_travels_on() {
    // Goal: trace context is kept in the form of the specification only.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    connection
        .request("POST", PATH, &[&format!("traceparent: {good}")], BODY)
        .await;
    connection
        .request("POST", PATH, &["traceparent: 00-x"], BODY)
        .await;
    let kept: Vec<Option<String>> = broker
        .published()
        .into_iter()
        .map(|event| event.traceparent)
        .collect();
    assert_eq!(kept, [Some(good.to_owned()), None]);
}

#[tokio::test]
async fn the_brokers_trouble_is_503_with_retry_after() {
    // Goal: no 202 without a confirm; the publisher is told when to come again, and counted by reason.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    let unconfirmed = BrokerError::Unconfirmed {
        waited: Duration::from_secs(10),
        last_error: "secret host".into(),
    };
    for (error, reason) in [
        (unconfirmed, "unconfirmed"),
        (BrokerError::Full, "full"),
        (BrokerError::Unavailable("secret host".into()), "unavailable"),
        (BrokerError::Refused("secret host".into()), "broker_refused"),
        (BrokerError::ShutDown, "shut_down"),
    ] {
        broker.fail_next(error);
        let answer = connection.post(PATH, BODY).await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (503, json!("service_unavailable"))
        );
        assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
        assert!(!answer.text().contains("secret"), "{answer:?}");
        assert_eq!(
            ingest.metrics.value(Metric::EventsRefused, &[reason]),
            1.0,
            "{reason}"
        );
    }
    assert_eq!(connection.post(PATH, BODY).await.status, 202);
    assert_eq!(ingest.metrics.value(Metric::EventsAccepted, &["http"]), 1.0);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_nothing_is_published() {
    // Goal: 400, 404, 405, 415 and 422 as the API shapes them, all on one connection, which goes on.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;

    let answer = connection.post(PATH, "{\"eventType\":\n 1,}").await;
    assert_eq!(
        (answer.status, answer.json()["code"].clone()),
        (400, json!("invalid_json"))
    );
    assert!(answer.text().contains("line 2 column 4"), "{answer:?}");
    let answer = connection.post(PATH, b"\xff").await;
    assert_eq!(answer.status, 400);

    let answer = connection
        .post(PATH, r#"{"payload":{},"tags":["x"],"colour":1}"#)
        .await;
    assert_eq!(answer.status, 422);
    let places: Vec<String> = answer.json()["detail"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["loc"][1].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(places, ["tags", "colour", "eventType"]);
    assert_eq!(answer.json()["detail"][2]["type"], "value_error.missing");

    for application in ["nobody", "a%2Fb", "%ff", "a%20b", ""] {
        let answer = connection
            .post(&format!("/api/v1/app/{application}/msg"), BODY)
            .await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (404, json!("not_found")),
            "{application}"
        );
    }
    for path in ["/", "/api/v1/app/acme", "/api/v1/app/acme/msg/x"] {
        let answer = connection.post(path, BODY).await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (404, json!("not_found")),
            "{path}"
        );
    }
    for (method, path, allow) in [
        ("GET", PATH, "POST"),
        ("DELETE", PATH, "POST"),
        ("POST", "/healthz", "GET,HEAD"),
    ] {
        let answer = connection.request(method, path, &[], "").await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (405, json!("method_not_allowed")),
            "{path}"
        );
        assert_eq!(answer.header("allow"), Some(allow));
    }
    for header in [
        "content-type: text/plain",
        "content-type: application/cloudevents-batch+json",
        "content-encoding: gzip",
    ] {
        let answer = connection.request("POST", PATH, &[header], BODY).await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (415, json!("unsupported_media_type")),
            "{header}"
        );
    }
    assert!(broker.published().is_empty());
    assert_eq!(
        ingest
            .metrics
            .value(Metric::EventsRefused, &["unknown_application"]),
        5.0
    );
}

#[tokio::test]
async fn an_application_is_known_as_soon_as_the_registry_says_so() {
    // Goal: the registry is followed, not copied at the start.
    let (ingest, _broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    let path = "/api/v1/app/later/msg";
    assert_eq!(connection.post(path, BODY).await.status, 404);
    let later = hooklane_types::ApplicationId::parse("later").unwrap();
    ingest.registry.send_replace(std::sync::Arc::new(
        hooklane_types::Registry::new([later], []).unwrap(),
    ));
    assert_eq!(connection.post(path, BODY).await.status, 202);
    assert_eq!(connection.post(PATH, BODY).await.status, 404);
}

#[tokio::test]
async fn readiness_is_the_brokers_and_the_registrys() {
    // Goal: /readyz says whether a publish would be taken, /healthz only that the process lives.
    let (ingest, broker) = Running::scripted(IngestSettings::default()).await;
    let mut connection = ingest.connect().await;
    assert_eq!(connection.request("GET", "/readyz", &[], "").await.status, 200);
    for state in [
        BrokerState::Blocked {
            reason: "memory".into(),
        },
        BrokerState::Disconnected {
            last_error: "refused".into(),
        },
    ] {
        broker.set_state(state);
        let answer = connection.request("GET", "/readyz", &[], "").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(connection.request("GET", "/healthz", &[], "").await.status, 200);
    }
    broker.set_state(BrokerState::Connected);
    ingest.registry.send_replace(std::sync::Arc::default());
    let answer = connection.request("GET", "/readyz", &[], "").await;
    assert!(
        answer.status == 503 && answer.text().contains("application"),
        "{answer:?}"
    );
}
