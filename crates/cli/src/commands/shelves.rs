//! The management API's shelves: the broker's, read as the commands read them.

mod shown;

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hooklane_api::Api;
use hooklane_api::shelf::{Ended, Kind, Page, Place, Progress, Reading, Shelf, ShelfError, Step};
use hooklane_broker::topology::Names;
use hooklane_broker::{SharedBroker, Shelves};
use hooklane_control::{
    ControlError, DeadEntry, Entry, FaultEntry, Filter, ROUND_MAX, Reader, ReplayOptions, Replayed, Scanned,
    Whose,
};
use hooklane_types::UnixMillis;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::shown::Told;
use super::service::Signals;
use super::shelf::{failure, holder};

/// One of the broker's shelves.
#[derive(Clone)]
pub struct BrokerShelf {
    /// The broker's.
    pub shelves: Arc<dyn Shelves>,
    /// Where a replay goes.
    pub broker: SharedBroker,
    /// The installation's names.
    pub names: Names,
    /// How long a confirm is waited for.
    pub publish_timeout: Duration,
    /// What the process is, to others that want to read.
    pub process: &'static str,
}

impl BrokerShelf {
    fn reader<K: Kind>(&self, reading: &Reading<K>) -> Reader<'_> {
        Reader {
            shelves: &*self.shelves,
            names: &self.names,
            holder: holder(format!("{} (API: {})", self.process, reading.purpose)),
            now: reading.now,
            stop: reading.stop.clone(),
        }
    }

    fn error<E: Entry>(&self, error: ControlError) -> ShelfError {
        use hooklane_broker::ShelfError as Broken;
        let words = |error| {
            format!(
                "{:#}",
                failure::explain(error, &self.names.queue(E::SHELF.queue()))
            )
        };
        match error {
            ControlError::Shelf(Broken::TooDeep { messages }) => ShelfError::TooDeep { messages },
            ControlError::Shelf(Broken::Held(_)) => ShelfError::Held(words(error)),
            other => ShelfError::Away(words(other)),
        }
    }
}

/// As the commands' filters have it: by how long ago it was.
fn filter<K: Kind>(reading: &Reading<K>) -> Filter<K::Reason> {
    let chosen = &reading.selection;
    let (now, whose) = (reading.now, chosen.whose.clone());
    // The times themselves are not included.
    let older_than = |before: UnixMillis| match before > now {
        true => Duration::ZERO,
        false => now.since(before) + Duration::from_millis(1),
    };
    Filter {
        id: chosen.id.clone(),
        whose: Some(Whose::new(move |named| whose(named))),
        application: chosen.application.clone(),
        endpoint: chosen.endpoint.clone(),
        event_type: chosen.event_type.clone(),
        reason: chosen.reason,
        older_than: chosen.before.map(older_than),
        newer_than: chosen.after.map(|after| now.since(after)),
    }
}

/// What was not read to its end says nothing about the rest.
fn unless_stopped<K: Kind>(reading: &Reading<K>) -> Result<(), ShelfError> {
    match reading.stop.is_cancelled() {
        true => Err(ShelfError::Away("the process ends".to_owned())),
        false => Ok(()),
    }
}

fn ended(ended: hooklane_control::Ended) -> Ended {
    match ended {
        hooklane_control::Ended::AtTheEnd | hooklane_control::Ended::Enough => Ended::AtTheEnd,
        hooklane_control::Ended::Stopped => Ended::Stopped,
    }
}

/// A shelf whose messages are read as `E`.
struct Of<E> {
    shelf: BrokerShelf,
    entry: std::marker::PhantomData<fn() -> E>,
}

impl<E> Of<E> {
    fn new(shelf: BrokerShelf) -> Of<E> {
        Of {
            shelf,
            entry: std::marker::PhantomData,
        }
    }
}

#[async_trait]
impl<E> Shelf<E::Kind> for Of<E>
where
    E: Told,
    E::Row: Send,
{
    async fn page(
        &self,
        reading: &Reading<E::Kind>,
        behind: Option<Place>,
        limit: usize,
    ) -> Result<Page<<E::Kind as Kind>::Row>, ShelfError> {
        let behind = behind.map(|place| hooklane_control::Place {
            index: place.index,
            at: place.at,
            id: place.id,
        });
        let reader = self.shelf.reader(reading);
        let page = reader.page::<E>(&filter(reading), behind, limit).await;
        let page = page.map_err(|error| self.shelf.error::<E>(error))?;
        unless_stopped(reading)?;
        Ok(Page {
            rows: page.rows.into_iter().map(E::told_row).collect(),
            last: page.last.map(|place| Place {
                index: place.index,
                at: place.at,
                id: place.id,
            }),
            done: page.done,
        })
    }

    async fn find(&self, reading: &Reading<E::Kind>) -> Result<Option<<E::Kind as Kind>::Whole>, ShelfError> {
        let mut found = None;
        let reader = self.shelf.reader(reading);
        let scanned = reader
            .scan::<E>(&filter(reading), |entry| {
                found = Some(entry.told(reading.now));
                Ok(ControlFlow::Break(()))
            })
            .await;
        scanned.map_err(|error| self.shelf.error::<E>(error))?;
        unless_stopped(reading)?;
        Ok(found)
    }

    async fn export(
        &self,
        reading: &Reading<E::Kind>,
        to: &mpsc::Sender<<E::Kind as Kind>::Whole>,
        progress: Progress<'_>,
    ) -> Result<Ended, ShelfError> {
        let (reader, filter) = (self.shelf.reader(reading), filter(reading));
        let told = |error| self.shelf.error::<E>(error);
        let mut look = reader.look::<E>(&filter).await.map_err(told)?;
        progress(Step::Opened);
        let read = async {
            while let Some(entry) = look.next().await? {
                let sent = to.send(entry.told(reading.now));
                // Nobody listens any more.
                if !matches!(reading.stop.run_until_cancelled(sent).await, Some(Ok(()))) {
                    break;
                }
            }
            Ok(())
        }
        .await;
        let closed = look.close().await;
        let scanned = read.and(closed).map_err(told)?;
        Ok(match reading.stop.is_cancelled() || to.is_closed() {
            true => Ended::Stopped,
            false => ended(scanned.ended),
        })
    }

    async fn count(&self, reading: &Reading<E::Kind>, progress: Progress<'_>) -> Result<u64, ShelfError> {
        let (reader, filter) = (self.shelf.reader(reading), filter(reading));
        let told = |error| self.shelf.error::<E>(error);
        let mut look = reader.look::<E>(&filter).await.map_err(told)?;
        progress(Step::Opened);
        let read = async {
            let mut meant = 0;
            while let Some(entry) = look.next().await? {
                meant += u64::from(!reader.is_later(&entry));
            }
            Ok(meant)
        }
        .await;
        let closed = look.close().await;
        read.and_then(|meant| closed.map(|_| meant)).map_err(told)
    }

    async fn replay(
        &self,
        reading: &Reading<E::Kind>,
        rate: Option<NonZeroU32>,
        progress: Progress<'_>,
    ) -> Result<Ended, ShelfError> {
        let options = ReplayOptions {
            rate,
            publish_timeout: self.shelf.publish_timeout,
            round: ROUND_MAX,
        };
        let tell = |replayed: &Replayed| {
            progress(Step::Kept(replayed.left));
            progress(Step::Taken(replayed.replayed));
        };
        let reader = self.shelf.reader(reading);
        let replayed = reader
            .replay::<E>(&*self.shelf.broker, &filter(reading), options, tell)
            .await;
        let replayed = replayed.map_err(|error| self.shelf.error::<E>(error))?;
        tell(&replayed);
        Ok(ended(replayed.ended))
    }

    async fn purge(&self, reading: &Reading<E::Kind>, progress: Progress<'_>) -> Result<Ended, ShelfError> {
        let tell = |scanned: &Scanned| progress(Step::Taken(scanned.matched));
        let reader = self.shelf.reader(reading);
        let purged = reader.purge::<E>(&filter(reading), tell).await;
        let purged = purged.map_err(|error| self.shelf.error::<E>(error))?;
        Ok(ended(purged.ended))
    }
}

/// Both shelves, for the API.
pub fn both(shelf: BrokerShelf) -> hooklane_api::shelf::Shelves {
    hooklane_api::shelf::Shelves::new(
        Arc::new(Of::<DeadEntry>::new(shelf.clone())),
        Arc::new(Of::<FaultEntry>::new(shelf)),
    )
}

/// The API's readings of shelves, until the end of the process.
pub struct Readings {
    api: Arc<Api>,
    now: CancellationToken,
}

/// Ends all readings in order at the stop.
pub fn until_the_stop(api: Arc<Api>, tasks: &mut JoinSet<anyhow::Result<()>>, signals: &Signals) -> Readings {
    let (of_task, stop) = (api.clone(), signals.stop.clone());
    tasks.spawn(async move {
        stop.cancelled().await;
        of_task.shelves.shut_down().await;
        Ok(())
    });
    Readings {
        api,
        now: signals.now.clone(),
    }
}

impl Readings {
    /// Waits until they have ended, unless the process has to end at once.
    pub async fn ended(self) {
        self.now.run_until_cancelled(self.api.shelves.shut_down()).await;
    }
}
