//! `hooklane status`

use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use hooklane_broker::rabbitmq::host_name;
use hooklane_control::{present, status};

use super::flags::{BrokerFlags, SettingsFlags, start_log};
use super::reach::Reach;
use super::shelf::{Format, Table, age};
use super::{block_on, now, print};
use crate::settings::{self, Role, Settings};

#[derive(Args)]
pub struct ShowStatus {
    #[command(flatten)]
    settings: SettingsFlags,
    #[command(flatten)]
    broker: BrokerFlags,
    /// How it is printed; json is one object
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl ShowStatus {
    /// Asks broker and dispatchers, and prints.
    pub fn run(self) -> anyhow::Result<()> {
        let loaded = settings::load(&self.settings.sources(vec![self.broker.flag()]), Role::Client)?;
        start_log(&loaded.settings.log, "warn")?;
        let status = block_on(gather(&loaded.settings))?;
        let mut out = io::stdout();
        let printed = match self.format {
            Format::Json => serde_json::to_writer(&mut out, &status)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out)),
            Format::Table => print(&mut out, &status),
        };
        print::unless_closed(printed)
    }
}

async fn gather(settings: &Settings) -> anyhow::Result<status::Status> {
    // Distinct among all that ask at the same time.
    let id = format!("{}@{}/{}", std::process::id(), host_name(), now().0);
    let broker = Reach::find(settings, "hooklane status").await?.broker()?;
    let status = status::gather(&*broker, &id, settings.broker.publish_timeout).await;
    broker.shut_down().await;
    status
        .context("the broker does not answer (`hooklane check` looks at the connection, rights and topology)")
}

fn print(out: &mut impl Write, status: &status::Status) -> io::Result<()> {
    let mut queues = Table::new(&mut *out, &["QUEUE", "MESSAGES", "CONSUMERS"]);
    for queue in &status.queues {
        queues.add(vec![
            queue.name.to_owned(),
            queue.messages.to_string(),
            queue.consumers.to_string(),
        ])?;
    }
    queues.flush()?;
    writeln!(out)?;
    let mut retries = Table::new(&mut *out, &["RETRIES DUE WITHIN", "MESSAGES"]);
    for due in &status.retries {
        retries.add(vec![due.within.to_owned(), due.messages.to_string()])?;
    }
    retries.flush()?;
    writeln!(out)?;
    let mut endpoints = Table::new(
        &mut *out,
        &["ENDPOINT", "STATE", "IN FLIGHT", "LAST", "AT", "AGE"],
    );
    let now = now();
    for endpoint in &status.endpoints {
        endpoints.add(vec![
            endpoint.id.clone(),
            format!("{:?}", endpoint.state).to_lowercase(),
            endpoint.in_flight.to_string(),
            endpoint.last_outcome.clone().unwrap_or_else(|| "-".to_owned()),
            endpoint.last_at.map_or_else(|| "-".to_owned(), present::time),
            endpoint
                .last_at
                .map_or_else(|| "-".to_owned(), |at| age(now.since(at).as_secs())),
        ])?;
    }
    endpoints.flush()?;
    writeln!(out)?;
    if !status.records_dropped.is_empty() {
        let header = ["HISTORY DROPPED BY", "CONTENTS", "RECORDS", "SINCE", "LAST AT"];
        let mut dropped = Table::new(&mut *out, &header);
        for by in &status.records_dropped {
            dropped.add(vec![
                by.pod.clone(),
                by.contents.to_string(),
                by.records.to_string(),
                by.since.clone(),
                by.last_at.clone(),
            ])?;
        }
        dropped.flush()?;
        writeln!(out)?;
    }
    let answered = status.dispatchers.len() as u64;
    writeln!(
        out,
        "{answered} of {} dispatchers answered",
        status.dispatchers_expected
    )?;
    for dispatcher in &status.dispatchers {
        writeln!(out, "  {} since {}", dispatcher.pod, dispatcher.since)?;
    }
    if answered < status.dispatchers_expected {
        writeln!(
            out,
            "the endpoints of those that did not answer are missing above: ask again, or look at their logs"
        )?;
    }
    Ok(())
}
