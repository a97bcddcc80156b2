//! `hooklane drain`

use std::fmt::Write;

use anyhow::{Context, bail};
use clap::Args;
use hooklane_broker::embedded::{Drain, FILE};
use hooklane_broker::rabbitmq::{Declare, RabbitMq, Role as BrokerRole};
use hooklane_broker::{Queue, SharedBroker};
use hooklane_control::{Drained, Ended, drain};
use hooklane_store::sqlite::catalog;
use hooklane_telemetry::Metrics;
use hooklane_types::EventId;
use tokio_util::sync::CancellationToken;

use super::flags::{SettingsFlags, flag, start_log};
use super::interrupt::{self, Words};
use super::meter::Meter;
use super::reach::embedded;
use super::topology::declare;
use super::{block_on, data_directory, now, print, usage};
use crate::settings::{self, Role, Settings};

const SIGNALS: Words = Words {
    first: "stopping; what is on its way is waited for (once more ends at once)",
    second: "ended by a second signal: nothing is lost; what had just arrived may arrive again, under the same id",
};

/// Moves what waits in the queue of `hooklane serve` to RabbitMQ: events, retries with what is left of their delay, dead letters and
/// faults. `hooklane serve` must not run. Ended half way, it is run again: nothing is lost, and what arrives twice bears the same id.
#[derive(Args)]
pub struct MoveUp {
    #[command(flatten)]
    settings: SettingsFlags,
    /// RabbitMQ: `amqp://user:password@host:port/vhost`, or `amqps://` [default: broker.url of the settings]. Other users of the machine see
    /// flags: HOOKLANE_BROKER__URL or the settings file keep a password to yourself
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Where the queue is [default: hooklane-data]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
}

impl MoveUp {
    /// Moves.
    pub fn run(self) -> anyhow::Result<()> {
        let flags = vec![
            flag("--to", "broker.url", self.to.as_ref()),
            flag("--data", "embedded.data_dir", self.data.as_ref()),
        ];
        let loaded = settings::load(&self.settings.sources(flags), Role::Client)?;
        if loaded.settings.broker.url.is_none() {
            return Err(usage(
                "where to? give --to, HOOKLANE_BROKER__URL or `url` in [broker], like \"amqp://user:password@127.0.0.1:5672/%2f\"",
            ));
        }
        start_log(&loaded.settings.log, "warn")?;
        block_on(async {
            let stop = CancellationToken::new();
            tokio::select! {
                moved = move_up(&loaded.settings, &stop) => moved,
                ended = interrupt::follow(&stop, SIGNALS) => ended,
            }
        })
    }
}

async fn move_up(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<()> {
    let shown = settings.embedded.data_dir.display();
    data_directory::is_none_or_one(&settings.embedded.data_dir)?;
    if !settings.embedded.data_dir.join(FILE).exists() {
        return Err(usage(format!(
            "there is no queue of `hooklane serve` in {shown}: give --data, HOOKLANE_EMBEDDED__DATA_DIR or data_dir in [embedded]"
        )));
    }
    data_directory::is_writable(&settings.embedded.data_dir)?;
    let source = embedded(settings, "hooklane drain", Metrics::new().into())?;
    let mut from = tokio::task::spawn_blocking(move || Drain::open(&source)).await??;
    let here = settings.embedded.data_dir.clone();
    let endpoints = tokio::task::spawn_blocking(move || catalog::endpoints(&here)).await??;
    if endpoints > 0 {
        bail!(
            "{} made through the API stand in {shown}; dispatchers on RabbitMQ do not read them yet, and would give up what waits for them: write \
             them into the settings file, delete them through the API, then drain",
            print::count(endpoints, "endpoint")
        );
    }
    let to = target(settings).await?;
    let mut meter = Meter::new();
    let mut moved = 0;
    let drained = drain(
        &mut from,
        &*to,
        settings.broker.publish_timeout,
        stop,
        || EventId::fresh(now(), rand::random()).to_string(),
        |drained| {
            moved = drained.total();
            let waiting = match drained.is_waiting {
                true => "; a queue there is full: it goes on as dispatchers consume",
                false => "",
            };
            meter.tell(format_args!("moved {moved}, {} left{waiting}", drained.left));
        },
    )
    .await;
    drop(meter);
    to.shut_down().await;
    let again = || format!("stopped after {moved} were moved; the rest is still in {shown}: run it again");
    match drained.with_context(again)? {
        (drained, Ended::AtTheEnd) => print::line(format_args!(
            "moved {}; nothing is left in {shown}",
            words(&drained)
        )),
        _ => bail!(again()),
    }
}

/// RabbitMQ, with its topology, and an account that may use it.
async fn target(settings: &Settings) -> anyhow::Result<SharedBroker> {
    let rabbitmq = settings.broker.rabbitmq(BrokerRole::Operator)?;
    if rabbitmq.declare == Declare::Create {
        declare(rabbitmq.clone()).await?;
    }
    let broker: SharedBroker = RabbitMq::start(rabbitmq, Metrics::new().into())?;
    broker
        .depth(Queue::Events)
        .await
        .context("nothing was moved: `hooklane check` says what is wrong with the broker")?;
    Ok(broker)
}

/// `12 messages (events 10, dead 2)`
fn words(drained: &Drained) -> String {
    let mut words = print::count(drained.total(), "message");
    for (n, (queue, moved)) in drained.moved.iter().enumerate() {
        let before = if n == 0 { " (" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(words, "{before}{queue} {moved}");
    }
    if !drained.moved.is_empty() {
        words.push(')');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_is_told_by_queue() {
        let mut drained = Drained::default();
        assert_eq!(words(&drained), "0 messages");
        drained.moved.insert("events", 10);
        assert_eq!(words(&drained), "10 messages (events 10)");
        drained.moved.insert("dead", 2);
        assert_eq!(words(&drained), "12 messages (dead 2, events 10)");
    }
}
