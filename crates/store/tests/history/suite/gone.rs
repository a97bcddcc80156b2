//! What was taken away, or forgotten.

use anyhow::{Context, Result, ensure};
use hooklane_store::history::{
    AttemptFilter, AttemptsOf, Decision, EndpointEventFilter, EventFilter, History, Payload, Range, Record,
    Stats,
};
use hooklane_types::DeadReason;

use super::super::made::{application, at, attempt, delivery, endpoint, event, event_id, settled};
use super::{first, found, payload, record};

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
    // What PostgreSQL keeps on its own day goes with that day; these are all older than the first day that there is.
    let unit = history.forgotten_together_ms();
    let mut records = Vec::new();
    for n in 0..20 {
        let (id, ms) = (format!("msg_{n:02}"), (n - 20) * unit);
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
    while history.forget(at(-10 * unit), 3).await? {
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
    ensure!(!history.forget(at(-15 * unit), 1_000).await?);
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
