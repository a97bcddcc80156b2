//! Where the server is, and how long it may take.

use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::error::PostgresError;
use super::tls::{Roots, TlsMode};

/// Connections of one process, beside the one that listens.
pub const CONNECTIONS_MAX_DEFAULT: usize = 8;
/// How long a call waits for a connection.
pub const CONNECT_MAX_DEFAULT: Duration = Duration::from_secs(5);
/// How long a call waits for its answer.
pub const CALL_MAX_DEFAULT: Duration = Duration::from_secs(5);

const SCHEMA_DEFAULT: &str = "hooklane";
/// PostgreSQL's names have 63 bytes; ours are made of it.
const SCHEMA_BYTES_MAX: usize = 48;
/// Data that nobody acknowledges for so long ends a connection, with what waits for it.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

const URL_FORM: &str = "write it like postgres://user:password@host:5432/database?sslmode=verify-full";
const SSLMODES: &str = "sslmode is disable, prefer, require, verify-ca or verify-full";

/// How the store's server is reached.
#[derive(Clone)]
pub struct PostgresSettings {
    pub(super) config: Config,
    pub(super) tls: TlsMode,
    schema: String,
    /// Connections of this process, beside the one that listens.
    pub connections_max: usize,
    /// How long a call waits for a connection.
    pub connect_max: Duration,
    /// How long a call waits for its answer. The server gives up a statement a little earlier.
    pub call_max: Duration,
}

impl PostgresSettings {
    /// Reads a URL as `libpq` does (PostgreSQL's documentation, 34.1.1), with several hosts and `target_session_attrs` if need be. Of TLS:
    ///
    /// | `sslmode` | is |
    /// |---|---|
    /// | `disable` | no TLS |
    /// | `prefer` (unless set) | TLS where the server has it; nobody's certificate is looked at |
    /// | `require` | TLS, or no connection; the certificate is looked at only with an `sslrootcert` |
    /// | `verify-ca` | … with a certificate of an authority that is trusted, for whatever name |
    /// | `verify-full` | … and for the host's name |
    ///
    /// `sslrootcert` is a file of authorities, or `system`, which is also the default.
    ///
    /// # Errors
    /// [`PostgresError::Settings`].
    pub fn parse(url: &str) -> Result<PostgresSettings, PostgresError> {
        let wrong = |what: &str, remedy| PostgresError::Settings {
            what: what.to_owned(),
            remedy,
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(wrong("the store's URL is none of PostgreSQL", URL_FORM));
        }
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut root, mut rest) = ("prefer".to_owned(), None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "sslmode" => mode = value(),
                "sslrootcert" => root = Some(value()),
                _ => rest.push(pair),
            }
        }
        let roots = match root.as_deref() {
            None | Some("system") => Roots::System,
            Some(file) => Roots::File(file.into()),
        };
        let (ssl_mode, tls) = match mode.as_str() {
            "disable" => (SslMode::Disable, TlsMode::Unverified),
            "prefer" => (SslMode::Prefer, TlsMode::Unverified),
            "require" if root.is_none() => (SslMode::Require, TlsMode::Unverified),
            "require" | "verify-ca" => (SslMode::Require, TlsMode::Authority(roots)),
            "verify-full" => (SslMode::Require, TlsMode::Name(roots)),
            _ => return Err(wrong("the store's URL has an unknown sslmode", SSLMODES)),
        };
        let mut config: Config = format!("{address}?{}", rest.join("&"))
            .parse()
            // Its cause would quote a part of the URL.
            .map_err(|error| wrong(&format!("the store's URL cannot be read ({error})"), URL_FORM))?;
        config.ssl_mode(ssl_mode);
        Ok(PostgresSettings {
            config,
            tls,
            schema: SCHEMA_DEFAULT.to_owned(),
            connections_max: CONNECTIONS_MAX_DEFAULT,
            connect_max: CONNECT_MAX_DEFAULT,
            call_max: CALL_MAX_DEFAULT,
        })
    }

    /// Another schema than `hooklane`: small letters, digits and `_`.
    ///
    /// # Errors
    /// [`PostgresError::Settings`].
    pub fn with_schema(mut self, schema: &str) -> Result<PostgresSettings, PostgresError> {
        let is_name = schema.len() <= SCHEMA_BYTES_MAX
            && schema.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && !schema.starts_with("pg_")
            && schema
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name {
            return Err(PostgresError::Settings {
                what: format!("{schema:?} is no name for the store's schema"),
                remedy: "take small letters, digits and _, at most 48, not beginning with a digit or pg_",
            });
        }
        self.schema = schema.to_owned();
        Ok(self)
    }

    /// The schema in which everything stands.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// As the library wants it. Whatever the URL says, the schema and the bounds are ours.
    pub(super) fn complete(&self) -> Config {
        self.complete_with("")
    }

    /// With more options of a session.
    pub(super) fn complete_with(&self, session: &str) -> Config {
        let mut config = self.config.clone();
        let call_max_ms = self.call_max.as_millis().max(1);
        // The server's word comes before the client's deadline, after which the connection is thrown away.
        let statement_max_ms = (call_max_ms * 9 / 10).max(1);
        let hosts = config.get_hosts().len().max(1);
        let options = format!(
            "{} -c search_path={} -c statement_timeout={statement_max_ms} \
             -c idle_in_transaction_session_timeout={} -c client_min_messages=warning {session}",
            config.get_options().unwrap_or_default(),
            self.schema,
            2 * call_max_ms,
        );
        config
            .options(options.trim())
            // One that is gone leaves time for the others.
            .connect_timeout(self.connect_max / u32::try_from(hosts).unwrap_or(u32::MAX))
            .tcp_user_timeout(UNACKNOWLEDGED_MAX)
            .keepalives_idle(KEEPALIVE_AFTER)
            .keepalives_interval(KEEPALIVE_INTERVAL);
        if config.get_application_name().is_none() {
            config.application_name("hooklane");
        }
        config
    }
}

impl fmt::Debug for PostgresSettings {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("database", &self.config.get_dbname())
            .field("user", &self.config.get_user())
            .field("tls", &self.config.get_ssl_mode())
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        let read = |query: &str| {
            let settings = PostgresSettings::parse(&format!("postgres://u:p@h:1/d{query}")).unwrap();
            (settings.config.get_ssl_mode(), settings.tls)
        };
        let file = || Roots::File("/a b.pem".into());
        for (query, expected) in [
            ("", (SslMode::Prefer, TlsMode::Unverified)),
            ("?sslmode=disable", (SslMode::Disable, TlsMode::Unverified)),
            ("?sslmode=require", (SslMode::Require, TlsMode::Unverified)),
            (
                "?sslrootcert=/a%20b.pem&sslmode=require",
                (SslMode::Require, TlsMode::Authority(file())),
            ),
            (
                "?sslmode=verify-ca&connect_timeout=3",
                (SslMode::Require, TlsMode::Authority(Roots::System)),
            ),
            (
                "?sslmode=verify-full&sslrootcert=system",
                (SslMode::Require, TlsMode::Name(Roots::System)),
            ),
            (
                "?sslmode=verify-full&sslrootcert=/a%20b.pem",
                (SslMode::Require, TlsMode::Name(file())),
            ),
        ] {
            assert_eq!(read(query), expected, "{query}");
        }
        let several = PostgresSettings::parse("postgresql://u@a:1,b:2/d?target_session_attrs=read-write");
        let several = several.unwrap();
        assert_eq!(several.config.get_ports(), [1, 2]);
        let complete = several.complete();
        assert_eq!(complete.get_connect_timeout(), Some(&(CONNECT_MAX_DEFAULT / 2)));
    }

    #[test]
    fn a_wrong_url_is_not_quoted() {
        for url in [
            "mysql://u:hunter2@h/d",
            "host=h password=hunter2",
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h/d?sslmode=hunter2",
            "postgres://u:hunter2@h/d?hunter2%ff=1",
        ] {
            match PostgresSettings::parse(url) {
                Err(error @ PostgresError::Settings { .. }) => {
                    let text = format!("{error} {error:?}");
                    assert!(!text.contains("hunter2"), "{text}");
                    assert!(
                        text.contains("write it like") || text.contains("sslmode is"),
                        "{text}"
                    );
                }
                other => panic!("{url}: {other:?}"),
            }
        }
        let settings = PostgresSettings::parse("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn the_schema_and_the_bounds_are_ours_whatever_the_url_says() {
        let url = "postgres://u@h/d?options=-c%20search_path%3Dother&application_name=mine";
        let settings = PostgresSettings::parse(url)
            .unwrap()
            .with_schema("hooks_2")
            .unwrap();
        let config = settings.complete();
        assert_eq!(config.get_application_name(), Some("mine"));
        let options = config.get_options().unwrap();
        assert!(options.starts_with("-c search_path=other -c search_path=hooks_2 -c statement_timeout=4500"));
        for wrong in ["", "Hooks", "1a", "a-b", "a b", "a;b", "pg_a", &"a".repeat(49)] {
            assert!(settings.clone().with_schema(wrong).is_err(), "{wrong}");
        }
    }
}
