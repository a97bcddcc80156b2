//! A scripted DNS server (UDP): what each name answers, query by query. For rebinding and failures.

mod wire;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A DNS server without EDNS sees at most 512; with it clients send little more.
const QUERY_BYTES_MAX: usize = 4096;

/// What is answered to one query.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The addresses of the queried family (A or AAAA); with none of that family an empty answer.
    Addresses {
        /// Of both families.
        addresses: Vec<IpAddr>,
        /// How long they may be kept, in seconds.
        ttl_s: u32,
    },
    /// There is no such name.
    NoSuchName,
    /// The server failed.
    ServerFailure,
    /// Nothing is sent back.
    Silence,
}

impl Answer {
    /// Addresses (in any spelling that `IpAddr` parses) with TTL 0.
    ///
    /// # Panics
    /// If one is no address.
    pub fn addresses(addresses: &[&str]) -> Answer {
        let parsed = addresses
            .iter()
            .map(|text| text.parse().expect("a scripted address is an IP address"));
        Answer::Addresses {
            addresses: parsed.collect(),
            ttl_s: 0,
        }
    }

    /// Changes the TTL of addresses.
    pub fn ttl_s(mut self, seconds: u32) -> Answer {
        if let Answer::Addresses { ttl_s, .. } = &mut self {
            *ttl_s = seconds;
        }
        self
    }
}

/// Which record is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Any other, by number; answered as empty.
    Other(u16),
}

/// A running DNS server on 127.0.0.1. Names without a script do not exist. Dropping it stops it.
pub struct Dns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _stop: DropGuard,
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, Vec<Answer>>,
    queries: HashMap<(String, RecordType), u64>,
    /// Where each script is. Per type, as resolvers ask for A and AAAA in either order.
    next: HashMap<(String, RecordType), usize>,
}

impl Dns {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When none is free.
    pub async fn start() -> Result<Dns> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.context("cannot listen")?;
        let address = socket.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let stop = CancellationToken::new();
        let (serving, stopped) = (state.clone(), stop.clone());
        // Ends with the DropGuard; an error of one datagram ends nothing.
        tokio::spawn(async move { stopped.run_until_cancelled(serve(socket, serving)).await });
        Ok(Dns {
            address,
            state,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens (UDP).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scripts a name: one answer per query and record type, the last repeats. Begins anew when called again.
    pub fn script(&self, name: &str, answers: impl IntoIterator<Item = Answer>) {
        let name = canonical(name);
        let mut state = lock(&self.state);
        state.next.retain(|(of, _), _| *of != name);
        state.scripts.insert(name, answers.into_iter().collect());
    }

    /// How many queries of all types came for a name.
    pub fn queries(&self, name: &str) -> u64 {
        let name = canonical(name);
        let state = lock(&self.state);
        state
            .queries
            .iter()
            .filter(|((of, _), _)| *of == name)
            .map(|(_, count)| count)
            .sum()
    }

    /// How many queries of one type came for a name.
    pub fn queries_of(&self, name: &str, record: RecordType) -> u64 {
        lock(&self.state)
            .queries
            .get(&(canonical(name), record))
            .copied()
            .unwrap_or(0)
    }
}

impl State {
    fn answer(&mut self, query: &wire::Query) -> Answer {
        let key = (query.name.clone(), query.record);
        *self.queries.entry(key.clone()).or_default() += 1;
        let Some(script) = self.scripts.get(&query.name) else {
            return Answer::NoSuchName;
        };
        let next = self.next.entry(key).or_default();
        let answer = script.get((*next).min(script.len().saturating_sub(1)));
        *next += 1;
        answer.cloned().unwrap_or(Answer::NoSuchName)
    }
}

async fn serve(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; QUERY_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        // What is no query gets no answer.
        let Some(query) = wire::parse(&buffer[..length]) else {
            continue;
        };
        let answer = lock(&state).answer(&query);
        if let Some(reply) = wire::reply(&query, &answer)
            && let Err(error) = socket.send_to(&reply, client).await
        {
            tracing::debug!(%error, "a DNS client is gone");
        }
    }
}

/// Lower case, no dot at the end.
fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
