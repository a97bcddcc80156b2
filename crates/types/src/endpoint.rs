//! Where an application wants its events, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hooklane_signing::Signer;
use url::Url;

use crate::filter::{Channel, TypePattern};
use crate::id::{ApplicationId, EndpointId};
use crate::retry::RetryPolicy;
use crate::throttle::ThrottleRate;
use crate::time::UnixMillis;

/// The shortest life of a delivery, whatever its schedule: so that a delivery that waits for a disabled or a sick
/// endpoint is not dead before anybody could act.
pub const LIFETIME_MIN: Duration = Duration::from_secs(24 * 3600);

/// ... where a rate limit holds: its deliveries may have to wait for those in front of them. At one message a second that is the
/// time of 600,000.
pub const LIFETIME_THROTTLED_MIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// One deadline over a whole attempt, unless the endpoint has its own: what Standard Webhooks advises at least.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Most attempts at once of one dispatcher, unless the endpoint has its own bound.
pub const MAX_IN_FLIGHT_DEFAULT: u32 = 64;

/// How late a retry may be by the promise to users: one twentieth of its delay, or a second if that is more. The deadline
/// makes room for it, else a schedule that was kept could end in `expired`.
const LATENESS_PART: u32 = 20;
const LATENESS_LEAST: Duration = Duration::from_secs(1);

/// One endpoint, checked: what stands here can be served.
#[derive(Clone)]
pub struct Endpoint {
    /// Its id, never used twice.
    pub id: EndpointId,
    /// Whose it is.
    pub application: ApplicationId,
    /// Where to POST. `http` or `https`, with a host, without user info and fragment.
    pub url: Url,
    /// Wanted event types; an event is wanted when any matches.
    pub event_types: Vec<TypePattern>,
    /// Wanted channels; empty wants all. Otherwise an event is wanted when it has one of them.
    pub channels: Vec<Channel>,
    /// Signature format and live secrets.
    pub signer: Signer,
    /// Headers to add, with lower-case names; none that Hooklane sets itself.
    pub headers: Vec<(String, String)>,
    /// One deadline over a whole attempt.
    pub timeout: Duration,
    /// HTTP authentication towards the endpoint.
    pub auth: Option<HttpAuth>,
    /// Own CA and client certificate.
    pub tls: TlsFiles,
    /// Most attempts at once of one dispatcher.
    pub max_in_flight: u32,
    /// Most attempts a second; none: no limit.
    pub throttle_rate: Option<ThrottleRate>,
    /// Its deliveries wait.
    pub disabled: bool,
    /// When failed attempts are repeated.
    pub retry: RetryPolicy,
}

impl Endpoint {
    /// An endpoint that wants every event, with the defaults of everything else.
    pub fn new(id: EndpointId, application: ApplicationId, url: Url, signer: Signer) -> Endpoint {
        Endpoint {
            id,
            application,
            url,
            event_types: vec![TypePattern::Any],
            channels: Vec::new(),
            signer,
            headers: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            auth: None,
            tls: TlsFiles::default(),
            max_in_flight: MAX_IN_FLIGHT_DEFAULT,
            throttle_rate: None,
            disabled: false,
            retry: RetryPolicy::standard(),
        }
    }

    /// Whether an event with this type and these channels is for this endpoint.
    pub fn wants(&self, event_type: &crate::EventType, channels: &[Channel]) -> bool {
        self.event_types.iter().any(|pattern| pattern.matches(event_type))
            && (self.channels.is_empty() || channels.iter().any(|channel| self.channels.contains(channel)))
    }

    /// When a delivery that began at `begun` is given up, attempted or not: the whole schedule with its jitter and the
    /// lateness that retries may have, and a timeout for each attempt; at least [`LIFETIME_MIN`], or
    /// [`LIFETIME_THROTTLED_MIN`] where a rate limit holds, its own or its application's.
    pub fn deadline(&self, begun: UnixMillis, is_throttled: bool) -> UnixMillis {
        let longest = self.retry.longest();
        let attempts = self.retry.attempts();
        let per_attempt = self.timeout.saturating_add(LATENESS_LEAST);
        let lifetime =
            (longest + longest / LATENESS_PART).saturating_add(per_attempt.saturating_mul(attempts));
        let lifetime_min = if is_throttled {
            LIFETIME_THROTTLED_MIN
        } else {
            LIFETIME_MIN
        };
        begun.plus(lifetime.max(lifetime_min))
    }
}

/// Headers by their names only, since a value may be a key of the receiver; the URL without its query, for the same reason.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("application", &self.application)
            .field("url", &url.as_str())
            .field("event_types", &self.event_types)
            .field("channels", &self.channels)
            .field("signer", &self.signer)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("auth", &self.auth)
            .field("tls", &self.tls)
            .field("max_in_flight", &self.max_in_flight)
            .field("throttle_rate", &self.throttle_rate)
            .field("disabled", &self.disabled)
            .field("retry", &self.retry)
            .finish()
    }
}

/// Why no endpoint can have a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Another scheme.
    #[error("not an http or https URL")]
    Scheme,
    /// Nobody to connect to.
    #[error("has no host")]
    Host,
    /// They would stand in logs.
    #[error("holds a user name or password")]
    Credentials,
    /// It would not be sent.
    #[error("has a fragment, which is never sent")]
    Fragment,
    /// Not encrypted.
    #[error("is http, but only https is allowed")]
    Plain,
}

/// Checks an endpoint's URL.
///
/// # Errors
/// See [`UrlError`].
pub fn check_url(url: &Url, https_only: bool) -> Result<(), UrlError> {
    if !matches!(url.scheme(), "http" | "https") {
        Err(UrlError::Scheme)
    } else if url.host().is_none() {
        Err(UrlError::Host)
    } else if !url.username().is_empty() || url.password().is_some() {
        Err(UrlError::Credentials)
    } else if url.fragment().is_some() {
        Err(UrlError::Fragment)
    } else if https_only && url.scheme() == "http" {
        Err(UrlError::Plain)
    } else {
        Ok(())
    }
}

/// HTTP authentication towards an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub enum HttpAuth {
    /// RFC 7617.
    Basic {
        /// User name; without a colon.
        username: String,
        /// Password.
        password: String,
    },
    /// RFC 6750.
    Bearer {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for HttpAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpAuth::Basic { username, .. } => write!(f, "Basic({username}, redacted)"),
            HttpAuth::Bearer { .. } => write!(f, "Bearer(redacted)"),
        }
    }
}

/// TLS material of one endpoint, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// Certificates to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and private key.
    pub client: Option<ClientCertificate>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

#[cfg(test)]
mod tests {
    use hooklane_signing::{HeaderFamily, Scheme, Secret};

    use super::*;

    fn endpoint() -> Endpoint {
        let secret = Secret::symmetric_from_bytes(&[7; 32]).unwrap();
        let signer = Signer::new(Scheme::Standard(HeaderFamily::Webhook), vec![secret]).unwrap();
        Endpoint::new(
            EndpointId::parse("shop").unwrap(),
            ApplicationId::parse("acme").unwrap(),
            Url::parse("https://example.com/hook").unwrap(),
            signer,
        )
    }

    fn lifetime(retry: RetryPolicy) -> Duration {
        Endpoint { retry, ..endpoint() }
            .deadline(UnixMillis(1_000), false)
            .since(UnixMillis(1_000))
    }

    #[test]
    fn a_schedule_kept_at_its_latest_ends_within_the_deadline() {
        let longest_s: f64 = [
            5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0,
        ]
        .iter()
        .map(|delay_s| delay_s * 1.1)
        .map(|jittered_s| jittered_s + (jittered_s * 0.05_f64).max(1.0))
        .sum();
        let attempts_s = 10.0 * 15.0;
        let lifetime_s = lifetime(RetryPolicy::standard()).as_secs_f64();
        assert!(lifetime_s >= longest_s + attempts_s, "{lifetime_s} s");
        assert!(lifetime_s < longest_s + attempts_s + 60.0, "{lifetime_s} s");
    }

    #[test]
    fn a_short_schedule_still_lives_for_a_day() {
        assert_eq!(lifetime(RetryPolicy::list(vec![], 0.0).unwrap()), LIFETIME_MIN);
    }

    #[test]
    fn a_delivery_under_a_rate_limit_lives_for_a_week() {
        let once = Endpoint {
            retry: RetryPolicy::list(vec![], 0.0).unwrap(),
            ..endpoint()
        };
        let lifetime = once.deadline(UnixMillis(0), true).since(UnixMillis(0));
        assert_eq!(lifetime, LIFETIME_THROTTLED_MIN);
    }

    #[test]
    fn credentials_do_not_show() {
        let secret = "s3cret".to_owned();
        let basic = HttpAuth::Basic {
            username: "u".to_owned(),
            password: secret.clone(),
        };
        let bearer = HttpAuth::Bearer {
            token: secret.clone(),
        };
        let with_header = Endpoint {
            headers: vec![("x-key".to_owned(), secret.clone())],
            url: Url::parse("https://example.com/hook?key=s3cret").unwrap(),
            ..endpoint()
        };
        let shown = format!("{with_header:?}");
        assert!(!shown.contains(&secret) && shown.contains("x-key"), "{shown}");
        for auth in [basic, bearer] {
            let shown = format!(
                "{:?}",
                Endpoint {
                    auth: Some(auth),
                    ..endpoint()
                }
            );
            assert!(!shown.contains(&secret), "{shown}");
        }
    }

    #[test]
    fn wants_what_matches_a_type_and_a_channel() {
        let mut endpoint = endpoint();
        let wants = |endpoint: &Endpoint, event_type: &str, channels: &[&str]| {
            let channels: Vec<_> = channels
                .iter()
                .map(|channel| Channel::parse(channel).unwrap())
                .collect();
            endpoint.wants(&crate::EventType::parse(event_type).unwrap(), &channels)
        };
        assert!(wants(&endpoint, "a.b", &[]));
        endpoint.event_types = vec![
            TypePattern::parse("x").unwrap(),
            TypePattern::parse("a.*").unwrap(),
        ];
        endpoint.channels = vec![Channel::parse("c1").unwrap(), Channel::parse("c2").unwrap()];
        assert!(wants(&endpoint, "a.b", &["c2", "c3"]));
        assert!(
            !wants(&endpoint, "a.b", &[]),
            "an endpoint with channels wants no event without one"
        );
        assert!(!wants(&endpoint, "b", &["c2"]));
        endpoint.event_types.clear();
        assert!(!wants(&endpoint, "a.b", &["c2"]), "no type at all");
    }
}
