//! `[log]`.

use hooklane_telemetry::LogFormat;

use super::table::Table;
use super::value::{Raw, one_of};

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// How a process logs.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level or `tracing` directives, where they are set; checked where logging is set up.
    pub level: Option<String>,
}

/// Reads the section to its end.
pub fn read(table: Table<'_>) -> LogSettings {
    let format = table
        .field("format")
        .and_then(|field| {
            field.taken(one_of(
                Raw {
                    value: field.value,
                    is_text_only: false,
                },
                &FORMATS,
            ))
        })
        .unwrap_or(LogFormat::Text);
    let level = table.read("level");
    table.finish();
    LogSettings { format, level }
}
