//! The bench's exchanges and queues on a RabbitMQ: made by the services, and by nobody else; deleted when a case has ended.

use std::time::Duration;

use anyhow::{Context, ensure};
use hooklane_broker::Queue;
use hooklane_broker::topology::{Names, Topology};
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::time::sleep;

/// A quorum queue that is younger than this may not survive a crash of its node; nothing else is known to hurt it.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// A place on a broker.
pub struct Place {
    connection: Connection,
    names: Names,
}

impl Place {
    /// Connects, and sees that nothing of this prefix is there.
    ///
    /// # Errors
    /// When the broker is not on this machine, cannot be reached, or the prefix is in use.
    pub async fn take(url: &str, prefix: &str) -> anyhow::Result<Place> {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .context("cannot connect to the broker: is --broker right?")?;
        let place = Place {
            connection,
            names: Names::new(prefix)?,
        };
        for queue in Queue::ALL
            .map(|queue| place.names.queue(queue))
            .into_iter()
            .chain([place.bare()])
        {
            ensure!(
                !place.has_queue(&queue).await?,
                "the queue {queue} exists: something uses this prefix, or a bench before was killed; give another with --prefix, or delete it"
            );
        }
        for exchange in &place.topology().exchanges {
            ensure!(
                !place.has_exchange(&exchange.name).await?,
                "the exchange {} exists: something uses this prefix, or a bench before was killed; give another with --prefix, or delete it",
                exchange.name
            );
        }
        Ok(place)
    }

    /// The exchange of producers.
    pub fn events(&self) -> String {
        self.names.exchange(hooklane_broker::topology::Exchange::Events)
    }

    /// The queue of the bare loop.
    pub fn bare(&self) -> String {
        format!("{}.bare", self.names.prefix())
    }

    /// Declares the queue of the bare loop: a quorum queue like Hooklane's.
    pub async fn declare_bare(&self) -> anyhow::Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.connection.create_channel().await?;
        channel
            .queue_declare(self.bare().into(), durable, arguments)
            .await?;
        sleep(SETTLED_AFTER).await;
        Ok(())
    }

    /// Messages of the installation that are left: events, due retries, both shelves.
    pub async fn left(&self) -> anyhow::Result<u64> {
        let channel = self.channel().await?;
        let mut sum = 0;
        for queue in [Queue::Events, Queue::Deliveries, Queue::Dead, Queue::Faults] {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let name = self.names.queue(queue);
            let found = channel
                .queue_declare(name.into(), passive, FieldTable::default())
                .await?;
            sum += u64::from(found.message_count());
        }
        Ok(sum)
    }

    /// Empties all queues.
    pub async fn purge(&self) -> anyhow::Result<()> {
        for queue in self.queues() {
            if self.has_queue(&queue).await? {
                let channel = self.connection.create_channel().await?;
                channel
                    .queue_purge(queue.into(), QueuePurgeOptions::default())
                    .await?;
            }
        }
        Ok(())
    }

    /// Deletes everything of this prefix that the bench may have made.
    pub async fn delete(&self) -> anyhow::Result<()> {
        let mut channel = self.channel().await?;
        for queue in self.queues() {
            // What is not there is deleted already.
            if channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await
                .is_err()
            {
                channel = self.channel().await?;
            }
        }
        for exchange in self.topology().exchanges {
            let options = ExchangeDeleteOptions::default();
            if channel
                .exchange_delete(exchange.name.into(), options)
                .await
                .is_err()
            {
                channel = self.channel().await?;
            }
        }
        Ok(())
    }

    /// Closes the connection.
    pub async fn close(self) {
        // Nothing depends on it.
        let _ = self.connection.close(200, "the bench has ended".into()).await;
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(self.connection.create_channel().await?)
    }

    fn topology(&self) -> Topology {
        Topology::new(self.names.clone(), hooklane_broker::topology::Bounds::default())
    }

    fn queues(&self) -> Vec<String> {
        let queues = self.topology().queues.into_iter().map(|queue| queue.name);
        queues.chain([self.bare()]).collect()
    }

    async fn has_queue(&self, name: &str) -> anyhow::Result<bool> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await?;
        let found = channel
            .queue_declare(name.into(), passive, FieldTable::default())
            .await;
        exists(found.map(drop))
    }

    async fn has_exchange(&self, name: &str) -> anyhow::Result<bool> {
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        let channel = self.channel().await?;
        let kind = ExchangeKind::Direct;
        let found = channel
            .exchange_declare(name.into(), kind, passive, FieldTable::default())
            .await;
        exists(found)
    }
}

/// By a passive declaration: an answer of the broker that closes the channel only says no.
fn exists(found: lapin::Result<()>) -> anyhow::Result<bool> {
    match found {
        Ok(()) => Ok(true),
        Err(error) if error.is_amqp_soft_error() => Ok(false),
        Err(error) => Err(error).context("the broker did not say what is there"),
    }
}
