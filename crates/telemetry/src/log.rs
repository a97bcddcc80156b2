//! Logs on standard error: text for people, JSON for machines.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

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
    let filter = filter(level)?;
    let lines = fmt::layer()
        // A line that cannot be written would be told by `eprintln!`, which panics where standard error is closed.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let set = Registry::default().with(lines).with(filter).try_init();
    set.map_err(|_| LogSettingsError::Twice)
}

fn filter(level: &str) -> Result<Targets, LogSettingsError> {
    let not_understood = || LogSettingsError::Level {
        level: level.to_owned(),
    };
    let targets: Targets = level.parse().map_err(|_| not_understood())?;
    if level.contains(LIBRARY) {
        return Ok(targets);
    }
    Ok(targets.with_target(LIBRARY, LevelFilter::OFF))
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
