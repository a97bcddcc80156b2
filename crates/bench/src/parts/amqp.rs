//! A producer that speaks AMQP, with pipelined confirms: to Hooklane's exchange by the publish contract, or bare to a queue.

use std::collections::VecDeque;

use anyhow::{Context, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use serde::{Deserialize, Serialize};

use super::pace::Pace;
use crate::clock::now_us;
use crate::histogram::Histogram;
use crate::part::{Done, Orders, Said, say};
use crate::payload;

/// What to publish.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// The broker.
    pub url: String,
    /// Where to.
    pub to: To,
    /// How many events.
    pub count: u64,
    /// Most events without a confirm.
    pub window: usize,
    /// Of how many types, each in its turn.
    pub types: u64,
    /// Events a second; without it, as fast as it goes.
    pub per_second: Option<f64>,
}

/// Where to publish.
#[derive(Debug, Serialize, Deserialize)]
pub enum To {
    /// This exchange, by the publish contract.
    Exchange { name: String, application: String },
    /// This queue, as plain as it goes.
    Queue { name: String },
}

struct Publisher {
    channel: Channel,
    spec: Spec,
    /// Events without a confirm, the oldest first, and when they were published.
    open: VecDeque<(PublisherConfirm, u64)>,
    latency: Histogram,
    begun_us: u64,
}

/// Publishes when it is told to go; says what it has done.
pub async fn run(spec: Spec, mut orders: Orders) -> anyhow::Result<()> {
    let connection = Connection::connect(&spec.url, ConnectionProperties::default())
        .await
        .context("the publisher cannot connect to the broker")?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    say(&Said::Ready { address: None })?;
    if !orders.go().await? {
        return Ok(());
    }
    let mut publisher = Publisher {
        channel,
        open: VecDeque::with_capacity(spec.window),
        latency: Histogram::new(),
        begun_us: now_us(),
        spec,
    };
    let done = publisher.publish().await?;
    say(&Said::Done(done))?;
    orders.end().await
}

impl Publisher {
    async fn publish(&mut self) -> anyhow::Result<Done> {
        let pace = Pace::new(self.spec.per_second);
        for number in 0..self.spec.count {
            if self.open.len() >= self.spec.window {
                self.confirm().await?;
            }
            pace.wait(number).await;
            self.send(number).await?;
        }
        while !self.open.is_empty() {
            self.confirm().await?;
        }
        Ok(Done {
            begun_us: self.begun_us,
            ended_us: now_us(),
            confirmed: self.spec.count,
            latency: self.latency.quantiles(),
        })
    }

    async fn send(&mut self, number: u64) -> anyhow::Result<()> {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let (exchange, key, properties) = match &self.spec.to {
            To::Queue { name } => ("", name.clone(), persistent),
            To::Exchange { name, application } => {
                let event_type = payload::event_type(number, self.spec.types);
                let mut headers = FieldTable::default();
                headers.insert(
                    "application".into(),
                    AMQPValue::LongString(LongString::from(application.as_bytes().to_vec())),
                );
                let properties = persistent
                    .with_message_id(payload::id(self.begun_us, number).into())
                    .with_type(event_type.clone().into())
                    .with_content_type("application/json".into())
                    .with_headers(headers);
                (name.as_str(), event_type, properties)
            }
        };
        let at_us = now_us();
        let confirm = self
            .channel
            .basic_publish(
                exchange.into(),
                key.into(),
                BasicPublishOptions::default(),
                payload::now().as_bytes(),
                properties,
            )
            .await?;
        self.open.push_back((confirm, at_us));
        Ok(())
    }

    async fn confirm(&mut self) -> anyhow::Result<()> {
        let Some((confirm, at_us)) = self.open.pop_front() else {
            return Ok(());
        };
        let confirmation = confirm.await?;
        ensure!(
            matches!(confirmation, Confirmation::Ack(None)),
            "the broker refused an event: {confirmation:?}"
        );
        self.latency.add(now_us().saturating_sub(at_us));
        Ok(())
    }
}
