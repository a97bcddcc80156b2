//! One event on its way to one endpoint: admission, attempt, decision, settlement.

use std::sync::Arc;
use std::time::Duration;

use hooklane_policy::retry::{self, Decision, Effect, Verdict};
use hooklane_policy::throttle::Visitor;
use hooklane_policy::{classify, ladder};
use hooklane_telemetry::{Metric, Metrics};
use hooklane_types::{
    AttemptId, AttemptOutcome, AttemptSummary, DeadLetter, DeadReason, Endpoint, EndpointId, Event, Record,
    UnixMillis,
};

use crate::attempt::{self, Finding};
use crate::core::{Core, InHand};
use crate::endpoints::{EndpointState, Moment, Slot, Standing};
use crate::gone;
use crate::operational;
use crate::park::{self, ParkReason};
use crate::progress::Progress;
use crate::record;
use crate::report::{self, Next};
use crate::settle::{Consequence, GivenBack, Later};
use crate::throttle::Limits;

/// Longest wait for a place at the endpoint; only what is to be expected within a tenth of a second waits at all.
const SLOT_WAIT_MAX: Duration = Duration::from_millis(500);

/// Serves one endpoint up to the confirm of what follows from it.
pub(crate) async fn serve(
    hand: InHand<'_>,
    event: &Event,
    id: &EndpointId,
    mut progress: Progress,
) -> Result<(), GivenBack> {
    loop {
        let permit = hand.may_attempt().await?;
        let core = hand.core;
        let now = core.moment();
        let is_current = core.is_current();
        let Some((endpoint, limits)) = look_up(core, id, progress.visitor(), now) else {
            if is_current {
                return give_up(hand, event, id, progress, DeadReason::EndpointRemoved).await;
            }
            drop(permit);
            let hop = park::unknown(progress.parks, core.clock.jitter());
            return park(hand, event, id, progress, (ParkReason::Unknown, hop)).await;
        };
        let deadline = progress.reckon(event, now.wall, |begun| {
            endpoint.deadline(begun, !limits.is_empty())
        });
        if now.wall > deadline {
            return give_up(hand, event, id, progress, DeadReason::Expired).await;
        }
        let state = core.endpoints.of(&endpoint);
        match admit(hand, &endpoint, (&state, &limits), progress.parks).await {
            Admission::Go(slot) => {
                let delivery = Attempted {
                    event,
                    endpoint: &endpoint,
                    progress,
                    deadline,
                };
                let ended = deliver(hand, &state, slot, delivery).await;
                drop(permit);
                return follow_up(hand, event, id, ended).await;
            }
            Admission::Gone => return give_up(hand, event, id, progress, DeadReason::Gone).await,
            Admission::Again => {}
            Admission::Park(reason, hop) => {
                drop(permit);
                return park(hand, event, id, progress, (reason, hop)).await;
            }
        }
    }
}

/// Sends the delivery on to wait, without an attempt.
async fn park(
    hand: InHand<'_>,
    event: &Event,
    id: &EndpointId,
    mut progress: Progress,
    (reason, hop): (ParkReason, Option<ladder::Hop>),
) -> Result<(), GivenBack> {
    progress.parks = progress.parks.saturating_add(1);
    report::parked(event, id, reason);
    let consequence = Consequence::Later {
        delivery: progress.delivery(event, id.clone()),
        hop,
        why: Later::Park(reason),
    };
    let core = hand.core;
    core.settle.carry_out(hand.ack, &core.metrics, consequence).await
}

/// The endpoint as it is now, and its limits of attempts a second. The registry is not kept: it may be a large one.
fn look_up(core: &Core, id: &EndpointId, visitor: Visitor, now: Moment) -> Option<(Arc<Endpoint>, Limits)> {
    let registry = core.registry();
    let endpoint = registry.endpoint(id)?.clone();
    let known = || core.dispatchers.known(now.monotonic_ms);
    let limits = core.endpoints.limits(&endpoint, &registry, known, visitor);
    Some((endpoint, limits))
}

enum Admission {
    Go(Slot),
    Gone,
    /// Wait once more for all that an attempt needs.
    Again,
    Park(ParkReason, Option<ladder::Hop>),
}

async fn admit(
    hand: InHand<'_>,
    endpoint: &Endpoint,
    (state, limits): (&Arc<EndpointState>, &Limits),
    parks: u32,
) -> Admission {
    let core = hand.core;
    if endpoint.disabled {
        return Admission::Park(ParkReason::Disabled, park::disabled(parks, core.clock.jitter()));
    }
    match state
        .admit(endpoint, limits, || core.moment(), SLOT_WAIT_MAX)
        .await
    {
        Ok(slot) if hand.is_ready() => Admission::Go(slot),
        // While it waited for the place the broker stopped taking outcomes, or the process stops.
        Ok(_) => Admission::Again,
        Err(Standing::Gone) => Admission::Gone,
        Err(Standing::Throttled) => {
            let slot = limits.reserve(core.moment());
            Admission::Park(ParkReason::Throttled, slot.map(|slot| slot.hop))
        }
        Err(standing) => {
            let (reason, hop) = park::reserve(state, standing, core.moment());
            Admission::Park(reason, Some(hop))
        }
    }
}

struct Attempted<'a> {
    event: &'a Event,
    endpoint: &'a Endpoint,
    progress: Progress,
    deadline: UnixMillis,
}

/// An attempt, and what was decided.
struct Ended {
    verdict: Verdict,
    /// With the attempt counted.
    progress: Progress,
    summary: AttemptSummary,
    record: Option<Record>,
    now: UnixMillis,
}

/// Carries out what follows, in this order: the record, what operators are told, the retry or the dead letter. The ack comes after all of it.
async fn follow_up(hand: InHand<'_>, event: &Event, id: &EndpointId, ended: Ended) -> Result<(), GivenBack> {
    let core = hand.core;
    if let Some(record) = &ended.record {
        core.settle.record(hand.ack, record).await?;
    }
    let outcome = operational::Outcome {
        event,
        endpoint: id,
        attempts_made: ended.progress.attempts_made,
        last: &ended.summary,
        next: Next::of(ended.verdict.decision, ended.now),
    };
    operational::tell(hand, &outcome).await?;
    let Ended {
        verdict,
        progress,
        summary,
        now,
        ..
    } = ended;
    let consequence = consequence(verdict, progress, summary, (event, id), now);
    core.settle.carry_out(hand.ack, &core.metrics, consequence).await
}

/// Makes the attempt and decides; what it means for the endpoint holds at once.
async fn deliver(hand: InHand<'_>, state: &EndpointState, slot: Slot, delivery: Attempted<'_>) -> Ended {
    let Attempted {
        event,
        endpoint,
        mut progress,
        deadline,
    } = delivery;
    let core = hand.core;
    let begun = core.clock.now();
    let id = AttemptId::fresh(begun, core.clock.random());
    if progress.attempts_made == 0 && progress.run == 0 {
        let age = begun.since(event.accepted_at).as_secs_f64();
        core.metrics.observe(Metric::EventAgeSeconds, &[], age);
    }
    let finding = {
        let _in_flight = InFlight::new(&core.metrics);
        attempt::make(&core.client, endpoint, event, begun).await
    };
    let now = core.clock.now();
    progress.attempts_made = progress.attempts_made.saturating_add(1);
    let verdict = retry::decide(
        progress.attempts_made,
        &finding.outcome,
        &endpoint.retry,
        now,
        deadline,
        core.clock.jitter(),
    );
    let outcome = classify::label(&finding.outcome);
    slot.end(
        outcome,
        verdict.decision == Decision::Delivered,
        finding.duration,
        now,
    );
    apply(core, endpoint, state, verdict.effect).await;
    count(&core.metrics, state, outcome, &finding);
    report::attempt(&report::Attempt {
        event,
        endpoint: &endpoint.id,
        id: &id,
        progress: &progress,
        finding: &finding,
        next: Next::of(verdict.decision, now),
        now,
    });
    let summary = AttemptSummary {
        id,
        at: begun,
        duration_ms: millis(finding.duration),
        outcome: finding.outcome,
    };
    let record = core
        .settle
        .records()
        .then(|| record::attempt(event, endpoint, &progress, &summary, &finding, &verdict.decision));
    Ended {
        verdict,
        progress,
        summary,
        record,
        now,
    }
}

/// From a verdict to what is published.
fn consequence(
    verdict: Verdict,
    mut progress: Progress,
    summary: AttemptSummary,
    (event, endpoint): (&Event, &EndpointId),
    now: UnixMillis,
) -> Consequence {
    match verdict.decision {
        Decision::Delivered => Consequence::Delivered,
        Decision::RetryAt { at, deadline } => {
            progress.deadline = Some(deadline);
            let mut delivery = progress.delivery(event, endpoint.clone());
            delivery.remember(summary);
            Consequence::Later {
                delivery,
                hop: ladder::first_hop(at.since(now)),
                why: Later::Retry,
            }
        }
        Decision::Dead(reason) => {
            let mut delivery = progress.delivery(event, endpoint.clone());
            delivery.remember(summary);
            Consequence::Dead(DeadLetter {
                delivery,
                reason,
                at: now,
            })
        }
    }
}

async fn apply(core: &Core, endpoint: &Endpoint, state: &EndpointState, effect: Effect) {
    match effect {
        Effect::None => {}
        Effect::Gone => {
            if state.mark_gone(&endpoint.url) {
                gone::tell(core, endpoint).await;
            }
        }
        Effect::PauseUntil(until) => state.pause_until(&endpoint.url, until),
    }
}

fn count(metrics: &Metrics, state: &EndpointState, outcome: &'static str, finding: &Finding) {
    metrics.count(Metric::Attempts, &[outcome]);
    metrics.count(Metric::EndpointAttempts, &[state.label(), outcome]);
    metrics.observe(Metric::AttemptSeconds, &[], finding.duration.as_secs_f64());
}

/// Dead without an attempt.
async fn give_up(
    hand: InHand<'_>,
    event: &Event,
    id: &EndpointId,
    progress: Progress,
    reason: DeadReason,
) -> Result<(), GivenBack> {
    report::given_up(event, id, reason, progress.attempts_made);
    let core = hand.core;
    let at = core.clock.now();
    if core.settle.records() {
        let record = record::settled(event, id, &progress, (reason, at));
        core.settle.record(hand.ack, &record).await?;
    }
    let delivery = progress.delivery(event, id.clone());
    let dead = DeadLetter { delivery, reason, at };
    core.settle
        .carry_out(hand.ack, &core.metrics, Consequence::Dead(dead))
        .await
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Counts an attempt while it is in flight, however it ends.
struct InFlight<'a>(&'a Metrics);

impl InFlight<'_> {
    fn new(metrics: &Metrics) -> InFlight<'_> {
        metrics.add(Metric::AttemptsInFlight, &[], 1.0);
        InFlight(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.add(Metric::AttemptsInFlight, &[], -1.0);
    }
}

/// The outcome's status, where one came.
pub(crate) fn status(outcome: &AttemptOutcome) -> Option<u16> {
    match outcome {
        AttemptOutcome::Status { code, .. } => Some(*code),
        AttemptOutcome::Failed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    const NOW: UnixMillis = UnixMillis(1_700_000_100_000);

    fn carried(decision: Decision) -> Consequence {
        let event = fixtures::event();
        let progress = Progress {
            attempts_made: 2,
            parks: 3,
            deadline: Some(NOW),
            ..Progress::default()
        };
        let summary = AttemptSummary {
            id: AttemptId::fresh(NOW, [1; 10]),
            at: NOW,
            duration_ms: 5,
            outcome: AttemptOutcome::Status {
                code: 500,
                retry_after_ms: None,
            },
        };
        let verdict = Verdict {
            decision,
            effect: Effect::None,
        };
        consequence(
            verdict,
            progress,
            summary,
            (&event, &EndpointId::parse("ep_1").unwrap()),
            NOW,
        )
    }

    #[test]
    fn a_retry_keeps_event_and_count_and_carries_its_deadline_and_history() {
        // Goal: what the next attempt needs is in the message, and the hop leads to the time that policy chose.
        let (at, deadline) = (
            NOW.plus(Duration::from_secs(5)),
            NOW.plus(Duration::from_secs(99)),
        );
        let Consequence::Later {
            delivery,
            hop: Some(hop),
            why,
        } = carried(Decision::RetryAt { at, deadline })
        else {
            panic!("no retry");
        };
        assert_eq!(why, Later::Retry);
        assert_eq!(delivery.event.id, fixtures::event().id);
        assert_eq!(
            (delivery.attempts_made, delivery.parks, delivery.deadline),
            (2, 3, Some(deadline))
        );
        assert_eq!(delivery.history.len(), 1);
        assert_eq!(ladder::LEVELS_MS[hop.level] + hop.remaining_ms, 5_000);
    }

    #[test]
    fn a_retry_without_delay_goes_straight_to_deliveries() {
        // Goal: no hop where the time has come.
        let decision = Decision::RetryAt {
            at: NOW,
            deadline: NOW,
        };
        assert!(matches!(carried(decision), Consequence::Later { hop: None, .. }));
    }

    #[test]
    fn a_dead_letter_says_why_and_what_was_tried() {
        // Goal: reason, time and the last attempt are on the shelf.
        let Consequence::Dead(dead) = carried(Decision::Dead(DeadReason::Exhausted)) else {
            panic!("not dead")
        };
        assert_eq!(
            (dead.reason, dead.at, dead.delivery.history.len()),
            (DeadReason::Exhausted, NOW, 1)
        );
    }
}
