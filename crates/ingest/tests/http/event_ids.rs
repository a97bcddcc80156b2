//! `eventId` is used once, where a store knows ids.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hooklane_broker::BrokerError;
use hooklane_store::{ClaimError, Published, PublishedIds};
use hooklane_telemetry::Metric;
use hooklane_types::{ApplicationId, EventId, UnixMillis};
use serde_json::json;

use crate::fixture::{PATH, Running};

const BODY: &str = r#"{"eventType":"a","payload":{"n":1},"eventId":"e-1"}"#;

/// A store that may be away, or hang.
#[derive(Default)]
struct Ids {
    known: Mutex<HashMap<String, Published>>,
    is_away: AtomicBool,
    hangs: AtomicBool,
}

impl Ids {
    async fn answer(&self) -> Result<(), ClaimError> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(ClaimError("away".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl PublishedIds for Ids {
    async fn find(
        &self,
        _: &ApplicationId,
        event: &EventId,
        _: UnixMillis,
    ) -> Result<Option<Published>, ClaimError> {
        self.answer().await?;
        Ok(self.known.lock().unwrap().get(event.as_str()).copied())
    }

    async fn keep(&self, _: &ApplicationId, event: &EventId, published: Published) -> Result<(), ClaimError> {
        self.answer().await?;
        self.known.lock().unwrap().insert(event.to_string(), published);
        Ok(())
    }
}

#[tokio::test]
async fn an_event_id_is_used_once() {
    // Goal: Svix's 409 with its error body, whatever the second event is; other ids, and none, are free.
    let (ingest, broker) = Running::with_ids(Arc::new(Ids::default())).await;
    let mut connection = ingest.connect().await;
    assert_eq!(connection.post(PATH, BODY).await.status, 202);
    let other = r#"{"eventType":"b","payload":{},"eventId":"e-1"}"#;
    for body in [BODY, other] {
        let answer = connection.post(PATH, body).await;
        let expected =
            json!({"code": "conflict", "detail": "an event with this eventId was published already"});
        assert_eq!((answer.status, answer.json()), (409, expected));
    }
    let free = r#"{"eventType":"a","payload":{},"eventId":"e-2"}"#;
    let none = r#"{"eventType":"a","payload":{}}"#;
    for body in [free, none, none] {
        assert_eq!(connection.post(PATH, body).await.status, 202);
    }
    assert_eq!(broker.published().len(), 4);
    assert_eq!(ingest.metrics.value(Metric::EventsRefused, &["event_id"]), 2.0);
    assert_eq!(ingest.metrics.value(Metric::EventsAccepted, &["http"]), 4.0);
}

#[tokio::test]
async fn the_same_request_again_is_answered_as_before_and_published_once() {
    // Goal: the key of the request is looked at before the eventId; with another key, or another body, it is another request.
    let (ingest, broker) = Running::with_ids(Arc::new(Ids::default())).await;
    let mut connection = ingest.connect().await;
    let key = &["idempotency-key: k-1"][..];
    let first = connection.request("POST", PATH, key, BODY).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let again = connection.request("POST", PATH, key, BODY).await;
    assert_eq!((first.status, again.status), (202, 202));
    assert_eq!(first.json(), again.json());
    let other = BODY.replace("1}", "2}");
    for (headers, body) in [
        (&["idempotency-key: k-2"][..], BODY),
        (key, &other),
        (&[][..], BODY),
    ] {
        let answer = connection.request("POST", PATH, headers, body).await;
        assert_eq!(answer.status, 409, "{headers:?} {body}");
    }
    assert_eq!(broker.published().len(), 1);
    assert_eq!(ingest.metrics.value(Metric::EventsAccepted, &["http"]), 1.0);
}

#[tokio::test]
async fn what_the_broker_did_not_confirm_is_published_again_under_the_same_id() {
    // Goal: no 409 for an event that was not sent: refused, unknown, or given up by its publisher in the middle.
    let (ingest, broker) = Running::with_ids(Arc::new(Ids::default())).await;
    let mut connection = ingest.connect().await;
    for error in [BrokerError::Full, BrokerError::Lost("x".to_owned())] {
        broker.fail_next(error);
        assert_eq!(connection.post(PATH, BODY).await.status, 503);
    }
    broker.hold();
    {
        let mut gone = ingest.connect().await;
        let abandoned = gone.post(PATH, BODY);
        let begun = async {
            tokio::select! {
                _ = abandoned => panic!("it is not confirmed"),
                () = broker.wait_for_publishes(3) => {}
            }
        };
        begun.await;
    }
    // Two at once: neither is confirmed, so both are published.
    let mut other = ingest.connect().await;
    let both = async { tokio::join!(connection.post(PATH, BODY), other.post(PATH, BODY)) };
    let confirmed = async {
        broker.wait_for_publishes(5).await;
        broker.confirm_all();
    };
    let ((one, two), ()) = tokio::join!(both, confirmed);
    assert_eq!((one.status, two.status), (202, 202));
    let published = broker.published();
    assert!(published.iter().all(|event| event.id == published[0].id) && published.len() == 5);
    assert_eq!(connection.post(PATH, BODY).await.status, 409);
}

#[tokio::test]
async fn a_store_that_is_away_or_hangs_holds_up_no_event_and_is_counted() {
    // Goal: accepted without it, each look within its deadline; then known again.
    let ids = Arc::new(Ids::default());
    let (ingest, broker) = Running::with_ids(ids.clone()).await;
    let mut connection = ingest.connect().await;
    assert_eq!(connection.post(PATH, BODY).await.status, 202);
    ids.is_away.store(true, Ordering::Relaxed);
    assert_eq!(connection.post(PATH, BODY).await.status, 202);
    let unanswered = |reason| ingest.metrics.value(Metric::EventIdsUnanswered, &[reason]);
    // To find and to keep.
    assert_eq!(unanswered("away"), 2.0);
    ids.is_away.store(false, Ordering::Relaxed);
    ids.hangs.store(true, Ordering::Relaxed);
    for _ in 0..4 {
        assert_eq!(connection.post(PATH, BODY).await.status, 202);
    }
    assert!(unanswered("late") >= 3.0 && unanswered("breaker") >= 2.0);
    assert_eq!(broker.published().len(), 6);
    ids.hangs.store(false, Ordering::Relaxed);
    let refused = hooklane_testkit::eventually(
        "the store to be asked",
        std::time::Duration::from_secs(20),
        || async {
            let answer = ingest.connect().await.post(PATH, BODY).await;
            anyhow::ensure!(answer.status == 409, "{answer:?}");
            Ok(())
        },
    );
    refused.await.unwrap();
}
