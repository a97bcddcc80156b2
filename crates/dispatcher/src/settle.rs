//! The only place where decisions are carried out: retry or dead letter, then ack. What follows from a message is
//! confirmed before the message is acked; while the broker takes nothing it is tried as long as the process lives.

use std::time::Duration;

use hooklane_broker::{Ack, BrokerError, Destination, Outgoing, Queue, RecordWriter, SharedBroker};
use hooklane_policy::ladder::Hop;
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{DeadLetter, Delivery, Event, Fault, Internal, Record, Suspect};

use crate::gate::Gate;
use crate::park::ParkReason;

/// Between two tries of a publish that the broker did not confirm: short at first, for a connection that is made anew.
const TRY_AGAIN_MIN: Duration = Duration::from_millis(200);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(5);

/// What follows from a message.
#[derive(Debug)]
pub(crate) enum Consequence {
    /// The endpoint has it.
    Delivered,
    /// The delivery waits. Without a hop it is due at once.
    Later {
        delivery: Delivery,
        hop: Option<Hop>,
        why: Later,
    },
    /// The delivery is given up.
    Dead(DeadLetter),
    /// Some endpoints of an event, in a message of their own.
    Slice(Delivery),
    /// To be tried alone.
    Suspect(Suspect),
    /// The pipeline could not handle the message.
    Fault(Fault),
    /// An event waits for its application to be known, on this level of the ladder.
    Unknown { event: Suspect, level: usize },
}

/// Why a delivery waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// Its attempt failed.
    Retry,
    /// No attempt could be made now.
    Park(ParkReason),
    /// The next step of a delay that is made of several.
    NextHop,
}

/// The message must not be acked: its channel is gone, or the process ends. It comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GivenBack;

/// Carries out what was decided.
pub(crate) struct Settle {
    broker: SharedBroker,
    records: RecordWriter,
    gate: Gate,
    publish_timeout: Duration,
}

impl Settle {
    pub(crate) fn new(broker: SharedBroker, records: RecordWriter, publish_timeout: Duration) -> Settle {
        let gate = Gate::new(broker.state());
        Settle {
            broker,
            records,
            gate,
            publish_timeout,
        }
    }

    /// Whether what follows from an attempt could be published now.
    pub(crate) fn is_ready(&self) -> bool {
        self.gate.is_open()
    }

    /// Waits until what follows from an attempt could be published.
    pub(crate) async fn ready(&self) {
        self.gate.open().await;
    }

    /// Carries out one consequence of the message behind `ack`, up to the broker's confirm. Nothing is published for a
    /// message whose channel is gone: the broker has given it to somebody else.
    pub(crate) async fn carry_out(
        &self,
        ack: &dyn Ack,
        metrics: &Metrics,
        consequence: Consequence,
    ) -> Result<(), GivenBack> {
        if !ack.is_live() {
            return Err(GivenBack);
        }
        let counted = Counted::of(&consequence);
        if let Some((to, message)) = outgoing(consequence) {
            self.publish(ack, to, message).await?;
        }
        counted.count(metrics);
        Ok(())
    }

    /// Whether what happens is recorded.
    pub(crate) fn records(&self) -> bool {
        self.records.is_on()
    }

    /// Records what became of an event, up to the broker's confirm: before what follows from it. Also for a message whose channel is gone, for
    /// it has happened all the same.
    pub(crate) async fn record(&self, ack: &dyn Ack, record: &Record) -> Result<(), GivenBack> {
        self.insist(ack, &"records", || self.records.outcome(record))
            .await
    }

    /// Records an event.
    pub(crate) async fn record_event(&self, ack: &dyn Ack, event: &Event) -> Result<(), GivenBack> {
        if !self.records.is_on() {
            return Ok(());
        }
        let envelope = Internal::Event(event.clone()).encode();
        self.insist(ack, &"contents", || self.records.content(envelope.clone()))
            .await
    }

    /// Acks a message after all its consequences were carried out.
    pub(crate) async fn finish(&self, ack: Box<dyn Ack>) {
        if ack.ack().await.is_err() {
            // The broker gives the message again; its claim, or the receiver by its id, notices the repeat.
            tracing::debug!("the channel was gone before the ack; the message comes again");
        }
    }

    async fn publish(&self, ack: &dyn Ack, to: Destination, message: Outgoing) -> Result<(), GivenBack> {
        let publish = || {
            self.broker
                .publish(to.clone(), message.clone(), self.publish_timeout)
        };
        self.insist(ack, &to, publish).await
    }

    /// Publishes, again and again until it is confirmed; while it is not, no attempt starts.
    async fn insist<F>(
        &self,
        ack: &dyn Ack,
        to: &(dyn std::fmt::Debug + Sync),
        mut publish: impl FnMut() -> F,
    ) -> Result<(), GivenBack>
    where
        F: Future<Output = Result<(), BrokerError>>,
    {
        let mut stuck = None;
        let mut wait = TRY_AGAIN_MIN;
        loop {
            match publish().await {
                Ok(()) => return Ok(()),
                Err(BrokerError::ShutDown) => return Err(GivenBack),
                Err(error) if stuck.is_none() => {
                    let (held, is_first) = self.gate.stuck();
                    stuck = Some(held);
                    if is_first {
                        tracing::warn!(destination = ?to, %error, "an outcome could not be published; no attempt starts until it is");
                    } else {
                        tracing::debug!(destination = ?to, %error, "another outcome could not be published");
                    }
                }
                Err(error) => {
                    tracing::debug!(destination = ?to, %error, "an outcome still could not be published")
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(TRY_AGAIN_MAX);
            if !ack.is_live() {
                return Err(GivenBack);
            }
        }
    }
}

fn outgoing(consequence: Consequence) -> Option<(Destination, Outgoing)> {
    let (to, internal) = match consequence {
        Consequence::Delivered => return None,
        Consequence::Later {
            mut delivery, hop, ..
        } => {
            delivery.remaining_ms = hop.map_or(0, |hop| hop.remaining_ms);
            let to = match hop {
                Some(hop) => Destination::Delay { level: hop.level },
                None => Destination::Internal(Queue::Deliveries),
            };
            (to, Internal::Delivery(delivery))
        }
        Consequence::Dead(dead) => (Destination::Internal(Queue::Dead), Internal::Dead(dead)),
        Consequence::Slice(slice) => (
            Destination::Internal(Queue::Deliveries),
            Internal::Delivery(slice),
        ),
        Consequence::Suspect(suspect) => (Destination::Internal(Queue::Suspects), Internal::Suspect(suspect)),
        Consequence::Fault(fault) => (Destination::Internal(Queue::Faults), Internal::Fault(fault)),
        Consequence::Unknown { event, level } => (Destination::Delay { level }, Internal::Suspect(event)),
    };
    Some((to, Outgoing::internal(internal.encode())))
}

/// What is counted once a consequence is confirmed.
enum Counted {
    Nothing,
    One(Metric, &'static str),
    Unlabelled(Metric),
    Dead(&'static str),
}

impl Counted {
    fn of(consequence: &Consequence) -> Counted {
        match consequence {
            Consequence::Delivered => Counted::One(Metric::Deliveries, "delivered"),
            Consequence::Later {
                why: Later::Retry, ..
            } => Counted::Unlabelled(Metric::Retries),
            Consequence::Later {
                why: Later::Park(reason),
                ..
            } => Counted::One(Metric::Parks, reason.name()),
            Consequence::Dead(dead) => Counted::Dead(dead.reason.name()),
            Consequence::Fault(fault) => Counted::One(Metric::Faults, fault.reason.name()),
            Consequence::Unknown { .. } => Counted::One(Metric::Parks, ParkReason::Unknown.name()),
            Consequence::Later {
                why: Later::NextHop, ..
            }
            | Consequence::Slice(_)
            | Consequence::Suspect(_) => Counted::Nothing,
        }
    }

    fn count(self, metrics: &Metrics) {
        match self {
            Counted::Nothing => {}
            Counted::One(metric, label) => metrics.count(metric, &[label]),
            Counted::Unlabelled(metric) => metrics.count(metric, &[]),
            Counted::Dead(reason) => {
                metrics.count(Metric::DeadLetters, &[reason]);
                metrics.count(Metric::Deliveries, &["dead"]);
            }
        }
    }
}
