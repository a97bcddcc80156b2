//! Faults that an operator replays: they come through `deliveries`, and their originals go through intake again.

mod support;

use std::time::Duration;

use anyhow::Result;
use hooklane_broker::{Destination, Outgoing, Queue};
use hooklane_telemetry::Metric;
use hooklane_types::{Internal, Origin, Original, RawMessage, Suspect, UnixMillis};
use support::{SOON, World, external, ingested, now};

fn replay(message: RawMessage) -> Outgoing {
    let original = Original {
        origin: Origin::Events,
        message,
    };
    let suspect = Suspect {
        original,
        deaths: 0,
        since: now(),
    };
    Outgoing::internal(Internal::Suspect(suspect).encode())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_fault_is_no_duplicate_of_itself() -> Result<()> {
    // Goal: what was claimed when it became a fault is delivered by its replay, under the same webhook-id.
    let world = World::rabbitmq().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    world.publish("order-1", "{}").await?;
    world.receiver.wait_for(1, SOON).await?;
    let to = Destination::Internal(Queue::Deliveries);
    world
        .broker
        .publish(to, replay(external("order-1")), SOON)
        .await?;
    world.receiver.wait_for(2, SOON).await?;
    world.counted(Metric::Deliveries, &["delivered"], 2.0).await?;
    running.stop().await?;
    assert_eq!(world.receiver.by_webhook_id().len(), 1);
    assert_eq!(world.metrics.value(Metric::EventsDuplicate, &[]), 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_event_is_not_expired_when_it_is_replayed() -> Result<()> {
    // Goal: a replay has its deadline from now on. Method: an event that ingest accepted a year ago.
    let world = World::rabbitmq().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    let mut message = ingested("msg_old", b"{}");
    let Internal::Event(mut event) = Internal::decode(message.body)? else {
        anyhow::bail!("not an event")
    };
    event.accepted_at = UnixMillis(now().0 - Duration::from_secs(365 * 86_400).as_millis() as i64);
    message.body = Internal::Event(event).encode();
    let to = Destination::Internal(Queue::Deliveries);
    world.broker.publish(to, replay(message), SOON).await?;
    world.receiver.wait_for(1, SOON).await?;
    world.counted(Metric::Deliveries, &["delivered"], 1.0).await?;
    running.stop().await?;
    assert_eq!(world.receiver.received()[0].webhook_id(), Some("msg_old"));
    Ok(())
}
