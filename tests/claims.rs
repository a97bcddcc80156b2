//! One window of claims for all dispatchers, in PostgreSQL. Driven as a user does, by the built binary.

mod installation;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use futures_util::future::{try_join, try_join_all};
use futures_util::{StreamExt, TryStreamExt, stream};
use hooklane_testkit::eventually;
use installation::{Pod, Pods, Producer};
use stage::SOON;

/// A delivery goes on within a second without the store, three times.
const WITHIN: Duration = Duration::from_secs(3);
/// Messages of a burst.
const COPIES: usize = 40;
/// Bursts until three went well: many, for a machine that does much at once.
const BURSTS_MAX: usize = 20;
/// Longer than late claims are not asked for.
const REST: Duration = Duration::from_millis(1_100);
const DUPLICATE: &str = "hooklane_events_duplicate_total";
const UNANSWERED: &str = "hooklane_claims_unanswered_total";

/// Publishes with an id of the producer that a repeat is accepted for, too.
async fn publish(pods: &Pods, ingest: &Pod, id: &str) -> Result<()> {
    let answer = pods
        .stage
        .http
        .post(format!("{}/api/v1/app/acme/msg", ingest.url))
        .bearer_auth(&pods.token)
        .header("content-type", "application/json")
        .header("idempotency-key", id)
        .body(r#"{"eventType":"a.b","payload":{}}"#)
        .send()
        .await?;
    ensure!(answer.status() == 202, "{answer:?}");
    Ok(())
}

/// Publishes each id twice at once, through both; a few ids at a time.
async fn publish_twice(pods: &Pods, ingests: &[Pod; 2], name: &str, count: usize) -> Result<()> {
    let pairs = (0..count).map(|n| {
        let id = format!("{name}-{n}");
        async move { try_join(publish(pods, &ingests[0], &id), publish(pods, &ingests[1], &id)).await }
    });
    stream::iter(pairs)
        .buffer_unordered(4)
        .try_collect::<Vec<_>>()
        .await
        .map(drop)
}

async fn sum(pods: &Pods, dispatchers: &[Pod; 2], name: &str) -> Result<f64> {
    let mut sum = 0.0;
    for dispatcher in dispatchers {
        sum += pods.metric(dispatcher, name).await?;
    }
    Ok(sum)
}

/// The deliveries of 200 ids, each published twice at once, and how many events went out unclaimed.
async fn delivered(pods: &Pods) -> Result<(u64, f64)> {
    let control = pods.start("control").await?;
    let ingests = [pods.start("ingest").await?, pods.start("ingest").await?];
    let dispatchers = [pods.start("dispatcher").await?, pods.start("dispatcher").await?];
    pods.pair(&control, "acme").await?;
    publish_twice(pods, &ingests, "order", 200).await?;
    let receiver = &pods.stage.receiver;
    // Each of the 400 is either delivered or dropped.
    eventually("all to be taken", SOON, || async {
        let dropped = sum(pods, &dispatchers, DUPLICATE).await?;
        let total = receiver.total() as f64 + dropped;
        ensure!(total == 400.0, "{total}");
        Ok(())
    })
    .await?;
    ensure!(receiver.by_webhook_id().len() == 200);
    for dispatcher in &dispatchers {
        let taken = pods.metric(dispatcher, "hooklane_events_consumed_total").await?;
        ensure!(taken > 50.0, "one of them took {taken}");
    }
    let unanswered = sum(pods, &dispatchers, UNANSWERED).await?;
    Ok((receiver.total(), unanswered))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_published_twice_at_once_to_two_dispatchers_is_delivered_once() -> Result<()> {
    // Goal: no repeat but of what the store did not answer for in time, which is counted.
    let (delivered, unanswered) = delivered(&Pods::new().await?).await?;
    println!("200 ids twice: {delivered} deliveries, {unanswered} unclaimed");
    ensure!(
        (delivered - 200) as f64 <= unanswered,
        "{delivered}, {unanswered}"
    );
    ensure!(unanswered < 100.0, "the store answers for too few: {unanswered}");
    Ok(())
}

/// Publishes as many messages of one id at once, and waits until each is delivered or dropped: the deliveries, and how many went unclaimed.
async fn burst(pods: &Pods, producer: &Producer, dispatchers: &[Pod; 2], id: &str) -> Result<(u64, f64)> {
    let receiver = &pods.stage.receiver;
    let unanswered = sum(pods, dispatchers, UNANSWERED).await?;
    let dropped = sum(pods, dispatchers, DUPLICATE).await?;
    let known = receiver.total();
    try_join_all((0..COPIES).map(|_| producer.publish("acme", id))).await?;
    eventually("all to be taken", SOON, || async {
        let dropped = sum(pods, dispatchers, DUPLICATE).await? - dropped;
        let found = (receiver.total() - known) as f64 + dropped;
        ensure!(found == COPIES as f64, "{found}");
        Ok(())
    })
    .await?;
    let unanswered = sum(pods, dispatchers, UNANSWERED).await? - unanswered;
    Ok((receiver.total() - known, unanswered))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_one_id_to_two_dispatchers_is_delivered_once() -> Result<()> {
    // Method: each statement that claims takes 3 ms, as over a network; one for each copy would be late for most. On a machine that does too much at
    // once any claim may be late, which is counted: a few bursts are to go without.
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    let dispatchers = [pods.start("dispatcher").await?, pods.start("dispatcher").await?];
    pods.pair(&control, "acme").await?;
    pods.database
        .psql(
            "CREATE FUNCTION hooklane.take_3_ms() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.003); RETURN NULL; END $$; \
             CREATE TRIGGER take_3_ms BEFORE INSERT ON hooklane.claims EXECUTE FUNCTION hooklane.take_3_ms()",
        )
        .await?;
    let producer = Producer::connect(&pods).await?;
    let mut found = Vec::new();
    for n in 0..BURSTS_MAX {
        let (delivered, unanswered) = burst(&pods, &producer, &dispatchers, &format!("burst-{n}")).await?;
        ensure!((delivered - 1) as f64 <= unanswered, "{delivered}, {unanswered}");
        found.push((delivered, unanswered));
        if found.iter().filter(|found| **found == (1, 0.0)).count() == 3 {
            println!("{COPIES} copies, deliveries and unclaimed: {found:?}");
            return Ok(());
        }
        // What was late rests for a second.
        tokio::time::sleep(REST).await;
    }
    bail!("{COPIES} copies, deliveries and unclaimed: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_claims_in_the_store_each_dispatcher_knows_its_own() -> Result<()> {
    // Goal: the setting is honoured, and the test beside this one can fail.
    let (delivered, unanswered) = delivered(&Pods::with("claims = false").await?).await?;
    ensure!(delivered > 220, "{delivered}");
    ensure!(unanswered == 0.0, "{unanswered}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_with_ids_are_delivered_while_the_store_is_killed_and_claimed_afterwards() -> Result<()> {
    // Method: kill -9 of PostgreSQL; events with ids of their own arrive in their time, and are counted; later repeats are noticed again.
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    let ingests = [pods.start("ingest").await?, pods.start("ingest").await?];
    let dispatchers = [pods.start("dispatcher").await?, pods.start("dispatcher").await?];
    pods.pair(&control, "acme").await?;
    let receiver = &pods.stage.receiver;
    publish(&pods, &ingests[0], "before").await?;
    receiver.wait_for(1, SOON).await?;
    pods.server.kill9().await?;
    let until = Instant::now() + Duration::from_secs(6);
    let mut sent = 0;
    while Instant::now() < until {
        for _ in 0..10 {
            publish(&pods, &ingests[sent % 2], &format!("meanwhile-{sent}")).await?;
            sent += 1;
        }
        receiver.wait_for(sent as u64 + 1, WITHIN).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(sum(&pods, &dispatchers, UNANSWERED).await? > 0.0);
    ensure!(receiver.total() == sent as u64 + 1);
    pods.server.restart().await?;
    // What went out unclaimed is settled when the store is there again, in either dispatcher.
    eventually("the claims", SOON, || async {
        let settled = pods
            .database
            .psql("SELECT count(*) FROM hooklane.claims WHERE settled")
            .await?;
        // The kill may have cost what was settled right before it.
        ensure!(settled.parse::<usize>()? >= sent, "{settled} of {sent}");
        Ok(())
    })
    .await?;
    eventually("claims to be answered", SOON, || async {
        let before = sum(&pods, &dispatchers, UNANSWERED).await?;
        for at in 0..20 {
            publish(&pods, &ingests[at % 2], "before").await?;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        ensure!(sum(&pods, &dispatchers, UNANSWERED).await? == before);
        Ok(())
    })
    .await?;
    let known = receiver.total();
    let dropped = sum(&pods, &dispatchers, DUPLICATE).await?;
    for n in 0..sent.min(40) {
        publish(&pods, &ingests[n % 2], &format!("meanwhile-{n}")).await?;
    }
    eventually("the repeats to be dropped", SOON, || async {
        let found = sum(&pods, &dispatchers, DUPLICATE).await? - dropped + (receiver.total() - known) as f64;
        ensure!(found == sent.min(40) as f64, "{found}");
        Ok(())
    })
    .await?;
    let again = receiver.total() - known;
    ensure!(again < 10, "{again} were delivered again");
    Ok(())
}
