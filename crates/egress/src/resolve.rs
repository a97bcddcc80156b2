//! Names to addresses, with a bounded cache. What it answers is judged later, at each connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hooklane_telemetry::{Metric, Metrics};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::bounded::Bounded;
use crate::settings::{EgressError, EgressSettings};

/// Even a TTL of 0 is kept so long: a burst to one name asks once.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Endpoints move; no answer is kept for longer.
const TTL_MAX: Duration = Duration::from_secs(300);
/// A name that does not exist is asked again soon: it may just have been made.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
/// A name server that failed may be back at once.
const FAILED_TTL: Duration = Duration::from_secs(1);
/// Longest time for one name, over all name servers and search domains: less than the usual attempt, so that a silent
/// name server is told apart from a slow endpoint.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest time for one query, so that there is time for a second name server.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Most addresses kept of a name; nobody tries more within one attempt.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// What is known of a name.
struct Known {
    result: Result<Arc<[IpAddr]>, Arc<str>>,
    until: Instant,
}

/// Set once by whoever asks first; the others wait for it (one flight per name). When that one is dropped at its
/// deadline, the next one asks.
type Entry = Arc<OnceCell<Known>>;

/// The resolver.
pub(crate) struct Resolver {
    inner: TokioResolver,
    entries: Mutex<Bounded<Arc<str>, Entry>>,
    metrics: Arc<Metrics>,
}

impl Resolver {
    pub(crate) fn new(settings: &EgressSettings, metrics: Arc<Metrics>) -> Result<Resolver, EgressError> {
        let failed = |error: NetError| EgressError::Resolver(error.into());
        let mut builder = match settings.dns_servers.as_slice() {
            [] => TokioResolver::builder_tokio().map_err(failed)?,
            servers => TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(
                    servers.iter().map(|server| name_server(*server)).collect(),
                ),
                TokioRuntimeProvider::default(),
            )
            .with_options(named_servers_options()),
        };
        let options = builder.options_mut();
        // Ours is the cache: it is shared by name, bounded by a setting and counted.
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = options.timeout.min(QUERY_TIMEOUT);
        options.attempts = 1;
        let inner = builder.build().map_err(failed)?;
        Ok(Resolver {
            inner,
            entries: Mutex::new(Bounded::new(settings.dns_entries_max)),
            metrics,
        })
    }

    /// The addresses of a name, IPv4 first: a host without IPv6 would lose time, one without IPv4 fails at once.
    /// The error says why there are none.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Arc<[IpAddr]>, Arc<str>> {
        let entry = self.entry(name);
        if let Some(known) = entry.get() {
            self.metrics.count(Metric::DnsLookups, &["hit"]);
            return known.result.clone();
        }
        entry.get_or_init(|| self.ask(name)).await.result.clone()
    }

    /// The current entry of a name; an outlived one is replaced.
    fn entry(&self, name: &str) -> Entry {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(name)
            && entry.get().is_none_or(|known| known.until > now)
        {
            return entry.clone();
        }
        let entry = Entry::default();
        entries.insert(Arc::from(name), entry.clone());
        self.metrics.set(Metric::DnsEntries, &[], entries.len() as f64);
        entry
    }

    async fn ask(&self, name: &str) -> Known {
        let answer = timeout(LOOKUP_TIMEOUT, self.inner.lookup_ip(name)).await;
        let now = Instant::now();
        let failed = |reason: &str, ttl| {
            self.metrics.count(Metric::DnsLookups, &["failed"]);
            Known {
                result: Err(Arc::from(reason)),
                until: now + ttl,
            }
        };
        match answer {
            Ok(Ok(lookup)) => {
                let mut addresses: Vec<IpAddr> = lookup.iter().collect();
                addresses.sort_by_key(IpAddr::is_ipv6);
                addresses.truncate(ADDRESSES_MAX);
                if addresses.is_empty() {
                    return failed("it has no address", NEGATIVE_TTL);
                }
                self.metrics.count(Metric::DnsLookups, &["miss"]);
                let ttl = lookup
                    .valid_until()
                    .saturating_duration_since(now)
                    .clamp(TTL_MIN, TTL_MAX);
                Known {
                    result: Ok(addresses.into()),
                    until: now + ttl,
                }
            }
            Ok(Err(error)) if error.is_nx_domain() => failed("no such name", NEGATIVE_TTL),
            Ok(Err(error)) if error.is_no_records_found() => failed("it has no address", NEGATIVE_TTL),
            Ok(Err(NetError::Timeout)) | Err(_) => failed("the name server does not answer", FAILED_TTL),
            Ok(Err(error)) => failed(&format!("the name server failed: {error}"), FAILED_TTL),
        }
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = server.port();
    tcp.port = server.port();
    NameServerConfig::new(server.ip(), true, vec![udp, tcp])
}

/// Where the operator named the servers, the rest of the system's configuration does not count either.
fn named_servers_options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options
}
