//! Bounds: of queues, of the file, of what a consumption holds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::{Broker, BrokerError, BrokerState, ConsumeOptions, Destination, Queue};
use tokio::time::timeout;

use crate::suite::{PATIENCE, internal, next, nothing_comes, options, publish_at_once};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_bounded_by_number_too() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut settings = EmbeddedSettings::new(directory.path());
    settings.events_messages_max = 3;
    let broker = EmbeddedBroker::open(settings)?;
    let publish = || broker.publish(Destination::IngestedEvents, internal("x"), PATIENCE);
    for _ in 0..3 {
        publish().await?;
    }
    ensure!(matches!(publish().await, Err(BrokerError::Full)));
    let mut consumption = broker.consume(Queue::Events, options(1));
    next(&mut consumption).await?.ack.ack().await?;
    publish().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_larger_than_all_bounds_fits_into_an_empty_queue_and_an_empty_hand() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut settings = EmbeddedSettings::new(directory.path());
    settings.events_bytes_max = 1_000;
    let broker = EmbeddedBroker::open(settings)?;
    let body = Bytes::from(vec![b'x'; 100_000]);
    broker
        .publish(Destination::IngestedEvents, internal(body.clone()), PATIENCE)
        .await?;
    let bounds = ConsumeOptions {
        prefetch: 10,
        bytes_max: 50_000,
    };
    let mut consumption = broker.consume(Queue::Events, bounds);
    ensure!(next(&mut consumption).await?.message.body == body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumption_holds_no_more_bytes_than_it_may() -> Result<()> {
    // Goal: bodies of 20 kB under a bound of 50 kB; in hand, over a pause that did not wait for them, and after acks.
    let directory = tempfile::tempdir()?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    for number in 0..6_u8 {
        let body = vec![number; 20_000];
        let to = Destination::Internal(Queue::Deliveries);
        broker.publish(to, internal(body), PATIENCE).await?;
    }
    let bounds = ConsumeOptions {
        prefetch: 10,
        bytes_max: 50_000,
    };
    let mut consumption = broker.consume(Queue::Deliveries, bounds);
    let (first, second) = (next(&mut consumption).await?, next(&mut consumption).await?);
    nothing_comes(&mut consumption).await?;
    second.ack.ack().await?;
    let third = next(&mut consumption).await?;
    ensure!(third.message.body[0] == 2);
    nothing_comes(&mut consumption).await?;
    consumption.pause(Duration::ZERO).await;
    consumption.resume().await;
    // Whoever works on them has them still.
    nothing_comes(&mut consumption).await?;
    ensure!(first.ack.ack().await.is_err());
    drop(third);
    for expected in [0, 2, 3, 4, 5] {
        let incoming = next(&mut consumption).await?;
        ensure!(
            incoming.message.body[0] == expected,
            "{} came",
            incoming.message.body[0]
        );
        incoming.ack.ack().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_blocks_publishes_only_and_ends_by_itself() -> Result<()> {
    // Goal: SQLITE_FULL while many publish; what was confirmed is there once, acks go on, and the state says what is the matter.
    let directory = tempfile::tempdir()?;
    let mut settings = EmbeddedSettings::new(directory.path());
    settings.file_bytes_max = Some(1024 * 1024);
    let broker = EmbeddedBroker::open(settings)?;
    let mut state = broker.state();
    let mut confirmed = 0;
    let error = loop {
        let body = internal(vec![b'x'; 10_000]);
        let to = Destination::Internal(Queue::Deliveries);
        match broker.publish(to, body, Duration::from_secs(2)).await {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
        ensure!(confirmed < 1_000, "the file grows without end");
    };
    ensure!(
        matches!(&error, BrokerError::Unavailable(why) if why.contains("full")),
        "{error:?}"
    );
    ensure!(
        matches!(&*state.borrow(), BrokerState::Blocked { reason } if reason.contains("full")),
        "{:?}",
        *state.borrow()
    );
    ensure!(broker.depth(Queue::Deliveries).await?.messages == confirmed);
    let waiting = {
        let broker = broker.clone();
        let to = Destination::Internal(Queue::Deliveries);
        tokio::spawn(async move { broker.publish(to, internal(vec![b'y'; 10_000]), PATIENCE).await })
    };
    let mut consumption = broker.consume(Queue::Deliveries, options(500));
    for _ in 0..confirmed {
        let incoming = next(&mut consumption).await?;
        ensure!(incoming.message.body[0] == b'x');
        incoming.ack.ack().await?;
    }
    let connected = state.wait_for(|state| *state == BrokerState::Connected);
    timeout(PATIENCE, connected).await.context("it stays blocked")??;
    // It was waiting all the time.
    waiting.await??;
    let incoming = next(&mut consumption).await?;
    ensure!(incoming.message.body[0] == b'y');
    incoming.ack.ack().await?;
    publish_at_once(&broker.shared(), Destination::Internal(Queue::Deliveries), 100).await?;
    Ok(())
}
