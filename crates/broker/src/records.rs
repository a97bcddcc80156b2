//! Records on their way to whoever keeps the history: from many tasks into few messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::record::{Batch, Record};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::port::{BrokerError, Destination, Outgoing, Queue, SharedBroker};

/// Most records of one message.
const BATCH_RECORDS_MAX: usize = 256;
/// A message ends with the record that makes it so long.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// From this length on a record is a message of its own: then it is not copied.
const ALONE_BYTES: usize = 32 * 1024;
/// Messages without a confirm: what is written meanwhile makes the next one.
const AT_ONCE: usize = 2;
/// From so many records in the message before on, there is much to write.
const MUCH: usize = 4;
/// How often the log says that records are dropped.
const TELL_EVERY_S: i64 = 10;

/// How long a message waits for more records while there is much to write: fewer messages cost the broker, and whoever reads them, less. Who writes
/// seldom waits for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linger {
    /// Publishers wait for their answers.
    Short,
    /// Only what follows from an attempt waits, and the ack.
    Long,
}

impl Linger {
    fn time(self) -> Duration {
        match self {
            Linger::Short => Duration::from_millis(3),
            Linger::Long => Duration::from_millis(10),
        }
    }
}

/// Writes records to the queues `contents` and `records`. Cheap to clone. One that is off writes nothing, and says that all is well.
#[derive(Clone, Default)]
pub struct RecordWriter {
    lanes: Option<Arc<[Lane; 2]>>,
}

#[derive(Clone)]
struct Lane(mpsc::UnboundedSender<Request>);

struct Request {
    record: Bytes,
    /// It says that a delivery was given up.
    stays: bool,
    reply: oneshot::Sender<Result<(), BrokerError>>,
}

/// A record of a message that is on its way.
struct Sent {
    /// Where it never yields.
    stays: Option<Bytes>,
    reply: oneshot::Sender<Result<(), BrokerError>>,
}

impl Sent {
    fn answer(self, result: Result<(), BrokerError>) {
        // Whoever wrote it may have been broken off.
        let _ = self.reply.send(result);
    }
}

impl RecordWriter {
    /// Writes nothing: there is no store.
    pub fn off() -> RecordWriter {
        RecordWriter::default()
    }

    /// Writes to this broker; each message is waited for `within` so long. Its tasks end with the last clone of it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        broker: SharedBroker,
        within: Duration,
        linger: Linger,
        metrics: Arc<Metrics>,
    ) -> RecordWriter {
        let lane = |queue| {
            let (requests, inbox) = mpsc::unbounded_channel();
            let task = Task {
                queue,
                broker: broker.clone(),
                within,
                linger,
                metrics: metrics.clone(),
                begun: Instant::now(),
                told_s: AtomicI64::new(i64::MIN / 2),
            };
            tokio::spawn(task.run(inbox));
            Lane(requests)
        };
        RecordWriter {
            lanes: Some(Arc::new([lane(Queue::Contents), lane(Queue::Records)])),
        }
    }

    /// Whether it writes anything.
    pub fn is_on(&self) -> bool {
        self.lanes.is_some()
    }

    /// Writes the record of an event, which is the event's envelope. Returns after the broker's confirm, or once it is counted as dropped because the
    /// queue is full: deliveries win over history.
    ///
    /// # Errors
    /// See [`BrokerError`], but never `Full`. It may be written again: a record that is written twice counts once.
    pub async fn content(&self, envelope: Bytes) -> Result<(), BrokerError> {
        self.write(0, false, || envelope).await
    }

    /// Writes the record of what became of an event, likewise. One that says that a delivery was given up is not dropped: where the queue is full it
    /// goes into another, which has no bound.
    ///
    /// # Errors
    /// As [`RecordWriter::content`].
    pub async fn outcome(&self, record: &Record) -> Result<(), BrokerError> {
        self.write(1, record.gives_up(), || record.encode()).await
    }

    async fn write(
        &self,
        lane: usize,
        stays: bool,
        record: impl FnOnce() -> Bytes,
    ) -> Result<(), BrokerError> {
        let Some(lanes) = &self.lanes else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        let record = record();
        let sent = lanes[lane].0.send(Request { record, stays, reply });
        sent.map_err(|_| BrokerError::ShutDown)?;
        answer.await.unwrap_or(Err(BrokerError::ShutDown))
    }
}

struct Task {
    queue: Queue,
    broker: SharedBroker,
    within: Duration,
    linger: Linger,
    metrics: Arc<Metrics>,
    begun: Instant,
    /// When the log last said that records are dropped, in seconds since it began.
    told_s: AtomicI64,
}

impl Task {
    async fn run(self, mut inbox: mpsc::UnboundedReceiver<Request>) {
        let mut in_flight = FuturesUnordered::new();
        let (mut before, mut is_full) = (0, false);
        // What did not go with the message before.
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(request) => request,
                None => tokio::select! {
                    biased;
                    Some(()) = in_flight.next(), if !in_flight.is_empty() => continue,
                    request = inbox.recv(), if in_flight.len() < AT_ONCE => match request {
                        Some(request) => request,
                        None => break,
                    },
                },
            };
            // What would fill a message waits for nothing.
            if before >= MUCH && (!is_full || inbox.is_empty()) {
                // What is in flight is confirmed meanwhile.
                let _ = timeout(self.linger.time(), drain(&mut in_flight)).await;
            }
            let (batch, sent);
            (batch, sent, next) = gather(first, &mut inbox);
            before = batch.len();
            is_full = batch.len() >= BATCH_RECORDS_MAX || batch.bytes() >= BATCH_BYTES_MAX || next.is_some();
            in_flight.push(self.publish(batch, sent));
            while next.is_some() && in_flight.len() >= AT_ONCE {
                in_flight.next().await;
            }
        }
        while in_flight.next().await.is_some() {}
    }

    async fn publish(&self, batch: Batch, sent: Vec<Sent>) {
        let result = self.send(self.queue, batch).await;
        if matches!(result, Err(BrokerError::Full)) {
            return self.yields(sent).await;
        }
        for record in sent {
            record.answer(result.clone());
        }
    }

    /// The queue is full: what may be missing in the history is gone, and the rest goes where there is no bound.
    async fn yields(&self, sent: Vec<Sent>) {
        let (mut batch, mut staying, mut dropped) = (Batch::default(), Vec::new(), 0);
        for record in sent {
            match record.stays.clone() {
                Some(bytes) => {
                    batch.push(bytes);
                    staying.push(record);
                }
                None => {
                    dropped += 1;
                    record.answer(Ok(()));
                }
            }
        }
        if dropped > 0 {
            self.metrics
                .add(Metric::RecordsDropped, &[self.queue.name()], f64::from(dropped));
            self.tell();
        }
        if !batch.is_empty() {
            let result = self.send(Queue::Deaths, batch).await;
            staying
                .into_iter()
                .for_each(|record| record.answer(result.clone()));
        }
    }

    async fn send(&self, to: Queue, batch: Batch) -> Result<(), BrokerError> {
        let records = batch.len() as f64;
        let message = Outgoing::internal(batch.encode());
        let publish = self
            .broker
            .publish(Destination::Internal(to), message, self.within);
        publish.await?;
        self.metrics.add(Metric::RecordsWritten, &[to.name()], records);
        Ok(())
    }

    fn tell(&self) {
        let now_s = i64::try_from(self.begun.elapsed().as_secs()).unwrap_or(i64::MAX);
        if now_s.saturating_sub(self.told_s.load(Ordering::Relaxed)) < TELL_EVERY_S {
            return;
        }
        self.told_s.store(now_s, Ordering::Relaxed);
        tracing::warn!(
            queue = self.queue.name(),
            "records are dropped, because their queue is full: is the store away, or `hooklane control` not running?"
        );
    }
}

/// Waits for all of them, and then for ever.
async fn drain<F: Future<Output = ()>>(in_flight: &mut FuturesUnordered<F>) {
    while in_flight.next().await.is_some() {}
    std::future::pending().await
}

type Gathered = (Batch, Vec<Sent>, Option<Request>);

/// What waits, up to the bounds of a message; and what is to go after it.
fn gather(first: Request, inbox: &mut mpsc::UnboundedReceiver<Request>) -> Gathered {
    let (mut batch, mut sent) = (Batch::default(), Vec::new());
    let mut request = first;
    loop {
        let is_alone = request.record.len() >= ALONE_BYTES;
        if is_alone && !batch.is_empty() {
            return (batch, sent, Some(request));
        }
        sent.push(Sent {
            stays: request.stays.then(|| request.record.clone()),
            reply: request.reply,
        });
        batch.push(request.record);
        if is_alone || batch.len() >= BATCH_RECORDS_MAX || batch.bytes() >= BATCH_BYTES_MAX {
            return (batch, sent, None);
        }
        request = match inbox.try_recv() {
            Ok(request) => request,
            Err(_) => return (batch, sent, None),
        };
    }
}
