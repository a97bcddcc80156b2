//! Reading the history: by names that clients know, and soon enough that they see what they wrote.

use std::sync::Arc;
use std::time::Duration;

use hooklane_store::catalog::Document;
use hooklane_store::history::{FoundEvent, History, HistoryError};
use hooklane_types::{ApplicationId, EndpointId, EventId, ProducerId, UnixMillis};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::answer::Refusal;
use crate::state::Api;

/// How long an event is waited for that was accepted, perhaps, and is not written yet.
const WAIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(25);
/// More requests than this do not wait: each looks again and again.
const WAITING_MAX: usize = 64;
/// What was accepted longer ago is written, or never will be.
const FRESH: Duration = Duration::from_secs(600);

/// The history, as requests read it.
pub struct HistoryReader {
    history: Arc<dyn History>,
    waiting: Semaphore,
}

impl HistoryReader {
    /// Reads this one.
    pub fn new(history: Arc<dyn History>) -> HistoryReader {
        HistoryReader {
            history,
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// The event with one of these ids. One that may be on its way is waited for.
    async fn event(
        &self,
        application: &ApplicationId,
        name: &str,
        now: UnixMillis,
    ) -> Result<FoundEvent, Refusal> {
        let candidates = candidates(application, name);
        let mut found = self.look(application, &candidates).await?;
        let waits = match &found {
            Some(found) => found.content.is_none() && is_fresh(found.accepted_at, now),
            None => may_be_on_its_way(name, now),
        };
        if waits && let Ok(_permit) = self.waiting.try_acquire() {
            let end = Instant::now() + WAIT;
            while found.as_ref().is_none_or(|found| found.content.is_none()) && Instant::now() < end {
                sleep(PAUSE).await;
                found = self.look(application, &candidates).await?;
            }
        }
        found.ok_or(Refusal::NotFound)
    }

    /// The first of them that is there; a stub only where there is nothing else.
    async fn look(
        &self,
        application: &ApplicationId,
        candidates: &[EventId],
    ) -> Result<Option<FoundEvent>, HistoryError> {
        let mut stub = None;
        for id in candidates {
            match self.history.event(application, id).await? {
                Some(found) if found.content.is_some() => return Ok(Some(found)),
                found => stub = stub.or(found),
            }
        }
        Ok(stub)
    }
}

/// Which events may be called so: by our id, by the producer's, or by the key that its request had.
fn candidates(application: &ApplicationId, name: &str) -> Vec<EventId> {
    let mut all: Vec<EventId> = EventId::parse(name).into_iter().collect();
    if let Ok(producer_id) = ProducerId::parse(name) {
        all.push(EventId::derived(application, None, &producer_id));
        all.push(EventId::of_idempotency_key(application, &producer_id));
    }
    all
}

/// Ids of ours carry their time. Others do not, so that they may be new always.
fn may_be_on_its_way(name: &str, now: UnixMillis) -> bool {
    match EventId::parse(name).ok().and_then(|id| id.made_at()) {
        Some(made_at) => is_fresh(made_at, now),
        None => true,
    }
}

/// Clocks differ: what is from the future is fresh too, within the same bounds.
fn is_fresh(at: UnixMillis, now: UnixMillis) -> bool {
    now.since(at).max(at.since(now)) < FRESH
}

impl Api {
    /// The history, where there is one.
    pub(crate) fn history(&self) -> Result<&dyn History, Refusal> {
        match &self.history {
            Some(reader) => Ok(reader.history.as_ref()),
            None => Err(Refusal::NothingRecorded),
        }
    }

    /// The event with this id, or the producer's own.
    pub(crate) async fn event(&self, application: &ApplicationId, name: &str) -> Result<FoundEvent, Refusal> {
        let reader = self.history.as_ref().ok_or(Refusal::NothingRecorded)?;
        reader.event(application, name, self.now()).await
    }
}

/// As the history names an application.
pub(crate) fn application_id(application: &Document) -> Result<ApplicationId, Refusal> {
    ApplicationId::parse(&application.address.id).map_err(|error| Refusal::Broken(error.to_string()))
}

/// As the history names an endpoint.
pub(crate) fn endpoint_id(endpoint: &Document) -> Result<EndpointId, Refusal> {
    EndpointId::parse(&endpoint.address.id).map_err(|error| Refusal::Broken(error.to_string()))
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Refusal {
        Refusal::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    #[test]
    fn only_what_can_be_new_is_waited_for() {
        let made = |ms: i64| EventId::fresh(UnixMillis(NOW.0 + ms), [7; 10]);
        for fresh in [made(0), made(-599_000), made(599_000)] {
            assert!(may_be_on_its_way(fresh.as_str(), NOW), "{fresh}");
        }
        for old in [made(-600_000), made(600_000)] {
            assert!(!may_be_on_its_way(old.as_str(), NOW), "{old}");
        }
        let application = ApplicationId::parse("app_1").unwrap();
        let derived = EventId::derived(&application, None, &ProducerId::parse("order-17").unwrap());
        assert!(may_be_on_its_way(derived.as_str(), NOW));
        assert!(may_be_on_its_way("order-17", NOW));
    }

    #[test]
    fn a_name_is_our_id_or_the_producers() {
        let application = ApplicationId::parse("app_1").unwrap();
        let all = candidates(&application, "msg_1");
        let ours = made_of(&all);
        assert_eq!(ours[0], "msg_1");
        assert_eq!(ours.len(), 3);
        assert_eq!(candidates(&application, "order 17").len(), 2);
        assert_eq!(candidates(&application, "").len(), 0);
        assert_eq!(candidates(&application, &"a".repeat(2_000)).len(), 0);
    }

    fn made_of(ids: &[EventId]) -> Vec<&str> {
        ids.iter().map(EventId::as_str).collect()
    }
}
