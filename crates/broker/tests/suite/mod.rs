//! What every broker behind the port must do. Each function is one behaviour, on an installation of its own.

#[allow(dead_code, reason = "not every test binary writes frames of its own")]
pub mod foreign;
#[allow(dead_code, reason = "not every test binary puts load on the broker")]
pub mod load;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hooklane_broker::{
    BrokerError, ConsumeOptions, Consumption, Depth, Destination, Incoming, Outgoing, Queue, SharedBroker,
};
use hooklane_testkit::eventually;
use hooklane_types::{HeaderValue, Properties};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Long enough for a machine that does seven other things.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing must come, where nothing is expected.
pub const SILENCE: Duration = Duration::from_millis(500);
const GIB: u64 = 1024 * 1024 * 1024;

/// Where brokers come from: all that one bench gives out belong to the same installation.
pub trait Bench {
    /// A process's broker.
    fn broker(&self, events_bytes_max: u64) -> Result<SharedBroker>;
}

pub fn options(prefetch: u16) -> ConsumeOptions {
    ConsumeOptions {
        prefetch,
        bytes_max: 64 * 1024 * 1024,
    }
}

pub fn internal(body: impl Into<Bytes>) -> Outgoing {
    Outgoing::internal(body.into())
}

pub async fn next(consumption: &mut Box<dyn Consumption>) -> Result<Incoming> {
    let incoming = timeout(PATIENCE, consumption.next())
        .await
        .context("no message came")?;
    incoming.context("the consumption ended")
}

pub async fn nothing_comes(consumption: &mut Box<dyn Consumption>) -> Result<()> {
    match timeout(SILENCE, consumption.next()).await {
        Err(_) => Ok(()),
        Ok(None) => bail!("the consumption ended"),
        Ok(Some(incoming)) => bail!("{:?} came", incoming.message),
    }
}

fn text(incoming: &Incoming) -> String {
    String::from_utf8_lossy(&incoming.message.body).into_owned()
}

pub async fn ready(broker: &SharedBroker, queue: Queue, messages: u64) -> Result<Depth> {
    eventually(
        &format!("{messages} messages ready in {queue:?}"),
        PATIENCE,
        || async {
            let depth = broker.depth(queue).await?;
            ensure!(depth.messages == messages, "{} are", depth.messages);
            Ok(depth)
        },
    )
    .await
}

async fn publish_numbers(broker: &SharedBroker, to: Destination, count: usize) -> Result<()> {
    for number in 0..count {
        broker
            .publish(to.clone(), internal(number.to_string()), PATIENCE)
            .await?;
    }
    Ok(())
}

pub async fn a_confirmed_message_arrives_as_it_was(bench: &impl Bench) -> Result<()> {
    // Goal: bodies are sacred on every internal way, of no byte and of more than a frame.
    let broker = bench.broker(GIB)?;
    let large: Bytes = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
    for (queue, to) in [
        (Queue::Events, Destination::IngestedEvents),
        (Queue::Deliveries, Destination::Internal(Queue::Deliveries)),
        (Queue::Suspects, Destination::Internal(Queue::Suspects)),
        (Queue::Dead, Destination::Internal(Queue::Dead)),
        (Queue::Faults, Destination::Internal(Queue::Faults)),
    ] {
        let mut consumption = broker.consume(queue, options(10));
        for body in [
            Bytes::new(),
            Bytes::from_static(b"\0{ \"a\": 1.0 }\xff"),
            large.clone(),
        ] {
            broker
                .publish(to.clone(), internal(body.clone()), PATIENCE)
                .await?;
            let incoming = next(&mut consumption).await?;
            ensure!(
                incoming.message.body == body,
                "the body changed on the way to {queue:?}"
            );
            ensure!(!incoming.redelivered && incoming.delivery_count == 0);
            ensure!(
                incoming.message.properties.headers.is_empty(),
                "{:?}",
                incoming.message.properties
            );
            incoming.ack.ack().await?;
        }
    }
    let refused = broker
        .publish(Destination::Internal(Queue::Events), internal("x"), PATIENCE)
        .await;
    ensure!(matches!(refused, Err(BrokerError::Refused(_))), "{refused:?}");
    broker.shut_down().await;
    Ok(())
}

pub async fn producers_properties_arrive_and_the_exchange_tells_them_from_ingest(
    bench: &impl Bench,
) -> Result<()> {
    // Goal: external and internal form share queue `events`; only the exchange tells which is which.
    let broker = bench.broker(GIB)?;
    let mut consumption = broker.consume(Queue::Events, options(10));
    let properties = Properties {
        content_type: Some("application/json".into()),
        message_id: Some("a.b\r\n".into()),
        kind: Some("invoice.paid".into()),
        timestamp_s: Some(1_700_000_000),
        headers: vec![("application".into(), HeaderValue::Text("acme".into()))],
        ..Properties::default()
    };
    let to = Destination::ProducerEvents {
        routing_key: "invoice.paid".into(),
    };
    let outgoing = Outgoing {
        properties: properties.clone(),
        body: Bytes::from_static(b"{}"),
    };
    broker.publish(to, outgoing, PATIENCE).await?;
    let external = next(&mut consumption).await?;
    ensure!(
        external.message.properties == properties,
        "{:?}",
        external.message.properties
    );
    ensure!(external.message.routing_key == "invoice.paid");
    ensure!(
        external.message.exchange.ends_with(".events"),
        "{}",
        external.message.exchange
    );
    external.ack.ack().await?;
    broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await?;
    let ingested = next(&mut consumption).await?;
    ensure!(
        ingested.message.exchange.ends_with(".ingest"),
        "{}",
        ingested.message.exchange
    );
    ingested.ack.ack().await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn prefetch_bounds_what_is_unacked(bench: &impl Bench) -> Result<()> {
    // Goal: no more than the prefetch is in hand, and each ack lets one more come.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Deliveries), 5).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(2));
    let first = next(&mut consumption).await?;
    let _second = next(&mut consumption).await?;
    nothing_comes(&mut consumption).await?;
    first.ack.ack().await?;
    let third = next(&mut consumption).await?;
    ensure!(text(&third) == "2", "{}", text(&third));
    nothing_comes(&mut consumption).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn a_dropped_message_comes_again_and_says_so(bench: &impl Bench) -> Result<()> {
    // Goal: dropped without ack = given back: it comes again, counted, and what was acked meanwhile does not.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Deliveries), 2).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    let dropped = next(&mut consumption).await?;
    let kept = next(&mut consumption).await?;
    ensure!(dropped.ack.is_live());
    drop(dropped);
    kept.ack.ack().await?;
    let again = next(&mut consumption).await?;
    ensure!(
        text(&again) == "0" && again.redelivered && again.delivery_count == 1,
        "{}",
        again.delivery_count
    );
    again.ack.ack().await?;
    nothing_comes(&mut consumption).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn an_acked_message_never_comes_again(bench: &impl Bench) -> Result<()> {
    // Goal: the consumption is dropped with one message acked and one not; the next one gets the other only.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Deliveries), 2).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    let acked = next(&mut consumption).await?;
    let held = next(&mut consumption).await?;
    acked.ack.ack().await?;
    drop(consumption);
    ready(&broker, Queue::Deliveries, 1).await?;
    ensure!(!held.ack.is_live(), "the channel is closed");
    ensure!(held.ack.ack().await.is_err(), "its ack must not count");
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    let again = next(&mut consumption).await?;
    ensure!(text(&again) == "1", "{}", text(&again));
    again.ack.ack().await?;
    nothing_comes(&mut consumption).await?;
    ready(&broker, Queue::Deliveries, 0).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn many_acks_at_once_take_nothing_with_them(bench: &impl Bench) -> Result<()> {
    // Goal: acked at once and in no order, each counts for itself only. Method: every seventh is dropped, some before and some after
    // those around it were acked; exactly those come again.
    const COUNT: usize = 700;
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Deliveries), COUNT).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(COUNT as u16));
    let mut acks = Vec::new();
    let mut dropped = Vec::new();
    for number in 0..COUNT {
        let incoming = next(&mut consumption).await?;
        match number % 7 {
            3 => dropped.push(incoming),
            _ => acks.push(tokio::spawn(incoming.ack.ack())),
        }
        if number % 70 == 3 {
            dropped.truncate(dropped.len() - 1);
        }
    }
    for ack in acks {
        ack.await??;
    }
    drop(dropped);
    let mut again = Vec::new();
    for _ in 0..COUNT / 7 {
        let incoming = next(&mut consumption).await?;
        again.push(text(&incoming).parse::<usize>()?);
        incoming.ack.ack().await?;
    }
    again.sort_unstable();
    let expected: Vec<usize> = (0..COUNT).filter(|number| number % 7 == 3).collect();
    ensure!(again == expected, "{again:?}");
    nothing_comes(&mut consumption).await?;
    ready(&broker, Queue::Deliveries, 0).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn a_delay_is_never_early_and_hardly_late(bench: &impl Bench) -> Result<()> {
    // Goal: levels of 0.1 to 2 s, measured from before the publish (so never early) to the arrival.
    let broker = bench.broker(GIB)?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    for (level, delay_ms) in [(0, 100), (2, 500), (4, 2_000)] {
        let before = Instant::now();
        broker
            .publish(Destination::Delay { level }, internal("later"), PATIENCE)
            .await?;
        let incoming = next(&mut consumption).await?;
        let took = incoming.received_at.duration_since(before);
        ensure!(
            took >= Duration::from_millis(delay_ms),
            "{delay_ms} ms came after {took:?}"
        );
        // The machine may be busy; a level mistaken for the next would be off by more.
        ensure!(
            took < Duration::from_millis(delay_ms) + Duration::from_secs(5),
            "{delay_ms} ms came after {took:?}"
        );
        ensure!(
            incoming.delivery_count == 0 && !incoming.redelivered,
            "a retry is not a redelivery"
        );
        incoming.ack.ack().await?;
    }
    broker.shut_down().await;
    Ok(())
}

pub async fn a_later_message_does_not_hold_up_an_earlier_one(bench: &impl Bench) -> Result<()> {
    // Goal: one due in a day is published first; one due in 100 ms arrives all the same.
    let broker = bench.broker(GIB)?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    broker
        .publish(Destination::Delay { level: 29 }, internal("a day"), PATIENCE)
        .await?;
    broker
        .publish(Destination::Delay { level: 0 }, internal("at once"), PATIENCE)
        .await?;
    let incoming = next(&mut consumption).await?;
    ensure!(text(&incoming) == "at once");
    incoming.ack.ack().await?;
    let waiting: Vec<u64> = broker
        .delay_depths()
        .await?
        .iter()
        .map(|depth| depth.messages)
        .collect();
    ensure!(
        waiting.len() == 30 && waiting[29] == 1 && waiting.iter().sum::<u64>() == 1,
        "{waiting:?}"
    );
    broker.shut_down().await;
    Ok(())
}

pub async fn one_queue_keeps_its_order(bench: &impl Bench) -> Result<()> {
    // Goal: one publisher, one consumer: what was confirmed first comes first.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::IngestedEvents, 200).await?;
    let mut consumption = broker.consume(Queue::Events, options(20));
    for number in 0..200 {
        let incoming = next(&mut consumption).await?;
        ensure!(
            text(&incoming) == number.to_string(),
            "{} instead of {number}",
            text(&incoming)
        );
        incoming.ack.ack().await?;
    }
    broker.shut_down().await;
    Ok(())
}

pub async fn a_deep_queue_is_read_to_the_end(bench: &impl Bench) -> Result<()> {
    // Goal: 5,000 messages wait before anybody consumes; each comes once.
    const COUNT: usize = 5_000;
    let broker = bench.broker(GIB)?;
    publish_at_once(&broker, Destination::Internal(Queue::Deliveries), COUNT).await?;
    ready(&broker, Queue::Deliveries, COUNT as u64).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(200));
    let mut seen = HashSet::new();
    while seen.len() < COUNT {
        let incoming = next(&mut consumption).await?;
        ensure!(seen.insert(text(&incoming)), "{} came twice", text(&incoming));
        incoming.ack.ack().await?;
    }
    ready(&broker, Queue::Deliveries, 0).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn publish_at_once(broker: &SharedBroker, to: Destination, count: usize) -> Result<()> {
    let mut publishes = JoinSet::new();
    for number in 0..count {
        let (broker, to) = (broker.clone(), to.clone());
        publishes.spawn(async move { broker.publish(to, internal(number.to_string()), PATIENCE).await });
    }
    while let Some(result) = publishes.join_next().await {
        result??;
    }
    Ok(())
}

pub async fn many_publishers_at_once_are_all_confirmed(bench: &impl Bench) -> Result<()> {
    // Goal: more callers than the window; what was confirmed is there.
    let broker = bench.broker(GIB)?;
    publish_at_once(&broker, Destination::IngestedEvents, 3_000).await?;
    ready(&broker, Queue::Events, 3_000).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn a_full_queue_refuses_and_takes_again(bench: &impl Bench) -> Result<()> {
    // Goal: `events` is bounded by bytes; past it producers and ingest get Full, and after a drain they don't.
    let broker = bench.broker(100_000)?;
    let body = Bytes::from(vec![b'x'; 20_000]);
    let mut accepted = 0;
    let refused = loop {
        match broker
            .publish(Destination::IngestedEvents, internal(body.clone()), PATIENCE)
            .await
        {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        ensure!(accepted < 50, "the queue takes without end");
    };
    ensure!(matches!(refused, BrokerError::Full), "{refused:?}");
    let to = Destination::ProducerEvents {
        routing_key: "a.b".into(),
    };
    let refused = broker.publish(to, internal(body.clone()), PATIENCE).await;
    ensure!(matches!(refused, Err(BrokerError::Full)), "{refused:?}");
    // Internal queues know no bound: what was accepted must be able to go on.
    broker
        .publish(
            Destination::Internal(Queue::Deliveries),
            internal(body.clone()),
            PATIENCE,
        )
        .await?;
    let mut consumption = broker.consume(Queue::Events, options(10));
    for _ in 0..accepted {
        next(&mut consumption).await?.ack.ack().await?;
    }
    eventually("the queue to take again", PATIENCE, || async {
        Ok(broker
            .publish(Destination::IngestedEvents, internal(body.clone()), PATIENCE)
            .await?)
    })
    .await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn a_pause_lets_work_in_hand_end_and_takes_nothing_new(bench: &impl Bench) -> Result<()> {
    // Goal: the pause waits for the one in hand; the others are ready for somebody else; resume brings them.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Deliveries), 3).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    let in_hand = next(&mut consumption).await?;
    let settle = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        in_hand.ack.ack().await
    });
    consumption.pause(PATIENCE).await;
    settle.await?.context("the one in hand could not be acked")?;
    let depth = ready(&broker, Queue::Deliveries, 2).await?;
    ensure!(depth.consumers == 0, "{depth:?}");
    nothing_comes(&mut consumption).await?;
    consumption.resume().await;
    for _ in 0..2 {
        next(&mut consumption).await?.ack.ack().await?;
    }
    ready(&broker, Queue::Deliveries, 0).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn a_pause_gives_back_what_its_grace_does_not_suffice_for(bench: &impl Bench) -> Result<()> {
    // Goal: a pause is bounded; what is still in hand then is somebody else's.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Deliveries), 1).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    let in_hand = next(&mut consumption).await?;
    consumption.pause(Duration::from_millis(100)).await;
    ready(&broker, Queue::Deliveries, 1).await?;
    ensure!(!in_hand.ack.is_live());
    ensure!(in_hand.ack.ack().await.is_err());
    broker.shut_down().await;
    Ok(())
}

pub async fn what_is_left_of_before_a_pause_changes_nothing_after_it(bench: &impl Bench) -> Result<()> {
    // Goal: a message comes again after a pause while somebody has it still from before; that one's end settles nothing.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Deliveries), 2).await?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    let (acked_late, dropped_late) = (next(&mut consumption).await?, next(&mut consumption).await?);
    consumption.pause(Duration::ZERO).await;
    consumption.resume().await;
    let (first, second) = (next(&mut consumption).await?, next(&mut consumption).await?);
    ensure!(acked_late.ack.ack().await.is_err());
    drop(dropped_late);
    nothing_comes(&mut consumption).await?;
    ensure!(first.delivery_count == 1 && first.ack.is_live());
    first.ack.ack().await?;
    second.ack.ack().await?;
    drop(consumption);
    ready(&broker, Queue::Deliveries, 0).await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn depths_tell_messages_and_consumers(bench: &impl Bench) -> Result<()> {
    // Goal: what `hooklane status` shows, for every queue.
    let broker = bench.broker(GIB)?;
    publish_numbers(&broker, Destination::Internal(Queue::Dead), 3).await?;
    ready(&broker, Queue::Dead, 3).await?;
    for queue in [
        Queue::Events,
        Queue::Ordered,
        Queue::Deliveries,
        Queue::Suspects,
        Queue::Faults,
    ] {
        ensure!(
            broker.depth(queue).await?
                == Depth {
                    messages: 0,
                    consumers: 0
                },
            "{queue:?}"
        );
    }
    let _consumption = broker.consume(Queue::Ordered, options(1));
    eventually("the consumer to be counted", PATIENCE, || async {
        ensure!(broker.depth(Queue::Ordered).await?.consumers == 1);
        Ok(())
    })
    .await?;
    broker.shut_down().await;
    Ok(())
}

pub async fn listeners_hear_what_is_published_to_control(bench: &impl Bench) -> Result<()> {
    // Goal: soft state reaches every process that listens, and nobody waits for one that does not.
    let (one, other) = (bench.broker(GIB)?, bench.broker(GIB)?);
    one.publish(Destination::Control, internal("nobody listens"), PATIENCE)
        .await?;
    let (mut first, mut second) = (one.listen(), other.listen());
    let heard = async {
        for listener in [&mut first, &mut second] {
            // Others speak there too.
            let mut heard = String::new();
            while heard != "hello" {
                let incoming = next(listener).await?;
                heard = text(&incoming);
                incoming.ack.ack().await?;
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    // A listener says not when it listens, so it is told until it has heard.
    let tell = async {
        loop {
            let told = one
                .publish(Destination::Control, internal("hello"), PATIENCE)
                .await;
            if let Err(error) = told {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        heard = heard => heard?,
        error = tell => return Err(error.into()),
    }
    one.shut_down().await;
    other.shut_down().await;
    Ok(())
}

pub async fn a_shut_down_broker_says_so(bench: &impl Bench) -> Result<()> {
    // Goal: no call hangs after the end.
    let broker = bench.broker(GIB)?;
    let mut consumption = broker.consume(Queue::Events, options(1));
    broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await?;
    let held = next(&mut consumption).await?;
    let mut state = broker.state();
    broker.shut_down().await;
    let closed = async { while state.changed().await.is_ok() {} };
    timeout(PATIENCE, closed)
        .await
        .context("the state is followed for ever")?;
    ensure!(timeout(PATIENCE, consumption.next()).await?.is_none());
    ensure!(held.ack.ack().await.is_err());
    let refused = broker
        .publish(Destination::IngestedEvents, internal("x"), PATIENCE)
        .await;
    ensure!(matches!(refused, Err(BrokerError::ShutDown)), "{refused:?}");
    Ok(())
}
