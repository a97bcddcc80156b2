//! The receiver: `hooklane-receiver` without keeping requests, which counts by the first part of the path.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hooklane_receiver::{Options, Protocol, Receiver, Reply, Request};
use serde::{Deserialize, Serialize};

use crate::clock::now_us;
use crate::histogram::Histogram;
use crate::part::{Counts, Order, Orders, Said, say};
use crate::payload;

/// The paths: `/ok/…` counts, `/rest/…` is answered, `/hang/…` is not, `/fail/…` is failed at first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Spec {
    /// How many requests to `/fail/…` are failed; later ones count as `/ok/…`.
    pub fail_first: u64,
}

#[derive(Default)]
struct Counter {
    ok: AtomicU64,
    first_ok_us: AtomicU64,
    last_ok_us: AtomicU64,
    rest: AtomicU64,
    failed: AtomicU64,
    hung: AtomicU64,
    failures_left: AtomicU64,
    latency: Mutex<Option<Histogram>>,
}

impl Counter {
    fn reply(&self, request: &Request) -> Reply {
        let path = request.path.as_ref();
        if path.starts_with("/hang") {
            self.hung.fetch_add(1, Ordering::Relaxed);
            return Reply::hang();
        }
        if path.starts_with("/rest") {
            self.rest.fetch_add(1, Ordering::Relaxed);
            return Reply::status(204);
        }
        let one_less = |left: u64| left.checked_sub(1);
        if path.starts_with("/fail")
            && self
                .failures_left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
        {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Reply::status(500);
        }
        self.arrived(&request.body);
        Reply::status(204)
    }

    fn arrived(&self, body: &[u8]) {
        let now = now_us();
        self.last_ok_us.store(now, Ordering::Relaxed);
        if self.ok.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first_ok_us.store(now, Ordering::Relaxed);
        }
        if let Some(at) = payload::published_us(body) {
            let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
            latency
                .get_or_insert_with(Histogram::new)
                .add(now.saturating_sub(at));
        }
    }

    fn counts(&self, distinct: u64) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            at_us: now_us(),
            ok: read(&self.ok),
            first_ok_us: read(&self.first_ok_us),
            last_ok_us: read(&self.last_ok_us),
            rest: read(&self.rest),
            failed: read(&self.failed),
            hung: read(&self.hung),
            distinct,
            latency: latency.as_ref().and_then(Histogram::quantiles),
        }
    }
}

/// Receives until the bench has gone, and says what has come whenever it is asked.
pub async fn run(spec: Spec, mut orders: Orders) -> anyhow::Result<()> {
    let options = Options {
        protocol: Protocol::Http1,
        requests_kept_max: 0,
        ..Options::default()
    };
    let receiver = Receiver::start(options).await?;
    let counter = Arc::new(Counter {
        failures_left: AtomicU64::new(spec.fail_first),
        ..Counter::default()
    });
    let counting = counter.clone();
    receiver.script_default_with(move |request| counting.reply(request));
    say(&Said::Ready {
        address: Some(receiver.address()),
    })?;
    while let Some(order) = orders.next().await? {
        if order == Order::Look {
            let distinct = receiver.look(|log| log.distinct()) as u64;
            say(&Said::Counts(counter.counts(distinct)))?;
        }
    }
    Ok(())
}
