//! Deliveries end to end: a real RabbitMQ, a real receiver, one dispatcher.

mod support;

use std::time::Duration;

use anyhow::Result;
use hooklane_broker::Queue;
use hooklane_dispatcher::DispatcherSettings;
use hooklane_receiver::Reply;
use hooklane_telemetry::Metric;
use hooklane_types::control::EndpointCondition;
use hooklane_types::{ApplicationId, DeadReason, EventId, FaultReason, Origin, ProducerId, Properties};
use support::{SOON, World, properties, retries};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_delivered_once_and_signed() -> Result<()> {
    // Goal: the bytes that were published arrive once, verified, under the id derived from the producer's; nothing is left.
    let world = World::rabbitmq().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    world.publish("order-1", " {\"total\": 1.0}").await?;
    world.receiver.wait_for(1, SOON).await?;
    world.counted(Metric::Deliveries, &["delivered"], 1.0).await?;
    running.stop().await?;
    let received = world.receiver.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, " {\"total\": 1.0}");
    assert!(
        received[0]
            .verdict
            .as_ref()
            .is_some_and(|verdict| verdict.is_valid())
    );
    let application = ApplicationId::parse("app_a")?;
    let id = EventId::derived(&application, None, &ProducerId::parse("order-1")?);
    assert_eq!(received[0].webhook_id(), Some(id.as_str()));
    assert_eq!(received[0].header("content-type"), Some("application/json"));
    for queue in Queue::ALL {
        assert_eq!(world.broker.depth(queue).await?.messages, 0, "{queue:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_attempt_is_retried_under_the_same_id_and_a_repeat_is_dropped() -> Result<()> {
    // Goal: 500, then 200; both requests bear one webhook-id; a second message with the same message_id reaches nobody.
    let world = World::rabbitmq().await?;
    world.receiver.script("/a", [Reply::status(500), Reply::ok()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    world.publish("order-1", "{}").await?;
    world.receiver.wait_for(2, SOON).await?;
    world.counted(Metric::Deliveries, &["delivered"], 1.0).await?;
    world.publish("order-1", "{}").await?;
    world.counted(Metric::EventsDuplicate, &[], 1.0).await?;
    running.stop().await?;
    assert_eq!(world.receiver.total(), 2);
    assert_eq!(world.receiver.by_webhook_id().len(), 1);
    assert_eq!(world.metrics.value(Metric::Retries, &[]), 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_dead_after_its_last_attempt() -> Result<()> {
    // Goal: three attempts of the schedule, then the shelf, with reason and history.
    let world = World::rabbitmq().await?;
    world.receiver.script("/a", [Reply::status(503)]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    world.publish("order-1", "{}").await?;
    let dead = world.take_dead().await?;
    running.stop().await?;
    assert_eq!(
        (dead.reason, dead.delivery.attempts_made),
        (DeadReason::Exhausted, 3)
    );
    assert_eq!(dead.delivery.history.len(), 3);
    assert_eq!(world.receiver.total(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_gets_nothing_more_until_the_file_changes() -> Result<()> {
    // Goal: 410 makes this delivery dead, the next one dead without a POST, and a new registry lets it through again.
    let world = World::rabbitmq().await?;
    world.receiver.script("/a", [Reply::status(410), Reply::ok()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    for message_id in ["order-1", "order-2"] {
        world.publish(message_id, "{}").await?;
        assert_eq!(world.take_dead().await?.reason, DeadReason::Gone);
    }
    assert_eq!(world.receiver.total(), 1);
    world.serve([world.endpoint("ep_1", "/a")]);
    // The change is followed by a task of its own: what comes before it is still dead, so ask until one passes.
    hooklane_testkit::eventually("a delivery after the change", SOON, || async {
        world.publish(&format!("later-{}", rand_id()), "{}").await?;
        Ok(world.receiver.wait_for(2, Duration::from_millis(300)).await?)
    })
    .await?;
    running.stop().await
}

fn rand_id() -> u64 {
    rand::random()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_endpoint_does_not_hold_up_the_others() -> Result<()> {
    // Goal: all events to a healthy endpoint arrive before the first attempt at the hanging one ends; what is parked meanwhile
    // keeps its id, costs no attempt, and arrives once the endpoint answers.
    let world = World::rabbitmq().await?;
    world.receiver.script("/sick", [Reply::hang()]);
    let mut sick = world.endpoint("ep_sick", "/sick");
    sick.max_in_flight = 4;
    sick.timeout = Duration::from_secs(12);
    world.serve([sick, world.endpoint("ep_well", "/well")]);
    let running = world.start_with(DispatcherSettings {
        in_flight_max: 8,
        ..DispatcherSettings::default()
    });
    for n in 0..40 {
        world.publish(&format!("order-{n}"), "{}").await?;
    }
    world
        .receiver
        .wait_for_at("/well", 40, Duration::from_secs(10))
        .await?;
    let attempts_at_sick = world.receiver.received_at("/sick").len();
    assert_eq!(
        attempts_at_sick, 4,
        "its limit holds, and none of its attempts has ended"
    );
    world.counted(Metric::Deliveries, &["delivered"], 40.0).await?;
    world.receiver.script("/sick", [Reply::ok()]);
    world
        .receiver
        .wait_until(
            "all events at the endpoint that was sick",
            Duration::from_secs(90),
            |log| log.distinct_at("/sick") == 40,
        )
        .await?;
    world.counted(Metric::Deliveries, &["delivered"], 80.0).await?;
    running.stop().await?;
    // The four that hung were retried; no other delivery spent an attempt on waiting.
    assert_eq!(world.receiver.received_at("/sick").len(), 44);
    assert_eq!(world.metrics.value(Metric::Deliveries, &["dead"]), 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_delivery_keeps_its_id_and_its_attempts() -> Result<()> {
    // Goal: a Retry-After pauses the endpoint; another event parks without an attempt and is then delivered by its first one.
    let world = World::rabbitmq().await?;
    world
        .receiver
        .script("/a", [Reply::status(429).header("retry-after", "2"), Reply::ok()]);
    let mut endpoint = world.endpoint("ep_1", "/a");
    // One attempt in all: a park that cost one would be dead.
    endpoint.retry = retries(&[100]);
    world.serve([endpoint]);
    let running = world.start();
    world.publish("order-1", "{}").await?;
    world.receiver.wait_for(1, SOON).await?;
    world.counted(Metric::Retries, &[], 1.0).await?;
    let paused_at = std::time::Instant::now();
    world.publish("order-2", "{}").await?;
    world.counted(Metric::Parks, &["paused"], 1.0).await?;
    world.counted(Metric::Deliveries, &["delivered"], 2.0).await?;
    assert!(
        paused_at.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        paused_at.elapsed()
    );
    running.stop().await?;
    let by_id = world.receiver.by_webhook_id();
    assert_eq!(by_id.len(), 2);
    let application = ApplicationId::parse("app_a")?;
    let parked = EventId::derived(&application, None, &ProducerId::parse("order-2")?);
    assert_eq!(by_id.get(parked.as_str()), Some(&1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_any_id_is_given_one_before_its_first_attempt() -> Result<()> {
    // Goal: it arrives with an id of ours by way of `deliveries`, and its retry bears the same.
    let world = World::rabbitmq().await?;
    world.receiver.script("/a", [Reply::status(500), Reply::ok()]);
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start();
    world
        .publish_with(
            Properties {
                message_id: None,
                ..properties("")
            },
            "{}",
        )
        .await?;
    world.receiver.wait_for(2, SOON).await?;
    world.counted(Metric::Deliveries, &["delivered"], 1.0).await?;
    running.stop().await?;
    assert_eq!(world.receiver.by_webhook_id().len(), 1);
    assert_eq!(world.metrics.value(Metric::EventsConsumed, &["events"]), 1.0);
    assert!(world.metrics.value(Metric::EventsConsumed, &["deliveries"]) >= 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_many_endpoints_reaches_each_once() -> Result<()> {
    // Goal: 100 endpoints are served by slices, each once.
    let world = World::rabbitmq().await?;
    world.serve((0..100).map(|n| world.endpoint(&format!("ep_{n}"), &format!("/{n}"))));
    let running = world.start();
    world.publish("order-1", "{}").await?;
    world.counted(Metric::Deliveries, &["delivered"], 100.0).await?;
    running.stop().await?;
    assert_eq!(world.receiver.total(), 100);
    assert_eq!(world.receiver.by_webhook_id().len(), 1);
    assert!((0..100).all(|n| world.receiver.received_at(&format!("/{n}")).len() == 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_application_is_a_fault_after_a_while_and_a_late_one_is_not() -> Result<()> {
    // Goal: never heard of: on the shelf with its original; made within two seconds: delivered. No match: acked, counted.
    let world = World::rabbitmq().await?;
    let running = world.start();
    let begun = std::time::Instant::now();
    world.publish("order-1", "{}").await?;
    let fault = world.take_fault().await?;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(
        (fault.reason, fault.original.origin),
        (FaultReason::UnknownApplication, Origin::Events)
    );
    assert_eq!(
        fault.original.message.properties.message_id.as_deref(),
        Some("order-1")
    );
    assert_eq!(fault.original.message.body, "{}");

    let mut other = world.endpoint("ep_other", "/other");
    other.event_types = vec![hooklane_types::TypePattern::parse("something.else")?];
    world.serve([other]);
    world.publish("order-2", "{}").await?;
    world.counted(Metric::EventsUnmatched, &[], 1.0).await?;
    world.drained(Queue::Events).await?;

    let mut late = properties("order-3");
    late.headers[0].1 = hooklane_types::HeaderValue::Text("app_late".to_owned());
    world.publish_with(late, "{}").await?;
    world.counted(Metric::EventsConsumed, &["events"], 3.0).await?;
    let mut endpoint = world.endpoint("ep_late", "/late");
    endpoint.application = ApplicationId::parse("app_late")?;
    world.serve([endpoint]);
    world.receiver.wait_for_at("/late", 1, SOON).await?;
    running.stop().await?;
    assert_eq!(world.metrics.value(Metric::Faults, &["unknown_application"]), 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_understood_goes_to_the_shelf_as_it_was() -> Result<()> {
    // Goal: a type with CR LF, a forged envelope and an oversized body are faults; the event behind them is delivered.
    let world = World::rabbitmq().await?;
    world.serve([world.endpoint("ep_1", "/a")]);
    let running = world.start_with(DispatcherSettings {
        event_bytes_max: 1_000,
        ..DispatcherSettings::default()
    });
    let broken = Properties {
        kind: Some("a.b\r\n".to_owned()),
        ..properties("order-1")
    };
    world.publish_with(broken.clone(), "{}").await?;
    let fault = world.take_fault().await?;
    assert_eq!(fault.reason, FaultReason::Malformed);
    assert_eq!(fault.original.message.properties.kind, broken.kind);
    world.publish("order-2", &"x".repeat(1_001)).await?;
    assert_eq!(world.take_fault().await?.reason, FaultReason::TooLarge);
    world.publish("a.b\r\n", "{}").await?;
    world.receiver.wait_for(1, SOON).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_endpoint_and_a_disabled_one() -> Result<()> {
    // Goal: what waits for a disabled endpoint parks; once the endpoint is removed, its retries are dead with that reason.
    let world = World::rabbitmq().await?;
    world.receiver.script("/a", [Reply::status(500)]);
    let mut failing = world.endpoint("ep_1", "/a");
    failing.retry = retries(&[1_000, 1_000]);
    let mut disabled = world.endpoint("ep_2", "/b");
    disabled.disabled = true;
    let kept = world.endpoint("ep_3", "/c");
    world.serve([failing, disabled, kept.clone()]);
    let running = world.start();
    world.publish("order-1", "{}").await?;
    world.counted(Metric::Retries, &[], 1.0).await?;
    world.counted(Metric::Parks, &["disabled"], 1.0).await?;
    world.serve([kept]);
    let dead = world.take_dead().await?;
    running.stop().await?;
    assert_eq!(dead.reason, DeadReason::EndpointRemoved);
    assert_eq!(
        (dead.delivery.endpoints[0].as_str(), dead.delivery.attempts_made),
        ("ep_1", 1)
    );
    assert!(world.receiver.received_at("/b").is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dispatcher_answers_for_its_endpoints() -> Result<()> {
    // Goal: a question on `control` is answered with state and last outcome of the endpoints that were served.
    let world = World::rabbitmq().await?;
    world.receiver.script("/b", [Reply::status(410)]);
    world.serve([world.endpoint("ep_a", "/a"), world.endpoint("ep_b", "/b")]);
    let running = world.start_with(DispatcherSettings {
        pod: "pod-7".to_owned(),
        ..DispatcherSettings::default()
    });
    world.publish("order-1", "{}").await?;
    assert_eq!(world.take_dead().await?.reason, DeadReason::Gone);
    world.counted(Metric::Deliveries, &["delivered"], 1.0).await?;
    let reply = world.ask_status("q-1").await?;
    running.stop().await?;
    assert_eq!((reply.pod.as_str(), reply.part, reply.parts), ("pod-7", 0, 1));
    let states: Vec<_> = reply
        .endpoints
        .iter()
        .map(|e| (e.id.as_str(), e.state, e.last_outcome.as_deref()))
        .collect();
    assert_eq!(
        states,
        [
            ("ep_a", EndpointCondition::Ok, Some("2xx")),
            ("ep_b", EndpointCondition::Gone, Some("4xx"))
        ]
    );
    Ok(())
}
