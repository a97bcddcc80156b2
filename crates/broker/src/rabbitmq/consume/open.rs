//! How a channel begins: its queue, its prefetch, its consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use super::super::session::{Inlet, Session};
use super::super::supervisor::Live;
use super::{Source, Worker};
use crate::topology::Exchange;

/// A channel with a consumer on it.
pub(super) struct Open {
    pub(super) channel: Channel,
    /// Cancels itself when dropped.
    pub(super) consumer: Consumer,
    pub(super) retired: Arc<AtomicBool>,
    pub(super) session: Arc<Session>,
    pub(super) queue: ShortString,
}

impl Worker {
    pub(super) async fn open(&self, live: &Live) -> lapin::Result<Open> {
        let channel = live.link.connection().create_channel().await?;
        let lossy = matches!(self.source, Source::Control);
        let queue = match &self.source {
            Source::Queue(name) => ShortString::from(name.as_str()),
            Source::Control => self.own_queue(&channel).await?,
        };
        if !lossy {
            channel
                .basic_qos(self.prefetch, BasicQosOptions { global: false })
                .await?;
        }
        let session = Session::new(
            self.ledger.clone(),
            self.buffer.clone(),
            self.prefetch_full,
            lossy,
        );
        let session = Arc::new(session);
        let (consumer, retired) = consumer(&channel, &queue, &session, lossy).await?;
        Ok(Open {
            channel,
            consumer,
            retired,
            session,
            queue,
        })
    }

    /// A queue that goes with this connection. Its name is new every time: the last one may not be gone yet.
    async fn own_queue(&self, channel: &Channel) -> lapin::Result<ShortString> {
        let names = &self.shared.topology.names;
        let queue = ShortString::from(names.listener(&format!("{:016x}", rand::random::<u64>())));
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.clone(), options, FieldTable::default())
            .await?;
        let control = ShortString::from(names.exchange(Exchange::Control));
        channel
            .queue_bind(
                queue.clone(),
                control,
                "".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(queue)
    }
}

/// A consumer whose deliveries are taken in lapin's thread.
pub(super) async fn consumer(
    channel: &Channel,
    queue: &ShortString,
    session: &Arc<Session>,
    lossy: bool,
) -> lapin::Result<(Consumer, Arc<AtomicBool>)> {
    let options = BasicConsumeOptions {
        no_ack: lossy,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel
        .basic_consume(queue.clone(), "".into(), options, FieldTable::default())
        .await?;
    let (inlet, retired) = Inlet::new(session.clone());
    consumer.set_delegate(inlet);
    Ok((consumer, retired))
}

/// Ends the consumer and keeps the channel: what is in hand can still be acked.
pub(super) async fn cancel(open: &mut Open) -> lapin::Result<()> {
    open.retired.store(true, Ordering::Release);
    let (tag, session, consumer) = (open.consumer.tag(), &open.session, &mut open.consumer);
    // From its cancel on lapin puts deliveries into a buffer of its own instead of handing them to the inlet.
    let arrivals = async {
        while let Some(Ok(delivery)) = consumer.next().await {
            session.arrive(delivery);
        }
    };
    let (cancelled, ()) = tokio::join!(
        open.channel.basic_cancel(tag, BasicCancelOptions::default()),
        arrivals
    );
    cancelled
}
