//! Disables endpoints from which nothing but failure has come for days: their deliveries wait then, and cost no attempts.
//!
//! What is known follows from the history alone, so that it outlives every process and is the same for all of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hooklane_broker::{Destination, Outgoing, Queue, SharedBroker};
use hooklane_store::catalog::{Catalog, CatalogError, Direction, Document, Kind};
use hooklane_store::history::{AttemptFilter, AttemptsOf, History, HistoryError, Page, Position, Range};
use hooklane_store::items::{self, Endpoint};
use hooklane_types::operational::{EndpointNews, News};
use hooklane_types::record::{Attempt, Decision, Record};
use hooklane_types::{ApplicationId, EndpointId, Internal, Registry, UnixMillis};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Endpoints that wait to be looked at; what comes beyond is looked at after its next failure.
const WAITING_MAX: usize = 1_024;
/// An endpoint is looked at once in this part of the time, and at least once in an hour.
const LOOKS: u32 = 20;
const LOOK_EVERY_MAX: Duration = Duration::from_secs(3600);
/// How far beyond the time a failure may lie for the clock to have begun with it, in hundredths of the time: retries lie a day apart.
const WINDOW: u32 = 30;
/// Rows of a page.
const ROWS: usize = 1_000;
/// How long a confirm is waited for.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// What it works with.
#[derive(Clone)]
pub struct AutoDisable {
    /// Where endpoints are. One that stands in a settings file is not in it, and is left alone.
    pub catalog: Arc<dyn Catalog>,
    /// What became of their deliveries.
    pub history: Arc<dyn History>,
    /// Where the news are published.
    pub broker: SharedBroker,
    /// Whose names there are.
    pub registry: watch::Receiver<Arc<Registry>>,
    /// Who is told; its id or uid.
    pub operational_application: Option<ApplicationId>,
    /// After how long without a success.
    pub after: Duration,
    /// The wall clock.
    pub clock: fn() -> UnixMillis,
}

/// Which endpoint.
type Suspect = (ApplicationId, EndpointId);

/// Takes in what was recorded, and never waits.
#[derive(Clone)]
pub(crate) struct Failures(mpsc::Sender<Suspect>);

impl Failures {
    pub(crate) fn note(&self, records: &[Record]) {
        let failed = records.iter().filter_map(|record| match record {
            Record::Attempt(Attempt {
                delivery, decision, ..
            }) if *decision != Decision::Delivered => Some((&delivery.event.application, &delivery.endpoint)),
            _ => None,
        });
        for (application, endpoint) in failed.collect::<HashSet<_>>() {
            // Full: it fails again, if it is broken.
            let _ = self.0.try_send((application.clone(), endpoint.clone()));
        }
    }
}

/// Why an endpoint was not judged. It is looked at again.
#[derive(Debug, thiserror::Error)]
enum Unjudged {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Unreadable(#[from] items::UnreadableItem),
}

impl AutoDisable {
    /// What takes failures in, and what looks at them until that is gone.
    pub(crate) fn start(self) -> (Failures, impl Future<Output = ()> + Send) {
        let (failures, suspects) = mpsc::channel(WAITING_MAX);
        (Failures(failures), self.judge_all(suspects))
    }

    async fn judge_all(self, mut suspects: mpsc::Receiver<Suspect>) {
        let every = (self.after / LOOKS).min(LOOK_EVERY_MAX);
        let mut looked: HashMap<Suspect, Instant> = HashMap::new();
        while let Some(suspect) = suspects.recv().await {
            let now = Instant::now();
            if looked.get(&suspect).is_some_and(|at| now - *at < every) {
                continue;
            }
            if looked.len() >= WAITING_MAX {
                looked.retain(|_, at| now - *at < every);
            }
            looked.insert(suspect.clone(), now);
            let (application, endpoint) = suspect;
            if let Err(error) = self.judge(&application, &endpoint).await {
                tracing::debug!(%endpoint, %error, "whether the endpoint is to be disabled cannot be told now");
            }
        }
    }

    async fn judge(&self, application: &ApplicationId, endpoint: &EndpointId) -> Result<(), Unjudged> {
        let found = self
            .catalog
            .get(Kind::Endpoint, application.as_str(), endpoint.as_str())
            .await?;
        let Some(document) = found.filter(|document| document.address.id == endpoint.as_str()) else {
            return Ok(());
        };
        let mut item: Endpoint = items::read(&document)?;
        let now = (self.clock)();
        let from = before(now, self.after);
        // Whoever changed it since may have mended it: the clock begins anew.
        if item.disabled || document.updated_at > from {
            return Ok(());
        }
        if self.has_delivered(application, endpoint, from).await? {
            return Ok(());
        }
        let Some(since) = self.failed_before(application, endpoint, from).await? else {
            return Ok(());
        };
        item.disabled = true;
        let content = items::write(&item);
        match self
            .catalog
            .update(&document, document.uid.clone(), content, now)
            .await
        {
            // Somebody has changed it just now, or another process was faster.
            Err(CatalogError::Changed | CatalogError::NotFound) => return Ok(()),
            updated => drop(updated?),
        }
        tracing::warn!(%endpoint, %application, since = since.rfc3339(), "nothing but failure has come from the endpoint: it is disabled");
        self.tell(application, &document, since, now).await;
        Ok(())
    }

    /// Whether anything was delivered there since.
    async fn has_delivered(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        since: UnixMillis,
    ) -> Result<bool, HistoryError> {
        let filter = AttemptFilter {
            range: Range {
                after: Some(since),
                before: None,
            },
            delivered: Some(true),
            ..AttemptFilter::default()
        };
        let found = self
            .first(application, endpoint, &filter, Direction::Descending)
            .await?;
        Ok(found.is_some())
    }

    /// When an attempt failed there shortly before, if one did.
    async fn failed_before(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        at: UnixMillis,
    ) -> Result<Option<UnixMillis>, HistoryError> {
        let filter = AttemptFilter {
            range: Range {
                after: Some(before(at, self.after * WINDOW / 100)),
                before: Some(at),
            },
            delivered: Some(false),
            ..AttemptFilter::default()
        };
        self.first(application, endpoint, &filter, Direction::Ascending)
            .await
    }

    async fn first(
        &self,
        application: &ApplicationId,
        endpoint: &EndpointId,
        filter: &AttemptFilter,
        direction: Direction,
    ) -> Result<Option<UnixMillis>, HistoryError> {
        let of = AttemptsOf::Endpoint(endpoint.clone());
        let mut behind: Option<Position> = None;
        loop {
            let page = Page {
                behind,
                direction,
                limit: ROWS,
            };
            let found = self.history.attempts(application, &of, filter, &page).await?;
            if let Some(first) = found.rows.first() {
                return Ok(Some(first.attempt.at));
            }
            match found.more {
                Some(more) => behind = Some(more),
                None => return Ok(None),
            }
        }
    }

    /// Tells the operational application, if it can be told now: the endpoint is disabled all the same.
    async fn tell(
        &self,
        application: &ApplicationId,
        document: &Document,
        since: UnixMillis,
        now: UnixMillis,
    ) {
        let Some(event) = self.news(application, document, since, now) else {
            return;
        };
        let envelope = Internal::Event(event).encode();
        let record = Destination::Internal(Queue::Contents);
        for to in [record, Destination::IngestedEvents] {
            let message = Outgoing::internal(envelope.clone());
            if let Err(error) = self.broker.publish(to, message, PUBLISH_TIMEOUT).await {
                tracing::warn!(%error, endpoint = document.address.id, "nobody was told that the endpoint is disabled");
            }
        }
    }

    fn news(
        &self,
        application: &ApplicationId,
        document: &Document,
        since: UnixMillis,
        now: UnixMillis,
    ) -> Option<hooklane_types::Event> {
        let registry = self.registry.borrow();
        let to = registry.resolve(self.operational_application.as_ref()?)?;
        if to == application {
            return None;
        }
        let news = News::EndpointDisabled(EndpointNews {
            app_id: application.clone(),
            app_uid: registry.uid(application).map(ToString::to_string),
            endpoint_id: EndpointId::parse(&document.address.id).ok()?,
            endpoint_uid: document.uid.clone(),
            fail_since: Some(since.rfc3339()),
        });
        let key = format!("{}.{}", document.address.id, now.0);
        Some(news.event(to, &key, now))
    }
}

fn before(at: UnixMillis, duration: Duration) -> UnixMillis {
    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    UnixMillis(at.0.saturating_sub(ms))
}
