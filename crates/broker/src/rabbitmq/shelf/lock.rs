//! A shelf's lock, an exclusive queue on its reader's connection; and who holds it, in a queue of one message.

use std::time::Duration;

use lapin::Channel;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use tokio::time::{sleep, timeout};

use super::super::connection::Link;
use super::super::convert;
use super::{ANSWER_TIMEOUT, answered, close_channel, failure, late, soft};
use crate::shelf::{Holder, ShelfError, ShelfName};
use crate::topology::{Exchange, Names};

/// A reader's lock goes a moment after its connection: one that has just closed must not look like one that reads.
const LOCK_TRIES: u32 = 3;
const LOCK_AGAIN: Duration = Duration::from_millis(100);

/// Takes the lock. False when somebody else has it.
pub(super) async fn acquire(link: &Link, name: &str) -> Result<bool, ShelfError> {
    for _ in 1..LOCK_TRIES {
        if lock(link, name).await? {
            return Ok(true);
        }
        sleep(LOCK_AGAIN).await;
    }
    lock(link, name).await
}

/// Declares the exclusive queue. False when somebody else has it.
async fn lock(link: &Link, name: &str) -> Result<bool, ShelfError> {
    let doing = "taking the shelf's lock";
    // A channel of its own: the refusal closes it.
    let channel = answered("opening a channel", link.connection().create_channel()).await?;
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let declare = channel.queue_declare(name.into(), options, FieldTable::default());
    match timeout(ANSWER_TIMEOUT, declare).await {
        Err(_) => Err(late(doing)),
        Ok(Err(error)) if soft(&error) == Some(AMQPSoftError::RESOURCELOCKED) => Ok(false),
        Ok(Err(error)) => Err(failure(doing, &error)),
        Ok(Ok(_)) => close_channel(&channel).await.map(|()| true),
    }
}

/// Looks who holds the lock, and puts the message back.
pub(super) async fn read_holder(link: &Link, queue: &str) -> Result<Option<Holder>, ShelfError> {
    let doing = "asking who reads the shelf";
    let channel = answered(doing, link.connection().create_channel()).await?;
    let got = answered(doing, channel.basic_get(queue.into(), BasicGetOptions::default())).await?;
    let Some(got) = got else { return Ok(None) };
    answered(doing, got.delivery.reject(BasicRejectOptions { requeue: true })).await?;
    // Written by another version, perhaps: then nobody can be named.
    Ok(serde_json::from_slice(&got.delivery.data).ok())
}

/// Takes the holder's message away. True when there was one: its writer did not close its shelf.
pub(super) async fn take_holder(channel: &Channel, queue: &str) -> Result<bool, ShelfError> {
    let options = BasicGetOptions { no_ack: true };
    let got = answered(
        "clearing who reads the shelf",
        channel.basic_get(queue.into(), options),
    )
    .await?;
    Ok(got.is_some())
}

pub(super) async fn publish_holder(
    channel: &Channel,
    names: &Names,
    shelf: ShelfName,
    holder: &Holder,
) -> Result<(), ShelfError> {
    let doing = "saying who reads the shelf";
    let body = serde_json::to_vec(holder).map_err(|error| ShelfError::Refused(error.to_string()))?;
    let exchange = names.exchange(Exchange::Internal);
    let key = Names::holder_key(shelf.queue());
    answered(doing, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let publish = async {
        let options = BasicPublishOptions::default();
        let properties = convert::internal(true);
        channel
            .basic_publish(
                exchange.as_str().into(),
                key.as_str().into(),
                options,
                &body,
                properties,
            )
            .await?
            .await
    };
    answered(doing, publish).await.map(drop)
}
