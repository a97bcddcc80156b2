//! The bench's own processes: what they are told on standard input, and what they say on standard output, one line of JSON each.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::runtime::Builder;

use crate::histogram::Quantiles;
use crate::parts::{amqp, fill, http, rabbitmq_loop, receiver, sqlite_loop};

/// The first line that a part is told: what it is.
#[derive(Debug, Serialize, Deserialize)]
pub enum Part {
    /// Receives webhooks and counts.
    Receiver(receiver::Spec),
    /// Publishes over AMQP.
    Amqp(amqp::Spec),
    /// Publishes over HTTP.
    Http(http::Spec),
    /// Fills an embedded queue while nothing else uses it.
    Fill(fill::Spec),
    /// The bare loop on RabbitMQ.
    RabbitMqLoop(rabbitmq_loop::Spec),
    /// The bare loop on SQLite.
    SqliteLoop(sqlite_loop::Spec),
}

/// The lines after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Begin.
    Go,
    /// Say what has come so far.
    Look,
}

/// What a part says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    /// It is ready to be told to go; a receiver has begun, and says where it listens.
    Ready { address: Option<SocketAddr> },
    /// What a receiver has counted.
    Counts(Counts),
    /// It did what it was to do.
    Done(Done),
}

/// What a receiver has counted. Times are on the shared clock.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// When this was counted.
    pub at_us: u64,
    /// Requests that were answered with success on paths that count.
    pub ok: u64,
    /// The first of them.
    pub first_ok_us: u64,
    /// The last of them.
    pub last_ok_us: u64,
    /// Requests that were answered with success and do not count.
    pub rest: u64,
    /// Requests that were failed.
    pub failed: u64,
    /// Requests that hang.
    pub hung: u64,
    /// Different pairs of path and webhook-id.
    pub distinct: u64,
    /// From publish to arrival, of those that count.
    pub latency: Option<Quantiles>,
}

/// What a publisher has done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {
    /// When it began, on the shared clock.
    pub begun_us: u64,
    /// When the last event was confirmed.
    pub ended_us: u64,
    /// Events confirmed.
    pub confirmed: u64,
    /// From publish to confirm.
    pub latency: Option<Quantiles>,
}

impl Done {
    /// Events confirmed per second.
    pub fn rate(&self) -> f64 {
        let seconds = self.ended_us.saturating_sub(self.begun_us).max(1) as f64 / 1e6;
        self.confirmed as f64 / seconds
    }
}

/// Orders that come in.
pub struct Orders(Lines<BufReader<Stdin>>);

impl Orders {
    /// The next order; none when the bench has gone.
    ///
    /// # Errors
    /// When it is none.
    pub async fn next(&mut self) -> anyhow::Result<Option<Order>> {
        match self.0.next_line().await? {
            None => Ok(None),
            Some(line) => Ok(Some(serde_json::from_str(&line).context("not an order")?)),
        }
    }

    /// Waits for [`Order::Go`]; false when the bench has gone.
    ///
    /// # Errors
    /// When something else comes.
    pub async fn go(&mut self) -> anyhow::Result<bool> {
        match self.next().await? {
            Some(Order::Go) => Ok(true),
            Some(other) => bail!("{other:?} before the part was told to go"),
            None => Ok(false),
        }
    }

    /// Waits until the bench has gone, or wants the part gone.
    ///
    /// # Errors
    /// When an order comes all the same.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        match self.next().await? {
            None => Ok(()),
            Some(order) => bail!("{order:?} for a part that takes no more orders"),
        }
    }
}

/// Says a line.
///
/// # Errors
/// When nobody listens.
pub fn say(said: &Said) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(said)?)?;
    Ok(out.flush()?)
}

/// Runs the part that the first line of standard input names, until it is done or the bench has gone.
///
/// # Errors
/// When the line is none, or the part fails.
pub fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    // Everything else comes only after the part has answered, so nothing more is buffered here.
    std::io::stdin().read_line(&mut line)?;
    let part: Part = serde_json::from_str(&line)
        .context("`hooklane bench-part` is started by `hooklane bench` and told what to do by it")?;
    // What only makes load shares one core; the loops, like the services, take what they get.
    let mut builder = match part {
        Part::RabbitMqLoop(_) | Part::SqliteLoop(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build()?;
    let orders = Orders(BufReader::new(tokio::io::stdin()).lines());
    let result = runtime.block_on(async {
        match part {
            Part::Receiver(spec) => receiver::run(spec, orders).await,
            Part::Amqp(spec) => amqp::run(spec, orders).await,
            Part::Http(spec) => http::run(spec, orders).await,
            Part::Fill(spec) => fill::run(spec, orders).await,
            Part::RabbitMqLoop(spec) => rabbitmq_loop::run(spec, orders).await,
            Part::SqliteLoop(spec) => sqlite_loop::run(spec, orders).await,
        }
    });
    // The reader of standard input blocks a thread.
    runtime.shutdown_background();
    result
}
