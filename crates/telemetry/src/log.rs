//! Logs on standard error: text for people, JSON for machines.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `time level message field=value …`
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogSettingsError {
    /// The level is no filter directive.
    #[error(
        "log level {level:?} is not understood: use error, warn, info, debug or trace, or directives like `info,hooklane_broker=debug`"
    )]
    Level {
        /// What was given.
        level: String,
    },
    /// A second set-up in one process.
    #[error("logging is already set up")]
    Twice,
}

/// Sets up the process's log. `level` is a level or a list of `tracing` directives.
///
/// # Errors
/// See [`LogSettingsError`].
pub fn init_log(format: LogFormat, level: &str) -> Result<(), LogSettingsError> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|_| LogSettingsError::Level {
            level: level.to_owned(),
        })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => builder.with_ansi(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    set.map_err(|_| LogSettingsError::Twice)
}
