//! The idempotency window of `hooklane serve` outlives the process. Driven as a user does, by the built binary.

mod served;

use std::collections::HashSet;

use anyhow::{Result, ensure};
use served::{End, SOON, Serving, Stage};

const SAVED: &str = "hooklane_claims_saved_total";
const DUPLICATE: &str = "hooklane_events_duplicate_total";

/// Every way to name an event, published before and after the end; in another application the same id is another event.
async fn repeats_are_noticed_after(end: End) -> Result<()> {
    let stage = Stage::new("").await?;
    let serving = stage.serve().await?;
    let from_the_shell = ["publish", "--type", "a.b", "--id", "shell-1", "--payload", "{}"];
    stage.publish(&serving, "default", "order-1").await?;
    stage.publish(&serving, "acme", "order-1").await?;
    stage.publish_with_key(&serving, "key-1").await?;
    stage.ok(&from_the_shell).await?;
    stage.counted(&serving, SAVED, 4.0).await?;
    ensure!(stage.receiver.total() == 4);
    serving.end(end).await?;
    // Nothing runs: this one waits in the queue.
    stage.ok(&from_the_shell).await?;
    let serving = stage.serve().await?;
    // An eventId is refused right away.
    for application in ["default", "acme"] {
        let answer = stage.post(&serving, application, "order-1", "").await?;
        ensure!(answer.status() == 409, "{answer:?}");
    }
    stage.publish_with_key(&serving, "key-1").await?;
    stage.publish(&serving, "default", "order-2").await?;
    stage.counted(&serving, SAVED, 1.0).await?;
    stage.taken().await?;
    ensure!(stage.metric(&serving, DUPLICATE).await? >= 2.0);
    // Finishes what it has in hand.
    serving.end(End::Terminate).await?;
    let counts = stage.receiver.by_webhook_id();
    ensure!(
        counts.len() == 5 && counts.values().all(|count| *count == 1),
        "{counts:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_repeat_after_a_restart_is_not_delivered() -> Result<()> {
    // Goal: eventId, Idempotency-Key and the shell's --id, before and after SIGTERM.
    repeats_are_noticed_after(End::Terminate).await
}

#[tokio::test]
async fn a_repeat_after_kill_9_is_not_delivered() -> Result<()> {
    // Goal: likewise, where nothing was written at the end. Method: killed as soon as it says that the ids are kept.
    repeats_are_noticed_after(End::Kill9).await
}

#[tokio::test]
async fn what_was_settled_stays_so_over_kills_under_load() -> Result<()> {
    // Goal: killed while hundreds of deliveries are under way, an event whose id was kept is never delivered again, and none is lost.
    // Method: 100 events are settled, then they and 300 others are published in three lives; two end by a kill in the middle.
    let stage = Stage::new("").await?;
    let mut serving = stage.serve().await?;
    publish_all(&stage, &serving, "early", 100).await?;
    stage.counted(&serving, SAVED, 100.0).await?;
    let early: HashSet<_> = stage.receiver.by_webhook_id().into_keys().collect();
    for life in 0..3 {
        publish_all(&stage, &serving, "early", 100).await?;
        publish_all(&stage, &serving, "late", 300).await?;
        if life < 2 {
            serving.end(End::Kill9).await?;
            serving = stage.serve().await?;
        }
    }
    stage
        .receiver
        .wait_until("all ids to arrive", SOON, |log| log.by_webhook_id().len() == 400)
        .await?;
    stage.taken().await?;
    serving.end(End::Terminate).await?;
    let counts = stage.receiver.by_webhook_id();
    let again = early.iter().filter(|id| counts[*id] != 1).count();
    println!("400 events, 3 lives: {} deliveries", stage.receiver.total());
    ensure!(
        early.len() == 100 && again == 0,
        "{again} of {} were delivered again",
        early.len()
    );
    Ok(())
}

async fn publish_all(stage: &Stage, serving: &Serving, name: &str, events: usize) -> Result<()> {
    let publish =
        (0..events).map(|n| async move { stage.publish_with_key(serving, &format!("{name}-{n}")).await });
    futures_util::future::try_join_all(publish).await.map(drop)
}

#[tokio::test]
async fn a_full_window_forgets_the_oldest() -> Result<()> {
    // Goal: with room for two, the first of three is forgotten over a restart; its repeat bears the same webhook-id.
    let stage = Stage::new("[dispatcher]\nclaim_entries_max = 2").await?;
    let serving = stage.serve().await?;
    for n in 1..=3 {
        stage.publish_with_key(&serving, &format!("order-{n}")).await?;
        stage.counted(&serving, SAVED, f64::from(n)).await?;
    }
    serving.end(End::Terminate).await?;
    let serving = stage.serve().await?;
    stage.publish_with_key(&serving, "order-3").await?;
    stage.counted(&serving, DUPLICATE, 1.0).await?;
    stage.publish_with_key(&serving, "order-1").await?;
    stage.receiver.wait_for(4, SOON).await?;
    let counts = stage.receiver.by_webhook_id();
    ensure!(
        counts.len() == 3 && counts.values().filter(|count| **count == 2).count() == 1,
        "{counts:?}"
    );
    serving.end(End::Terminate).await
}
