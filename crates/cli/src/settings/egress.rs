//! `[egress]`.

use std::net::SocketAddr;
use std::time::Duration;

use hooklane_egress::EgressSettings;
use url::Url;

use super::table::Table;

/// Reads the section to its end.
pub fn read(table: Table<'_>) -> EgressSettings {
    let defaults = EgressSettings::default();
    let entries = 1..=1_000_000;
    let settings = EgressSettings {
        https_only: table.read_or("https_only", true),
        allowed_networks: table.list("allow").unwrap_or_default(),
        proxy: proxy(&table),
        dns_servers: table.list::<SocketAddr>("dns").unwrap_or_default(),
        dns_entries_max: table.number("dns_entries_max", defaults.dns_entries_max, entries.clone()),
        tls_sessions_max: table.number("tls_sessions_max", defaults.tls_sessions_max, entries.clone()),
        connections_idle_max: table.number(
            "connections_idle_max",
            defaults.connections_idle_max,
            entries.clone(),
        ),
        connection_idle: table.duration(
            "connection_idle",
            defaults.connection_idle,
            Duration::from_secs(1)..=Duration::from_secs(3600),
        ),
        answer_bytes_max: answer_bytes_max(&table, defaults.answer_bytes_max),
        clients_max: table.number("clients_max", defaults.clients_max, entries),
    };
    table.finish();
    settings
}

fn answer_bytes_max(table: &Table<'_>, default: usize) -> usize {
    let size = table.size("answer_bytes_max", default as u64, 0..=16 * 1024 * 1024);
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// The URL may hold a password and is not quoted.
fn proxy(table: &Table<'_>) -> Option<Url> {
    let field = table.field("proxy")?;
    let url: Url = field.read()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !is_bare {
        field.problem(
            "not the URL of an HTTP proxy",
            "write it like \"http://proxy.example.com:3128\" or \"http://user:password@proxy.example.com:3128\"",
        );
        return None;
    }
    Some(url)
}
