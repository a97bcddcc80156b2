//! Accepted means durable: with a real RabbitMQ behind.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
use hooklane_broker::topology::Bounds;
use hooklane_broker::{Broker, ConsumeOptions, Queue};
use hooklane_ingest::IngestSettings;
use hooklane_telemetry::{Metric, Metrics};
use hooklane_testkit::{eventually, rabbitmq};
use hooklane_types::{Event, Internal};
use tokio::time::timeout;

use crate::fixture::{PATH, Running, client};

/// A calm node needs a second, a restarted one on a busy machine half a minute.
const PATIENCE: Duration = Duration::from_secs(120);

fn settings(role: Role, url: &str) -> RabbitMqSettings {
    RabbitMqSettings::new(role, url).unwrap()
}

async fn start(broker: RabbitMqSettings) -> Running {
    let broker = RabbitMq::start(broker, Arc::new(Metrics::new())).unwrap();
    let settings = IngestSettings {
        publish_timeout: Duration::from_secs(3),
        ..IngestSettings::default()
    };
    let ingest = Running::start(settings, broker).await;
    eventually("the ingest to be ready", PATIENCE, || is_ready(&ingest))
        .await
        .unwrap();
    ingest
}

async fn is_ready(ingest: &Running) -> anyhow::Result<()> {
    let answer = ingest.connect().await.request("GET", "/readyz", &[], "").await;
    anyhow::ensure!(answer.status == 200, "{}", answer.text());
    Ok(())
}

/// Takes events out of the queue until `done` says so of what was found.
async fn take(url: &str, done: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let broker = RabbitMq::start(settings(Role::Dispatcher, url), Arc::new(Metrics::new())).unwrap();
    let mut queue = broker.consume(
        Queue::Events,
        ConsumeOptions {
            prefetch: 500,
            bytes_max: 64 * 1024 * 1024,
        },
    );
    let mut events = Vec::new();
    while !done(&events) {
        let incoming = timeout(PATIENCE, queue.next())
            .await
            .expect("the events come")
            .unwrap();
        assert_eq!(incoming.message.exchange, "hooklane.ingest");
        let Ok(Internal::Event(event)) = Internal::decode(incoming.message.body) else {
            panic!("no event");
        };
        incoming.ack.ack().await.unwrap();
        events.push(event);
    }
    broker.shut_down().await;
    events
}

#[tokio::test]
async fn what_was_accepted_waits_in_the_queue_byte_for_byte() {
    // Goal: after the 202 the event is in the broker in internal form, its payload exactly the text of the request.
    let vhost = rabbitmq::shared().await.unwrap().vhost().await.unwrap();
    let ingest = start(settings(Role::Ingest, vhost.url())).await;
    let mut connection = ingest.connect().await;
    let payload = "{ \"b\":1.0,\r\n\t\"a\":\"\\u00e9\\/é\", \"a\":[ ] }";
    let body = format!(
        "{{\"eventType\":\"a.b\",\"payload\" : {payload} ,\"eventId\":\"e\",\"channels\":[\"x\",\"y\"]}}"
    );
    let answer = connection.post(PATH, body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let event = take(vhost.url(), |events| events.len() == 1).await.remove(0);
    assert_eq!(event.payload, payload);
    assert_eq!(answer.json()["id"], event.id.as_str());
    assert_eq!(
        (event.application.as_str(), event.event_type.as_str()),
        ("acme", "a.b")
    );
    assert_eq!(
        (event.channels.len(), event.producer_id.unwrap().as_str()),
        (2, "e")
    );
    assert_eq!(event.content_type, "application/json");
}

#[tokio::test]
async fn a_full_queue_is_503_and_nothing_is_lost_that_was_accepted() {
    // Goal: reject-publish becomes 503 with Retry-After; the queue holds at least every 202.
    let vhost = rabbitmq::shared().await.unwrap().vhost().await.unwrap();
    let small = RabbitMqSettings {
        bounds: Bounds {
            events_bytes_max: 20_000,
            ..Bounds::default()
        },
        ..settings(Role::Ingest, vhost.url())
    };
    let ingest = start(small).await;
    let mut connection = ingest.connect().await;
    let body = format!(r#"{{"eventType":"a","payload":{{"x":"{}"}}}}"#, "x".repeat(2000));
    let mut accepted = HashSet::new();
    let refused = loop {
        let answer = connection.post(PATH, &body).await;
        if answer.status != 202 {
            break answer;
        }
        accepted.insert(answer.json()["id"].as_str().unwrap().to_owned());
        assert!(accepted.len() < 1000, "the queue never fills");
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(ingest.metrics.value(Metric::EventsRefused, &["full"]), 1.0);
    take(vhost.url(), |events| {
        accepted
            .iter()
            .all(|id| events.iter().any(|event| event.id.as_str() == id))
    })
    .await;
}

#[tokio::test]
async fn a_killed_broker_costs_no_accepted_event_and_no_restart() {
    // Goal: kill -9 of the broker under load: 503 meanwhile, 202 again afterwards by itself, and every 202 is in the queue.
    let node = rabbitmq::Node::start().await.unwrap();
    let ingest = start(settings(Role::Ingest, &node.amqp_url())).await;
    let client = client(reqwest::Client::builder());
    let url = ingest.url(PATH);
    let publish = async |id: String| {
        let body = format!(r#"{{"eventType":"a","payload":{{}},"eventId":"{id}"}}"#);
        let answer = client.post(&url).body(body).send().await.unwrap();
        match answer.status().as_u16() {
            202 => Some(id),
            503 => {
                assert!(answer.headers().contains_key("retry-after"));
                None
            }
            other => panic!("{other}"),
        }
    };
    let load = async |wave: &str, count: usize| -> Vec<Option<String>> {
        futures_util::future::join_all((0..count).map(|n| publish(format!("{wave}-{n}")))).await
    };

    let before = load("before", 300).await;
    let (during, killed) = tokio::join!(load("during", 300), node.kill9());
    killed.unwrap();
    let down = load("down", 20).await;
    assert!(
        down.iter().all(Option::is_none),
        "nothing is accepted without a broker"
    );
    assert!(is_ready(&ingest).await.is_err());
    node.restart().await.unwrap();
    eventually("the ingest to be ready again", PATIENCE, || is_ready(&ingest))
        .await
        .unwrap();
    let after = load("after", 50).await;
    assert!(after.iter().all(Option::is_some));

    let accepted: HashSet<String> = before.into_iter().chain(during).chain(after).flatten().collect();
    assert!(accepted.len() >= 350, "{}", accepted.len());
    take(&node.amqp_url(), |events| {
        let found: HashSet<&str> = events
            .iter()
            .filter_map(|event| event.producer_id.as_ref().map(|id| id.as_str()))
            .collect();
        accepted.iter().all(|id| found.contains(id.as_str()))
    })
    .await;
}
