//! Ids of producers that have published already, as the store knows them, within a deadline: what answers late or not at all holds up no event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hooklane_store::{Patience, Published, PublishedIds, REQUEST_BYTES, Unanswered};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{ApplicationId, Event, EventId, ProducerId, UnixMillis};
use sha2::{Digest, Sha256};

/// Longest wait for the store: more than a dispatcher's for a claim, since no other event waits behind this one, and its publisher relies on the
/// answer.
const DEADLINE: Duration = Duration::from_millis(200);

/// An event whose publisher has given it an `eventId`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    /// A hash over the request, where it has an idempotency key: the same request may come again.
    request: Option<[u8; REQUEST_BYTES]>,
}

impl Named {
    pub(crate) fn new(key: Option<&ProducerId>, body: &Bytes) -> Named {
        let request = key.map(|key| {
            let key = key.as_str().as_bytes();
            let hash = Sha256::new()
                // The length in front: no other key and body give the same bytes.
                .chain_update((key.len() as u64).to_le_bytes())
                .chain_update(key)
                .chain_update(body)
                .finalize();
            let mut request = [0; REQUEST_BYTES];
            request.copy_from_slice(&hash[..REQUEST_BYTES]);
            request
        });
        Named { request }
    }

    /// Whether it is the request that published the event.
    pub(crate) fn is_again(&self, published: &Published) -> bool {
        self.request.is_some() && self.request == published.request
    }
}

/// Where ids are known; nowhere, without a store.
pub(crate) struct Ids {
    port: Option<Arc<dyn PublishedIds>>,
    patience: Patience,
    began: Instant,
    metrics: Arc<Metrics>,
}

impl Ids {
    pub(crate) fn new(port: Option<Arc<dyn PublishedIds>>, metrics: Arc<Metrics>) -> Ids {
        Ids {
            port,
            patience: Patience::of(DEADLINE),
            began: Instant::now(),
            metrics,
        }
    }

    /// The event that was published under this one's id.
    pub(crate) async fn find(&self, event: &Event) -> Option<Published> {
        let port = self.port.as_ref()?;
        let asked = port.find(&event.application, &event.id, event.accepted_at);
        match self.patience.ask(self.now_ms(), asked).await {
            Ok(found) => found,
            Err(why) => self.unanswered(&why),
        }
    }

    /// The broker has confirmed it.
    pub(crate) async fn keep(&self, confirmed: Confirmed) {
        let Some(port) = &self.port else {
            return;
        };
        let published = Published {
            accepted_at: confirmed.accepted_at,
            request: confirmed.named.request,
        };
        let asked = port.keep(&confirmed.application, &confirmed.event, published);
        if let Err(why) = self.patience.ask(self.now_ms(), asked).await {
            self.unanswered(&why)
        }
    }

    fn unanswered<T: Default>(&self, why: &Unanswered) -> T {
        self.metrics.count(Metric::EventIdsUnanswered, &[why.reason()]);
        tracing::debug!("the store is not asked about an eventId: {why}");
        T::default()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is kept of an event that has gone.
pub(crate) struct Confirmed {
    application: ApplicationId,
    event: EventId,
    accepted_at: UnixMillis,
    named: Named,
}

impl Confirmed {
    pub(crate) fn of(event: &Event, named: Named) -> Confirmed {
        Confirmed {
            application: event.application.clone(),
            event: event.id.clone(),
            accepted_at: event.accepted_at,
            named,
        }
    }
}
