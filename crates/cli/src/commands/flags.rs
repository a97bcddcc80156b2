//! Flags that several commands share.

use std::path::PathBuf;

use clap::Args;
use hooklane_telemetry::init_log;

use super::usage;
use crate::settings::{Flag, LogSettings, Sources};

/// Where settings come from.
#[derive(Args)]
pub struct SettingsFlags {
    /// Settings file [default: hooklane.toml, if there is one; HOOKLANE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines are written: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or directives like info,hooklane_broker=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// Which broker.
#[derive(Args)]
pub struct BrokerFlags {
    /// The broker: `amqp://user:password@host:port/vhost`, or `amqps://`. Other users of the machine see flags: HOOKLANE_BROKER__URL
    /// or the settings file keep a password to yourself
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
}

impl SettingsFlags {
    /// The sources, with further flags.
    pub fn sources(&self, more: Vec<Option<Flag>>) -> Sources {
        let own = [
            flag("--log-format", "log.format", self.log_format.as_ref()),
            flag("--log-level", "log.level", self.log_level.as_ref()),
        ];
        let flags = own.into_iter().chain(more).flatten().collect();
        Sources::of_process(self.config.clone(), flags)
    }
}

/// Which store.
#[derive(Args)]
pub struct StoreFlags {
    /// The store: `postgres://user:password@host:port/database`. Other users of the machine see flags: HOOKLANE_STORE__URL or the settings
    /// file keep a password to yourself
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl StoreFlags {
    /// As a flag that sets a setting.
    pub fn flag(&self) -> Option<Flag> {
        flag("--store", "store.url", self.store.as_ref())
    }
}

impl BrokerFlags {
    /// As a flag that sets a setting.
    pub fn flag(&self) -> Option<Flag> {
        flag("--broker", "broker.url", self.broker.as_ref())
    }
}

/// A flag that sets a setting, where it was given.
pub fn flag(name: &'static str, key: &'static str, value: Option<&String>) -> Option<Flag> {
    value.map(|value| Flag {
        name,
        key,
        value: value.clone(),
    })
}

/// Sets up the log of a service (`info`), or of a command (`warn`), where no level is set.
pub fn start_log(log: &LogSettings, level_default: &str) -> anyhow::Result<()> {
    let level = log.level.as_deref().unwrap_or(level_default);
    init_log(log.format, level).map_err(|error| usage(format!("log.level: {error}")))
}
