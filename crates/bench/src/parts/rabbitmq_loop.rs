//! The bare loop on RabbitMQ, without features: consume, sign, POST with reqwest, ack one by one.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::post::Post;
use crate::part::{Orders, Said, say};

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The broker.
    pub url: String,
    /// The queue.
    pub queue: String,
    /// Where to POST.
    pub receiver: String,
    /// The signing secret.
    pub secret: String,
    /// Most messages unacked.
    pub prefetch: u16,
    /// Most POSTs at once.
    pub concurrency: usize,
}

/// Delivers from when it is told to go until the bench has gone.
pub async fn run(spec: Spec, mut orders: Orders) -> anyhow::Result<()> {
    let connection = Connection::connect(&spec.url, ConnectionProperties::default())
        .await
        .context("the bare loop cannot connect to the broker")?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(spec.prefetch, BasicQosOptions::default())
        .await?;
    let post = Arc::new(Post::new(&spec.receiver, &spec.secret)?);
    say(&Said::Ready { address: None })?;
    if !orders.go().await? {
        return Ok(());
    }
    let mut consumer = channel
        .basic_consume(
            spec.queue.into(),
            "bench".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let places = Arc::new(Semaphore::new(spec.concurrency));
    let mut tasks = JoinSet::new();
    let ended = orders.end();
    tokio::pin!(ended);
    loop {
        let taking = async {
            let place = places.clone().acquire_owned().await?;
            let delivery = consumer.next().await.context("the broker ended the consumer")??;
            Ok::<_, anyhow::Error>((delivery, place))
        };
        let (delivery, place) = tokio::select! {
            taken = taking => taken?,
            ended = &mut ended => break ended?,
        };
        tasks.spawn(deliver(delivery, post.clone(), place));
        while let Some(ended) = tasks.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    // The last acks go with it.
    connection.close(200, "the bare loop has ended".into()).await?;
    Ok(())
}

async fn deliver(
    mut delivery: Delivery,
    post: Arc<Post>,
    _place: OwnedSemaphorePermit,
) -> anyhow::Result<()> {
    let body = Bytes::from(std::mem::take(&mut delivery.data));
    post.send(body).await?;
    delivery.ack(BasicAckOptions::default()).await?;
    Ok(())
}
