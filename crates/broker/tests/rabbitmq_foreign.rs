//! What producers may write into a message must end neither the connection that brings it nor the process. Each of these did
//! before frames were repaired on their way in.

#[allow(dead_code, reason = "not every test binary uses all of it")]
mod suite;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
use hooklane_broker::{Queue, SharedBroker, UNREADABLE_HEADER};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_testkit::rabbitmq::{Vhost, shared};
use hooklane_types::{HeaderValue, RawMessage};
use suite::foreign::{
    CONTENT_TYPE, EXPIRATION, Foreign, HEADERS, MESSAGE_ID, Producer, TYPE, entry, long, short,
};
use suite::{next, options, ready};

const EXCHANGE: &str = "hooklane.events";
const PLAIN: &str = "plain";

struct Bench {
    vhost: Vhost,
    broker: SharedBroker,
    metrics: Arc<Metrics>,
    producer: Producer,
}

impl Bench {
    async fn new() -> Result<Bench> {
        let vhost = shared().await?.vhost().await?;
        let metrics = Arc::new(Metrics::new());
        let settings = RabbitMqSettings::new(Role::Dispatcher, vhost.url())?;
        let broker: SharedBroker = RabbitMq::start(settings, metrics.clone())?;
        // The queues are there.
        ready(&broker, Queue::Events, 0).await?;
        let producer = Producer::connect(vhost.url()).await?;
        Ok(Bench {
            vhost,
            broker,
            metrics,
            producer,
        })
    }

    async fn publish(&mut self, message: &Foreign) -> Result<()> {
        self.producer.publish(EXCHANGE, message).await
    }

    /// All of queue `events`, by their bodies, and a plain message behind them.
    async fn received(&mut self, count: usize) -> Result<BTreeMap<String, RawMessage>> {
        self.publish(&Foreign::new(0, Vec::new(), PLAIN)).await?;
        let mut consumption = self.broker.consume(Queue::Events, options(50));
        let mut received = BTreeMap::new();
        for _ in 0..=count {
            let incoming = next(&mut consumption).await?;
            incoming.ack.ack().await?;
            let name = String::from_utf8(incoming.message.body.to_vec())?;
            received.insert(name, incoming.message);
        }
        ensure!(received.contains_key(PLAIN), "{:?}", received.keys());
        self.is_undisturbed()?;
        Ok(received)
    }

    fn is_undisturbed(&self) -> Result<()> {
        let reconnects = self.metrics.value(Metric::BrokerReconnects, &["consume"]);
        ensure!(reconnects == 0.0, "the connection was lost");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_not_utf_8_stops_nobody() -> Result<()> {
    // Goal: Latin-1 in every place that a producer fills; the bad byte is marked, and everything else is as it was.
    let mut bench = Bench::new().await?;
    let latin = short(b"caf\xe9");
    let key = Foreign {
        routing_key: b"caf\xe9".to_vec(),
        ..Foreign::new(0, Vec::new(), "key")
    };
    let messages = [
        key,
        Foreign::new(MESSAGE_ID, latin.clone(), "id"),
        Foreign::new(TYPE, latin.clone(), "type"),
        Foreign::new(CONTENT_TYPE, latin.clone(), "content type"),
        Foreign::headers(&entry(b"caf\xe9", b'S', &long(b"caf\xe9")), "header"),
    ];
    for message in &messages {
        bench.publish(message).await?;
    }
    let received = bench.received(messages.len()).await?;
    let marked = Some("caf\u{1a}".to_owned());
    ensure!(received["key"].routing_key == "caf\u{1a}");
    ensure!(received["id"].properties.message_id == marked);
    ensure!(received["id"].routing_key == "order.paid");
    ensure!(received["type"].properties.kind == marked);
    ensure!(received["content type"].properties.content_type == marked);
    let bytes = HeaderValue::Bytes(b"caf\xe9".to_vec());
    ensure!(received["header"].properties.headers == [("caf\u{1a}".to_owned(), bytes)]);
    bench.broker.shut_down().await;
    Ok(())
}

/// Lists (`A`) or tables (`F`) in each other, without the type of the outermost.
fn nested(kind: u8, levels: usize) -> Vec<u8> {
    let name: &[u8] = if kind == b'F' { &[1, b'n'] } else { &[] };
    let share = name.len() + 5;
    let mut bytes = Vec::with_capacity(levels * share);
    for level in (0..levels).rev() {
        bytes.extend_from_slice(name);
        bytes.push(kind);
        bytes.extend_from_slice(&u32::try_from(level * share).expect("small").to_be_bytes());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_any_depth_stop_nobody() -> Result<()> {
    // Goal: as many levels as fit into a frame; lapin's parser overflowed its stack on them, which ends the process.
    let mut bench = Bench::new().await?;
    for (kind, levels, body) in [(b'A', 20_000, "lists"), (b'F', 15_000, "tables")] {
        let deep = entry(b"deep", kind, &long(&nested(kind, levels)));
        bench.publish(&Foreign::headers(&deep, body)).await?;
    }
    let received = bench.received(2).await?;
    for body in ["lists", "tables"] {
        ensure!(received[body].properties.header("deep").is_some());
    }
    bench.broker.shut_down().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_every_type_stop_nobody() -> Result<()> {
    // Goal: each type of the specification and of RabbitMQ, with all bits set; what the broker refuses cannot come.
    let mut bench = Bench::new().await?;
    let mut accepted = 0;
    let types: [(&[u8], usize); 6] = [
        (b"V", 0),
        (b"tbB", 1),
        (b"sUu", 2),
        (b"Iif", 4),
        (b"D", 5),
        (b"lLdT", 8),
    ];
    for (kinds, bytes) in types {
        for kind in kinds {
            let header = entry(b"h", *kind, &vec![0xff; bytes]);
            let body = char::from(*kind).to_string();
            match bench.publish(&Foreign::headers(&header, &body)).await {
                Ok(()) => accepted += 1,
                // It closes the connection over it.
                Err(_) => bench.producer = Producer::connect(bench.vhost.url()).await?,
            }
        }
    }
    ensure!(accepted >= 12, "the broker took only {accepted}");
    let received = bench.received(accepted).await?;
    ensure!(received["D"].properties.header("h").is_some());
    bench.broker.shut_down().await;
    Ok(())
}

/// Headers that fill a frame to its last byte, with what else is in the properties.
fn filled(producer: &Producer, others: usize) -> Vec<u8> {
    // The table's length, the name with its own, the type, the value's length.
    const AROUND_BYTES: usize = 4 + 2 + 1 + 4;
    let value = vec![b'x'; producer.properties_bytes_max() - others - AROUND_BYTES];
    long(&entry(b"h", b'S', &long(&value)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_outgrow_their_frame_stop_nobody() -> Result<()> {
    // Goal: the broker adds its count to headers that filled the frame; lapin refuses larger frames than agreed on.
    let mut bench = Bench::new().await?;
    let properties = filled(&bench.producer, 0);
    bench.publish(&Foreign::new(HEADERS, properties, "full")).await?;
    let mut consumption = bench.broker.consume(Queue::Events, options(1));
    let first = next(&mut consumption).await?;
    ensure!(first.message.properties.header("h").is_some());
    drop(first.ack);
    let again = next(&mut consumption).await?;
    ensure!(again.message.body == "full" && again.redelivered);
    ensure!(again.delivery_count == 1, "{}", again.delivery_count);
    let why = again.message.properties.header(UNREADABLE_HEADER);
    let why = why.and_then(HeaderValue::as_text).context("no reason")?;
    ensure!(why.contains("too large"), "{why}");
    again.ack.ack().await?;
    drop(consumption);
    bench.received(0).await?;
    bench.broker.shut_down().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_frame_that_expires_can_be_read_on_the_shelf() -> Result<()> {
    // Goal: dead-lettering adds more headers than a count.
    let mut bench = Bench::new().await?;
    let expiration = short(b"1");
    let mut properties = filled(&bench.producer, expiration.len());
    properties.extend(expiration);
    bench
        .publish(&Foreign::new(HEADERS | EXPIRATION, properties, "expired"))
        .await?;
    let mut consumption = bench.broker.consume(Queue::Faults, options(1));
    let shelved = next(&mut consumption).await?;
    ensure!(shelved.message.body == "expired");
    ensure!(shelved.message.properties.header(UNREADABLE_HEADER).is_some());
    shelved.ack.ack().await?;
    bench.is_undisturbed()?;
    bench.broker.shut_down().await;
    Ok(())
}
