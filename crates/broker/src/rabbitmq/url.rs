//! Where the broker is: one URL, or one for each node of a cluster.

use std::fmt;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};

use super::settings::SettingsError;

/// A broker's address with the account. Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    uri: AMQPUri,
}

impl BrokerUrl {
    /// Reads `amqp[s]://user:password@host:port/vhost`. Without an account it is `guest`, without a vhost `/`. Of what may stand
    /// behind a `?`, only `heartbeat` (seconds) is known.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn parse(text: &str) -> Result<BrokerUrl, SettingsError> {
        let url = url::Url::parse(text).map_err(|_| SettingsError::Url("is no URL"))?;
        let scheme = match url.scheme() {
            "amqp" => AMQPScheme::AMQP,
            "amqps" => AMQPScheme::AMQPS,
            _ => return Err(SettingsError::Url("is neither amqp nor amqps")),
        };
        let host = match url.host_str() {
            // Taken for a host, it would only ever fail to resolve.
            Some(host) if host.contains(',') => {
                return Err(SettingsError::Url("names several hosts at once"));
            }
            Some(host) if !host.is_empty() => decoded(host.trim_start_matches('[').trim_end_matches(']'))?,
            _ => return Err(SettingsError::Url("names no host")),
        };
        let guest = AMQPUserInfo::default();
        let userinfo = AMQPUserInfo {
            username: if url.username().is_empty() {
                guest.username
            } else {
                decoded(url.username())?
            },
            password: url.password().map_or(Ok(guest.password), decoded)?,
        };
        let vhost = match url.path() {
            "" | "/" => "/".to_owned(),
            path if path[1..].contains('/') => {
                return Err(SettingsError::Url(
                    "has a '/' in its vhost that is not written as %2F",
                ));
            }
            path => decoded(&path[1..])?,
        };
        let query = query(&url)?;
        let port = url.port().unwrap_or_else(|| scheme.default_port());
        let authority = AMQPAuthority { userinfo, host, port };
        Ok(BrokerUrl {
            uri: AMQPUri {
                scheme,
                authority,
                vhost,
                query,
            },
        })
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.uri.authority.host
    }

    /// The account's name.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.uri
    }
}

/// What is not known is refused: a parameter without effect would be believed to have one.
fn query(url: &url::Url) -> Result<AMQPQueryString, SettingsError> {
    let mut query = AMQPQueryString::default();
    for (key, value) in url.query_pairs() {
        if key != "heartbeat" {
            return Err(SettingsError::Url("has a parameter other than heartbeat"));
        }
        match value.parse() {
            // Zero would switch it off, and a half-open connection would never be noticed.
            Ok(heartbeat_s) if heartbeat_s > 0 => query.heartbeat = Some(heartbeat_s),
            _ => {
                return Err(SettingsError::Url(
                    "has a heartbeat that is not 1 to 65535 seconds",
                ));
            }
        }
    }
    Ok(query)
}

fn decoded(text: &str) -> Result<String, SettingsError> {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(text).collect();
    String::from_utf8(bytes).map_err(|_| SettingsError::Url("has percent-encoding that is not UTF-8"))
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri {
            scheme,
            authority,
            vhost,
            ..
        } = &self.uri;
        let AMQPAuthority { userinfo, host, port } = authority;
        write!(
            f,
            "{scheme}://{}@{host}:{port} vhost {vhost:?}",
            userinfo.username
        )
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self}, password hidden)")
    }
}

/// The ways to one broker, at least one: the nodes of a cluster, which are tried in turn. All lead to the same vhost as the same user.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrls {
    urls: Vec<BrokerUrl>,
}

impl BrokerUrls {
    /// Reads one URL, or several with commas between.
    ///
    /// # Errors
    /// When one of them is no such URL, or they differ in vhost or user: those would not be the same broker, or not with the
    /// same rights.
    pub fn parse(text: &str) -> Result<BrokerUrls, SettingsError> {
        let urls = separate(text)
            .into_iter()
            .map(BrokerUrl::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if urls.iter().any(|url| url.vhost() != urls[0].vhost()) {
            return Err(SettingsError::Url("names another vhost than the one before"));
        }
        if urls.iter().any(|url| url.user() != urls[0].user()) {
            return Err(SettingsError::Url("names another user than the one before"));
        }
        Ok(BrokerUrls { urls })
    }

    /// The account's name.
    pub fn user(&self) -> &str {
        self.urls[0].user()
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        self.urls[0].vhost()
    }

    /// All of them, in the order given.
    pub(crate) fn all(&self) -> &[BrokerUrl] {
        &self.urls
    }
}

/// At commas that a scheme follows: a password may hold a comma, but no slash.
fn separate(text: &str) -> Vec<&str> {
    let (mut urls, mut begin) = (Vec::new(), 0);
    for (comma, _) in text.match_indices(',') {
        let next = text[comma + 1..].trim_start();
        if next.starts_with("amqp://") || next.starts_with("amqps://") {
            urls.push(text[begin..comma].trim());
            begin = comma + 1;
        }
    }
    urls.push(text[begin..].trim());
    urls
}

impl fmt::Display for BrokerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, url) in self.urls.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{url}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for BrokerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.urls).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_with_special_characters_are_decoded() {
        // Goal: passwords from generators hold every character.
        let url = BrokerUrl::parse("amqps://ann%40x:p%2Fa%3As%25@mq.example/%2Fprod").expect("valid");
        assert_eq!(
            (url.user(), url.vhost(), url.host()),
            ("ann@x", "/prod", "mq.example")
        );
        assert_eq!(url.uri().authority.userinfo.password, "p/a:s%");
        assert_eq!(url.uri().authority.port, 5671);
    }

    #[test]
    fn vhost_and_account_have_defaults() {
        // Goal: `amqp://host/` means `/` to everybody but the letter of AMQP's URI draft.
        for text in ["amqp://127.0.0.1", "amqp://127.0.0.1/", "amqp://127.0.0.1/%2f"] {
            let url = BrokerUrl::parse(text).expect(text);
            assert_eq!(
                (url.host(), url.vhost(), url.user()),
                ("127.0.0.1", "/", "guest"),
                "{text}"
            );
        }
        assert_eq!(BrokerUrl::parse("amqp://[::1]:1/x").expect("valid").host(), "::1");
    }

    #[test]
    fn urls_that_are_none_are_refused_without_repeating_them() {
        // Goal: a typo in the URL must not put the password into a log.
        for bad in [
            "",
            "http://u:hunter2@h",
            "amqp:///v",
            "amqp://h/a/b",
            "amqp://u:%ff@h",
        ] {
            let error = BrokerUrl::parse(bad).expect_err(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn several_urls_are_read_in_order_and_commas_in_passwords_are_left() {
        // Goal: each node of a cluster has its URL; what belongs to a password separates nothing.
        let urls = BrokerUrls::parse("amqp://u:a,b@h1:1/v, amqps://u:c@h2/v,amqp://u@h3/v?heartbeat=2")
            .expect("valid");
        let hosts: Vec<_> = urls.all().iter().map(BrokerUrl::host).collect();
        assert_eq!(
            (hosts, urls.vhost(), urls.user()),
            (vec!["h1", "h2", "h3"], "v", "u")
        );
        assert_eq!(urls.all()[0].uri().authority.userinfo.password, "a,b");
        let heartbeats: Vec<_> = urls.all().iter().map(|url| url.uri().query.heartbeat).collect();
        assert_eq!(heartbeats, [None, None, Some(2)]);
    }

    #[test]
    fn urls_that_lead_elsewhere_or_hold_unknown_parameters_are_refused() {
        // Goal: a list of brokers that are not one, or a parameter without effect, is a mistake that shows at the start.
        for bad in [
            "amqp://u@h1/a,amqp://u@h2/b",
            "amqp://u@h1/a,amqp://w@h2/a",
            "amqp://u@h1,h2/a",
            "amqp://u@h1/a?hartbeat=2",
            "amqp://u@h1/a?heartbeat=0",
            "amqp://u@h1/a?heartbeat=2s",
        ] {
            BrokerUrls::parse(bad).expect_err(bad);
        }
    }
}
