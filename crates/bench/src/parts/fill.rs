//! Fills an embedded queue while no service uses it, as `hooklane publish --lines` does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::{Destination, Outgoing};
use hooklane_types::{HeaderValue, Properties};
use serde::{Deserialize, Serialize};

use crate::clock::now_us;
use crate::histogram::Histogram;
use crate::part::{Done, Orders, Said, say};
use crate::payload;

/// Longest wait for one confirm.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to publish.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Where the queue is.
    pub directory: PathBuf,
    /// Whose the events are.
    pub application: String,
    /// How many events.
    pub count: u64,
    /// Most events without a confirm.
    pub window: usize,
    /// Of how many types, each in its turn.
    pub types: u64,
}

/// Publishes when it is told to go; says what it has done.
pub async fn run(spec: Spec, mut orders: Orders) -> anyhow::Result<()> {
    let mut settings = EmbeddedSettings::new(&spec.directory);
    settings.holder = "hooklane bench".to_owned();
    settings.events_bytes_max = u64::MAX / 2;
    let queue = tokio::task::spawn_blocking(move || EmbeddedBroker::open(settings)).await??;
    let broker = queue.shared();
    say(&Said::Ready { address: None })?;
    if !orders.go().await? {
        return Ok(());
    }
    let begun_us = now_us();
    let spec = Arc::new(spec);
    let publish = |number: u64| {
        let (broker, spec) = (broker.clone(), spec.clone());
        async move {
            let at_us = now_us();
            let (to, message) = event(&spec, payload::id(begun_us, number), number);
            broker.publish(to, message, PATIENCE).await?;
            Ok::<u64, anyhow::Error>(now_us().saturating_sub(at_us))
        }
    };
    let latency = stream::iter(0..spec.count)
        .map(publish)
        .buffer_unordered(spec.window)
        .try_fold(Histogram::new(), |mut latency, us| async move {
            latency.add(us);
            Ok(latency)
        })
        .await?;
    let ended_us = now_us();
    broker.shut_down().await;
    say(&Said::Done(Done {
        begun_us,
        ended_us,
        confirmed: spec.count,
        latency: latency.quantiles(),
    }))?;
    orders.end().await
}

fn event(spec: &Spec, id: String, number: u64) -> (Destination, Outgoing) {
    let event_type = payload::event_type(number, spec.types);
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        message_id: Some(id),
        kind: Some(event_type.clone()),
        headers: vec![(
            "application".to_owned(),
            HeaderValue::Text(spec.application.clone()),
        )],
        ..Properties::default()
    };
    let to = Destination::ProducerEvents {
        routing_key: event_type,
    };
    let message = Outgoing {
        properties,
        body: payload::now().into(),
    };
    (to, message)
}
