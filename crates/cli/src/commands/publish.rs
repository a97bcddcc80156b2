//! `hooklane publish`

mod amqp;
mod http;
mod lines;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hooklane_types::{ApplicationId, Channel, EventType, ProducerId};

use self::amqp::Amqp;
use self::http::Http;
use super::flags::{BrokerFlags, SettingsFlags, start_log};
use super::signature_flags::read_body;
use super::{block_on, print, usage};
use crate::settings::{self, Role, Settings};

const CONTENT_TYPE_DEFAULT: &str = "application/json";

#[derive(Args)]
pub struct Publish {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    broker: BrokerFlags,
    /// Whose event it is [default: default_application of the settings]
    #[arg(long, value_name = "ID")]
    application: Option<String>,
    /// The event type, like invoice.paid
    #[arg(
        long = "type",
        value_name = "TYPE",
        required_unless_present = "lines",
        conflicts_with = "lines"
    )]
    event_type: Option<String>,
    /// Your own id of the event: a repeat with the same one is not delivered twice
    #[arg(long, conflicts_with = "lines")]
    id: Option<String>,
    /// A channel, with --via http://…; may be given several times
    #[arg(long = "channel", value_name = "CHANNEL", conflicts_with = "lines")]
    channels: Vec<String>,
    /// The payload's media type
    #[arg(long, value_name = "TYPE", default_value = CONTENT_TYPE_DEFAULT)]
    content_type: String,
    /// The payload
    #[arg(long, value_name = "JSON", conflicts_with_all = ["file", "lines"])]
    payload: Option<String>,
    /// A file with the payload; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    file: Option<PathBuf>,
    /// A file of JSON lines, one event each: {"eventType": …, "payload": …, "eventId"?: …, "application"?: …}; - is
    /// standard input
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// The line to begin with, as a run that stopped says it
    #[arg(long, value_name = "LINE", default_value_t = 1, requires = "lines")]
    from_line: u64,
    /// How: amqp (the broker, or the queue of `hooklane serve`), or an ingest's URL like http://127.0.0.1:8071
    #[arg(long, value_name = "WAY", default_value = "amqp")]
    via: String,
    #[command(flatten)]
    token: TokenFlags,
}

/// With --via http://…: what ingest asks for.
#[derive(Args)]
struct TokenFlags {
    /// Ingest's bearer token. Other users of the machine see flags: better --token-file
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["token_file", "token_env"])]
    token: Option<String>,
    /// A file that holds ingest's bearer token
    #[arg(long, value_name = "FILE", conflicts_with = "token_env")]
    token_file: Option<PathBuf>,
    /// An environment variable that holds ingest's bearer token
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
}

/// An event to publish.
struct NewEvent {
    application: ApplicationId,
    event_type: EventType,
    id: Option<ProducerId>,
    channels: Vec<Channel>,
    content_type: String,
    payload: Vec<u8>,
}

/// The two ways to publish.
enum Way {
    Amqp(Amqp),
    Http(Http),
}

impl Way {
    /// Publishes, and returns the event's id.
    async fn publish(&self, event: NewEvent) -> anyhow::Result<String> {
        match self {
            Way::Amqp(amqp) => amqp.publish(event).await,
            Way::Http(http) => http.publish(event).await,
        }
    }

    /// How many events may be under way at once. Over AMQP one channel confirms them in batches; over HTTP each takes a
    /// connection or a stream.
    fn window(&self) -> usize {
        match self {
            Way::Amqp(_) => 500,
            Way::Http(_) => 32,
        }
    }

    async fn end(&self) {
        if let Way::Amqp(amqp) = self {
            amqp.end().await;
        }
    }
}

impl Publish {
    /// Publishes the event, or the lines.
    pub fn run(self) -> anyhow::Result<()> {
        let is_amqp = self.via == "amqp";
        if is_amqp && !self.channels.is_empty() {
            return Err(usage(
                "channels are not part of the AMQP contract: publish with --via http://…, or without --channel",
            ));
        }
        let role = if is_amqp { Role::Client } else { Role::Offline };
        let loaded = settings::load(&self.settings.sources(vec![self.broker.flag()]), role)?;
        start_log(&loaded.settings.log, "warn")?;
        block_on(self.publish(loaded.settings))
    }

    async fn publish(self, settings: Settings) -> anyhow::Result<()> {
        let application = match &self.application {
            Some(text) => {
                ApplicationId::parse(text).map_err(|error| usage(format!("--application: {error}")))?
            }
            None => settings.default_application.clone(),
        };
        // Before the connection: a wrong flag or file needs no broker.
        let event = if self.lines.is_none() {
            Some(self.event(application.clone())?)
        } else {
            None
        };
        let way = if self.via == "amqp" {
            Way::Amqp(Amqp::start(&settings).await?)
        } else {
            Way::Http(Http::new(
                &self.via,
                self.token.read()?,
                settings.broker.publish_timeout,
            )?)
        };
        let result = match (event, &self.lines) {
            (Some(event), _) => way.publish(event).await.and_then(print::line),
            (None, Some(path)) => lines::publish(&way, path, &application, self.from_line).await,
            (None, None) => Err(usage("give --type with --payload or --file, or --lines")),
        };
        way.end().await;
        result
    }

    fn event(&self, application: ApplicationId) -> anyhow::Result<NewEvent> {
        let event_type = self
            .event_type
            .as_deref()
            .ok_or_else(|| usage("give the event's type with --type"))?;
        let event_type = EventType::parse(event_type).map_err(|error| usage(format!("--type: {error}")))?;
        let id = self.id.as_deref().map(ProducerId::parse).transpose();
        let id = id.map_err(|error| usage(format!("--id: {error}")))?;
        let channels: Result<Vec<_>, _> = self.channels.iter().map(|text| Channel::parse(text)).collect();
        let channels = channels.map_err(|error| usage(format!("--channel: {error}")))?;
        let payload = match (&self.payload, &self.file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(path)) => read_body(Some(path))?,
            (None, None) => {
                return Err(usage(
                    "give the payload with --payload, or with --file (- is standard input)",
                ));
            }
        };
        if self.content_type == CONTENT_TYPE_DEFAULT {
            serde_json::from_slice::<serde::de::IgnoredAny>(&payload)
                .context("the payload is not JSON: mend it, or name its media type with --content-type")?;
        }
        let content_type = self.content_type.clone();
        Ok(NewEvent {
            application,
            event_type,
            id,
            channels,
            content_type,
            payload,
        })
    }
}

impl TokenFlags {
    fn read(&self) -> anyhow::Result<Option<String>> {
        if let Some(path) = &self.token_file {
            let text = settings::read_secret_file(path);
            return Ok(Some(text.with_context(|| {
                format!("--token-file {} cannot be read", path.display())
            })?));
        }
        if let Some(name) = &self.token_env {
            let text = std::env::var(name);
            return Ok(Some(text.map_err(|_| {
                usage(format!("--token-env: the variable {name} is not set"))
            })?));
        }
        Ok(self.token.clone())
    }
}

/// How long a publish may take in all, by the time that one confirm may take.
fn patience(confirm: Duration) -> Duration {
    confirm * 3
}
