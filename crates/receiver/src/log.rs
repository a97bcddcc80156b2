use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Version};

use crate::verdict::Verdict;

/// Counts per webhook-id stop growing here (about 1 GiB): a receiver may run for weeks.
const IDS_COUNTED_MAX: usize = 8_000_000;
/// Counts per path stop growing here: the peer chooses the paths.
const PATHS_COUNTED_MAX: usize = 100_000;

/// One request as it arrived. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its body had been read, on the monotonic clock.
    pub at: Instant,
    /// The same on the wall clock.
    pub wall_clock: SystemTime,
    /// The method.
    pub method: Method,
    /// The path without the query.
    pub path: Arc<str>,
    /// The query, without `?`.
    pub query: Option<Arc<str>>,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, to the byte.
    pub body: Bytes,
    /// Which connection it came on; the first is 1.
    pub connection: u64,
    /// HTTP/1.0, 1.1 or 2.
    pub http_version: Version,
    /// The other side of the connection.
    pub peer: SocketAddr,
    /// The name asked for in the TLS handshake (SNI).
    pub server_name: Option<Arc<str>>,
    /// The client certificate (DER), when the TLS configuration asked for one and got it.
    pub client_certificate: Option<Bytes>,
    /// What the verifier said about the signature, where there is one.
    pub verdict: Option<Verdict>,
}

impl Request {
    /// A header as text; the first when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The event's id: `webhook-id`, or its older spelling `svix-id`.
    pub fn webhook_id(&self) -> Option<&str> {
        self.header("webhook-id").or_else(|| self.header("svix-id"))
    }
}

/// What has arrived so far.
#[derive(Debug)]
pub struct Log {
    kept: VecDeque<Request>,
    kept_max: usize,
    total: u64,
    by_path: HashMap<Arc<str>, PathLog>,
    ids: usize,
    ids_uncounted: u64,
    valid: u64,
    invalid: u64,
}

#[derive(Debug, Default)]
struct PathLog {
    requests: u64,
    ids: HashMap<Box<str>, u64>,
}

impl Log {
    pub(crate) fn new(kept_max: usize) -> Log {
        Log {
            kept: VecDeque::new(),
            kept_max,
            total: 0,
            by_path: HashMap::new(),
            ids: 0,
            ids_uncounted: 0,
            valid: 0,
            invalid: 0,
        }
    }

    pub(crate) fn add(&mut self, request: Request) {
        self.total += 1;
        match &request.verdict {
            Some(Verdict::Valid) => self.valid += 1,
            Some(Verdict::Invalid(_)) => self.invalid += 1,
            None => {}
        }
        self.count(&request);
        if self.kept_max == 0 {
            return;
        }
        if self.kept.len() == self.kept_max {
            self.kept.pop_front();
        }
        self.kept.push_back(request);
    }

    fn count(&mut self, request: &Request) {
        if self.by_path.len() >= PATHS_COUNTED_MAX && !self.by_path.contains_key(&request.path) {
            self.ids_uncounted += u64::from(request.webhook_id().is_some());
            return;
        }
        let path = self.by_path.entry(request.path.clone()).or_default();
        path.requests += 1;
        let Some(id) = request.webhook_id() else { return };
        if let Some(count) = path.ids.get_mut(id) {
            *count += 1;
        } else if self.ids < IDS_COUNTED_MAX {
            path.ids.insert(id.into(), 1);
            self.ids += 1;
        } else {
            self.ids_uncounted += 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Log::new(self.kept_max);
    }

    /// How many requests arrived.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many arrived at this path.
    pub fn count_at(&self, path: &str) -> u64 {
        self.by_path.get(path).map_or(0, |path| path.requests)
    }

    /// The requests that are still kept, oldest first.
    pub fn requests(&self) -> impl DoubleEndedIterator<Item = &Request> + ExactSizeIterator {
        self.kept.iter()
    }

    /// How many different webhook-ids each path saw, added up: the number of deliveries, repeats aside.
    pub fn distinct(&self) -> usize {
        self.ids
    }

    /// How many different webhook-ids arrived at this path.
    pub fn distinct_at(&self, path: &str) -> usize {
        self.by_path.get(path).map_or(0, |path| path.ids.len())
    }

    /// How often each webhook-id arrived, at whatever path.
    pub fn by_webhook_id(&self) -> HashMap<String, u64> {
        let mut sum = HashMap::new();
        for (id, count) in self.by_path.values().flat_map(|path| &path.ids) {
            *sum.entry(id.to_string()).or_default() += count;
        }
        sum
    }

    /// How often each webhook-id arrived at this path.
    pub fn by_webhook_id_at(&self, path: &str) -> HashMap<String, u64> {
        let ids = self.by_path.get(path).map(|path| &path.ids);
        ids.into_iter()
            .flatten()
            .map(|(id, count)| (id.to_string(), *count))
            .collect()
    }

    /// How many requests had a valid signature.
    pub fn valid(&self) -> u64 {
        self.valid
    }

    /// How many requests had none, or a wrong one, where a verifier was set.
    pub fn invalid(&self) -> u64 {
        self.invalid
    }

    /// Requests whose id was not counted, because 8,000,000 ids or 100,000 paths had been.
    pub fn ids_uncounted(&self) -> u64 {
        self.ids_uncounted
    }
}
