//! What holds for every implementation of [`History`].

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{
    ANSWER_BYTES_MAX, AttemptFilter, AttemptsOf, Decision, EndpointEventFilter, EventFilter, FUTURE_MAX_MS,
    FoundEvent, History, PAGE_BYTES_MAX, Page, Payload, Problem, Range, Record, Recorded, SCAN_ROWS_MAX,
    Stats, Status, StatusClass, Trigger,
};
use hooklane_types::{AttemptOutcome, DeadReason, Event, FailureKind, ProducerId, UnixMillis};

use super::made::{
    application, at, attempt, attempt_id, channel, delivery, endpoint, event, event_id, event_type, now,
    settled,
};
use super::model::walk;

async fn record(history: &dyn History, records: Vec<Record>) -> Result<Recorded> {
    let recorded = history.record(Arc::from(records), now()).await?;
    ensure!(recorded.refused.is_empty(), "{recorded:?}");
    Ok(recorded)
}

fn first(limit: usize) -> Page {
    Page {
        behind: None,
        direction: Direction::Ascending,
        limit,
    }
}

async fn found(history: &dyn History, id: &str) -> Result<FoundEvent> {
    let found = history.event(&application("app"), &event_id(id)).await?;
    found.with_context(|| format!("no {id}"))
}

fn payload(found: &FoundEvent) -> Option<&Payload> {
    found.content.as_ref().map(|content| &content.payload)
}

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

pub async fn the_first_terminal_outcome_stays_but_delivered_goes_before_dead(
    history: &dyn History,
) -> Result<()> {
    let key = delivery("msg_1", -9, 0);
    let dead = |id, ms| {
        Record::Attempt(attempt(
            id,
            key.clone(),
            ms,
            Decision::Dead(DeadReason::Exhausted),
        ))
    };
    let expired = Record::Settled(settled(key.clone(), 20, DeadReason::Expired));
    let (app, event, ep) = (application("app"), event_id("msg_1"), endpoint("ep"));
    let outcome = async || -> Result<_> {
        let outcomes = history.outcomes(&app, &event, &ep).await?;
        ensure!(outcomes.len() == 1, "{outcomes:?}");
        outcomes[0].terminal().cloned().context("it has ended")
    };
    ensure!(record(history, vec![expired.clone()]).await?.late_outcomes == 0);
    ensure!(outcome().await?.dead == Some(DeadReason::Expired));
    // It was earlier, though it comes later.
    ensure!(record(history, vec![dead("atmpt_1", 10)]).await?.late_outcomes == 1);
    ensure!(outcome().await?.attempt == Some(attempt_id("atmpt_1")));
    ensure!(
        record(history, vec![dead("atmpt_2", 30), expired.clone()])
            .await?
            .late_outcomes
            == 2
    );
    ensure!(outcome().await?.at == at(10));
    let late = attempt("atmpt_3", key.clone(), 99, Decision::Delivered);
    ensure!(
        record(history, vec![Record::Attempt(late.clone())])
            .await?
            .late_outcomes
            == 1
    );
    let ended = outcome().await?;
    ensure!(ended.dead.is_none() && ended.at == at(99), "{ended:?}");
    // An attempt recorded again is no other outcome, and what is decided after the end starts nothing again.
    let after = attempt("atmpt_4", key.clone(), 100, Decision::Again(at(9_999)));
    let recorded = record(history, vec![Record::Attempt(late), Record::Attempt(after)]).await?;
    ensure!(recorded.late_outcomes == 0 && outcome().await? == ended);
    let destinations = history.destinations(&app, &event, &first(10)).await?.rows;
    ensure!(destinations.len() == 1 && destinations[0].status == Status::Delivered);
    ensure!(destinations[0].next_attempt.is_none());
    Ok(())
}

pub async fn status_and_next_attempt_are_those_of_the_newest_run(history: &dyn History) -> Result<()> {
    let again = |id, run, ms, next| {
        Record::Attempt(attempt(
            id,
            delivery("msg_1", -9, run),
            ms,
            Decision::Again(at(next)),
        ))
    };
    let stands = async || -> Result<_> {
        let (app, event) = (application("app"), event_id("msg_1"));
        let rows = history.destinations(&app, &event, &first(10)).await?.rows;
        ensure!(rows.len() == 1, "{rows:?}");
        Ok((rows[0].status, rows[0].next_attempt))
    };
    record(history, vec![again("atmpt_2", 0, 10, 300)]).await?;
    ensure!(stands().await? == (Status::Pending, Some(at(300))));
    // Earlier, and recorded later.
    record(history, vec![again("atmpt_1", 0, 5, 100)]).await?;
    ensure!(stands().await? == (Status::Pending, Some(at(300))));
    let gone = settled(delivery("msg_1", -9, 0), 20, DeadReason::EndpointRemoved);
    record(history, vec![Record::Settled(gone)]).await?;
    ensure!(stands().await? == (Status::Dead, None));
    record(history, vec![again("atmpt_3", 1, 30, 400)]).await?;
    ensure!(stands().await? == (Status::Pending, Some(at(400))));
    let mut other_target = delivery("msg_1", -9, 1);
    other_target.target = 1;
    let there = attempt("atmpt_4", other_target, 40, Decision::Delivered);
    record(history, vec![Record::Attempt(there)]).await?;
    ensure!(
        stands().await? == (Status::Pending, Some(at(400))),
        "one target still waits"
    );
    let done = attempt("atmpt_5", delivery("msg_1", -9, 1), 50, Decision::Delivered);
    record(history, vec![Record::Attempt(done)]).await?;
    ensure!(stands().await? == (Status::Delivered, None));
    Ok(())
}

pub async fn a_bad_row_is_told_and_stops_no_other(history: &dyn History) -> Result<()> {
    let nul = |field| Problem::Nul { field };
    let time = |field, at| Problem::Time { field, at };
    let mut bad: Vec<(Record, Problem)> = Vec::new();
    for ms in [0, -1, i64::MIN, i64::MAX] {
        let accepted_at = UnixMillis(ms);
        let event = Event {
            accepted_at,
            ..event("msg_bad", 0)
        };
        bad.push((Record::Event(event), time("accepted_at", accepted_at)));
        let mut early = attempt("atmpt_bad", delivery("msg_bad", 0, 0), 0, Decision::Delivered);
        early.at = UnixMillis(ms);
        bad.push((Record::Attempt(early), time("at", UnixMillis(ms))));
        let again = Decision::Again(UnixMillis(ms));
        let again = attempt("atmpt_bad", delivery("msg_bad", 0, 0), 0, again);
        bad.push((
            Record::Attempt(again),
            time("the next attempt's time", UnixMillis(ms)),
        ));
        let mut gone = settled(delivery("msg_bad", 0, 0), 0, DeadReason::Expired);
        gone.at = UnixMillis(ms);
        bad.push((Record::Settled(gone), time("at", UnixMillis(ms))));
    }
    let producer_id = Some(ProducerId::parse("a\0b")?);
    let event_with = |change: fn(&mut Event)| {
        let mut event = event("msg_bad", 0);
        change(&mut event);
        Record::Event(event)
    };
    bad.push((
        Record::Event(Event {
            producer_id,
            ..event("msg_bad", 0)
        }),
        nul("the producer's id"),
    ));
    bad.push((
        event_with(|event| event.content_type.push('\0')),
        nul("content_type"),
    ));
    bad.push((
        event_with(|event| event.traceparent = Some("\0".to_owned())),
        nul("traceparent"),
    ));
    bad.push((
        event_with(|event| event.headers = vec![("ce-a".to_owned(), "\0".to_owned())]),
        nul("a header"),
    ));
    let mut url = attempt("atmpt_bad", delivery("msg_bad", 0, 0), 0, Decision::Delivered);
    url.url = "https://example.com/\0".to_owned();
    bad.push((Record::Attempt(url), nul("url")));
    // Good ones between them, in more than one transaction.
    let mut batch = Vec::new();
    let mut expected = Vec::new();
    for n in 0..1_200 {
        batch.push(Record::Event(event(&format!("msg_{n:04}"), 0)));
        if n % 100 == 50 {
            for (record, problem) in &bad {
                expected.push((batch.len(), problem.clone()));
                batch.push(record.clone());
            }
        }
    }
    let recorded = history.record(Arc::from(batch), now()).await?;
    let refused = recorded
        .refused
        .into_iter()
        .map(|refused| (refused.index, refused.problem));
    let refused: Vec<_> = refused.collect();
    ensure!(refused == expected, "{refused:?}");
    let app = application("app");
    ensure!(history.event(&app, &event_id("msg_bad")).await?.is_none());
    for n in 0..1_200 {
        found(history, &format!("msg_{n:04}")).await?;
    }
    // A NUL in a payload is a byte like any other, and is tried above.
    Ok(())
}

pub async fn times_ahead_of_the_clock_are_clamped(history: &dyn History) -> Result<()> {
    // Goal: a machine that lives next year does not stand first in every list for a year. What is planned may lie ahead.
    let year_ms = 365 * 24 * 3600 * 1000;
    let records: Arc<[Record]> = Arc::from([
        Record::Event(event("msg_1", year_ms)),
        Record::Attempt(attempt(
            "atmpt_1",
            delivery("msg_1", year_ms, 0),
            year_ms,
            Decision::Again(at(2 * year_ms)),
        )),
        Record::Settled(settled(
            delivery("msg_1", year_ms, 1),
            year_ms,
            DeadReason::Expired,
        )),
    ]);
    // Recorded again an hour later: nothing moves.
    for now in [now(), at(3_600_000)] {
        let recorded = history.record(records.clone(), now).await?;
        ensure!(
            recorded.refused.is_empty() && recorded.forgotten == 0,
            "{recorded:?}"
        );
        let (app, event, ep) = (application("app"), event_id("msg_1"), endpoint("ep"));
        ensure!(found(history, "msg_1").await?.accepted_at == at(FUTURE_MAX_MS));
        let attempt = history
            .attempt(&app, &event, &attempt_id("atmpt_1"))
            .await?
            .context("it is there")?;
        ensure!(attempt.attempt.at == at(FUTURE_MAX_MS));
        ensure!(attempt.attempt.decision == Decision::Again(at(2 * year_ms)));
        let outcomes = history.outcomes(&app, &event, &ep).await?;
        ensure!(
            outcomes[0].terminal().map(|ended| ended.at) == Some(at(FUTURE_MAX_MS)),
            "{outcomes:?}"
        );
        ensure!(
            outcomes[1].state.last == Some((at(FUTURE_MAX_MS), attempt_id("atmpt_1"))),
            "{outcomes:?}"
        );
    }
    Ok(())
}

pub async fn what_was_expunged_does_not_come_back(history: &dyn History) -> Result<()> {
    let app = application("app");
    let (content, key) = (event("msg_1", -9), delivery("msg_1", -9, 0));
    let made = attempt("atmpt_1", key, 0, Decision::Delivered);
    let id = &made.id;
    for (name, event) in [("app", "msg_1"), ("other", "msg_1")] {
        ensure!(
            !history
                .expunge_payload(&application(name), &event_id(event))
                .await?
        );
        ensure!(
            !history
                .expunge_answer(&application(name), &event_id(event), id)
                .await?
        );
    }
    let records = vec![Record::Event(content.clone()), Record::Attempt(made.clone())];
    record(history, records.clone()).await?;
    ensure!(
        !history
            .expunge_payload(&application("other"), &content.id)
            .await?
    );
    ensure!(payload(&found(history, "msg_1").await?) == Some(&Payload::Kept(content.payload.clone())));
    for _ in 0..2 {
        ensure!(history.expunge_payload(&app, &content.id).await?);
        ensure!(history.expunge_answer(&app, &content.id, id).await?);
        // Late: the same ones, and another content of an earlier time.
        record(history, records.clone()).await?;
        record(history, vec![Record::Event(event("msg_1", -10))]).await?;
        let event = found(history, "msg_1").await?;
        ensure!(
            payload(&event) == Some(&Payload::Expunged) && event.is_expunged,
            "{event:?}"
        );
        let attempt = history
            .attempt(&app, &event.id, id)
            .await?
            .context("the attempt stays")?;
        ensure!(
            attempt.is_answer_expunged && attempt.attempt.answer.is_empty(),
            "{attempt:?}"
        );
        let filter = EventFilter {
            with_payload: true,
            ..EventFilter::default()
        };
        let list = history.events(&app, &filter, &first(1)).await?;
        ensure!(payload(&list.rows[0]) == Some(&Payload::Expunged), "{list:?}");
    }
    // A stub: the content comes afterwards.
    record(
        history,
        vec![Record::Settled(settled(
            delivery("msg_2", -9, 0),
            0,
            DeadReason::Expired,
        ))],
    )
    .await?;
    ensure!(history.expunge_payload(&app, &event_id("msg_2")).await?);
    record(history, vec![Record::Event(event("msg_2", -9))]).await?;
    ensure!(payload(&found(history, "msg_2").await?) == Some(&Payload::Expunged));
    Ok(())
}

pub async fn what_is_old_is_forgotten_in_steps_and_does_not_come_back(history: &dyn History) -> Result<()> {
    let mut records = Vec::new();
    for n in 0..20 {
        let (id, ms) = (format!("msg_{n:02}"), n - 20);
        for run in 0..5 {
            let made = attempt(
                &format!("atmpt_{n:02}_{run}"),
                delivery(&id, ms, run),
                0,
                Decision::Delivered,
            );
            records.push(Record::Attempt(made));
        }
        // Of every other one the content is unknown.
        if n % 2 == 0 {
            records.push(Record::Event(event(&id, ms)));
        }
    }
    record(history, records.clone()).await?;
    let (app, ep) = (application("app"), endpoint("ep"));
    let filter = EndpointEventFilter::default();
    let mut steps = 0;
    while history.forget(at(-10), 3).await? {
        steps += 1;
        ensure!(steps < 200, "it does not end");
    }
    // 5 attempts, 5 deliveries, a destination and an event each; a step takes 3 attempts, or what is left of one event.
    ensure!(steps >= 10, "{steps} steps");
    for again in [false, true] {
        if again {
            let recorded = record(history, records.clone()).await?;
            ensure!(recorded.forgotten == 10 * 5 + 5, "{recorded:?}");
        }
        for n in 0..20 {
            let id = event_id(&format!("msg_{n:02}"));
            let is_kept = n >= 10;
            ensure!(history.event(&app, &id).await?.is_some() == is_kept, "{id}");
            ensure!(history.outcomes(&app, &id, &ep).await?.len() == if is_kept { 5 } else { 0 });
            let (of, filter) = (AttemptsOf::Event(id, None), AttemptFilter::default());
            let attempts = history.attempts(&app, &of, &filter, &first(9)).await?;
            ensure!(attempts.rows.len() == if is_kept { 5 } else { 0 });
        }
        ensure!(
            history
                .endpoint_events(&app, &ep, &filter, &first(99))
                .await?
                .rows
                .len()
                == 10
        );
        let stats = history.stats(&app, &ep, Range::default()).await?;
        ensure!(
            stats
                == Stats {
                    delivered: 10,
                    ..Stats::default()
                },
            "{stats:?}"
        );
    }
    // Retention was made longer: what is younger is taken again.
    ensure!(!history.forget(at(-15), 1_000).await?);
    ensure!(record(history, records).await?.forgotten == 5 * 5 + 3);
    ensure!(
        history
            .endpoint_events(&app, &ep, &filter, &first(99))
            .await?
            .rows
            .len()
            == 15
    );
    Ok(())
}

pub async fn lists_are_cut_into_pages_in_both_directions(history: &dyn History) -> Result<()> {
    // Goal: no row twice, none left out, many at the same time among them; what is added meanwhile moves no page.
    let (app, ep) = (application("app"), endpoint("ep"));
    let mut records = Vec::new();
    for n in 0..23 {
        // Some ids carry no time.
        let id = format!("msg_{}{n:02}", if n % 3 == 0 { "h" } else { "" });
        let ms = n / 4;
        let mut key = delivery(&id, ms, 0);
        records.push(Record::Event(event(&id, ms)));
        records.push(Record::Attempt(attempt(
            &format!("atmpt_{n:02}"),
            key.clone(),
            ms,
            Decision::Delivered,
        )));
        key.event.id = event_id("msg_h00");
        key.endpoint = endpoint(&format!("ep_{n:02}"));
        records.push(Record::Attempt(attempt(
            &format!("atmpt_{n:02}x"),
            key,
            ms,
            Decision::Delivered,
        )));
    }
    record(history, records).await?;
    let filter = EventFilter::default();
    let list = async |page: &Page| history.events(&app, &filter, page).await.map_err(Into::into);
    ensure!(walk(list, FoundEvent::position).await?.len() == 23);
    let filter = EndpointEventFilter::default();
    let list = async |page: &Page| {
        history
            .endpoint_events(&app, &ep, &filter, page)
            .await
            .map_err(Into::into)
    };
    ensure!(walk(list, |found| found.event.position()).await?.len() == 23);
    let event = event_id("msg_h00");
    let list = async |page: &Page| history.destinations(&app, &event, page).await.map_err(Into::into);
    ensure!(walk(list, |found| found.position()).await?.len() == 24);
    for (of, count) in [
        (AttemptsOf::Endpoint(ep.clone()), 23),
        (AttemptsOf::Event(event.clone(), None), 24),
    ] {
        let filter = AttemptFilter::default();
        let list = async |page: &Page| {
            history
                .attempts(&app, &of, &filter, page)
                .await
                .map_err(Into::into)
        };
        ensure!(walk(list, |found| found.position()).await?.len() == count);
    }
    // From the middle of the newest page back to where it came from.
    let mut page = Page {
        behind: None,
        direction: Direction::Descending,
        limit: 5,
    };
    let newest = history.events(&app, &EventFilter::default(), &page).await?;
    page.behind = newest.rows.last().map(FoundEvent::position);
    page.direction = Direction::Ascending;
    let mut back = history.events(&app, &EventFilter::default(), &page).await?;
    back.rows.reverse();
    ensure!(back.rows == newest.rows[..4] && back.more.is_none(), "{back:?}");
    Ok(())
}

pub async fn a_page_ends_where_a_filter_leaves_little_or_payloads_are_long(
    history: &dyn History,
) -> Result<()> {
    let app = application("app");
    let mut records: Vec<Record> = (0..SCAN_ROWS_MAX + 1)
        .map(|n| Record::Event(event(&format!("msg_{n:06}"), n as i64)))
        .collect();
    let rare = Event {
        channels: vec![channel("rare")],
        ..event("msg_z", 100_000)
    };
    records.push(Record::Event(rare));
    record(history, records).await?;
    let filter = EventFilter {
        channel: Some(channel("rare")),
        ..EventFilter::default()
    };
    let none = history.events(&app, &filter, &first(1)).await?;
    ensure!(none.rows.is_empty(), "{none:?}");
    let page = Page {
        behind: none.more,
        ..first(1)
    };
    ensure!(page.behind.is_some(), "there is more");
    let rest = history.events(&app, &filter, &page).await?;
    ensure!(rest.rows.len() == 1 && rest.more.is_none(), "{rest:?}");
    let long = Bytes::from(vec![b' '; PAGE_BYTES_MAX / 2]);
    let long = (0..3).map(|n| Event {
        payload: long.clone(),
        application: application("long"),
        ..event(&format!("msg_{n}"), n)
    });
    record(history, long.map(Record::Event).collect()).await?;
    for (with_payload, count) in [(true, 2), (false, 3)] {
        let filter = EventFilter {
            with_payload,
            ..EventFilter::default()
        };
        let page = history.events(&application("long"), &filter, &first(10)).await?;
        ensure!(page.rows.len() == count && page.more.is_some() == with_payload);
    }
    Ok(())
}

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

pub async fn statistics_count_each_event_once(history: &dyn History) -> Result<()> {
    // Goal: the numbers are those of events, in a time, at the endpoint; more of them than one step counts.
    let (app, ep) = (application("app"), endpoint("ep"));
    let count = 20_001;
    let events = (0..count).map(|n| {
        Record::Settled(settled(
            delivery(&format!("msg_{n:05}"), n, 0),
            0,
            DeadReason::Expired,
        ))
    });
    record(history, events.collect()).await?;
    let more = [
        ("msg_1", 0, Decision::Again(at(9))),
        ("msg_1", 1, Decision::Again(at(9))),
        ("msg_2", 0, Decision::Delivered),
    ];
    let more = more.into_iter().enumerate();
    let more = more
        .map(|(n, (id, run, decision))| attempt(&format!("atmpt_{n}"), delivery(id, 5, run), 0, decision));
    record(history, more.map(Record::Attempt).collect()).await?;
    let stats = history.stats(&app, &ep, Range::default()).await?;
    ensure!(
        stats
            == Stats {
                delivered: 1,
                pending: 1,
                dead: count as u64
            },
        "{stats:?}"
    );
    let range = Range {
        after: Some(at(4)),
        before: Some(at(8)),
    };
    let stats = history.stats(&app, &ep, range).await?;
    ensure!(
        stats
            == Stats {
                delivered: 1,
                pending: 1,
                dead: 3
            },
        "{stats:?}"
    );
    ensure!(
        history
            .stats(&application("other"), &ep, Range::default())
            .await?
            == Stats::default()
    );
    ensure!(history.stats(&app, &endpoint("ep_2"), Range::default()).await? == Stats::default());
    Ok(())
}
