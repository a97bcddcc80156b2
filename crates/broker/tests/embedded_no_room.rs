//! Writes that the system refuses. Alone in its process, because the limit is the process's.

#[allow(dead_code)]
mod suite;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings, LockedDirectory, OpenError};
use hooklane_broker::{Broker, BrokerError, BrokerState, Destination, Queue, ShelfError, ShelfName};
use hooklane_testkit::limit_files;
use hooklane_types::UnixMillis;
use suite::{PATIENCE, internal, next, options};
use tokio::time::timeout;

const BODY_BYTES: usize = 20_000;
const DEAD: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_outlives_a_disk_that_takes_nothing_and_acks_go_on() -> Result<()> {
    // Goal: no byte can be added to file and log, so not even an ack can be written. Consuming goes on; all is written when
    // there is room again, and a restart finds exactly what was confirmed and not acked.
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    let mut state = broker.state();
    for number in 0..DEAD {
        let to = Destination::Internal(Queue::Dead);
        broker.publish(to, internal(number.to_string()), PATIENCE).await?;
    }
    limit_files(Some(2 * 1024 * 1024))?;
    let to = || Destination::Internal(Queue::Deliveries);
    let mut confirmed = 0;
    let error = loop {
        let body = internal(vec![b'x'; BODY_BYTES]);
        match broker.publish(to(), body, Duration::from_secs(2)).await {
            Ok(()) => confirmed += 1,
            Err(error) => break error,
        }
        ensure!(confirmed < 1_000, "the limit is none");
    };
    ensure!(matches!(error, BrokerError::Unavailable(_)), "{error:?}");
    ensure!(matches!(&*state.borrow(), BrokerState::Blocked { .. }));
    // Half of them are worked off meanwhile, though not a byte can be written.
    limit_files(Some(1))?;
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    for _ in 0..confirmed / 2 {
        next(&mut consumption).await?.ack.ack().await?;
    }
    drop(consumption);
    let left = confirmed - confirmed / 2;
    ensure!(broker.depth(Queue::Deliveries).await?.messages == left);
    limit_files(None)?;
    let connected = state.wait_for(|state| *state == BrokerState::Connected);
    timeout(PATIENCE, connected).await.context("it stays blocked")??;
    broker.publish(to(), internal("last"), PATIENCE).await?;
    drop(broker);
    let broker = opens_without_room(&settings)?;
    ensure!(broker.depth(Queue::Deliveries).await?.messages == left + 1);
    let mut consumption = broker.consume(Queue::Deliveries, options(10));
    for _ in 0..left {
        let incoming = next(&mut consumption).await?;
        ensure!(incoming.message.body.len() == BODY_BYTES);
        incoming.ack.ack().await?;
    }
    ensure!(next(&mut consumption).await?.message.body == "last");
    a_shelf_tells_why_nothing_is_removed(&broker).await
}

/// A start while nothing can be written, and the room comes later. Claims that fitted still do.
fn opens_without_room(settings: &EmbeddedSettings) -> Result<EmbeddedBroker> {
    let claims = LockedDirectory::lock(settings.clone())?
        .open()?
        .renew_stamp(None)?;
    limit_files(Some(1))?;
    let start = || {
        let mut directory = LockedDirectory::lock(settings.clone())?.open()?;
        let kept = directory.renew_stamp(Some(&claims))?;
        Ok::<_, OpenError>((kept, directory.start()?))
    };
    let started = start();
    limit_files(None)?;
    let (kept, broker) = started?;
    ensure!(kept == claims, "a stamp was written");
    Ok(broker)
}

async fn a_shelf_tells_why_nothing_is_removed(broker: &EmbeddedBroker) -> Result<()> {
    let holder = hooklane_broker::Holder {
        pid: 1,
        host: String::new(),
        user: String::new(),
        command: String::new(),
        since: UnixMillis(0),
    };
    let mut shelf = broker.shelves().open(ShelfName::Dead, holder).await?;
    limit_files(Some(1))?;
    let first = shelf.next().await?.context("ten are there")?;
    let removed = shelf.remove(first.handle).await;
    limit_files(None)?;
    ensure!(matches!(removed, Err(ShelfError::Unavailable(_))), "{removed:?}");
    ensure!(broker.depth(Queue::Dead).await?.messages == DEAD as u64);
    let second = shelf.next().await?.context("ten are there")?;
    shelf.remove(second.handle).await?;
    ensure!(broker.depth(Queue::Dead).await?.messages == DEAD as u64 - 1);
    shelf.close().await?;
    Ok(())
}
