//! `[ingest]`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hooklane_dispatcher::EVENT_BYTES_LIMIT;
use hooklane_ingest::{IngestSettings, SettingsError, TlsSettings, Token};
use tokio::sync::Notify;

use super::secret::{self, Fetch};
use super::table::Table;

/// Where ingest listens.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8071);

/// The section, with what only the process that listens needs.
#[derive(Clone, Debug)]
pub struct IngestSection {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The rest.
    pub settings: IngestSettings,
}

/// Reads the section to its end. Whether a token is needed is only asked of the process that listens: the others need not be
/// given it.
pub fn read(table: Table<'_>, publish_timeout: Duration, is_listening: bool, has_api: bool) -> IngestSection {
    let defaults = IngestSettings::default();
    let seconds = Duration::from_secs;
    let listen = table.read_or("listen", LISTEN_DEFAULT);
    // No dispatcher takes a larger event.
    let body_bounds = 1..=EVENT_BYTES_LIMIT as u64;
    let body_bytes_max = table.size("body_limit", defaults.body_bytes_max as u64, body_bounds);
    let held = table.size(
        "bodies_held_limit",
        defaults.bodies_held_bytes_max as u64,
        1..=u64::from(u32::MAX),
    );
    let token = token(&table, is_listening);
    let is_token_wrong = token.is_err();
    let settings = IngestSettings {
        token: token.ok().flatten(),
        allowed_networks: table.list("allow").unwrap_or_default(),
        tls: tls(&table),
        body_bytes_max: usize::try_from(body_bytes_max).unwrap_or(usize::MAX),
        bodies_held_bytes_max: usize::try_from(held).unwrap_or(usize::MAX),
        publish_timeout: table.duration(
            "publish_timeout",
            publish_timeout,
            Duration::from_millis(100)..=seconds(300),
        ),
        header_timeout: table.duration(
            "header_timeout",
            defaults.header_timeout,
            seconds(1)..=seconds(300),
        ),
        body_timeout: table.duration("body_timeout", defaults.body_timeout, seconds(1)..=seconds(3600)),
        idle_timeout: table.duration("idle_timeout", defaults.idle_timeout, seconds(1)..=seconds(3600)),
        grace: table.duration("grace", defaults.grace, seconds(0)..=seconds(3600)),
        connections_max: table.number("connections_max", defaults.connections_max, 1..=1_000_000),
    };
    if is_listening && !is_token_wrong {
        check(&table, &settings, listen, has_api);
    }
    table.finish();
    IngestSection { listen, settings }
}

/// A token was given, and is a problem already.
struct Wrong;

fn token(table: &Table<'_>, is_listening: bool) -> Result<Option<Token>, Wrong> {
    let fetch = if is_listening { Fetch::Yes } else { Fetch::No };
    let Some(given) = secret::read(table, "token", fetch) else {
        return Ok(None);
    };
    let text = given.text.ok_or(Wrong)?;
    Token::new(text.expose()).map(Some).map_err(|error| {
        given.field.problem(
            error,
            "take letters and digits, for instance from `openssl rand -hex 32`",
        );
        Wrong
    })
}

fn tls(table: &Table<'_>) -> Option<TlsSettings> {
    match (table.file_path("tls_certificate"), table.file_path("tls_key")) {
        (Some(certificate), Some(key)) => Some(TlsSettings {
            certificate,
            key,
            reload: Arc::new(Notify::new()),
        }),
        (None, None) => None,
        _ => {
            table.problem(
                "tls_certificate",
                "certificate and key belong together",
                "set both `tls_certificate` and `tls_key`, or none",
            );
            None
        }
    }
}

fn check(table: &Table<'_>, settings: &IngestSettings, listen: SocketAddr, has_api: bool) {
    let Err(error) = settings.validate(listen, has_api) else {
        return;
    };
    match error {
        SettingsError::OpenToAll { listen } => table.problem(
            "listen",
            format!("{listen} is not loopback, and no token is set: whoever reaches it could publish"),
            "set `token`, `token_file` or `token_env`, or listen on 127.0.0.1",
        ),
        SettingsError::OutOfRange {
            setting,
            value,
            upper,
        } => table.problem(
            setting.trim_start_matches("ingest."),
            format!("{value} is out of bounds"),
            format!("write a value from 1 to {upper}"),
        ),
        SettingsError::NoRoomForOneBody { .. } => table.problem(
            "bodies_held_limit",
            "smaller than `body_limit`: no body of that size could be read",
            "make it at least as large as `body_limit`; ten times is usual",
        ),
    }
}
