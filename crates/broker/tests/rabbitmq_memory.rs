//! Large bodies do not move the memory bound. Alone in its process, because it measures it.

#[allow(dead_code)]
mod suite;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
use hooklane_broker::{ConsumeOptions, Destination, Queue, SharedBroker};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_testkit::eventually;
use hooklane_testkit::rabbitmq::Node;
use suite::{PATIENCE, internal, next, nothing_comes, publish_at_once, ready};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1024 * 1024;
const BODIES: usize = 200;
const BODY_BYTES: usize = 10 * MIB;
const PREFETCH: u16 = 200;
const BYTES_MAX: usize = 64 * MIB;
/// Beside the bodies held: what publishing left with the allocator (68 MiB), one being put together (its buffer doubles), one
/// handed on, lapin's buffers. 80 MiB were measured; without the bound it was 2,000.
const BESIDE_BYTES_MAX: usize = 128 * MIB;

fn resident_bytes() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("no VmRSS")?;
    let kib: usize = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_bodies_of_ten_mebibytes_stay_within_the_bound() -> Result<()> {
    // Goal: 2 GiB come by a prefetch of 200; the process grows by the bound and little more, nothing is lost, and when
    // messages are small again the full prefetch is back.
    let node = Node::start().await?;
    let metrics = Arc::new(Metrics::new());
    let settings = RabbitMqSettings::new(Role::Dispatcher, &node.amqp_url())?;
    let broker: SharedBroker = RabbitMq::start(settings, metrics.clone())?;
    let to = Destination::Internal(Queue::Deliveries);
    let before = resident_bytes()?;
    for number in 0..BODIES {
        let mut body = vec![b'x'; BODY_BYTES];
        body[..8].copy_from_slice(&(number as u64).to_le_bytes());
        broker
            .publish(to.clone(), internal(Bytes::from(body)), PATIENCE)
            .await?;
    }
    ready(&broker, Queue::Deliveries, BODIES as u64).await?;
    let over = CancellationToken::new();
    let peak = tokio::spawn(peak(over.clone()));
    let options = ConsumeOptions {
        prefetch: PREFETCH,
        bytes_max: BYTES_MAX as u64,
    };
    let mut consumption = broker.consume(Queue::Deliveries, options);
    // Nobody takes anything for a while, as when all endpoints are slow: the broker sends all the same.
    eventually("the bound to be met", PATIENCE, || async {
        ensure!(metrics.value(Metric::ChannelsRecycled, &["bytes"]) >= 1.0);
        Ok(())
    })
    .await?;
    let mut seen = HashSet::new();
    let mut in_hand = Vec::new();
    while seen.len() < BODIES {
        let incoming = next(&mut consumption).await?;
        ensure!(incoming.message.body.len() == BODY_BYTES);
        seen.insert(incoming.message.body[..8].to_vec());
        in_hand.push(incoming);
        // Several in hand at once, as by endpoints that work side by side.
        if in_hand.len() == 4 {
            for incoming in in_hand.drain(..) {
                incoming
                    .ack
                    .ack()
                    .await
                    .context("the smaller prefetch did not hold the bound")?;
            }
        }
    }
    for incoming in in_hand.drain(..) {
        incoming.ack.ack().await?;
    }
    nothing_comes(&mut consumption).await?;
    over.cancel();
    let peak = peak.await??;
    let grown = peak.saturating_sub(before);
    ensure!(
        grown <= BYTES_MAX + BESIDE_BYTES_MAX,
        "grew by {} MiB",
        grown / MIB
    );
    ready(&broker, Queue::Deliveries, 0).await?;

    publish_at_once(&broker, to, 1_000 + usize::from(PREFETCH)).await?;
    for _ in 0..1_000 {
        next(&mut consumption).await?.ack.ack().await?;
    }
    for _ in 0..PREFETCH {
        in_hand.push(
            next(&mut consumption)
                .await
                .context("the full prefetch did not come back")?,
        );
    }
    nothing_comes(&mut consumption).await?;
    broker.shut_down().await;
    Ok(())
}

async fn peak(over: CancellationToken) -> Result<usize> {
    let mut peak = 0;
    while !over.is_cancelled() {
        peak = peak.max(resident_bytes()?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(peak)
}
