//! The recorder, on both brokers, with the history in SQLite.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use hooklane_broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use hooklane_broker::rabbitmq::{RabbitMq, RabbitMqSettings, Role};
use hooklane_broker::topology::Bounds;
use hooklane_broker::{Destination, Linger, Outgoing, Queue, RecordWriter, SharedBroker};
use hooklane_control::Recorder;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{
    AttemptFilter, AttemptsOf, EndpointEvent, EndpointEventFilter, EventFilter, FoundAttempt, FoundEvent,
    FoundOutcome, History, HistoryError, Page, Payload, Range, Recorded, Slice, Stats,
};
use hooklane_store::sqlite::history::SqliteHistory;
use hooklane_telemetry::{Metric, Metrics};
use hooklane_testkit::rabbitmq::{Vhost, shared};
use hooklane_types::record::{Attempt, Decision, DeliveryKey, EventRef, Record, Settled, Trigger};
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, DeadReason, EndpointId, Event, EventId, EventType, FaultReason,
    Internal, Origin, UnixMillis,
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const WITHIN: Duration = Duration::from_secs(10);
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

/// A broker with this bound of its records, and a history.
struct Stage {
    broker: SharedBroker,
    history: Arc<SqliteHistory>,
    metrics: Arc<Metrics>,
    directory: TempDir,
    _vhost: Option<Vhost>,
}

impl Stage {
    async fn embedded(records_bytes_max: u64) -> Result<Stage> {
        let directory = tempfile::tempdir()?;
        let mut settings = EmbeddedSettings::new(directory.path());
        settings.records_bytes_max = records_bytes_max;
        let broker = EmbeddedBroker::open(settings)?.shared();
        Stage::new(broker, directory, None)
    }

    async fn rabbitmq(records_bytes_max: u64) -> Result<Stage> {
        let vhost = shared().await?.vhost().await?;
        let mut settings = RabbitMqSettings::new(Role::Dispatcher, vhost.url())?;
        settings.bounds = Bounds {
            records_bytes_max,
            ..Bounds::default()
        };
        let broker: SharedBroker = RabbitMq::start(settings, Arc::new(Metrics::new()))?;
        Stage::new(broker, tempfile::tempdir()?, Some(vhost))
    }

    fn new(broker: SharedBroker, directory: TempDir, vhost: Option<Vhost>) -> Result<Stage> {
        Ok(Stage {
            broker,
            history: Arc::new(SqliteHistory::open(directory.path())?),
            metrics: Arc::new(Metrics::new()),
            directory,
            _vhost: vhost,
        })
    }

    fn writer(&self) -> RecordWriter {
        RecordWriter::start(self.broker.clone(), WITHIN, Linger::Short, self.metrics.clone())
    }

    /// Starts a recorder that ends with the token.
    fn record(&self, history: Arc<dyn History>) -> CancellationToken {
        let recorder = Recorder {
            broker: self.broker.clone(),
            history,
            metrics: self.metrics.clone(),
            clock: || NOW,
            disable: None,
            retention: None,
        };
        let stop = CancellationToken::new();
        tokio::spawn(recorder.run(stop.clone()));
        stop
    }

    async fn events(&self) -> Result<Vec<FoundEvent>> {
        let filter = EventFilter {
            with_payload: true,
            ..EventFilter::default()
        };
        let page = Page {
            behind: None,
            direction: Direction::Ascending,
            limit: 1_000,
        };
        Ok(self.history.events(&application(), &filter, &page).await?.rows)
    }

    async fn attempts(&self) -> Result<usize> {
        let page = Page {
            behind: None,
            direction: Direction::Ascending,
            limit: 1_000,
        };
        let of = AttemptsOf::Endpoint(endpoint());
        let found = self
            .history
            .attempts(&application(), &of, &AttemptFilter::default(), &page)
            .await?;
        Ok(found.rows.len())
    }

    async fn until_kept(&self, events: usize, attempts: usize) -> Result<()> {
        eventually(async || Ok(self.events().await?.len() == events && self.attempts().await? == attempts))
            .await
            .with_context(|| format!("{events} events and {attempts} attempts"))
    }

    async fn waiting(&self) -> Result<u64> {
        let mut waiting = 0;
        for queue in [Queue::Contents, Queue::Records, Queue::Deaths] {
            waiting += self.broker.depth(queue).await?.messages;
        }
        Ok(waiting)
    }
}

async fn eventually(mut check: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..300 {
        if check().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("not within 15 s")
}

fn application() -> ApplicationId {
    ApplicationId::parse("acme").expect("an id")
}

fn endpoint() -> EndpointId {
    EndpointId::parse("ep_1").expect("an id")
}

fn event(number: u16, bytes: usize) -> Event {
    Event {
        id: EventId::fresh(NOW, [number as u8, (number >> 8) as u8, 0, 0, 0, 0, 0, 0, 0, 0]),
        producer_id: None,
        application: application(),
        event_type: EventType::parse("invoice.paid").expect("a type"),
        channels: Vec::new(),
        accepted_at: NOW,
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: vec![b'x'; bytes].into(),
    }
}

fn attempt(number: u16) -> Attempt {
    Attempt {
        id: AttemptId::fresh(NOW, [number as u8, (number >> 8) as u8, 1, 0, 0, 0, 0, 0, 0, 0]),
        delivery: DeliveryKey {
            event: EventRef {
                application: application(),
                id: event(number, 0).id,
                accepted_at: NOW,
            },
            endpoint: endpoint(),
            target: 0,
            run: 0,
        },
        at: NOW,
        duration_ms: 1,
        outcome: AttemptOutcome::Status {
            code: 200,
            retry_after_ms: None,
        },
        url: "https://a.test/".to_owned(),
        answer: Bytes::from_static(b"ok"),
        trigger: Trigger::Schedule,
        decision: Decision::Delivered,
    }
}

async fn write(writer: &RecordWriter, number: u16) -> Result<()> {
    let envelope = Internal::Event(event(number, 100)).encode();
    writer.content(envelope).await?;
    writer.outcome(&Record::Attempt(attempt(number))).await?;
    Ok(())
}

/// A history that can be taken away.
struct Away {
    history: Arc<SqliteHistory>,
    is_away: AtomicBool,
}

#[async_trait]
impl History for Away {
    async fn record(&self, batch: Arc<[Record]>, now: UnixMillis) -> Result<Recorded, HistoryError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(HistoryError::Unavailable("away".to_owned()));
        }
        self.history.record(batch, now).await
    }
    async fn event(&self, a: &ApplicationId, e: &EventId) -> Result<Option<FoundEvent>, HistoryError> {
        self.history.event(a, e).await
    }
    async fn events(
        &self,
        a: &ApplicationId,
        f: &EventFilter,
        p: &Page,
    ) -> Result<Slice<FoundEvent>, HistoryError> {
        self.history.events(a, f, p).await
    }
    async fn attempt(
        &self,
        a: &ApplicationId,
        e: &EventId,
        t: &AttemptId,
    ) -> Result<Option<FoundAttempt>, HistoryError> {
        self.history.attempt(a, e, t).await
    }
    async fn attempts(
        &self,
        a: &ApplicationId,
        of: &AttemptsOf,
        f: &AttemptFilter,
        p: &Page,
    ) -> Result<Slice<FoundAttempt>, HistoryError> {
        self.history.attempts(a, of, f, p).await
    }
    async fn endpoint_events(
        &self,
        a: &ApplicationId,
        e: &EndpointId,
        f: &EndpointEventFilter,
        p: &Page,
    ) -> Result<Slice<EndpointEvent>, HistoryError> {
        self.history.endpoint_events(a, e, f, p).await
    }
    async fn destinations(
        &self,
        a: &ApplicationId,
        e: &EventId,
        p: &Page,
    ) -> Result<Slice<hooklane_store::history::Destination>, HistoryError> {
        self.history.destinations(a, e, p).await
    }
    async fn outcomes(
        &self,
        a: &ApplicationId,
        e: &EventId,
        p: &EndpointId,
    ) -> Result<Vec<FoundOutcome>, HistoryError> {
        self.history.outcomes(a, e, p).await
    }
    async fn stats(&self, a: &ApplicationId, e: &EndpointId, r: Range) -> Result<Stats, HistoryError> {
        self.history.stats(a, e, r).await
    }
    async fn expunge_payload(&self, a: &ApplicationId, e: &EventId) -> Result<bool, HistoryError> {
        self.history.expunge_payload(a, e).await
    }
    async fn expunge_answer(
        &self,
        a: &ApplicationId,
        e: &EventId,
        t: &AttemptId,
    ) -> Result<bool, HistoryError> {
        self.history.expunge_answer(a, e, t).await
    }
    async fn forget(&self, before: UnixMillis, rows: usize) -> Result<bool, HistoryError> {
        self.history.forget(before, rows).await
    }
}

async fn what_many_write_is_kept_once(stage: Stage) -> Result<()> {
    // Goal: 300 writers at once; each event and attempt is there once, its payload as it was, also when all is written again; few messages.
    let stop = stage.record(stage.history.clone());
    for _ in 0..2 {
        let (writer, mut tasks) = (stage.writer(), JoinSet::new());
        for number in 0..300 {
            let writer = writer.clone();
            tasks.spawn(async move { write(&writer, number).await });
        }
        while let Some(written) = tasks.join_next().await {
            written??;
        }
        stage.until_kept(300, 300).await?;
    }
    eventually(async || Ok(stage.waiting().await? == 0)).await?;
    let events = stage.events().await?;
    ensure!(events.iter().all(|event| {
        let payload = event.content.as_ref().map(|content| &content.payload);
        payload == Some(&Payload::Kept(vec![b'x'; 100].into()))
    }));
    eventually(async || Ok(stage.metrics.value(Metric::RecordsKept, &[]) >= 1_200.0)).await?;
    ensure!(stage.metrics.value(Metric::RecordsWritten, &["contents"]) == 600.0);
    stop.cancel();
    Ok(())
}

async fn a_store_that_is_away_costs_delay_only(stage: Stage) -> Result<()> {
    // Goal: what is written meanwhile is confirmed at once and waits; then all of it is kept, once.
    let away = Arc::new(Away {
        history: stage.history.clone(),
        is_away: AtomicBool::new(true),
    });
    let _stop = stage.record(away.clone());
    let writer = stage.writer();
    for number in 0..50 {
        write(&writer, number).await?;
    }
    eventually(async || Ok(stage.metrics.value(Metric::RecorderWaits, &[]) >= 2.0)).await?;
    ensure!(stage.events().await?.is_empty());
    away.is_away.store(false, Ordering::Relaxed);
    stage.until_kept(50, 50).await?;
    ensure!(stage.metrics.value(Metric::RecordsRefused, &[]) == 0.0);
    Ok(())
}

async fn what_was_taken_and_not_written_comes_again(stage: Stage) -> Result<()> {
    // Goal: a recorder that ends with everything in hand loses nothing.
    let away = Arc::new(Away {
        history: stage.history.clone(),
        is_away: AtomicBool::new(true),
    });
    let stop = stage.record(away);
    let writer = stage.writer();
    for number in 0..50 {
        write(&writer, number).await?;
    }
    eventually(async || Ok(stage.metrics.value(Metric::RecorderWaits, &[]) >= 1.0)).await?;
    stop.cancel();
    let _stop = stage.record(stage.history.clone());
    stage.until_kept(50, 50).await
}

async fn a_bad_row_becomes_a_fault_and_stops_nothing(stage: Stage) -> Result<()> {
    // Goal: a NUL, a time of 1970 and bytes that are no record, between good ones: three faults with their bytes, the rest is kept.
    let writer = stage.writer();
    write(&writer, 1).await?;
    let nul = Attempt {
        url: "https://a.test/\0".to_owned(),
        ..attempt(2)
    };
    let early = Attempt {
        at: UnixMillis(0),
        ..attempt(3)
    };
    for bad in [nul, early] {
        writer.outcome(&Record::Attempt(bad)).await?;
    }
    let rubbish = Outgoing::internal(Bytes::from_static(b"rubbish"));
    stage
        .broker
        .publish(Destination::Internal(Queue::Records), rubbish, WITHIN)
        .await?;
    write(&writer, 4).await?;
    let _stop = stage.record(stage.history.clone());
    stage.until_kept(2, 2).await?;
    eventually(async || Ok(stage.broker.depth(Queue::Faults).await?.messages == 3)).await?;
    eventually(async || Ok(stage.waiting().await? == 0)).await?;
    ensure!(stage.metrics.value(Metric::RecordsRefused, &[]) == 2.0);
    let options = hooklane_broker::ConsumeOptions {
        prefetch: 10,
        bytes_max: 1 << 20,
    };
    let mut faults = stage.broker.consume(Queue::Faults, options);
    let mut details = Vec::new();
    for _ in 0..3 {
        let incoming = faults.next().await.context("a fault")?;
        let Internal::Fault(fault) = Internal::decode(incoming.message.body.clone())? else {
            anyhow::bail!("no fault")
        };
        ensure!(fault.reason == FaultReason::Unrecordable && fault.original.origin == Origin::Records);
        ensure!(!fault.original.message.body.is_empty());
        details.push(fault.detail);
        incoming.ack.ack().await?;
    }
    details.sort();
    ensure!(
        details[0].contains("1970") || details[1].contains("1970"),
        "{details:?}"
    );
    ensure!(details.iter().any(|detail| detail.contains("NUL")), "{details:?}");
    ensure!(
        details
            .iter()
            .any(|detail| detail.contains("not a Hooklane envelope")),
        "{details:?}"
    );
    Ok(())
}

async fn at_its_bound_history_yields_and_says_so(stage: Stage) -> Result<()> {
    // Goal: with nobody recording, contents beyond the bound are dropped and counted, attempts still go in, no writer waits or fails; what was
    // taken is kept once somebody records.
    let writer = stage.writer();
    let envelope = |number| Internal::Event(event(number, 40_000)).encode();
    for number in 0..20 {
        writer.content(envelope(number)).await?;
        writer.outcome(&Record::Attempt(attempt(number))).await?;
    }
    let dropped = stage.metrics.value(Metric::RecordsDropped, &["contents"]);
    let written = stage.metrics.value(Metric::RecordsWritten, &["contents"]);
    ensure!(
        dropped > 0.0 && written > 0.0 && dropped + written == 20.0,
        "{dropped}, {written}"
    );
    ensure!(stage.metrics.value(Metric::RecordsDropped, &["records"]) == 0.0);
    let _stop = stage.record(stage.history.clone());
    stage.until_kept(written as usize, 20).await
}

async fn that_a_delivery_was_given_up_is_never_dropped(stage: Stage) -> Result<()> {
    // Goal: with the store away and `records` full, attempts that delivered yield, those that were the last stay, as do deliveries that ended
    // without one; once the store is back each of them is in the history, dead.
    let away = Arc::new(Away {
        history: stage.history.clone(),
        is_away: AtomicBool::new(true),
    });
    let _stop = stage.record(away.clone());
    let writer = stage.writer();
    let mut number = 0;
    while stage.metrics.value(Metric::RecordsDropped, &["records"]) == 0.0 {
        ensure!(number < 10_000, "the queue has no bound");
        writer.outcome(&Record::Attempt(attempt(number))).await?;
        number += 1;
    }
    let first = number;
    for number in first..first + 20 {
        let last = Attempt {
            decision: Decision::Dead(DeadReason::Exhausted),
            ..attempt(number)
        };
        writer.outcome(&Record::Attempt(last)).await?;
        writer.outcome(&Record::Attempt(attempt(number + 100))).await?;
        let settled = Settled {
            delivery: attempt(number + 200).delivery,
            at: NOW,
            reason: DeadReason::Expired,
        };
        writer.outcome(&Record::Settled(settled)).await?;
    }
    ensure!(stage.metrics.value(Metric::RecordsWritten, &["deaths"]) == 40.0);
    ensure!(stage.metrics.value(Metric::RecordsDropped, &["records"]) >= 20.0);
    away.is_away.store(false, Ordering::Relaxed);
    eventually(async || Ok(stage.waiting().await? == 0)).await?;
    for number in first..first + 20 {
        for (number, reason) in [
            (number, DeadReason::Exhausted),
            (number + 200, DeadReason::Expired),
        ] {
            let id = &attempt(number).delivery.event.id;
            let found = stage.history.outcomes(&application(), id, &endpoint()).await?;
            ensure!(
                found.len() == 1 && found[0].state.terminal.as_ref().and_then(|end| end.dead) == Some(reason),
                "{number}: {found:?}"
            );
        }
    }
    Ok(())
}

async fn a_newer_record_waits_and_stops_nothing(stage: Stage) -> Result<()> {
    // Goal: it is still in the queue, and what came with it is kept.
    let mut newer = Record::Attempt(attempt(1)).encode().to_vec();
    newer[2] = 2;
    let message = Outgoing::internal(newer.into());
    stage
        .broker
        .publish(Destination::Internal(Queue::Records), message, WITHIN)
        .await?;
    let _stop = stage.record(stage.history.clone());
    let writer = stage.writer();
    for number in 2..5 {
        write(&writer, number).await?;
    }
    stage.until_kept(3, 3).await?;
    ensure!(stage.broker.depth(Queue::Faults).await?.messages == 0);
    // It is given back, rests, and is taken again.
    eventually(async || Ok(stage.broker.depth(Queue::Records).await?.messages == 1)).await
}

macro_rules! on_both {
    ($($name:ident: $bound:expr;)*) => {
        mod embedded {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> Result<()> {
                    super::$name(Stage::embedded($bound).await?).await
                }
            )*
        }
        mod rabbitmq {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> Result<()> {
                    super::$name(Stage::rabbitmq($bound).await?).await
                }
            )*
        }
    };
}

on_both! {
    what_many_write_is_kept_once: 1 << 30;
    a_store_that_is_away_costs_delay_only: 1 << 30;
    what_was_taken_and_not_written_comes_again: 1 << 30;
    a_bad_row_becomes_a_fault_and_stops_nothing: 1 << 30;
    at_its_bound_history_yields_and_says_so: 200_000;
    that_a_delivery_was_given_up_is_never_dropped: 20_000;
    a_newer_record_waits_and_stops_nothing: 1 << 30;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_is_forgotten() -> Result<()> {
    // Goal: retention is counted from the acceptance of an event, and takes its attempts with it.
    let stage = Stage::embedded(1 << 30).await?;
    let old = Event {
        accepted_at: UnixMillis(NOW.0 - 86_400_001),
        ..event(1, 10)
    };
    let batch: Arc<[Record]> = Arc::new([Record::Event(old), Record::Event(event(2, 10))]);
    stage.history.record(batch, NOW).await?;
    let recorder = Recorder {
        broker: stage.broker.clone(),
        history: stage.history.clone(),
        metrics: stage.metrics.clone(),
        clock: || NOW,
        disable: None,
        retention: Some(Duration::from_secs(86_400)),
    };
    let stop = CancellationToken::new();
    tokio::spawn(recorder.run(stop.clone()));
    stage.until_kept(1, 0).await?;
    ensure!(stage.events().await?[0].id == event(2, 0).id);
    stop.cancel();
    ensure!(stage.directory.path().exists());
    Ok(())
}
