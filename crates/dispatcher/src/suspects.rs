//! Messages that came back from the broker more often than a healthy one does: tried alone, so that one that kills its
//! process kills nothing else, and only a death during its own trial speaks against it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hooklane_broker::{Ack, ConsumeOptions, Incoming, Queue};
use hooklane_telemetry::Metric;
use hooklane_types::{
    EnvelopeError, FaultReason, Internal, Origin, Original, RawMessage, Suspect, UnixMillis,
};
use tokio::sync::Semaphore;

use crate::core::{Core, InHand};
use crate::error::DispatcherError;
use crate::intake::Refusal;
use crate::process::Unprocessed;
use crate::settle::Consequence;
use crate::{faults, report, worker};

/// From as many broker deliveries on, a message is suspect.
const SUSPECT_AFTER_DELIVERIES: u64 = 3;
/// From as many deaths during its trial on, it is a fault.
const DEATHS_MAX: u32 = 3;
/// A process tries no suspect before it has been up for this long: one that dies at its start for reasons of its own
/// convicts nobody.
const QUIET_AT_START: Duration = Duration::from_secs(5);
/// How long the trial rests after a message that a newer Hooklane must read.
const NEWER_REST: Duration = Duration::from_secs(5);
/// Share of the grace time that a trial in progress gets; the rest is for giving it back uncounted.
const TRIAL_GRACE: f64 = 0.8;
/// Magic, version and head length stand here in every version.
const ENVELOPE_START_BYTES: usize = 7;
/// Attempts at once of the one message in trial.
const ATTEMPTS_MAX: usize = hooklane_types::SLICE_ENDPOINTS_MAX;

/// Whether a message goes to `suspects`. One that a newer Hooklane must read has come back without any guilt.
pub(crate) fn is_suspect(core: &Core, origin: Origin, message: &RawMessage, delivery_count: u64) -> bool {
    let internal = match origin {
        Origin::Events | Origin::Ordered => message.exchange == core.ingest_exchange,
        Origin::Deliveries | Origin::Suspects | Origin::Records => true,
    };
    delivery_count >= SUSPECT_AFTER_DELIVERIES && !(internal && is_newer(&message.body))
}

/// Whether a newer Hooklane wrote this envelope, asked of its first bytes alone: the rest may be what kills processes.
fn is_newer(body: &Bytes) -> bool {
    let first = body.slice(..body.len().min(ENVELOPE_START_BYTES));
    matches!(Internal::decode(first), Err(EnvelopeError::Newer { .. }))
}

/// A message that becomes suspect.
pub(crate) fn suspect(original: Original, now: UnixMillis) -> Suspect {
    tracing::info!(queue = ?original.origin, "a message came back several times: it is tried alone");
    Suspect {
        original,
        deaths: 0,
        since: now,
    }
}

/// What becomes of a suspect that the broker gives out.
#[derive(Debug, PartialEq)]
enum Turn {
    Try(Suspect),
    /// A process died during its trial: to the back of the queue.
    Again(Suspect),
    Convict(Suspect),
}

/// A death counts only when the message comes back from its trial. The broker does not say whether the process died or only lost its
/// connection: either counts.
fn turn(mut suspect: Suspect, delivery_count: u64) -> Turn {
    if delivery_count == 0 {
        return Turn::Try(suspect);
    }
    suspect.deaths = suspect.deaths.saturating_add(1);
    if suspect.deaths >= DEATHS_MAX {
        Turn::Convict(suspect)
    } else {
        Turn::Again(suspect)
    }
}

/// Tries suspects, one at a time.
pub(crate) async fn run(core: Arc<Core>) -> Result<(), DispatcherError> {
    let stop = &core.shutdown.stop;
    if stop
        .run_until_cancelled(tokio::time::sleep(QUIET_AT_START))
        .await
        .is_none()
    {
        return Ok(());
    }
    let options = ConsumeOptions {
        prefetch: 1,
        bytes_max: core.settings.suspects_bytes_max(),
    };
    let mut consumption = core.broker.consume(Queue::Suspects, options);
    let attempts = Semaphore::new(ATTEMPTS_MAX);
    loop {
        let incoming = match stop.run_until_cancelled(consumption.next()).await {
            None => return Ok(()),
            Some(None) => {
                return Err(DispatcherError::BrokerShutDown {
                    queue: Queue::Suspects.name(),
                });
            }
            Some(Some(incoming)) => incoming,
        };
        core.metrics
            .count(Metric::EventsConsumed, &[Queue::Suspects.name()]);
        if handle(&core, &attempts, incoming).await == Next::Rest {
            consumption.pause(core.settings.grace).await;
            if stop
                .run_until_cancelled(tokio::time::sleep(NEWER_REST))
                .await
                .is_none()
            {
                return Ok(());
            }
            consumption.resume().await;
        }
    }
}

#[derive(PartialEq)]
enum Next {
    GoOn,
    Rest,
}

async fn handle(core: &Core, attempts: &Semaphore, incoming: Incoming) -> Next {
    let Incoming {
        message,
        delivery_count,
        ack,
        ..
    } = incoming;
    let _bytes = worker::HeldBytes::new(core, &message);
    let suspect = match Internal::decode(message.body.clone()) {
        Ok(Internal::Suspect(suspect)) => suspect,
        Err(EnvelopeError::Newer { version }) => {
            tracing::error!(
                version,
                "a newer Hooklane wrote this suspect: handed back, update this process"
            );
            return Next::Rest;
        }
        other => {
            let detail = other
                .err()
                .map_or("not a suspect".to_owned(), |error| error.to_string());
            let refusal = Refusal::new(FaultReason::Malformed, detail);
            let original = Original {
                origin: Origin::Suspects,
                message,
            };
            refuse(core, ack, refusal, original).await;
            return Next::GoOn;
        }
    };
    match turn(suspect, delivery_count) {
        Turn::Try(suspect) => {
            return try_alone(
                InHand {
                    core,
                    ack: &*ack,
                    attempts,
                },
                suspect,
            )
            .await
            .settle(core, ack)
            .await;
        }
        Turn::Again(suspect) => {
            settle(core, ack, Consequence::Suspect(suspect)).await;
        }
        Turn::Convict(suspect) => {
            core.metrics.count(Metric::Suspects, &["convicted"]);
            let detail = format!(
                "{} processes died, or lost their connection to the broker, while they tried it alone",
                suspect.deaths
            );
            let refusal = Refusal::new(FaultReason::Poison, detail);
            refuse(core, ack, refusal, suspect.original).await;
        }
    }
    Next::GoOn
}

async fn refuse(core: &Core, ack: Box<dyn Ack>, refusal: Refusal, original: Original) {
    let fault = faults::fault(refusal, original, core.clock.now());
    let shown = fault.clone();
    if settle(core, ack, Consequence::Fault(fault)).await {
        report::fault(&shown, None);
    }
}

/// Whether it was carried out and acked; otherwise the suspect comes again.
async fn settle(core: &Core, ack: Box<dyn Ack>, consequence: Consequence) -> bool {
    let confirmed = core
        .settle
        .carry_out(&*ack, &core.metrics, consequence)
        .await
        .is_ok();
    if confirmed {
        core.settle.finish(ack).await;
    }
    confirmed
}

/// How a trial ended.
enum Trial {
    Cleared,
    /// Broken off, or to be read by a newer process: as it was, to the back of the queue, uncounted.
    Again(Box<Suspect>, Next),
    GivenBack,
}

impl Trial {
    async fn settle(self, core: &Core, ack: Box<dyn Ack>) -> Next {
        match self {
            Trial::Cleared => {
                core.metrics.count(Metric::Suspects, &["cleared"]);
                core.settle.finish(ack).await;
                Next::GoOn
            }
            Trial::Again(suspect, next) => {
                settle(core, ack, Consequence::Suspect(*suspect)).await;
                next
            }
            Trial::GivenBack => Next::GoOn,
        }
    }
}

/// The whole normal processing of one suspect. It counts as redelivered: a claim that says settled still stops it.
async fn try_alone(hand: InHand<'_>, suspect: Suspect) -> Trial {
    let original = suspect.original.clone();
    let processed = tokio::select! {
        processed = worker::process_or_refuse(hand, original, true) => processed,
        () = end_of_trials(hand.core) => return Trial::Again(Box::new(suspect), Next::GoOn),
    };
    match processed {
        Ok(()) => Trial::Cleared,
        Err(Unprocessed::Newer { .. }) => Trial::Again(Box::new(suspect), Next::Rest),
        // A process that stops begins no attempt; its channel is alive, so the suspect can go back uncounted.
        Err(_) if hand.core.is_stopping() && hand.ack.is_live() => {
            Trial::Again(Box::new(suspect), Next::GoOn)
        }
        Err(_) => Trial::GivenBack,
    }
}

async fn end_of_trials(core: &Core) {
    core.shutdown.stop.cancelled().await;
    tokio::time::sleep(core.settings.grace.mul_f64(TRIAL_GRACE)).await;
}

#[cfg(test)]
mod tests {
    use hooklane_types::Properties;

    use super::*;

    fn with_deaths(deaths: u32) -> Suspect {
        let message = RawMessage {
            exchange: "hooklane.events".to_owned(),
            routing_key: "a.b".to_owned(),
            properties: Properties::default(),
            body: Bytes::from_static(b"x"),
        };
        Suspect {
            original: Original {
                origin: Origin::Events,
                message,
            },
            deaths,
            since: UnixMillis(5),
        }
    }

    #[test]
    fn a_newer_envelope_is_told_by_its_first_bytes() {
        // Goal: version 255 is newer, whatever follows; ours and foreign bytes are not.
        assert!(is_newer(&Bytes::from_static(b"HL\xff\0\0\0\x01rest")));
        assert!(!is_newer(&Internal::Suspect(with_deaths(0)).encode()));
        for foreign in [&b""[..], b"HL", b"{\"a\": 1}"] {
            assert!(!is_newer(&Bytes::from_static(foreign)));
        }
    }

    #[test]
    fn only_deaths_during_a_trial_count_and_three_convict() {
        // Goal: a first delivery is tried whatever its past; each return adds one death; the third is a fault.
        assert_eq!(turn(with_deaths(2), 0), Turn::Try(with_deaths(2)));
        assert_eq!(turn(with_deaths(0), 1), Turn::Again(with_deaths(1)));
        assert_eq!(turn(with_deaths(1), 7), Turn::Again(with_deaths(2)));
        assert_eq!(turn(with_deaths(2), 1), Turn::Convict(with_deaths(3)));
    }
}
