//! Makes the topology, or looks whether it is there. Each doubtful step has a channel of its own: a refusal closes it.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind};
use tokio::time::timeout;
use tracing::{info, warn};

use super::settings::Declare;
use crate::topology::{Argument, Arguments, Binding, ExchangeKind, ExchangeSpec, QueueSpec, Topology};

/// One declaration. A quorum queue takes 12 ms on a calm node; a cluster that elects leaders takes seconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the topology is not usable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeclareError {
    /// Something is missing and may not be made.
    #[error(
        "{what} is missing on the broker and may not be made by this account: run `hooklane topology`, and create what it lists"
    )]
    Missing {
        /// Exchange or queue, with its name.
        what: String,
    },
    /// The broker did not answer in time.
    #[error("no answer from the broker within {} s while declaring {what}", STEP_TIMEOUT.as_secs())]
    Timeout {
        /// Exchange or queue, with its name.
        what: String,
    },
    /// The connection failed.
    #[error("declaring {what} failed: {source}")]
    Broker {
        /// Exchange or queue, with its name.
        what: String,
        /// Why.
        #[source]
        source: lapin::Error,
    },
}

/// What an attempt at one step led to.
pub(crate) enum Step {
    Done,
    /// 406: it is there with other arguments, in the broker's words.
    Differs(String),
    /// 403: no right, in the broker's words.
    Forbidden(String),
    /// 404.
    Missing,
}

/// Declares everything, or looks whether it is there.
///
/// # Errors
/// See [`DeclareError`]: the first step that fails ends it.
pub async fn declare(
    connection: &Connection,
    topology: &Topology,
    mode: Declare,
) -> Result<(), DeclareError> {
    let mut declarer = Declarer {
        connection,
        channel: None,
        mode,
    };
    for exchange in &topology.exchanges {
        declarer.settle(Thing::Exchange(exchange)).await?;
    }
    for queue in &topology.queues {
        declarer.settle(Thing::Queue(queue)).await?;
    }
    for binding in &topology.bindings {
        // A binding cannot be looked at: without the right it is the operator's.
        if declarer.mode == Declare::Passive {
            break;
        }
        declarer.settle(Thing::Binding(binding)).await?;
    }
    declarer.close().await;
    Ok(())
}

#[derive(Clone, Copy)]
pub(crate) enum Thing<'a> {
    Exchange(&'a ExchangeSpec),
    Queue(&'a QueueSpec),
    Binding(&'a Binding),
}

impl std::fmt::Display for Thing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Thing::Exchange(exchange) => write!(f, "exchange {}", exchange.name),
            Thing::Queue(queue) => write!(f, "queue {}", queue.name),
            Thing::Binding(binding) => write!(f, "binding {} -> {}", binding.exchange, binding.queue),
        }
    }
}

/// Goes through steps on one channel for as long as it lives.
pub(crate) struct Declarer<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
    mode: Declare,
}

impl<'a> Declarer<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Declarer<'a> {
        Declarer {
            connection,
            channel: None,
            mode: Declare::Create,
        }
    }

    async fn settle(&mut self, thing: Thing<'_>) -> Result<(), DeclareError> {
        if self.mode == Declare::Create {
            match self.step(thing, false).await? {
                Step::Done => return Ok(()),
                Step::Differs(difference) => {
                    // Arguments never change in place; what is there works, if perhaps not as documented.
                    warn!(
                        "{thing} is on the broker with other arguments than ours, and is used as it is: {difference}"
                    );
                }
                Step::Forbidden(why) => {
                    info!("this account may not declare, so exchanges and queues are only looked for: {why}");
                    self.mode = Declare::Passive;
                }
                Step::Missing => {
                    return Err(DeclareError::Missing {
                        what: thing.to_string(),
                    });
                }
            }
        }
        match self.step(thing, true).await? {
            Step::Missing => Err(DeclareError::Missing {
                what: thing.to_string(),
            }),
            Step::Done | Step::Differs(_) | Step::Forbidden(_) => Ok(()),
        }
    }

    /// One declaration, active or passive.
    pub(crate) async fn step(&mut self, thing: Thing<'_>, passive: bool) -> Result<Step, DeclareError> {
        let attempt = async {
            let channel = match self.channel.take() {
                Some(channel) => channel,
                None => self.connection.create_channel().await?,
            };
            let result = perform(&channel, thing, passive).await;
            if result.is_ok() {
                self.channel = Some(channel);
            }
            result
        };
        let what = || thing.to_string();
        match timeout(STEP_TIMEOUT, attempt).await {
            Err(_) => Err(DeclareError::Timeout { what: what() }),
            Ok(Ok(())) => Ok(Step::Done),
            Ok(Err(source)) => refusal(&source).ok_or(DeclareError::Broker { what: what(), source }),
        }
    }

    pub(crate) async fn close(self) {
        if let Some(channel) = self.channel {
            // It goes with the connection at the latest.
            let _ = timeout(STEP_TIMEOUT, channel.close(200, "OK".into())).await;
        }
    }
}

async fn perform(channel: &Channel, thing: Thing<'_>, passive: bool) -> lapin::Result<()> {
    match thing {
        Thing::Exchange(exchange) => {
            let kind = match exchange.kind {
                ExchangeKind::Direct => lapin::ExchangeKind::Direct,
                ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
                ExchangeKind::Topic => lapin::ExchangeKind::Topic,
            };
            let options = ExchangeDeclareOptions {
                passive,
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            channel
                .exchange_declare(
                    exchange.name.as_str().into(),
                    kind,
                    options,
                    table(&exchange.arguments),
                )
                .await
        }
        Thing::Queue(queue) => {
            let options = QueueDeclareOptions {
                passive,
                durable: true,
                ..QueueDeclareOptions::default()
            };
            channel
                .queue_declare(queue.name.as_str().into(), options, table(&queue.arguments))
                .await
                .map(drop)
        }
        // There is no passive binding.
        Thing::Binding(_) if passive => Ok(()),
        Thing::Binding(Binding { exchange, queue, key }) => {
            let (queue, exchange, key) = (
                queue.as_str().into(),
                exchange.as_str().into(),
                key.as_str().into(),
            );
            channel
                .queue_bind(
                    queue,
                    exchange,
                    key,
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
        }
    }
}

fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
        };
        table.insert((*name).into(), value);
    }
    table
}

/// The refusals that speak about the thing itself.
fn refusal(error: &lapin::Error) -> Option<Step> {
    let ErrorKind::ProtocolError(refused) = error.kind() else {
        return None;
    };
    let words = refused.get_message().to_string();
    match refused.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Some(Step::Differs(words)),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some(Step::Forbidden(words)),
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Some(Step::Missing),
        _ => None,
    }
}
