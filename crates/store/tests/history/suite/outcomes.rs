//! How deliveries ended, and where events stand.

use anyhow::{Context, Result, ensure};
use hooklane_store::history::{Decision, History, Range, Record, Stats, Status};
use hooklane_types::DeadReason;

use super::super::made::{application, at, attempt, attempt_id, delivery, endpoint, event_id, settled};
use super::{first, record};

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
