//! Shelves in quorum queues, which cannot be browsed: messages are taken unacked, and given back by closing channels.
//!
//! Order is kept by four rules. Only one consumer has credit at any time: when its prefetch is used up it is cancelled, and the
//! next channel is opened; so an ack frees no credit that would take a message out of turn. A quorum queue gives out what was
//! given back before everything else, and puts what comes back behind that: so before anything is given back, all that
//! was given back earlier is taken as well, and the whole of it goes back. Then the last consumer is cancelled, lest it
//! take what is given back. Then channels are closed one after another, first to last, and the next waits until the broker shows
//! the messages of the one before as ready.

mod depth;
mod lock;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use hooklane_types::RawMessage;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer, ErrorKind};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Link;
use super::convert;
use super::settings::RabbitMqSettings;
use crate::shelf::{Handle, Holder, Shelf, ShelfError, ShelfName, Shelved, Shelves};
use crate::topology::Names;

/// For each request and each message: a quorum queue answers in a millisecond, one that elects a leader in seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The first batch is small: the first rows come at once, and bodies of 1 MiB do not fill the memory.
const PREFETCH_FIRST: u64 = 16;
/// How much larger a batch may be than the one before it.
const PREFETCH_GROWTH: u64 = 8;
/// A quorum queue gives out no more than 2,000 at once.
const PREFETCH_MAX: u64 = 2_000;
/// What the client library may hold of a batch, judged by the largest message of the batch before.
const BATCH_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Between the last removal and the closing of its channel. The broker stashes acks while more than 32 wait to be written, says
/// nothing when they are, and forgets them with the channel: then what was removed would lie there again.
const REMOVAL_GRACE: Duration = Duration::from_secs(1);
/// After so long without a message, none is on its way.
const QUIET: Duration = Duration::from_millis(200);

/// Shelves on RabbitMQ. Each open shelf has a connection of its own, so that the lock lives exactly as long as its reader.
#[derive(Clone, Debug)]
pub struct RabbitMqShelves {
    settings: RabbitMqSettings,
}

impl RabbitMqShelves {
    /// Shelves of the installation behind these settings. Connects only to open one.
    pub fn new(settings: RabbitMqSettings) -> RabbitMqShelves {
        RabbitMqShelves { settings }
    }
}

#[async_trait]
impl Shelves for RabbitMqShelves {
    async fn open(&self, shelf: ShelfName, holder: Holder) -> Result<Box<dyn Shelf>, ShelfError> {
        let names = self
            .settings
            .names()
            .map_err(|error| ShelfError::Refused(error.to_string()))?;
        let link = Link::open(&self.settings, &format!("shelf {shelf}"))
            .await
            .map_err(|error| ShelfError::Unavailable(error.to_string()))?;
        match RabbitMqShelf::open(&link, names, shelf, &holder).await {
            Ok((control, names, total)) => {
                let queue = names.queue(shelf.queue());
                Ok(Box::new(RabbitMqShelf {
                    link,
                    control,
                    names,
                    shelf,
                    queue,
                    batches: Vec::new(),
                    consumer: None,
                    total,
                    read: 0,
                    largest_bytes: 0,
                    last_was_returned: false,
                }))
            }
            Err(error) => {
                link.close().await;
                Err(error)
            }
        }
    }
}

struct RabbitMqShelf {
    link: Link,
    /// For looks at the queue, and for the holder's message.
    control: Channel,
    names: Names,
    shelf: ShelfName,
    queue: String,
    /// In the order of their messages. `None` where everything was removed.
    batches: Vec<Option<Batch>>,
    /// Of the last batch, while it may still yield.
    consumer: Option<Consumer>,
    total: u64,
    read: u64,
    /// The largest message of the last batch.
    largest_bytes: u64,
    /// Whether the last message had been given back before: then more of that kind may follow.
    last_was_returned: bool,
}

/// The messages that one channel has in hand.
struct Batch {
    channel: Channel,
    prefetch: u64,
    received: u64,
    removed: u64,
    removed_at: Option<Instant>,
    /// Its consumer was cancelled: it gets nothing more.
    sealed: bool,
}

impl Batch {
    fn in_hand(&self) -> u64 {
        self.received - self.removed
    }

    fn removals_are_written(&self) -> bool {
        self.removed_at.is_none_or(|at| at.elapsed() >= REMOVAL_GRACE)
    }
}

impl RabbitMqShelf {
    /// Takes the lock, says who holds it, and counts.
    async fn open(
        link: &Link,
        names: Names,
        shelf: ShelfName,
        holder: &Holder,
    ) -> Result<(Channel, Names, u64), ShelfError> {
        let queue = shelf.queue();
        if !lock::acquire(link, &names.lock(queue)).await? {
            // Whoever cannot be named still holds it.
            let found = lock::read_holder(link, &names.holder(queue))
                .await
                .unwrap_or(None);
            return Err(ShelfError::Held(found));
        }
        let control = answered("opening a channel", link.connection().create_channel()).await?;
        let predecessor_died = lock::take_holder(&control, &names.holder(queue)).await?;
        lock::publish_holder(&control, &names, shelf, holder).await?;
        let queue = names.queue(queue);
        let total = match predecessor_died {
            true => depth::settled_depth(&control, &queue).await?,
            false => depth::depth(&control, &queue).await?,
        };
        Ok((control, names, total))
    }

    /// The next batch: a channel whose consumer has as much credit as may be held at once.
    async fn begin_batch(&mut self) -> Result<(), ShelfError> {
        let prefetch = self.next_prefetch();
        let created = timeout(ANSWER_TIMEOUT, self.link.connection().create_channel()).await;
        let channel = match created {
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => {
                return Err(ShelfError::TooDeep { messages: self.read });
            }
            Ok(created) => created.map_err(|error| failure("opening a channel", &error))?,
            Err(_) => return Err(late("opening a channel")),
        };
        let count = u16::try_from(prefetch).unwrap_or(u16::MAX);
        answered(
            "setting the prefetch",
            channel.basic_qos(count, BasicQosOptions::default()),
        )
        .await?;
        let tag = format!("hooklane-shelf-{}", self.batches.len());
        let consume = channel.basic_consume(
            self.queue.as_str().into(),
            tag.as_str().into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        self.consumer = Some(answered("reading the shelf", consume).await?);
        self.batches.push(Some(Batch {
            channel,
            prefetch,
            received: 0,
            removed: 0,
            removed_at: None,
            sealed: false,
        }));
        self.largest_bytes = 0;
        Ok(())
    }

    fn next_prefetch(&self) -> u64 {
        let last = self.batches.last().map_or(PREFETCH_FIRST, |last| {
            last.as_ref()
                .map_or(PREFETCH_MAX, |last| last.prefetch * PREFETCH_GROWTH)
        });
        let by_bytes = BATCH_BYTES_MAX / self.largest_bytes.max(1);
        // Nothing that came after the opening is taken.
        let left = self.total - self.read;
        last.min(PREFETCH_MAX).min(by_bytes).min(left).max(1)
    }

    /// Cancels the consumer of the last batch once its credit is used up. Not before: what is on its way to a cancelled
    /// consumer stays with its channel, and is never seen.
    async fn seal_if_full(&mut self) -> Result<(), ShelfError> {
        let (Some(Some(batch)), Some(consumer)) = (self.batches.last_mut(), &self.consumer) else {
            return Ok(());
        };
        if batch.sealed || batch.in_hand() < batch.prefetch {
            return Ok(());
        }
        cancel(batch, consumer).await
    }

    /// What comes from the last batch; `None` when it is over.
    async fn next_in_batch(&mut self) -> Result<Option<Delivery>, ShelfError> {
        let (Some(Some(batch)), Some(consumer)) = (self.batches.last_mut(), &mut self.consumer) else {
            return Ok(None);
        };
        match timeout(ANSWER_TIMEOUT, consumer.next()).await {
            Ok(Some(Ok(delivery))) => {
                batch.received += 1;
                self.largest_bytes = self.largest_bytes.max(convert::delivery_bytes(&delivery));
                Ok(Some(delivery))
            }
            Ok(Some(Err(error))) => Err(failure("reading the shelf", &error)),
            Ok(None) if batch.sealed => Ok(None),
            Ok(None) => {
                let reason = "the broker ended the subscription (was the queue deleted?)".to_owned();
                Err(ShelfError::Lost {
                    doing: "reading the shelf",
                    reason,
                })
            }
            Err(_) => Err(late("reading the shelf")),
        }
    }

    /// Closes the channels of batches that are over and have had nothing in hand for a while.
    async fn free_empty(&mut self) -> Result<(), ShelfError> {
        let over = self.batches.len() - usize::from(self.consumer.is_some());
        for slot in &mut self.batches[..over] {
            let is_free = |batch: &Batch| batch.in_hand() == 0 && batch.removals_are_written();
            if let Some(batch) = slot.take_if(|batch| is_free(batch)) {
                close_channel(&batch.channel).await?;
            }
        }
        Ok(())
    }

    /// Takes what was given back earlier and not yet read this time, and all that is on its way to us: what reaches a
    /// cancelled consumer goes back at once, and so before everything else.
    async fn take_what_goes_back(&mut self) -> Result<(), ShelfError> {
        loop {
            while self.last_was_returned && self.read_on().await?.is_some() {}
            self.use_up_credit().await?;
            if !self.last_was_returned || self.read >= self.total {
                return Ok(());
            }
        }
    }

    /// Waits until nothing more is on its way.
    async fn use_up_credit(&mut self) -> Result<(), ShelfError> {
        let (Some(Some(batch)), Some(consumer)) = (self.batches.last_mut(), &mut self.consumer) else {
            return Ok(());
        };
        while !batch.sealed && batch.in_hand() < batch.prefetch {
            let Ok(next) = timeout(QUIET, consumer.next()).await else {
                break;
            };
            let Some(delivery) = next else { break };
            let delivery = delivery.map_err(|error| failure("reading the shelf", &error))?;
            batch.received += 1;
            self.read += 1;
            self.last_was_returned = was_returned(&delivery);
        }
        Ok(())
    }

    async fn put_back(&mut self) -> Result<(), ShelfError> {
        if let Some(last) = self
            .batches
            .iter()
            .flatten()
            .filter_map(|batch| batch.removed_at)
            .max()
        {
            sleep_until(last + REMOVAL_GRACE).await;
        }
        match self.take_what_goes_back().await {
            // Somebody purged the queue meanwhile, or there are too many: what we have goes back in any case.
            Err(ShelfError::Timeout { .. } | ShelfError::TooDeep { .. }) => {
                tracing::warn!(shelf = %self.shelf, "messages of the shelf may have changed their order");
            }
            taken => taken?,
        }
        if let (Some(Some(batch)), Some(consumer)) = (self.batches.last_mut(), &self.consumer)
            && !batch.sealed
        {
            cancel(batch, consumer).await?;
        }
        self.consumer = None;
        let mut ready = depth::depth(&self.control, &self.queue).await?;
        let mut broker_follows = true;
        for batch in self.batches.drain(..).flatten() {
            ready += batch.in_hand();
            close_channel(&batch.channel).await?;
            if broker_follows {
                broker_follows = depth::depth_reaches(&self.control, &self.queue, ready).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Shelf for RabbitMqShelf {
    fn total(&self) -> u64 {
        self.total
    }

    async fn next(&mut self) -> Result<Option<Shelved>, ShelfError> {
        Ok(self.read_on().await?.map(|delivery| self.shelved(delivery)))
    }

    async fn remove(&mut self, handle: Handle) -> Result<(), ShelfError> {
        let doing = "removing a message";
        let Some(Some(batch)) = self.batches.get_mut(handle.batch) else {
            let reason = "its channel is closed".to_owned();
            return Err(ShelfError::Lost { doing, reason });
        };
        answered(
            doing,
            batch.channel.basic_ack(handle.tag, BasicAckOptions::default()),
        )
        .await?;
        batch.removed += 1;
        batch.removed_at = Some(Instant::now());
        Ok(())
    }

    async fn close(mut self: Box<Self>) -> Result<(), ShelfError> {
        let mut closed = self.put_back().await;
        if closed.is_ok() {
            closed = lock::take_holder(&self.control, &self.names.holder(self.shelf.queue()))
                .await
                .map(drop);
        }
        self.link.close().await;
        closed
    }
}

impl RabbitMqShelf {
    /// The next message, whether anybody wants it or not.
    async fn read_on(&mut self) -> Result<Option<Delivery>, ShelfError> {
        while self.read < self.total {
            if self.consumer.is_none() {
                self.begin_batch().await?;
            }
            self.seal_if_full().await?;
            match self.next_in_batch().await {
                Ok(Some(delivery)) => {
                    self.read += 1;
                    self.last_was_returned = was_returned(&delivery);
                    return Ok(Some(delivery));
                }
                Ok(None) => {
                    self.consumer = None;
                    self.free_empty().await?;
                }
                // Somebody purged the queue meanwhile: that is the end, and no failure.
                Err(ShelfError::Timeout { .. }) if depth::depth(&self.control, &self.queue).await? == 0 => {
                    self.total = self.read;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn shelved(&self, delivery: Delivery) -> Shelved {
        let handle = Handle {
            batch: self.batches.len() - 1,
            tag: delivery.delivery_tag,
        };
        let (message, _): (RawMessage, u64) = convert::incoming(delivery);
        Shelved { message, handle }
    }
}

/// Whether a message was given back earlier. Brokers from 4.0 on count in another header where a channel was closed.
fn was_returned(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref().map(FieldTable::inner);
    let has_count = |headers: &BTreeMap<ShortString, AMQPValue>| {
        ["x-delivery-count", "x-acquired-count"]
            .iter()
            .any(|name| headers.contains_key(*name))
    };
    delivery.redelivered || headers.is_some_and(has_count)
}

async fn cancel(batch: &mut Batch, consumer: &Consumer) -> Result<(), ShelfError> {
    let cancel = batch
        .channel
        .basic_cancel(consumer.tag(), BasicCancelOptions::default());
    answered("ending a subscription", cancel).await?;
    batch.sealed = true;
    Ok(())
}

async fn close_channel(channel: &Channel) -> Result<(), ShelfError> {
    answered("closing a channel", channel.close(200, "OK".into())).await
}

async fn answered<T>(
    doing: &'static str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, ShelfError> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| failure(doing, &error)),
        Err(_) => Err(late(doing)),
    }
}

fn late(doing: &'static str) -> ShelfError {
    ShelfError::Timeout {
        doing,
        waited: ANSWER_TIMEOUT,
    }
}

fn failure(doing: &'static str, error: &lapin::Error) -> ShelfError {
    match soft(error) {
        Some(AMQPSoftError::NOTFOUND | AMQPSoftError::ACCESSREFUSED) => {
            ShelfError::Refused(format!("{doing}: {error}"))
        }
        _ => ShelfError::Lost {
            doing,
            reason: error.to_string(),
        },
    }
}

fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    let ErrorKind::ProtocolError(protocol) = error.kind() else {
        return None;
    };
    match protocol.kind() {
        AMQPErrorKind::Soft(soft) => Some(soft.clone()),
        AMQPErrorKind::Hard(_) => None,
    }
}
