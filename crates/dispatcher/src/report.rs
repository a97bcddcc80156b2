//! The log lines: one wide line per attempt, one per fault. Never payloads, query strings or secrets.

use hooklane_policy::classify;
use hooklane_policy::retry::Decision;
use hooklane_types::{ApplicationId, AttemptId, DeadReason, EndpointId, Event, EventId, Fault, UnixMillis};

use crate::attempt::Finding;
use crate::park::ParkReason;
use crate::progress::Progress;
use crate::serve;

/// What becomes of a delivery after an attempt, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: it is delivered.
    Delivered,
    /// Another attempt after this many milliseconds.
    RetryIn { ms: u64 },
    /// None.
    Dead(DeadReason),
}

impl Next {
    pub(crate) fn of(decision: Decision, now: UnixMillis) -> Next {
        match decision {
            Decision::Delivered => Next::Delivered,
            Decision::RetryAt { at, .. } => Next::RetryIn {
                ms: at.since(now).as_millis() as u64,
            },
            Decision::Dead(reason) => Next::Dead(reason),
        }
    }
}

/// One attempt, as its line shows it.
pub(crate) struct Attempt<'a> {
    pub(crate) event: &'a Event,
    pub(crate) endpoint: &'a EndpointId,
    pub(crate) id: &'a AttemptId,
    /// With this attempt counted.
    pub(crate) progress: &'a Progress,
    pub(crate) finding: &'a Finding,
    pub(crate) next: Next,
    pub(crate) now: UnixMillis,
}

/// The line of one attempt.
pub(crate) fn attempt(attempt: &Attempt<'_>) {
    /// Both levels write the same fields; a level is part of a line's static description.
    macro_rules! line {
        ($level:ident, $next:expr, $retry_in_ms:expr, $message:literal) => {
            tracing::$level!(
                event.id = attempt.event.id.as_str(),
                application = attempt.event.application.as_str(),
                event.r#type = attempt.event.event_type.as_str(),
                endpoint.id = attempt.endpoint.as_str(),
                attempt = attempt.progress.attempts_made,
                attempt.id = attempt.id.as_str(),
                run = attempt.progress.run,
                parks = attempt.progress.parks,
                outcome = classify::label(&attempt.finding.outcome),
                status = serve::status(&attempt.finding.outcome),
                detail = attempt.finding.detail.as_deref(),
                duration_ms = attempt.finding.duration.as_millis() as u64,
                bytes = attempt.event.payload.len(),
                age_ms = attempt.now.since(attempt.event.accepted_at).as_millis() as u64,
                next = $next,
                retry_in_ms = $retry_in_ms,
                $message
            )
        };
    }
    match attempt.next {
        Next::Delivered => line!(info, "delivered", None::<u64>, "delivered"),
        Next::RetryIn { ms } => line!(warn, "retry", Some(ms), "attempt failed, to be retried"),
        Next::Dead(reason) => line!(
            warn,
            reason.name(),
            None::<u64>,
            "attempt failed, delivery given up"
        ),
    }
}

/// The line of a delivery that is given up without another attempt.
pub(crate) fn given_up(event: &Event, endpoint: &EndpointId, reason: DeadReason, attempts_made: u32) {
    tracing::warn!(
        event.id = event.id.as_str(),
        application = event.application.as_str(),
        endpoint.id = endpoint.as_str(),
        attempt = attempts_made,
        next = reason.name(),
        "delivery given up without an attempt"
    );
}

/// The line of a delivery that waits without an attempt.
pub(crate) fn parked(event: &Event, endpoint: &EndpointId, reason: ParkReason) {
    tracing::debug!(
        event.id = event.id.as_str(),
        application = event.application.as_str(),
        endpoint.id = endpoint.as_str(),
        reason = reason.name(),
        "delivery parked"
    );
}

/// The line of an event that waits until its application is known. Its id may be another one when it comes back.
pub(crate) fn unknown(application: &ApplicationId) {
    tracing::debug!(
        application = application.as_str(),
        "event parked: its application is not known yet"
    );
}

/// The line of an event that was dropped because its id had been taken before.
pub(crate) fn duplicate(event: &Event) {
    tracing::debug!(
        event.id = event.id.as_str(),
        application = event.application.as_str(),
        "event dropped: its id was taken before"
    );
}

/// The line of an event that no endpoint wants.
pub(crate) fn unmatched(event: &Event) {
    tracing::debug!(
        event.id = event.id.as_str(),
        application = event.application.as_str(),
        event.r#type = event.event_type.as_str(),
        "no endpoint wants this event"
    );
}

/// The line of a fault. Text that a producer chose is recorded as text: the log quotes or escapes it, so that it cannot forge
/// a line.
pub(crate) fn fault(fault: &Fault, event: Option<&EventId>) {
    tracing::warn!(
        event.id = event.map(EventId::as_str),
        reason = fault.reason.name(),
        detail = fault.detail.as_str(),
        queue = ?fault.original.origin,
        exchange = fault.original.message.exchange.as_str(),
        routing_key = fault.original.message.routing_key.as_str(),
        message_id = fault.original.message.properties.message_id.as_deref(),
        bytes = fault.original.message.body.len(),
        "message put on the shelf of faults"
    );
}
