//! What no store keeps as it comes.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hooklane_store::history::{Decision, FUTURE_MAX_MS, History, Problem, Record};
use hooklane_types::{DeadReason, Event, ProducerId, UnixMillis};

use super::super::made::{
    application, at, attempt, attempt_id, delivery, endpoint, event, event_id, now, settled,
};
use super::found;

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
