//! Messages that come back: suspects, newer envelopes. On a broker in memory that counts deliveries as a test says.

mod support;

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use hooklane_broker::{Destination, Queue};
use hooklane_dispatcher::DispatcherSettings;
use hooklane_receiver::Reply;
use hooklane_telemetry::Metric;
use hooklane_types::{FaultReason, Internal, Origin, Original, RawMessage, Suspect};
use support::{SOON, World, acked, external, ingested, internal, now};

#[tokio::test]
async fn a_newer_envelope_is_handed_back_and_never_a_fault() -> Result<()> {
    // Goal: whatever its delivery count, it stays in its queue; what is beside it is served.
    let (world, broker) = World::memory().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    broker.put(
        Queue::Events,
        internal("ingest", Bytes::from_static(b"HL\xff\0\0\0\x01later")),
        10,
    );
    broker.put(Queue::Events, ingested("msg_1", b"{}"), 0);
    let running = world.start();
    world.receiver.wait_for(1, SOON).await?;
    acked(&broker, Queue::Events, 1).await?;
    running.stop().await?;
    assert_eq!(broker.ready(Queue::Events), 1);
    assert_eq!(broker.published(), []);
    Ok(())
}

#[tokio::test]
async fn a_message_that_came_back_often_is_tried_alone_and_cleared() -> Result<()> {
    // Goal: three broker deliveries make it suspect; its trial is the normal processing, and clears it.
    let (world, broker) = World::memory().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    broker.put(Queue::Events, external("order-1"), 3);
    let running = world.start();
    acked(&broker, Queue::Events, 1).await?;
    assert_eq!(world.receiver.total(), 0);
    world.receiver.wait_for(1, SOON).await?;
    acked(&broker, Queue::Suspects, 1).await?;
    world.counted(Metric::Suspects, &["cleared"], 1.0).await?;
    running.stop().await?;
    assert_eq!(broker.published(), [Destination::Internal(Queue::Suspects)]);
    Ok(())
}

fn suspect(message_id: &str, deaths: u32) -> RawMessage {
    let original = Original {
        origin: Origin::Events,
        message: external(message_id),
    };
    internal(
        "internal",
        Internal::Suspect(Suspect {
            original,
            deaths,
            since: now(),
        })
        .encode(),
    )
}

#[tokio::test]
async fn only_a_third_death_during_its_trial_convicts_a_suspect() -> Result<()> {
    // Goal: one that came back from its second trial goes to the back and is tried; one that came back from its third is a fault.
    let (world, broker) = World::memory().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    broker.put(Queue::Suspects, suspect("order-2", 2), 1);
    broker.put(Queue::Suspects, suspect("order-1", 1), 4);
    let running = world.start();
    let fault = world.take_fault().await?;
    assert_eq!(fault.reason, FaultReason::Poison);
    assert_eq!(fault.original.message, external("order-2"));
    world.receiver.wait_for(1, SOON).await?;
    world.counted(Metric::Suspects, &["cleared"], 1.0).await?;
    running.stop().await?;
    assert_eq!(world.metrics.value(Metric::Suspects, &["convicted"]), 1.0);
    Ok(())
}

#[tokio::test]
async fn a_stop_during_a_trial_gives_the_suspect_back_uncounted() -> Result<()> {
    // Goal: the trial does not end within its share of the grace; the suspect is published as it was, and acked.
    let (world, broker) = World::memory().await?;
    world.receiver.script("/a", [Reply::hang()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    broker.put(Queue::Suspects, suspect("order-1", 1), 0);
    let settings = DispatcherSettings {
        grace: Duration::from_secs(1),
        ..DispatcherSettings::default()
    };
    let running = world.start_with(settings);
    world.receiver.wait_for(1, SOON).await?;
    running.stop().await?;
    assert_eq!(broker.acked(Queue::Suspects), 1);
    let Internal::Suspect(again) = Internal::decode(world.take(Queue::Suspects).await?.body)? else {
        bail!("no suspect")
    };
    assert_eq!(again.deaths, 1);
    Ok(())
}
