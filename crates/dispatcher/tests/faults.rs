//! What a broker does only now and then, tried at the moment that matters: a broker in memory that fails on command.

mod support;

use std::time::Duration;

use anyhow::{Result, bail};
use hooklane_broker::{BrokerError, BrokerState, Destination, Queue};
use hooklane_dispatcher::DispatcherSettings;
use hooklane_receiver::Reply;
use hooklane_telemetry::Metric;
use hooklane_testkit::eventually;
use hooklane_types::{DeadReason, FaultReason, Internal, UnixMillis};
use support::{SOON, World, acked, external, ingested, internal, now, retries};

#[tokio::test]
async fn no_attempt_starts_while_an_outcome_cannot_be_published() -> Result<()> {
    // Goal: a retry that the broker refuses is tried until it is confirmed; meanwhile nothing is acked and no other event gets
    // an attempt; then both go on.
    let (world, broker) = World::memory().await?;
    world.receiver.script("/a", [Reply::status(500), Reply::ok()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    broker.refuse(Some(BrokerError::Full));
    broker.put(Queue::Events, external("order-1"), 0);
    world.receiver.wait_for(1, SOON).await?;
    eventually("a second try of the publish", SOON, || async {
        if broker.refused() >= 2 {
            Ok(())
        } else {
            bail!("{}", broker.refused())
        }
    })
    .await?;
    broker.put(Queue::Events, external("order-2"), 0);
    world.counted(Metric::EventsConsumed, &["events"], 2.0).await?;
    assert!(
        world
            .receiver
            .wait_for(2, Duration::from_millis(700))
            .await
            .is_err(),
        "an attempt started"
    );
    assert_eq!(broker.acked(Queue::Events), 0);
    broker.refuse(None);
    world.receiver.wait_for(3, SOON).await?;
    acked(&broker, Queue::Events, 2).await?;
    world.counted(Metric::Deliveries, &["delivered"], 2.0).await?;
    running.stop().await
}

#[tokio::test]
async fn nothing_starts_while_the_broker_is_blocked_and_a_stop_gives_it_back() -> Result<()> {
    // Goal: under a memory alarm an event waits without an attempt; a stop ends at once and the event is back in its queue.
    let (world, broker) = World::memory().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    broker.set_state(BrokerState::Blocked {
        reason: "memory".to_owned(),
    });
    let running = world.start();
    broker.put(Queue::Events, external("order-1"), 0);
    world.counted(Metric::EventsConsumed, &["events"], 1.0).await?;
    running.stop().await?;
    assert_eq!(world.receiver.total(), 0);
    assert_eq!((broker.ready(Queue::Events), broker.acked(Queue::Events)), (1, 0));
    broker.set_state(BrokerState::Connected);
    let running = world.start();
    world.receiver.wait_for(1, SOON).await?;
    acked(&broker, Queue::Events, 1).await?;
    running.stop().await
}

#[tokio::test]
async fn nothing_is_published_for_a_message_whose_channel_died() -> Result<()> {
    // Goal: the channel dies during an attempt that fails. Its retry is not published, for the broker gives the message again;
    // that one is attempted under the same id and no duplicate of itself.
    let (world, broker) = World::memory().await?;
    world.receiver.script(
        "/a",
        [Reply::status(500).after(Duration::from_millis(500)), Reply::ok()],
    );
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    broker.put(Queue::Events, external("order-1"), 0);
    world.receiver.wait_for(1, SOON).await?;
    broker.kill_channels(Queue::Events);
    world.receiver.wait_for(2, SOON).await?;
    acked(&broker, Queue::Events, 1).await?;
    world.counted(Metric::Attempts, &["5xx"], 1.0).await?;
    running.stop().await?;
    assert_eq!(broker.published(), []);
    assert_eq!(world.receiver.by_webhook_id().len(), 1);
    assert_eq!(world.metrics.value(Metric::EventsDuplicate, &[]), 0.0);
    Ok(())
}

#[tokio::test]
async fn only_the_ingest_exchange_makes_internal_form() -> Result<()> {
    // Goal: the same envelope is an event from our ingest's exchange, and a payload like any other from the producers'.
    let (world, broker) = World::memory().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    let genuine = ingested("msg_genuine", b"inside");
    let mut forged = external("order-1");
    forged.body = genuine.body.clone();
    broker.put(Queue::Events, genuine, 0);
    world.receiver.wait_for(1, SOON).await?;
    broker.put(Queue::Ordered, forged.clone(), 0);
    world.receiver.wait_for(2, SOON).await?;
    running.stop().await?;
    let received = world.receiver.received();
    assert_eq!(
        (received[0].webhook_id(), received[0].body.as_ref()),
        (Some("msg_genuine"), &b"inside"[..])
    );
    assert_ne!(received[1].webhook_id(), Some("msg_genuine"));
    assert_eq!(received[1].body, forged.body);
    Ok(())
}

#[tokio::test]
async fn a_panic_makes_its_message_a_fault_and_the_others_go_on() -> Result<()> {
    // Goal: the pipeline panics while it publishes a retry; the message is on the shelf, acked, and the next event is served.
    let (world, broker) = World::memory().await?;
    world.receiver.script("/a", [Reply::status(500), Reply::ok()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    broker.panic_once();
    broker.put(Queue::Events, external("order-1"), 0);
    let fault = world.take_fault().await?;
    assert_eq!(fault.reason, FaultReason::Poison);
    assert!(fault.detail.contains("a scripted panic"), "{}", fault.detail);
    assert_eq!(fault.original.message, external("order-1"));
    broker.put(Queue::Events, external("order-2"), 0);
    world.receiver.wait_for(2, SOON).await?;
    acked(&broker, Queue::Events, 2).await?;
    // Its claim was released: the replayed fault is no duplicate.
    broker.put(Queue::Events, external("order-1"), 0);
    world.receiver.wait_for(3, SOON).await?;
    running.stop().await
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_loses_nothing() -> Result<()> {
    // Goal: with an attempt that hangs, the end comes within seconds, and the message is back in its queue.
    let (world, broker) = World::memory().await?;
    world.receiver.script("/a", [Reply::hang()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    broker.put(Queue::Events, external("order-1"), 0);
    world.receiver.wait_for(1, SOON).await?;
    running.shutdown.stop.cancel();
    running.end_now().await?;
    eventually("the message back in its queue", SOON, || async {
        let found = (broker.ready(Queue::Events), broker.acked(Queue::Events));
        if found == (1, 0) {
            Ok(())
        } else {
            bail!("{found:?}")
        }
    })
    .await
}

#[tokio::test]
async fn the_grace_time_bounds_a_stop() -> Result<()> {
    // Goal: an attempt longer than the grace time is broken off, uncounted, and its message comes again.
    let (world, broker) = World::memory().await?;
    world.receiver.script("/a", [Reply::hang()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let settings = DispatcherSettings {
        grace: Duration::from_millis(300),
        ..DispatcherSettings::default()
    };
    let running = world.start_with(settings);
    broker.put(Queue::Events, external("order-1"), 0);
    world.receiver.wait_for(1, SOON).await?;
    let begun = std::time::Instant::now();
    running.stop().await?;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((broker.ready(Queue::Events), broker.acked(Queue::Events)), (1, 0));
    assert_eq!(broker.published(), []);
    Ok(())
}

#[tokio::test]
async fn a_full_inner_backlog_stops_new_events_until_it_is_worked_off() -> Result<()> {
    // Goal: with `deliveries` over its bound, events stay in their queue; under it they are taken again.
    let (world, broker) = World::memory().await?;
    world
        .receiver
        .script("/slow", [Reply::ok().after(Duration::from_millis(200))]);
    let mut slow = world.endpoint("ep_slow", "/slow");
    slow.event_types = vec![hooklane_types::TypePattern::parse("backlog")?];
    world.serve([slow.clone(), world.endpoint("ep_1", "/a")]);
    for n in 0..40 {
        let Internal::Event(event) = Internal::decode(ingested(&format!("msg_{n}"), b"{}").body)? else {
            bail!("no event")
        };
        let delivery = hooklane_types::Delivery {
            event,
            endpoints: vec![slow.id.clone()],
            target: 0,
            run: 0,
            attempts_made: 0,
            parks: 0,
            remaining_ms: 0,
            deadline: None,
            history: Vec::new(),
        };
        broker.put(
            Queue::Deliveries,
            internal("internal", Internal::Delivery(delivery).encode()),
            0,
        );
    }
    let settings = DispatcherSettings {
        inner_backlog_max: 10,
        retries_in_flight_max: 1,
        ..DispatcherSettings::default()
    };
    let running = world.start_with(settings);
    eventually("the pause", SOON, || async {
        if world.metrics.value(Metric::ConsumingPaused, &["events"]) == 1.0 {
            Ok(())
        } else {
            bail!("not paused")
        }
    })
    .await?;
    broker.put(Queue::Events, external("order-1"), 0);
    assert!(
        world
            .receiver
            .wait_for_at("/a", 1, Duration::from_millis(500))
            .await
            .is_err(),
        "an event was taken"
    );
    world.receiver.wait_for_at("/a", 1, SOON).await?;
    running.stop().await
}

#[tokio::test]
async fn a_delivery_past_its_deadline_is_dead_without_a_post() -> Result<()> {
    // Goal: `expired`, and the receiver saw nothing.
    let (world, broker) = World::memory().await?;
    let endpoint = world.endpoint("ep_1", "/a");
    world.serve([endpoint.clone()]);
    let Internal::Event(event) = Internal::decode(ingested("msg_1", b"{}").body)? else {
        bail!("no event")
    };
    let delivery = hooklane_types::Delivery {
        event,
        endpoints: vec![endpoint.id],
        target: 0,
        run: 1,
        attempts_made: 1,
        parks: 0,
        remaining_ms: 0,
        deadline: Some(UnixMillis(now().0 - 1)),
        history: Vec::new(),
    };
    broker.put(
        Queue::Deliveries,
        internal("lanes", Internal::Delivery(delivery).encode()),
        0,
    );
    let running = world.start();
    let dead = world.take_dead().await?;
    running.stop().await?;
    assert_eq!((dead.reason, dead.delivery.run), (DeadReason::Expired, 1));
    assert_eq!(world.receiver.total(), 0);
    Ok(())
}

#[tokio::test]
async fn the_rest_of_a_delay_is_taken_without_an_attempt() -> Result<()> {
    // Goal: a delivery that comes back early takes its next hop, and is attempted only after it.
    let (world, broker) = World::memory().await?;
    let mut endpoint = world.endpoint("ep_1", "/a");
    endpoint.retry = retries(&[100]);
    world.serve([endpoint.clone()]);
    let Internal::Event(event) = Internal::decode(ingested("msg_1", b"{}").body)? else {
        bail!("no event")
    };
    let delivery = hooklane_types::Delivery {
        event,
        endpoints: vec![endpoint.id],
        target: 0,
        run: 0,
        attempts_made: 1,
        parks: 0,
        remaining_ms: 700,
        deadline: None,
        history: Vec::new(),
    };
    let begun = std::time::Instant::now();
    broker.put(
        Queue::Deliveries,
        internal("lanes", Internal::Delivery(delivery).encode()),
        0,
    );
    let running = world.start();
    world.receiver.wait_for(1, SOON).await?;
    assert!(
        begun.elapsed() >= Duration::from_millis(700),
        "{:?}",
        begun.elapsed()
    );
    running.stop().await?;
    assert!(
        broker
            .published()
            .iter()
            .all(|to| matches!(to, Destination::Delay { .. })),
        "{:?}",
        broker.published()
    );
    Ok(())
}
