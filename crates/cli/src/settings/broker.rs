//! `[broker]`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use config::ValueKind;
use hooklane_broker::rabbitmq::{self, BrokerUrls, Declare, RabbitMqSettings};
use hooklane_broker::topology::{Bounds, EVENTS_BYTES_MAX, Names, RECORDS_BYTES_MAX};

use super::secret::{self, Fetch, SecretText};
use super::table::{Field, Table};

const PREFIX_DEFAULT: &str = "hooklane";
const PUBLISH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

const DECLARE: [(&str, Declare); 2] = [("create", Declare::Create), ("passive", Declare::Passive)];

/// What a role needs of the broker's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The URL of a RabbitMQ.
    Url,
    /// A URL; without one the queue of `hooklane serve`.
    Any,
    /// Nothing.
    Nothing,
}

/// The broker, and how Hooklane uses it.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// `amqp[s]://user:password@host:port/vhost`, or several with commas between; none only where no broker is needed.
    pub url: Option<SecretText>,
    /// In front of every exchange's and queue's name.
    pub prefix: String,
    /// Who declares.
    pub declare: Declare,
    /// How long a confirm is waited for.
    pub publish_timeout: Duration,
    /// Certificates to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Bounds of queues.
    pub bounds: Bounds,
}

impl BrokerSettings {
    /// The settings of a RabbitMQ client with this role.
    ///
    /// # Errors
    /// When no URL was given: only commands that need no broker load settings without one.
    pub fn rabbitmq(&self, role: rabbitmq::Role) -> anyhow::Result<RabbitMqSettings> {
        let url = self
            .url
            .as_ref()
            .context("no broker is set: give --broker, HOOKLANE_BROKER__URL or [broker] url")?;
        let mut settings = RabbitMqSettings::new(role, url.expose())?;
        settings.prefix.clone_from(&self.prefix);
        settings.declare = self.declare;
        settings.ca_file.clone_from(&self.ca);
        settings.client_certificate = self.client.as_ref().map(|(certificate, _)| certificate.clone());
        settings.client_key = self.client.as_ref().map(|(_, key)| key.clone());
        settings.bounds = self.bounds;
        Ok(settings)
    }
}

/// Reads the section to its end.
pub fn read(table: Table<'_>, need: Need) -> BrokerSettings {
    let url = url(&table, need);
    let prefix = prefix(&table);
    let declare = table.named_or("declare", &DECLARE, Declare::Create);
    let publish_timeout = table.duration(
        "publish_timeout",
        PUBLISH_TIMEOUT_DEFAULT,
        Duration::from_millis(100)..=Duration::from_secs(300),
    );
    let ca = table.file_path("ca_file");
    let client = match (
        table.file_path("client_certificate"),
        table.file_path("client_key"),
    ) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            table.problem(
                "client_certificate",
                "certificate and key belong together",
                "set both `client_certificate` and `client_key`, or none",
            );
            None
        }
    };
    let events_bytes_max = table.size("events_bytes_max", EVENTS_BYTES_MAX, (1 << 20)..=(1 << 50));
    let records_bytes_max = table.size("records_bytes_max", RECORDS_BYTES_MAX, (1 << 20)..=(1 << 50));
    table.finish();
    BrokerSettings {
        url,
        prefix,
        declare,
        publish_timeout,
        ca,
        client,
        bounds: Bounds {
            events_bytes_max,
            records_bytes_max,
        },
    }
}

fn url(table: &Table<'_>, need: Need) -> Option<SecretText> {
    let fetch = match need {
        Need::Url | Need::Any => Fetch::Yes,
        Need::Nothing => Fetch::No,
    };
    let Some(given) = secret::read_as(table, "url", fetch, urls) else {
        if need == Need::Url {
            table.missing(
                "url",
                "give --broker, HOOKLANE_BROKER__URL or `url` in [broker], like \"amqp://user:password@127.0.0.1:5672/%2f\"",
            );
        }
        return None;
    };
    let text = given.text?;
    if let Err(error) = BrokerUrls::parse(text.expose()) {
        given.field.problem(
            error,
            "write it like \"amqp://user:password@host:5672/%2f\", or amqps:// for TLS; the nodes of a cluster as a list",
        );
        return None;
    }
    Some(text)
}

/// One text, or a list of them; a list becomes one text, as it would stand in the environment.
fn urls(field: &Field<'_>) -> Option<SecretText> {
    let ValueKind::Array(_) = field.value.kind else {
        return secret::text_of(field);
    };
    let urls: Option<Vec<_>> = field.elements()?.iter().map(secret::text_of).collect();
    let urls = urls?;
    if urls.is_empty() {
        field.problem("the list is empty", "name at least one URL");
        return None;
    }
    let texts: Vec<_> = urls.iter().map(SecretText::expose).collect();
    Some(SecretText::new(texts.join(",")))
}

fn prefix(table: &Table<'_>) -> String {
    let Some(field) = table.field("prefix") else {
        return PREFIX_DEFAULT.to_owned();
    };
    let Some(prefix) = field.read::<String>() else {
        return PREFIX_DEFAULT.to_owned();
    };
    if let Err(error) = Names::new(&prefix) {
        field.problem(
            error,
            format!("take another prefix, like `prefix = \"{PREFIX_DEFAULT}\"`"),
        );
        return PREFIX_DEFAULT.to_owned();
    }
    prefix
}
