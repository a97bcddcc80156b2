//! Looking at a shelf never loses, reorders or uses up; one reader at a time.

use anyhow::{Context, Result, ensure};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::{Broker, Destination, Holder, Queue, Shelf, ShelfError, ShelfName};
use hooklane_types::UnixMillis;

use crate::suite::{PATIENCE, internal, next, options};

fn holder(command: &str) -> Holder {
    Holder {
        pid: 7,
        host: "here".to_owned(),
        user: "me".to_owned(),
        command: command.to_owned(),
        since: UnixMillis(1),
    }
}

async fn put(broker: &EmbeddedBroker, queue: Queue, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        broker
            .publish(
                Destination::Internal(queue),
                internal(number.to_string()),
                PATIENCE,
            )
            .await?;
    }
    Ok(())
}

async fn look(shelf: &mut Box<dyn Shelf>, count: usize) -> Result<Vec<usize>> {
    let mut seen = Vec::new();
    while seen.len() < count
        && let Some(shelved) = shelf.next().await?
    {
        seen.push(String::from_utf8(shelved.message.body.to_vec())?.parse()?);
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_keeps_everything_in_order_and_counts_nothing() -> Result<()> {
    // Goal: whole and partial looks, closed and dropped; new ones at the back meanwhile are not seen by an open shelf.
    let directory = tempfile::tempdir()?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    put(&broker, Queue::Dead, 0..500).await?;
    for round in 0..10 {
        let mut shelf = broker.shelves().open(ShelfName::Dead, holder("look")).await?;
        ensure!(shelf.total() == 500 + round as u64);
        put(&broker, Queue::Dead, 500 + round..501 + round).await?;
        let count = if round % 2 == 0 { usize::MAX } else { 130 };
        let seen = look(&mut shelf, count).await?;
        let expected: Vec<usize> = (0..(500 + round).min(count)).collect();
        ensure!(seen == expected, "{} seen", seen.len());
        match round % 3 {
            0 => drop(shelf),
            _ => shelf.close().await?,
        }
    }
    let mut consumption = broker.consume(Queue::Dead, options(1));
    ensure!(next(&mut consumption).await?.delivery_count == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_is_gone_for_good_and_the_rest_keeps_its_order() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let settings = EmbeddedSettings::new(directory.path());
    let broker = EmbeddedBroker::open(settings.clone())?;
    put(&broker, Queue::Faults, 0..300).await?;
    let mut shelf = broker.shelves().open(ShelfName::Faults, holder("purge")).await?;
    let mut number = 0;
    while let Some(shelved) = shelf.next().await? {
        if number % 3 == 1 {
            shelf.remove(shelved.handle).await?;
        }
        number += 1;
    }
    shelf.close().await?;
    ensure!(broker.depth(Queue::Faults).await?.messages == 200);
    drop(broker);
    let broker = EmbeddedBroker::open(settings)?;
    ensure!(broker.depth(Queue::Faults).await?.messages == 200);
    let mut shelf = broker.shelves().open(ShelfName::Faults, holder("look")).await?;
    let expected: Vec<usize> = (0..300).filter(|number| number % 3 != 1).collect();
    ensure!(look(&mut shelf, usize::MAX).await? == expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reader_is_told_who_reads() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    let shelves = broker.shelves();
    let first = shelves.open(ShelfName::Dead, holder("first")).await?;
    // The other shelf is free.
    shelves
        .open(ShelfName::Faults, holder("other"))
        .await?
        .close()
        .await?;
    let refused = shelves.open(ShelfName::Dead, holder("second")).await;
    let error = refused.err().context("two read it")?;
    ensure!(
        matches!(&error, ShelfError::Held(Some(found)) if *found == holder("first")),
        "{error:?}"
    );
    drop(first);
    let mut third = shelves.open(ShelfName::Dead, holder("third")).await?;
    broker.shut_down().await;
    let error = third.next().await.err().context("the engine has ended")?;
    ensure!(matches!(error, ShelfError::Lost { .. }), "{error:?}");
    third.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_consumer_has_in_hand_is_not_on_the_shelf() -> Result<()> {
    // Goal: a consumer and a reader at once; what is removed under a consumer's hands is counted once.
    let directory = tempfile::tempdir()?;
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(directory.path()))?;
    put(&broker, Queue::Dead, 0..4).await?;
    let mut shelf = broker.shelves().open(ShelfName::Dead, holder("look")).await?;
    let first = shelf.next().await?.context("four are there")?;
    let mut consumption = broker.consume(Queue::Dead, options(2));
    let (zero, one) = (next(&mut consumption).await?, next(&mut consumption).await?);
    shelf.remove(first.handle).await?;
    ensure!(zero.ack.ack().await.is_err(), "it was removed");
    shelf.close().await?;
    let mut shelf = broker.shelves().open(ShelfName::Dead, holder("look")).await?;
    // The place of the removed one was taken by number 2.
    ensure!(look(&mut shelf, usize::MAX).await? == [3]);
    one.ack.ack().await?;
    next(&mut consumption).await?.ack.ack().await?;
    next(&mut consumption).await?.ack.ack().await?;
    ensure!(broker.depth(Queue::Dead).await?.messages == 0);
    Ok(())
}
