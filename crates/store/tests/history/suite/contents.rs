//! What was published and attempted comes back as it was.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_store::history::{
    ANSWER_BYTES_MAX, AttemptFilter, AttemptsOf, Decision, EndpointEventFilter, EventFilter, History,
    Payload, Record, Trigger,
};
use hooklane_types::{AttemptOutcome, DeadReason, Event, FailureKind, ProducerId};

use super::super::made::{application, at, attempt, channel, delivery, endpoint, event, event_id, settled};
use super::{first, found, payload, record};

pub async fn an_event_is_found_to_the_byte_in_its_application_alone(history: &dyn History) -> Result<()> {
    // Goal: what was published comes back, NULs, odd texts and all; nobody finds another's.
    let odd = Event {
        producer_id: Some(ProducerId::parse("Bestellung \u{fc}\r\n\u{1b}[31m '\"%_")?),
        channels: vec![channel("one"), channel("two")],
        content_type: "text/plain; charset=\"\u{e9}\"".to_owned(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        headers: vec![
            ("ce-id".to_owned(), "7".to_owned()),
            ("ce-id".to_owned(), "\"8".to_owned()),
        ],
        payload: Bytes::from((0..=255).cycle().take(100_000).collect::<Vec<u8>>()),
        ..event("msg_h1", -5)
    };
    let empty = Event {
        payload: Bytes::new(),
        ..event("msg_2", -4)
    };
    let other = Event {
        application: application("other"),
        ..event("msg_h1", -3)
    };
    let events = [odd.clone(), empty.clone(), other.clone()];
    record(history, events.clone().map(Record::Event).to_vec()).await?;
    for event in &events {
        let found = history
            .event(&event.application, &event.id)
            .await?
            .context("it was recorded")?;
        let content = found.content.context("it has a content")?;
        ensure!(content.payload == Payload::Kept(event.payload.clone()));
        let expected = Event {
            payload: Bytes::new(),
            ..event.clone()
        };
        ensure!(content.event == expected, "{:?}", content.event);
        ensure!(found.accepted_at == event.accepted_at && !found.is_expunged);
    }
    ensure!(
        history
            .event(&application("other"), &event_id("msg_2"))
            .await?
            .is_none()
    );
    for (name, count) in [("app", 2), ("other", 1), ("ap", 0), ("App", 0)] {
        let list = history
            .events(&application(name), &EventFilter::default(), &first(10))
            .await?;
        ensure!(list.rows.len() == count && list.more.is_none(), "{list:?}");
        // Not asked for.
        ensure!(
            list.rows
                .iter()
                .all(|found| payload(found) == Some(&Payload::NotRead))
        );
    }
    Ok(())
}

pub async fn an_attempt_is_found_as_it_was_recorded_and_its_answer_is_cut(
    history: &dyn History,
) -> Result<()> {
    let mut all = Vec::new();
    let outcomes = [
        AttemptOutcome::Status {
            code: 503,
            retry_after_ms: Some(120_000),
        },
        AttemptOutcome::Status {
            code: 999,
            retry_after_ms: None,
        },
        AttemptOutcome::Failed(FailureKind::Timeout),
        AttemptOutcome::Failed(FailureKind::Configuration),
    ];
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let decision = [Decision::Again(at(5_000)), Decision::Dead(DeadReason::Gone)][n % 2];
        let mut attempt = attempt(
            &format!("atmpt_{n}"),
            delivery("msg_1", -9, 7),
            n as i64,
            decision,
        );
        attempt.outcome = outcome;
        attempt.delivery.target = u16::MAX;
        attempt.delivery.run = u32::MAX;
        attempt.duration_ms = u32::MAX;
        attempt.trigger = [Trigger::Schedule, Trigger::Manual][n % 2];
        attempt.answer = Bytes::from(vec![0xff; ANSWER_BYTES_MAX + n]);
        attempt.url = "https://example.com/\u{e9}?a='%".to_owned();
        all.push(attempt);
    }
    record(history, all.iter().cloned().map(Record::Attempt).collect()).await?;
    let of = AttemptsOf::Event(event_id("msg_1"), None);
    for mut expected in all {
        expected.answer.truncate(ANSWER_BYTES_MAX);
        let (app, event) = (application("app"), event_id("msg_1"));
        let found = history
            .attempt(&app, &event, &expected.id)
            .await?
            .context("it was recorded")?;
        ensure!(
            found.attempt == expected && !found.is_answer_expunged,
            "{found:?}"
        );
        ensure!(
            history
                .attempt(&application("other"), &event, &expected.id)
                .await?
                .is_none()
        );
        ensure!(
            history
                .attempt(&app, &event_id("msg_2"), &expected.id)
                .await?
                .is_none()
        );
        let list = history
            .attempts(&app, &of, &AttemptFilter::default(), &first(10))
            .await?;
        let listed = list
            .rows
            .iter()
            .find(|found| found.attempt.id == expected.id)
            .context("it is listed")?;
        expected.answer = Bytes::new();
        ensure!(listed.attempt == expected, "{listed:?}");
    }
    Ok(())
}

pub async fn an_outcome_makes_a_stub_that_a_late_content_fills(history: &dyn History) -> Result<()> {
    let key = delivery("msg_1", -9, 0);
    let late = attempt("atmpt_1", key.clone(), 0, Decision::Delivered);
    record(history, vec![Record::Attempt(late)]).await?;
    let stub = found(history, "msg_1").await?;
    ensure!(stub.content.is_none() && stub.accepted_at == at(-9), "{stub:?}");
    let app = application("app");
    ensure!(
        history
            .events(&app, &EventFilter::default(), &first(10))
            .await?
            .rows
            .is_empty()
    );
    let filter = EndpointEventFilter::default();
    let list = history
        .endpoint_events(&app, &endpoint("ep"), &filter, &first(10))
        .await?;
    ensure!(list.rows.len() == 1 && list.rows[0].event == stub, "{list:?}");
    // Its content knows an earlier time: wherever the event stands in a list, it moves there.
    record(
        history,
        vec![
            Record::Event(event("msg_1", -20)),
            Record::Event(event("msg_2", -15)),
        ],
    )
    .await?;
    record(
        history,
        vec![Record::Settled(settled(
            delivery("msg_2", -15, 0),
            0,
            DeadReason::Expired,
        ))],
    )
    .await?;
    let full = found(history, "msg_1").await?;
    ensure!(full.content.is_some() && full.accepted_at == at(-20), "{full:?}");
    let list = history
        .endpoint_events(&app, &endpoint("ep"), &filter, &first(10))
        .await?;
    let ids: Vec<&str> = list.rows.iter().map(|found| found.event.id.as_str()).collect();
    ensure!(ids == ["msg_1", "msg_2"], "{ids:?}");
    ensure!(
        history
            .events(&app, &EventFilter::default(), &first(10))
            .await?
            .rows
            .len()
            == 2
    );
    Ok(())
}

pub async fn of_two_contents_the_one_that_was_accepted_first_stays_whichever_comes_first(
    history: &dyn History,
) -> Result<()> {
    // Goal: so it is for contents of the same moment too, where any rule does that is always the same.
    for (n, other_ms) in [-9, -10].into_iter().enumerate() {
        let mut kept = Vec::new();
        for (turned, name) in [(false, "app"), (true, "other")] {
            let content = |ms, payload| Event {
                application: application(name),
                payload: Bytes::from_static(payload),
                ..event(&format!("msg_{n}"), ms)
            };
            let mut records = vec![
                Record::Event(content(-9, b"1")),
                Record::Event(content(other_ms, b"2")),
            ];
            if turned {
                records.reverse();
            }
            for one in records {
                record(history, vec![one]).await?;
            }
            let id = event_id(&format!("msg_{n}"));
            let found = history
                .event(&application(name), &id)
                .await?
                .context("it is there")?;
            ensure!(found.accepted_at == at(other_ms));
            kept.push(found.content.context("it has a content")?.payload);
        }
        ensure!(kept[0] == kept[1], "{kept:?}");
        ensure!(
            other_ms == -9 || kept[0] == Payload::Kept(Bytes::from_static(b"2")),
            "{kept:?}"
        );
    }
    Ok(())
}
