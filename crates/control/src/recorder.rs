//! Writes records to the history: idempotently, so that a batch may come twice, and in batches, so that many come at once.
//!
//! A record that the history cannot keep becomes a fault and stops no other. While the store is away everything waits in the broker, and deliveries go on.

mod sources;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join3;
use hooklane_broker::{Destination, Outgoing, Queue, SharedBroker};
use hooklane_store::history::{History, HistoryError, Refused};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::record::{Record, decode};
use hooklane_types::{
    ApplicationId, EnvelopeError, EventId, Fault, FaultReason, Internal, Origin, Original, RawMessage,
    UnixMillis,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::sources::{Sources, Taken};
use crate::disable::{AutoDisable, Failures};

/// Between two tries while the store takes nothing.
const TRY_AGAIN_MIN: Duration = Duration::from_millis(200);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long a fault's confirm is waited for.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often what is too old is looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);
/// Rows that are forgotten in one go: what is recorded meanwhile waits for it.
const FORGET_ROWS: usize = 2_000;

/// What a recorder works with.
#[derive(Clone)]
pub struct Recorder {
    /// Where records come from.
    pub broker: SharedBroker,
    /// Where they are kept.
    pub history: Arc<dyn History>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The wall clock.
    pub clock: fn() -> UnixMillis,
    /// What disables endpoints that only fail; none: nothing does.
    pub disable: Option<AutoDisable>,
    /// How long an event and what became of it are kept, from its acceptance; none: for ever.
    pub retention: Option<Duration>,
}

impl Recorder {
    /// Records until `stop`, or until the broker has ended. What was taken and not written by then comes again.
    pub async fn run(self, stop: CancellationToken) {
        let (failures, judging) = match self.disable.clone().map(AutoDisable::start) {
            Some((failures, judging)) => (Some(failures), judging.right_future()),
            None => (None, std::future::pending().left_future()),
        };
        let failures = failures.as_ref();
        let all = join3(self.follow(failures), self.forget(), judging);
        stop.run_until_cancelled(all).await;
    }

    async fn follow(&self, failures: Option<&Failures>) {
        let mut sources = Sources::of(self.broker.as_ref());
        while let Some(step) = sources.step().await {
            for queue in self.take(step, failures).await {
                tracing::warn!(
                    queue = queue.name(),
                    "a newer version of Hooklane wrote a record: it waits for a recorder of that version"
                );
                sources.rest(queue).await;
            }
        }
    }

    /// Writes what can be read and acks it. Where something has to be read by a newer version: it is given back.
    async fn take(&self, step: Vec<Taken>, failures: Option<&Failures>) -> HashSet<Queue> {
        let mut newer = HashSet::new();
        let (mut records, mut read) = (Vec::new(), Vec::new());
        for Taken { queue, incoming } in step {
            match decode(incoming.message.body.clone()) {
                Ok(found) => {
                    records.extend(found);
                    read.push(incoming);
                }
                Err(EnvelopeError::Newer { .. }) => {
                    newer.insert(queue);
                }
                Err(error) => {
                    self.put_aside(incoming.message.clone(), error.to_string()).await;
                    read.push(incoming);
                }
            }
        }
        // The store writes long batches in parts: what is known of an event goes into the same one, its content in front, so that no stub is made for
        // what comes next; the rest in the order in which it came.
        records.sort_by(|a, b| place_of(a).cmp(&place_of(b)));
        let count = records.len();
        let records: Arc<[Record]> = records.into();
        let refused = self.write(records.clone()).await;
        if let Some(failures) = failures {
            failures.note(&records);
        }
        self.metrics.add(
            Metric::RecordsKept,
            &[],
            count.saturating_sub(refused.len()) as f64,
        );
        for Refused { index, problem } in refused {
            self.metrics.count(Metric::RecordsRefused, &[]);
            let message = RawMessage {
                body: records[index].encode(),
                ..RawMessage::default()
            };
            self.put_aside(message, problem.to_string()).await;
        }
        for incoming in read {
            // A channel that is gone brings it again, which changes nothing.
            let _ = incoming.ack.ack().await;
        }
        newer
    }

    /// Writes records, as long as it takes. What the history cannot keep, whoever tries.
    async fn write(&self, records: Arc<[Record]>) -> Vec<Refused> {
        let mut wait = TRY_AGAIN_MIN;
        loop {
            match self.history.record(records.clone(), (self.clock)()).await {
                Ok(recorded) => return recorded.refused,
                Err(error @ (HistoryError::NoRoom(_) | HistoryError::Unavailable(_))) => {
                    self.metrics.count(Metric::RecorderWaits, &[]);
                    match wait == TRY_AGAIN_MIN {
                        true => tracing::warn!(%error, "records wait in the broker; deliveries go on"),
                        false => tracing::debug!(%error, "records still wait in the broker"),
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(TRY_AGAIN_MAX);
                }
            }
        }
    }

    /// Puts what cannot be recorded on the shelf of faults, as long as it takes.
    async fn put_aside(&self, message: RawMessage, detail: String) {
        tracing::warn!(
            detail,
            "a record that cannot be kept is put on the shelf of faults"
        );
        let original = Original {
            origin: Origin::Records,
            message,
        };
        let fault = Fault::new(FaultReason::Unrecordable, detail, (self.clock)(), original);
        let body = Internal::Fault(fault).encode();
        let mut wait = TRY_AGAIN_MIN;
        loop {
            let to = Destination::Internal(Queue::Faults);
            let message = Outgoing::internal(body.clone());
            match self.broker.publish(to, message, PUBLISH_TIMEOUT).await {
                Ok(()) => break,
                Err(error) if wait == TRY_AGAIN_MIN => {
                    tracing::warn!(%error, "a fault could not be published: what is to be recorded waits until it is");
                }
                Err(error) => tracing::debug!(%error, "a fault still could not be published"),
            }
            sleep(wait).await;
            wait = (wait * 2).min(TRY_AGAIN_MAX);
        }
        self.metrics
            .count(Metric::Faults, &[FaultReason::Unrecordable.name()]);
    }

    /// Forgets what is too old, every few minutes.
    async fn forget(&self) {
        let Some(retention) = self.retention else {
            return;
        };
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        loop {
            let before = (self.clock)().0.saturating_sub(retention_ms);
            // A day in PostgreSQL goes as a whole, once all of it is old.
            let before = UnixMillis(before - before.rem_euclid(self.history.forgotten_together_ms()));
            loop {
                match self.history.forget(before, FORGET_ROWS).await {
                    Ok(true) => tokio::task::yield_now().await,
                    Ok(false) => break,
                    Err(error) => {
                        tracing::debug!(%error, "old events could not be forgotten");
                        break;
                    }
                }
            }
            sleep(FORGET_EVERY).await;
        }
    }
}

/// By its event, and there the content in front.
fn place_of(record: &Record) -> (&ApplicationId, &EventId, bool) {
    let (application, event, _) = record.event();
    (application, event, !matches!(record, Record::Event(_)))
}
