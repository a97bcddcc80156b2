//! What filters leave.

use anyhow::{Result, ensure};
use hooklane_store::history::{
    AttemptFilter, AttemptsOf, Decision, EndpointEventFilter, EventFilter, History, Range, Record, Status,
    StatusClass,
};
use hooklane_types::{AttemptOutcome, Event, FailureKind};

use super::super::made::{application, at, attempt, channel, delivery, endpoint, event, event_type};
use super::{first, record};

pub async fn filters_leave_what_they_name(history: &dyn History) -> Result<()> {
    let app = application("app");
    let mut records = Vec::new();
    for (n, code) in [None, Some(101), Some(204), Some(302), Some(404), Some(503)]
        .into_iter()
        .enumerate()
    {
        let id = format!("msg_{n}");
        let decision = if code == Some(204) {
            Decision::Delivered
        } else {
            Decision::Again(at(99))
        };
        let mut made = attempt(
            &format!("atmpt_{n}"),
            delivery(&id, n as i64, 0),
            n as i64,
            decision,
        );
        made.outcome = match code {
            None => AttemptOutcome::Failed(FailureKind::Dns),
            Some(code) => AttemptOutcome::Status {
                code,
                retry_after_ms: None,
            },
        };
        records.push(Record::Attempt(made));
        records.push(Record::Event(Event {
            event_type: event_type(["a", "a.b", "b"][n % 3]),
            channels: if n < 2 {
                vec![channel("one")]
            } else {
                vec![channel("two"), channel("one.two")]
            },
            ..event(&id, n as i64)
        }));
    }
    record(history, records).await?;
    let of = AttemptsOf::Endpoint(endpoint("ep"));
    let ids = async |filter: AttemptFilter| -> Result<String> {
        let found = history.attempts(&app, &of, &filter, &first(10)).await?.rows;
        Ok(found
            .iter()
            .map(|found| found.attempt.id.as_str().replace("atmpt_", ""))
            .collect())
    };
    let classes = [
        StatusClass::None,
        StatusClass::Informational,
        StatusClass::Success,
        StatusClass::Redirection,
        StatusClass::ClientError,
        StatusClass::ServerError,
    ];
    let any = AttemptFilter::default;
    for (n, class) in classes.into_iter().enumerate() {
        ensure!(
            ids(AttemptFilter {
                status_class: Some(class),
                ..any()
            })
            .await?
                == n.to_string()
        );
    }
    ensure!(
        ids(AttemptFilter {
            delivered: Some(true),
            ..any()
        })
        .await?
            == "2"
    );
    ensure!(
        ids(AttemptFilter {
            delivered: Some(false),
            ..any()
        })
        .await?
            == "01345"
    );
    ensure!(
        ids(AttemptFilter {
            event_types: vec![event_type("a")],
            ..any()
        })
        .await?
            == "03"
    );
    ensure!(
        ids(AttemptFilter {
            event_types: vec![event_type("a"), event_type("b")],
            ..any()
        })
        .await?
            == "0235"
    );
    ensure!(
        ids(AttemptFilter {
            channel: Some(channel("one")),
            ..any()
        })
        .await?
            == "01"
    );
    let range = Range {
        after: Some(at(1)),
        before: Some(at(4)),
    };
    ensure!(ids(AttemptFilter { range, ..any() }).await? == "23");
    let events = async |filter: EventFilter| -> Result<String> {
        let found = history.events(&app, &filter, &first(10)).await?.rows;
        let there = EndpointEventFilter {
            status: None,
            event: filter,
        };
        let at_endpoint = history
            .endpoint_events(&app, &endpoint("ep"), &there, &first(10))
            .await?
            .rows;
        ensure!(
            at_endpoint.iter().map(|found| &found.event).eq(&found),
            "{at_endpoint:?}"
        );
        Ok(found
            .iter()
            .map(|found| found.id.as_str().replace("msg_", ""))
            .collect())
    };
    let any = EventFilter::default;
    ensure!(events(any()).await? == "012345");
    ensure!(
        events(EventFilter {
            event_types: vec![event_type("a")],
            ..any()
        })
        .await?
            == "03"
    );
    ensure!(
        events(EventFilter {
            event_types: vec![event_type("a"), event_type("b")],
            ..any()
        })
        .await?
            == "0235"
    );
    ensure!(
        events(EventFilter {
            channel: Some(channel("two")),
            ..any()
        })
        .await?
            == "2345"
    );
    ensure!(events(EventFilter { range, ..any() }).await? == "23");
    for (status, count) in [(Status::Delivered, 1), (Status::Pending, 5), (Status::Dead, 0)] {
        let filter = EndpointEventFilter {
            status: Some(status),
            ..EndpointEventFilter::default()
        };
        let found = history
            .endpoint_events(&app, &endpoint("ep"), &filter, &first(10))
            .await?
            .rows;
        ensure!(
            found.len() == count && found.iter().all(|found| found.status == status),
            "{found:?}"
        );
    }
    Ok(())
}
