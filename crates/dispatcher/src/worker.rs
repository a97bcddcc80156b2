//! The loop over one work queue: a permit, then a message, then a task that owns both.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hooklane_broker::{ConsumeOptions, Consumption, Incoming, Queue};
use hooklane_telemetry::Metric;
use hooklane_types::{Origin, Original, RawMessage, UnixMillis};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::core::{Core, InHand};
use crate::error::DispatcherError;
use crate::process::{self, Unprocessed};
use crate::settle::Consequence;
use crate::{faults, report, suspects};

/// From this age on, a message no longer counts against the places of its queue but against those for slow ones, while there
/// are any: endpoints that hang must not take the places of those that answer. The age from which an endpoint is sick.
const SLOW_AFTER: Duration = Duration::from_millis(hooklane_policy::health::SICK_AFTER_MS);

/// Most attempts at once per place of a budget: messages for several endpoints make more than one.
const ATTEMPTS_PER_MESSAGE: usize = 2;

/// How long a queue rests after a message of a newer version came from it.
const NEWER_REST: Duration = Duration::from_secs(5);

/// The places for messages of one kind. First attempts and retries have separate ones, so that neither starves the other.
pub(crate) struct Budget {
    messages: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    attempts: Arc<Semaphore>,
    prefetch: u16,
}

impl Budget {
    /// `messages` at once, and as many again that are slow.
    pub(crate) fn new(messages: usize) -> Budget {
        let in_all = messages.saturating_mul(2);
        Budget {
            messages: Arc::new(Semaphore::new(messages)),
            slow: Arc::new(Semaphore::new(messages)),
            attempts: Arc::new(Semaphore::new(in_all.saturating_mul(ATTEMPTS_PER_MESSAGE))),
            prefetch: u16::try_from(in_all).unwrap_or(u16::MAX),
        }
    }
}

/// What a loop consumes, and with which means.
pub(crate) struct Work {
    pub(crate) queue: Queue,
    pub(crate) origin: Origin,
    pub(crate) budget: Arc<Budget>,
    pub(crate) bytes_max: u64,
    /// True while the queue must not be consumed.
    pub(crate) paused: watch::Receiver<bool>,
}

/// How a message's task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handled {
    Done,
    GivenBack,
    /// Given back because a newer Hooklane must read it.
    Newer,
}

/// Consumes until the process stops; then finishes what is in flight, within the grace time.
pub(crate) async fn run(core: Arc<Core>, mut work: Work) -> Result<(), DispatcherError> {
    let options = ConsumeOptions {
        prefetch: work.budget.prefetch,
        bytes_max: work.bytes_max,
    };
    let mut consumption = core.broker.consume(work.queue, options);
    let mut tasks = JoinSet::new();
    let stop = core.shutdown.stop.clone();
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    let ended = loop {
        if *work.paused.borrow_and_update() {
            rest(
                &core,
                &work,
                consumption.as_mut(),
                Rest::UntilResumed(work.paused.clone()),
            )
            .await;
        }
        let taken = tokio::select! {
            biased;
            () = &mut stopped => break Ok(()),
            Some(handled) = tasks.join_next(), if !tasks.is_empty() => {
                if reap(handled) == Handled::Newer {
                    rest(&core, &work, consumption.as_mut(), Rest::For(NEWER_REST)).await;
                }
                continue;
            }
            // An error means that nobody can pause the queue any more: the process is ending.
            Ok(()) = work.paused.changed() => continue,
            taken = take(&work.budget.messages, consumption.as_mut()) => taken,
        };
        let Some((permit, incoming)) = taken else {
            break Err(DispatcherError::BrokerShutDown {
                queue: work.queue.name(),
            });
        };
        core.metrics.count(Metric::EventsConsumed, &[work.queue.name()]);
        core.dispatchers.took(core.clock.monotonic_ms());
        tasks.spawn(handle(
            core.clone(),
            work.budget.clone(),
            work.origin,
            incoming,
            permit,
        ));
    };
    // Paused, the channel takes nothing more and stays open for the acks of what is in flight.
    tokio::join!(
        consumption.pause(core.settings.grace),
        finish(&core, &work, tasks)
    );
    ended
}

/// Takes a place, then a message: what was taken can be worked on at once. Cancel safe, as both waits are.
async fn take(
    places: &Arc<Semaphore>,
    consumption: &mut dyn Consumption,
) -> Option<(OwnedSemaphorePermit, Incoming)> {
    let permit = places.clone().acquire_owned().await.ok()?;
    Some((permit, consumption.next().await?))
}

enum Rest {
    UntilResumed(watch::Receiver<bool>),
    For(Duration),
}

/// Takes nothing from the queue for a while; what is in flight is settled.
async fn rest(core: &Core, work: &Work, consumption: &mut dyn Consumption, rest: Rest) {
    let stop = core.shutdown.stop.cancelled();
    let over = async {
        consumption.pause(core.settings.grace).await;
        match rest {
            Rest::For(duration) => tokio::time::sleep(duration).await,
            Rest::UntilResumed(mut paused) => {
                // An error means that nobody can pause any more: go on.
                let _ = paused.wait_for(|paused| !*paused).await;
            }
        }
        consumption.resume().await;
    };
    tokio::select! {
        biased;
        () = stop => {}
        () = over => tracing::debug!(queue = work.queue.name(), "the queue is consumed again"),
    }
}

fn reap(handled: Result<Handled, tokio::task::JoinError>) -> Handled {
    handled.unwrap_or_else(|error| {
        // Panics of the pipeline are caught within the task; its message was dropped unacked and comes again.
        tracing::error!(%error, "a message's task died outside of the pipeline");
        Handled::GivenBack
    })
}

/// Waits for what is in flight, at most the grace time; the rest is broken off and comes again.
async fn finish(core: &Core, work: &Work, mut tasks: JoinSet<Handled>) {
    let all = async {
        while let Some(handled) = tasks.join_next().await {
            reap(handled);
        }
    };
    if tokio::time::timeout(core.settings.grace, all).await.is_err() {
        tracing::warn!(
            queue = work.queue.name(),
            messages = tasks.len(),
            "the grace time is over: what is still in flight is broken off and comes again"
        );
        tasks.shutdown().await;
    }
}

async fn handle(
    core: Arc<Core>,
    budget: Arc<Budget>,
    origin: Origin,
    incoming: Incoming,
    permit: OwnedSemaphorePermit,
) -> Handled {
    // Boxed, since a future that is pinned here would be held twice.
    let mut handled = Box::pin(handle_message(&core, &budget, origin, incoming));
    match tokio::time::timeout(SLOW_AFTER, &mut handled).await {
        Ok(handled) => handled,
        Err(_) => {
            let slow = budget.slow.clone().try_acquire_owned().ok();
            let _kept = if slow.is_some() {
                drop(permit);
                slow
            } else {
                Some(permit)
            };
            handled.await
        }
    }
}

async fn handle_message(core: &Core, budget: &Budget, origin: Origin, incoming: Incoming) -> Handled {
    let Incoming {
        message,
        redelivered,
        delivery_count,
        ack,
        ..
    } = incoming;
    let _bytes = HeldBytes::new(core, &message);
    let hand = InHand {
        core,
        ack: &*ack,
        attempts: &budget.attempts,
    };
    let settled = if suspects::is_suspect(core, origin, &message, delivery_count) {
        let suspect = suspects::suspect(Original { origin, message }, core.clock.now());
        core.settle
            .carry_out(&*ack, &core.metrics, Consequence::Suspect(suspect))
            .await
            .map_err(Unprocessed::from)
    } else {
        process_or_refuse(hand, Original { origin, message }, redelivered).await
    };
    match settled {
        Ok(()) => {
            core.settle.finish(ack).await;
            Handled::Done
        }
        Err(Unprocessed::Newer { version }) => {
            tracing::error!(queue = ?origin, version, "a newer Hooklane wrote this message: handed back, update this process");
            Handled::Newer
        }
        Err(_) => Handled::GivenBack,
    }
}

/// Counts a body while its message is in work.
pub(crate) struct HeldBytes<'a> {
    core: &'a Core,
    bytes: f64,
}

impl HeldBytes<'_> {
    pub(crate) fn new<'a>(core: &'a Core, message: &RawMessage) -> HeldBytes<'a> {
        let bytes = message.body.len() as f64;
        core.metrics.add(Metric::BytesHeld, &[], bytes);
        HeldBytes { core, bytes }
    }
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        self.core.metrics.add(Metric::BytesHeld, &[], -self.bytes);
    }
}

/// Processes a message; one that cannot be processed, or at which the pipeline panics, is put on the shelf of faults.
pub(crate) async fn process_or_refuse(
    hand: InHand<'_>,
    original: Original,
    redelivered: bool,
) -> Result<(), Unprocessed> {
    let processed = Box::pin(process::process(
        hand,
        original.origin,
        &original.message,
        redelivered,
    ));
    // What the pipeline shares is soft state under locks that hold no promise over a panic.
    let (refusal, event) = match std::panic::AssertUnwindSafe(processed).catch_unwind().await {
        Ok(Err(Unprocessed::Refused { refusal, event })) => (refusal, event),
        Ok(other) => return other,
        Err(panic) => (faults::panicked(&*panic), None),
    };
    let _room = hand.core.room_for_copy(original.message.body.len()).await?;
    let at: UnixMillis = hand.core.clock.now();
    let fault = faults::fault(refusal, original, at);
    let shown = fault.clone();
    hand.core
        .settle
        .carry_out(hand.ack, &hand.core.metrics, Consequence::Fault(fault))
        .await?;
    report::fault(&shown, event.as_ref());
    Ok(())
}
