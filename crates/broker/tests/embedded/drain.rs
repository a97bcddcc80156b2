//! Taking everything out, for another broker.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::embedded::{Drain, EmbeddedBroker, EmbeddedSettings, OpenError, Waiting};
use hooklane_broker::{Broker, Destination, Outgoing, Queue};
use hooklane_policy::ladder::LEVELS_MS;
use hooklane_types::{
    ApplicationId, Delivery, EndpointId, Event, EventId, EventType, Internal, Properties, UnixMillis,
};

use crate::suite::{PATIENCE, internal};

fn producer(message_id: Option<&str>) -> Outgoing {
    Outgoing {
        properties: Properties {
            message_id: message_id.map(str::to_owned),
            app_id: Some("shop".to_owned()),
            ..Properties::default()
        },
        body: Bytes::from_static(b"{}"),
    }
}

fn delivery(remaining_ms: u64) -> Result<Delivery> {
    Ok(Delivery {
        event: Event {
            id: EventId::parse("msg_1")?,
            producer_id: None,
            application: ApplicationId::parse("acme")?,
            event_type: EventType::parse("a.b")?,
            channels: vec![],
            accepted_at: UnixMillis(1_700_000_000_000),
            content_type: "application/json".to_owned(),
            traceparent: None,
            headers: vec![],
            payload: Bytes::from_static(b"{}"),
        },
        endpoints: vec![EndpointId::parse("ep_1")?],
        target: 0,
        run: 0,
        attempts_made: 1,
        parks: 0,
        remaining_ms,
        deadline: None,
        history: vec![],
    })
}

/// Takes everything out, batch by batch.
fn all(drain: &mut Drain) -> Result<Vec<Waiting>> {
    let mut found = Vec::new();
    loop {
        let batch = drain.take(|| "fresh".to_owned())?;
        if batch.is_empty() {
            return Ok(found);
        }
        drain.remove(&batch.iter().map(|waiting| waiting.taken).collect::<Vec<_>>())?;
        found.extend(batch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_taken_once_and_knows_its_way() -> Result<()> {
    // Goal: each kind of message has its destination and its bytes; what was removed is gone for the broker too, what was not stays.
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    let events = || Destination::ProducerEvents {
        routing_key: "a.b".to_owned(),
    };
    broker.publish(events(), producer(Some("1")), PATIENCE).await?;
    for to in [
        Destination::IngestedEvents,
        Destination::Internal(Queue::Deliveries),
        Destination::Internal(Queue::Suspects),
        Destination::Internal(Queue::Dead),
        Destination::Internal(Queue::Faults),
    ] {
        broker.publish(to, internal("body"), PATIENCE).await?;
    }
    for n in 0..600 {
        let message = producer(Some(&format!("many-{n}")));
        broker.publish(events(), message, PATIENCE).await?;
    }
    let held = Drain::open(&settings).err().context("nobody else may have it")?;
    ensure!(matches!(held, OpenError::Held { .. }), "{held}");
    broker.shut_down().await;
    drop(broker);

    let mut drain = Drain::open(&settings)?;
    ensure!(drain.messages() == 606, "{}", drain.messages());
    let untouched = drain.take(|| unreachable!("all have ids"))?;
    drop(drain);
    let mut drain = Drain::open(&settings)?;
    ensure!(drain.take(|| unreachable!())?.len() == untouched.len() && drain.messages() == 606);
    let found = all(&mut drain)?;
    ensure!(found.len() == 606 && drain.messages() == 0);
    ensure!(found[0].to == events() && found[0].message.properties == producer(Some("1")).properties);
    ensure!(found[1].to == Destination::IngestedEvents && found[1].message.body == "body");
    let rest: Vec<_> = found[602..].iter().map(|waiting| waiting.to.clone()).collect();
    let expected =
        [Queue::Suspects, Queue::Deliveries, Queue::Dead, Queue::Faults].map(Destination::Internal);
    ensure!(rest == expected, "{rest:?}");
    drop(drain);
    let broker = EmbeddedBroker::open(settings)?;
    for queue in Queue::ALL {
        ensure!(broker.depth(queue).await?.messages == 0, "{queue:?}");
    }
    // What is published next is no less there.
    broker.publish(events(), producer(None), PATIENCE).await?;
    ensure!(broker.depth(Queue::Events).await?.messages == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_without_an_id_gets_one_and_keeps_it() -> Result<()> {
    // Goal: taken again after a kill, it is the same event. Method: the second drain is given other ids.
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    let events = Destination::ProducerEvents {
        routing_key: "a.b".to_owned(),
    };
    broker.publish(events, producer(None), PATIENCE).await?;
    broker.shut_down().await;
    drop(broker);
    for _ in 0..2 {
        let mut drain = Drain::open(&settings)?;
        let mut ids = ["first", "second"].into_iter().cycle();
        let batch = drain.take(|| ids.next().unwrap_or_default().to_owned())?;
        ensure!(batch[0].message.properties == producer(Some("first")).properties);
    }
    let mut drain = Drain::open(&settings)?;
    let batch = drain.take(|| "third".to_owned())?;
    ensure!(batch[0].message.properties.message_id.as_deref() == Some("first"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_delay_goes_on_there() -> Result<()> {
    // Goal: the first hop there and what it carries are what is left of this hop and of the rest, neither less nor much more.
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    let (level, rest_ms) = (12, 90_000);
    let whole_ms = LEVELS_MS[level] + rest_ms;
    let message = Outgoing::internal(Internal::Delivery(delivery(rest_ms)?).encode());
    broker
        .publish(Destination::Delay { level }, message, PATIENCE)
        .await?;
    let due = Outgoing::internal(Internal::Delivery(delivery(0)?).encode());
    broker
        .publish(Destination::Delay { level: 0 }, due, PATIENCE)
        .await?;
    broker.shut_down().await;
    drop(broker);
    tokio::time::sleep(Duration::from_millis(LEVELS_MS[0] + 1)).await;
    let mut drain = Drain::open(&settings)?;
    let found = all(&mut drain)?;
    ensure!(
        found.len() == 2 && found[0].to == Destination::Internal(Queue::Deliveries),
        "{found:?}"
    );
    let Destination::Delay { level } = found[1].to else {
        anyhow::bail!("{found:?}");
    };
    let Internal::Delivery(carried) = Internal::decode(found[1].message.body.clone())? else {
        anyhow::bail!("no delivery");
    };
    let left_ms = LEVELS_MS[level] + carried.remaining_ms;
    // What has passed here, and a hop's tolerance of 2 %; three times that for a busy machine.
    ensure!(
        left_ms <= whole_ms + whole_ms * 6 / 100,
        "{left_ms} of {whole_ms}"
    );
    ensure!(left_ms + 30_000 >= whole_ms, "{left_ms} of {whole_ms}");
    ensure!(carried.event == delivery(0)?.event && carried.attempts_made == 1);
    Ok(())
}
