//! The delay ladder under the load that is promised: a thousand retries fall due each second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
use hooklane_broker::{Broker, ConsumeOptions, Destination, Outgoing, Queue};
use hooklane_telemetry::Metrics;
use hooklane_testkit::rabbitmq::shared;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Where retries wait: three seconds.
const LEVEL: usize = 5;
const DELAY: Duration = Duration::from_secs(3);
/// How late a retry may be: the larger of 1 s and 5 %, and 5 % of this delay are less.
const LATE_MAX: Duration = Duration::from_secs(1);
const PER_TICK: usize = 50;
const TICK: Duration = Duration::from_millis(50);
const TICKS: usize = 100;
/// Five seconds are meant. A round that took longer than this says nothing about a thousand a second.
const PUBLISHED_IN_MAX: Duration = Duration::from_millis(5_500);
/// A machine that does other things too may fall behind by itself; the promise is about the ladder.
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// One round of five seconds.
struct Round {
    /// How late the latest message was.
    latest: Duration,
    /// How long publishing took: the rate was kept where it is little more than five seconds.
    published_in: Duration,
}

async fn round() -> Result<Round> {
    let vhost = shared().await?.vhost().await?;
    let settings = RabbitMqSettings::new(Role::Dispatcher, vhost.url())?;
    let broker = RabbitMq::start(settings, Arc::new(Metrics::new()))?;
    let count = PER_TICK * TICKS;
    let mut arriving = broker.consume(
        Queue::Deliveries,
        ConsumeOptions {
            prefetch: 500,
            bytes_max: 64 * 1024 * 1024,
        },
    );
    // The first publish waits for the connection and the declaration.
    broker.depth(Queue::Deliveries).await?;
    let epoch = Instant::now();
    let publishing = async {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let publish = || async {
            let begun_us = u64::try_from(epoch.elapsed().as_micros())?;
            let mut body = begun_us.to_be_bytes().to_vec();
            // As large as a small event in its envelope.
            body.resize(1024, 0);
            let outgoing = Outgoing::internal(body.into());
            broker
                .publish(Destination::Delay { level: LEVEL }, outgoing, PATIENCE)
                .await?;
            anyhow::Ok(())
        };
        for _ in 0..TICKS {
            ticks.tick().await;
            let tick = stream::iter(0..PER_TICK).map(|_| publish());
            let mut tick = tick.buffer_unordered(PER_TICK);
            while let Some(published) = tick.next().await {
                published?;
            }
        }
        anyhow::Ok(epoch.elapsed())
    };
    let consuming = async {
        let mut latest = Duration::ZERO;
        for _ in 0..count {
            let incoming = timeout(PATIENCE, arriving.next()).await.context("none came")?;
            let incoming = incoming.context("the consumption ended")?;
            let begun_us = u64::from_be_bytes(incoming.message.body[..8].try_into()?);
            let took = incoming.received_at.duration_since(epoch) - Duration::from_micros(begun_us);
            ensure!(took >= DELAY, "{DELAY:?} were over after {took:?}");
            latest = latest.max(took - DELAY);
            incoming.ack.ack().await?;
        }
        Ok(latest)
    };
    let (published_in, latest) = tokio::try_join!(publishing, consuming)?;
    broker.shut_down().await;
    Ok(Round { latest, published_in })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_retries_a_second_are_never_early_and_hardly_late() -> Result<()> {
    // Goal: 5,000 messages put on the ladder at 1,000 a second come back at that rate, each after its delay and at most a second later.
    let mut found = Vec::new();
    for _ in 0..ROUNDS {
        let Round { latest, published_in } = round().await?;
        println!("5,000 published in {published_in:?}: the latest was late by {latest:?}");
        if latest <= LATE_MAX && published_in <= PUBLISHED_IN_MAX {
            return Ok(());
        }
        found.push((published_in, latest));
    }
    anyhow::bail!("late, or too slow to tell, in every round: {found:?}")
}
