//! What is recorded of a delivery.

use hooklane_policy::retry;
use hooklane_types::record::{Attempt, Decision, DeliveryKey, EventRef, Record, Settled, Trigger};
use hooklane_types::{AttemptSummary, DeadReason, Endpoint, EndpointId, Event, UnixMillis};

use crate::attempt::Finding;
use crate::progress::Progress;

/// The record of an attempt; `progress` has it counted.
pub(crate) fn attempt(
    event: &Event,
    endpoint: &Endpoint,
    progress: &Progress,
    summary: &AttemptSummary,
    finding: &Finding,
    decision: &retry::Decision,
) -> Record {
    let is_first_of_a_replay = progress.run > 0 && progress.attempts_made <= 1;
    Record::Attempt(Attempt {
        id: summary.id.clone(),
        delivery: key(event, &endpoint.id, progress),
        at: summary.at,
        duration_ms: summary.duration_ms,
        outcome: summary.outcome,
        url: shown(&endpoint.url),
        answer: finding.answer.clone(),
        trigger: match is_first_of_a_replay {
            true => Trigger::Manual,
            false => Trigger::Schedule,
        },
        decision: match decision {
            retry::Decision::Delivered => Decision::Delivered,
            retry::Decision::RetryAt { at, .. } => Decision::Again(*at),
            retry::Decision::Dead(reason) => Decision::Dead(*reason),
        },
    })
}

/// The record of a delivery that ends without an attempt.
pub(crate) fn settled(
    event: &Event,
    endpoint: &EndpointId,
    progress: &Progress,
    (reason, at): (DeadReason, UnixMillis),
) -> Record {
    Record::Settled(Settled {
        delivery: key(event, endpoint, progress),
        at,
        reason,
    })
}

fn key(event: &Event, endpoint: &EndpointId, progress: &Progress) -> DeliveryKey {
    DeliveryKey {
        event: EventRef {
            application: event.application.clone(),
            id: event.id.clone(),
            accepted_at: event.accepted_at,
        },
        endpoint: endpoint.clone(),
        target: progress.target,
        run: progress.run,
    }
}

/// Without credentials: whoever may see an attempt need not know them.
fn shown(url: &url::Url) -> String {
    if url.username().is_empty() && url.password().is_none() {
        return url.as_str().to_owned();
    }
    let mut url = url.clone();
    // Only a URL without a host refuses, and that has no credentials.
    let _ = (url.set_username(""), url.set_password(None));
    url.into()
}
