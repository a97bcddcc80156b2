//! Stops, abrupt ends and lost connections in flight: a real RabbitMQ, dispatchers that come and go, and nothing lost.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use hooklane_broker::Queue;
use hooklane_dispatcher::DispatcherSettings;
use hooklane_receiver::Reply;
use hooklane_telemetry::Metric;
use support::{SOON, World};

/// For tests that deliver much on a busy machine.
const LATER: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_with_attempts_in_flight_loses_nothing_and_counts_nothing() -> Result<()> {
    // Goal: a hundred events, a stop while slow attempts are in flight: those are finished, the rest goes to the next dispatcher,
    // every event arrives exactly once and no attempt was counted as failed.
    let world = World::rabbitmq().await?;
    world
        .receiver
        .script("/a", [Reply::ok().after(Duration::from_millis(400))]);
    let mut endpoint = world.endpoint("ep_1", "/a");
    endpoint.max_in_flight = 10;
    world.serve([endpoint]);
    let settings = DispatcherSettings {
        in_flight_max: 20,
        ..DispatcherSettings::default()
    };
    let first = world.start_with(settings.clone());
    for n in 0..100 {
        world.publish(&format!("order-{n}"), "{}").await?;
    }
    world.receiver.wait_for(5, SOON).await?;
    first.stop().await?;
    assert_eq!(
        world.receiver.in_flight(),
        0,
        "attempts in flight were not finished"
    );
    let second = world.start_with(settings);
    world.counted(Metric::Deliveries, &["delivered"], 100.0).await?;
    second.stop().await?;
    assert_eq!(world.receiver.look(|log| log.distinct()), 100);
    assert_eq!(world.receiver.total(), 100);
    assert_eq!(world.metrics.value(Metric::Retries, &[]), 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abrupt_end_with_attempts_in_flight_loses_nothing() -> Result<()> {
    // Goal: dispatchers are ended at once again and again while they deliver; every event arrives, repeats bear the same id, and
    // nobody is convicted for the ends of others.
    let world = World::rabbitmq().await?;
    world
        .receiver
        .script("/a", [Reply::ok().after(Duration::from_millis(50))]);
    let mut endpoint = world.endpoint("ep_1", "/a");
    endpoint.max_in_flight = 50;
    world.serve([endpoint]);
    for n in 0..300 {
        world.publish(&format!("order-{n}"), "{}").await?;
    }
    for round in 1..=4 {
        let running = world.start();
        world.receiver.wait_for(round * 30, LATER).await?;
        running.end_now().await?;
    }
    let last = world.start();
    world
        .receiver
        .wait_until("all events", LATER, |log| log.distinct() == 300)
        .await?;
    for queue in [Queue::Events, Queue::Deliveries, Queue::Suspects] {
        world.drained(queue).await?;
    }
    last.stop().await?;
    assert_eq!(world.receiver.look(|log| log.distinct()), 300);
    assert_eq!(world.broker.depth(Queue::Faults).await?.messages, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_under_load_lose_nothing() -> Result<()> {
    // Goal: all connections are closed by the broker twice while two dispatchers deliver and retry; every event arrives without
    // anybody's help.
    let world = World::rabbitmq().await?;
    world.receiver.script_with("/a", |request| {
        // One attempt in four fails, told by its attempt's time: so retries are published all the time.
        let failing = request
            .header("webhook-signature")
            .is_some_and(|text| text.as_bytes()[5] % 4 == 0);
        let reply = if failing { Reply::status(500) } else { Reply::ok() };
        reply.after(Duration::from_millis(20))
    });
    let mut endpoint = world.endpoint("ep_1", "/a");
    endpoint.max_in_flight = 20;
    endpoint.retry = support::retries(&[1_000; 20]);
    world.serve([endpoint]);
    let running = [world.start(), world.start()];
    for n in 0..300 {
        world.publish(&format!("order-{n}"), "{}").await?;
        if n % 120 == 100 {
            world.close_connections().await?;
        }
    }
    world
        .receiver
        .wait_until("all events", LATER, |log| log.distinct() == 300)
        .await?;
    for queue in [Queue::Events, Queue::Deliveries] {
        world.drained(queue).await?;
    }
    for running in running {
        running.stop().await?;
    }
    assert_eq!(world.broker.depth(Queue::Faults).await?.messages, 0);
    assert_eq!(world.broker.depth(Queue::Dead).await?.messages, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_two_thousand_endpoints_survives_an_abrupt_end_half_way() -> Result<()> {
    // Goal: the dispatcher ends at once after some hundred requests; the next one serves the rest, and every endpoint has it.
    let world = World::rabbitmq().await?;
    world.serve((0..2_000).map(|n| world.endpoint(&format!("ep_{n}"), &format!("/{n}"))));
    let first = world.start_with(DispatcherSettings {
        retries_in_flight_max: 4,
        ..DispatcherSettings::default()
    });
    world.publish("order-1", "{}").await?;
    world.receiver.wait_for(700, LATER).await?;
    first.end_now().await?;
    let second = world.start();
    let paths = |log: &hooklane_receiver::Log| {
        log.requests()
            .map(|request| request.path.clone())
            .collect::<HashSet<_>>()
    };
    world.receiver.wait_for(2_000, LATER).await?;
    hooklane_testkit::eventually("every endpoint", LATER, || async {
        let reached = world.receiver.look(paths).len();
        anyhow::ensure!(reached == 2_000, "{reached}");
        Ok(())
    })
    .await?;
    second.stop().await?;
    assert_eq!(world.receiver.by_webhook_id().len(), 1);
    assert_eq!(world.metrics.value(Metric::DeadLetters, &["exhausted"]), 0.0);
    Ok(())
}
