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

/// The AMQP library calls errors what is an answer to us (a queue that is missing, a lock that is held). What matters of it
/// the broker's own lines say; whoever wants to see it names it in the level.
const LIBRARY: &str = "lapin";

/// Whether `level` is a level or a list of `tracing` directives.
///
/// # Errors
/// [`LogSettingsError::Level`].
pub fn check_log_level(level: &str) -> Result<(), LogSettingsError> {
    filter(level).map(|_| ())
}

/// Sets up the process's log. `level` is a level or a list of `tracing` directives.
///
/// # Errors
/// See [`LogSettingsError`].
pub fn init_log(format: LogFormat, level: &str) -> Result<(), LogSettingsError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level)?)
        // A line that cannot be written would be told by `eprintln!`, which panics where standard error is closed.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => builder.with_ansi(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    set.map_err(|_| LogSettingsError::Twice)
}

fn filter(level: &str) -> Result<EnvFilter, LogSettingsError> {
    let quiet = if level.contains(LIBRARY) { "" } else { ",lapin=off" };
    EnvFilter::builder()
        .parse(format!("{level}{quiet}"))
        .map_err(|_| LogSettingsError::Level {
            level: level.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_amqp_library_is_silent_unless_it_is_named() {
        // Goal: its errors, which are answers to us, do not stand beside the rows of a command; who wants them gets them.
        let text = |level| filter(level).unwrap().to_string();
        assert!(text("info").contains("lapin=off"));
        assert!(text("info,hooklane_broker=debug").contains("lapin=off"));
        assert!(!text("info,lapin=debug").contains("off"));
        assert!(check_log_level("loud,,==").is_err());
    }
}
