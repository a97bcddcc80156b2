//! `hooklane topology`

use std::io::{self, Write};

use anyhow::Context;
use clap::{Args, ValueEnum};
use hooklane_broker::rabbitmq::{Declare, RabbitMqSettings, Role as BrokerRole, connection, declare};
use hooklane_broker::topology::{Actor, Argument, Arguments, Names, Rights, Topology};
use serde_json::{Map, Value, json};

use super::flags::{BrokerFlags, SettingsFlags, start_log};
use super::{block_on, print};
use crate::settings::{self, Role};

#[derive(Args)]
pub struct PrintTopology {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    broker: BrokerFlags,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Declare it on the broker instead of printing it; what is there already stays as it is
    #[arg(long)]
    declare: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl PrintTopology {
    /// Prints or declares.
    pub fn run(self) -> anyhow::Result<()> {
        let role = if self.declare {
            Role::Operator
        } else {
            Role::Offline
        };
        let loaded = settings::load(&self.settings.sources(vec![self.broker.flag()]), role)?;
        start_log(&loaded.settings.log, "warn")?;
        let broker = &loaded.settings.broker;
        if self.declare {
            block_on(declare(broker.rabbitmq(BrokerRole::Operator)?))?;
            return print::line(format_args!(
                "declared: exchanges, queues and bindings with the prefix {:?} are there",
                broker.prefix
            ));
        }
        let topology = Topology::new(Names::new(&broker.prefix)?, broker.bounds);
        let text = match self.format {
            Format::Text => topology.to_string(),
            Format::Json => format!("{:#}\n", as_json(&topology)),
        };
        print::unless_closed(io::stdout().write_all(text.as_bytes()))
    }
}

/// Whatever the setting says: who asks for it by a flag wants it declared.
pub async fn declare(settings: RabbitMqSettings) -> anyhow::Result<()> {
    let topology = settings.topology()?;
    let connection = connection::open(&settings, "topology")
        .await
        .with_context(|| format!("no connection to the broker at {}", settings.urls))?;
    let declared = declare::declare(&connection, &topology, Declare::Create).await;
    connection::close(&connection).await;
    Ok(declared?)
}

fn as_json(topology: &Topology) -> Value {
    let exchanges: Vec<_> = topology
        .exchanges
        .iter()
        .map(|exchange| {
            json!({
                "name": exchange.name,
                "type": exchange.kind.name(),
                "durable": true,
                "arguments": arguments(&exchange.arguments),
            })
        })
        .collect();
    let queues: Vec<_> = topology
        .queues
        .iter()
        .map(|queue| json!({ "name": queue.name, "durable": true, "arguments": arguments(&queue.arguments) }))
        .collect();
    let bindings: Vec<_> = topology
        .bindings
        .iter()
        .map(
            |bound| json!({ "source": bound.exchange, "destination": bound.queue, "routing_key": bound.key }),
        )
        .collect();
    let rights: Map<String, Value> = Actor::ALL
        .into_iter()
        .map(|actor| {
            let Rights {
                configure,
                write,
                read,
            } = Rights::least(&topology.names, actor);
            (
                actor.name().to_owned(),
                json!({ "configure": configure, "write": write, "read": read }),
            )
        })
        .collect();
    json!({ "exchanges": exchanges, "queues": queues, "bindings": bindings, "rights": rights })
}

fn arguments(arguments: &Arguments) -> Map<String, Value> {
    let value = |argument: &Argument| match argument {
        Argument::Text(text) => json!(text),
        Argument::Number(number) => json!(number),
    };
    arguments
        .iter()
        .map(|(name, argument)| ((*name).to_owned(), value(argument)))
        .collect()
}
