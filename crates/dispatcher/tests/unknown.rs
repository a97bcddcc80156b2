//! A registry that may be older than the store: what it does not know waits, and is neither a fault nor a dead letter.

mod support;

use anyhow::Result;
use hooklane_broker::{Destination, Outgoing, Queue};
use hooklane_dispatcher::{DispatcherSettings, UserApplications};
use hooklane_telemetry::Metric;
use hooklane_types::{
    ApplicationId, Delivery, EndpointId, Event, FaultReason, HeaderValue, Internal, Origin, Original,
    Registry, Suspect,
};
use support::{SOON, World, acked, external, ingested, now, properties};

fn ingested_event(id: &str) -> Result<Event> {
    match Internal::decode(ingested(id, b"{}").body)? {
        Internal::Event(event) => Ok(event),
        other => anyhow::bail!("not an event: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_known_yet_waits_without_an_attempt_and_is_delivered_once_it_is_known() -> Result<()> {
    // Goal: an event of an unknown application, a replay of one, and a delivery to an unknown endpoint wait, while what is known is
    // delivered. Method: app_a and its endpoint are missing until the registry is current.
    let world = World::rabbitmq().await?;
    let mut known = world.endpoint("ep_known", "/known");
    known.application = ApplicationId::parse("app_known")?;
    world.serve([known.clone()]);
    world.is_current(false);
    let running = world.start();
    world.publish("order-1", "{\"n\": 1}").await?;
    let to_endpoint = Internal::Delivery(Delivery {
        event: ingested_event("msg_2")?,
        endpoints: vec![EndpointId::parse("ep_1")?],
        target: 0,
        run: 0,
        attempts_made: 0,
        parks: 0,
        remaining_ms: 0,
        deadline: None,
        history: Vec::new(),
    });
    let replay = Internal::Suspect(Suspect {
        original: Original {
            origin: Origin::Events,
            message: external("order-3"),
        },
        deaths: 0,
        since: now(),
    });
    for internal in [to_endpoint, replay] {
        let to = Destination::Internal(Queue::Deliveries);
        let message = Outgoing::internal(internal.encode());
        world.broker.publish(to, message, SOON).await?;
    }
    world.counted(Metric::Parks, &["unknown"], 3.0).await?;
    let mut of_known = properties("order-4");
    of_known.headers[0].1 = HeaderValue::Text("app_known".to_owned());
    world.publish_with(of_known, "{}").await?;
    world.receiver.wait_for_at("/known", 1, SOON).await?;
    // Each waits once more: what is unknown is asked for again.
    world.counted(Metric::Parks, &["unknown"], 6.0).await?;
    assert!(world.receiver.received_at("/a").is_empty());

    world.serve([known, world.endpoint("ep_1", "/a")]);
    world.is_current(true);
    world.receiver.wait_for_at("/a", 3, SOON).await?;
    world.counted(Metric::Deliveries, &["delivered"], 4.0).await?;
    running.stop().await?;
    assert_eq!(world.receiver.by_webhook_id().len(), 4);
    assert!(
        world
            .receiver
            .received_at("/a")
            .iter()
            .any(|request| request.body == "{\"n\": 1}")
    );
    for queue in [Queue::Faults, Queue::Dead, Queue::Suspects] {
        assert_eq!(world.broker.depth(queue).await?.messages, 0, "{queue:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_application_that_is_unknown_still_is_a_fault_once_the_registry_is_current() -> Result<()> {
    // Goal: waiting ends. What was thought to be unknown only for now is the same fault as ever, with its original.
    let (world, broker) = World::memory().await?;
    world.is_current(false);
    let running = world.start();
    broker.put(Queue::Events, external("order-1"), 0);
    acked(&broker, Queue::Events, 1).await?;
    assert!(matches!(broker.published()[..], [Destination::Delay { .. }]));
    world.is_current(true);
    broker.put(Queue::Events, external("order-2"), 0);
    let fault = world.take_fault().await?;
    running.stop().await?;
    assert_eq!(fault.reason, FaultReason::UnknownApplication);
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_not_known_yet_does_not_convict_its_producer() -> Result<()> {
    // Goal: a broker user may speak for an application's id, and says its uid. Whose that is, is not known yet.
    let (world, broker) = World::memory().await?;
    world.is_current(false);
    let id = ApplicationId::parse("app_1")?;
    let running = world.start_with(DispatcherSettings {
        broker_users: [("shop".to_owned(), UserApplications::These(vec![id.clone()]))].into(),
        ..DispatcherSettings::default()
    });
    let mut message = external("order-1");
    message.properties.user_id = Some("shop".to_owned());
    broker.put(Queue::Events, message.clone(), 0);
    acked(&broker, Queue::Events, 1).await?;
    assert!(matches!(broker.published()[..], [Destination::Delay { .. }]));
    // Where everything is known, it is none of the producer's.
    world.in_force(Registry::new([id, ApplicationId::parse("app_a")?], [])?);
    world.is_current(true);
    broker.put(Queue::Events, message, 0);
    let fault = world.take_fault().await?;
    running.stop().await?;
    assert_eq!(fault.reason, FaultReason::WrongApplication);
    Ok(())
}
