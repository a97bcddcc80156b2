//! `[log]`.

use hooklane_telemetry::{LogFormat, check_log_level};

use super::table::{Field, Table};

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// How a process logs.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level or `tracing` directives, where they are set.
    pub level: Option<String>,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>) -> LogSettings {
    let format = table.named_or("format", &FORMATS, LogFormat::Text);
    let level = table.field("level").and_then(level);
    table.finish();
    LogSettings { format, level }
}

fn level(field: Field<'_>) -> Option<String> {
    let level: String = field.read()?;
    if check_log_level(&level).is_err() {
        let remedy =
            "write error, warn, info, debug or trace, or directives like \"info,hooklane_broker=debug\"";
        field.problem(format!("{level:?} is no level"), remedy);
        return None;
    }
    Some(level)
}
