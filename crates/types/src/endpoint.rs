//! Where an application wants its events, and how.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hooklane_signing::Signer;
use url::Url;

use crate::filter::{Channel, TypePattern};
use crate::id::{ApplicationId, EndpointId};
use crate::retry::RetryPolicy;
use crate::time::UnixMillis;

/// The shortest life of a delivery, whatever its schedule: so that a delivery that waits for a disabled or a sick
/// endpoint is not dead before anybody could act.
pub const LIFETIME_MIN: Duration = Duration::from_secs(24 * 3600);

/// One endpoint, checked: what stands here can be served.
#[derive(Clone, Debug)]
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
    /// Its deliveries wait.
    pub disabled: bool,
    /// When failed attempts are repeated.
    pub retry: RetryPolicy,
}

impl Endpoint {
    /// Whether an event with this type and these channels is for this endpoint.
    pub fn wants(&self, event_type: &crate::EventType, channels: &[Channel]) -> bool {
        self.event_types.iter().any(|pattern| pattern.matches(event_type))
            && (self.channels.is_empty() || channels.iter().any(|channel| self.channels.contains(channel)))
    }

    /// When a delivery that began at `begun` is given up, attempted or not: the whole schedule with its jitter and
    /// a timeout for each attempt, at least [`LIFETIME_MIN`].
    pub fn deadline(&self, begun: UnixMillis) -> UnixMillis {
        let lifetime = self.retry.longest() + self.timeout * self.retry.attempts();
        begun.plus(lifetime.max(LIFETIME_MIN))
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
