//! Operational webhooks about deliveries: an event is failing, was given up, has recovered. They go to the endpoints of one application, as any event
//! does, and nothing is told about that application itself.

use hooklane_types::operational::{AttemptNews, FAILING_ATTEMPT, LastAttempt, News};
use hooklane_types::{AttemptSummary, EndpointId, Event, Registry, SLICE_ENDPOINTS_MAX};

use crate::core::InHand;
use crate::report::Next;
use crate::route;
use crate::serve;
use crate::settle::{Consequence, GivenBack};

/// What has become of an event at an endpoint.
pub(crate) struct Outcome<'a> {
    pub(crate) event: &'a Event,
    pub(crate) endpoint: &'a EndpointId,
    /// Attempts made in this run.
    pub(crate) attempts_made: u32,
    /// The latest of them.
    pub(crate) last: &'a AttemptSummary,
    pub(crate) next: Next,
}

/// Publishes what is to be told of it, before what follows from it: none of it is lost, and what is told twice bears the same id.
pub(crate) async fn tell(hand: InHand<'_>, outcome: &Outcome<'_>) -> Result<(), GivenBack> {
    let core = hand.core;
    let Some(to) = &core.settings.operational_application else {
        return Ok(());
    };
    let registry = core.registry();
    let Some(to) = registry
        .resolve(to)
        .filter(|to| **to != outcome.event.application)
    else {
        return Ok(());
    };
    let Some(news) = news(&registry, outcome) else {
        return Ok(());
    };
    let event = news.event(to, outcome.last.id.as_str(), core.clock.now());
    let endpoints: Vec<EndpointId> = registry
        .route(&event)
        .map(|endpoint| endpoint.id.clone())
        .collect();
    if endpoints.is_empty() {
        return Ok(());
    }
    core.settle.record_event(hand.ack, &event).await?;
    for slice in endpoints.chunks(SLICE_ENDPOINTS_MAX) {
        let slice = Consequence::Slice(route::slice(&event, slice.to_vec()));
        core.settle.carry_out(hand.ack, &core.metrics, slice).await?;
    }
    Ok(())
}

fn news(registry: &Registry, outcome: &Outcome<'_>) -> Option<News> {
    let about = || {
        let Outcome {
            event,
            endpoint,
            last,
            ..
        } = *outcome;
        AttemptNews {
            app_id: event.application.clone(),
            app_uid: registry.uid(&event.application).map(ToString::to_string),
            endpoint_id: endpoint.clone(),
            last_attempt: LastAttempt {
                id: last.id.clone(),
                response_status_code: serve::status(&last.outcome).unwrap_or(0),
                timestamp: last.at.rfc3339(),
            },
            msg_event_id: event.producer_id.as_ref().map(|id| id.as_str().to_owned()),
            msg_id: event.id.clone(),
        }
    };
    match outcome.next {
        Next::RetryIn { .. } if outcome.attempts_made == FAILING_ATTEMPT => {
            Some(News::AttemptFailing(about()))
        }
        Next::Dead(_) => Some(News::AttemptExhausted(about())),
        Next::Delivered if outcome.attempts_made > FAILING_ATTEMPT => Some(News::AttemptRecovered(about())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hooklane_types::{AttemptId, AttemptOutcome, DeadReason, UnixMillis};

    use super::*;
    use crate::fixtures;

    #[test]
    fn the_fourth_failure_the_end_and_a_late_arrival_are_told_and_nothing_else() {
        // Goal: each edge once in a run.
        let (event, registry) = (fixtures::event(), Registry::default());
        let endpoint = EndpointId::parse("ep_1").unwrap();
        let last = AttemptSummary {
            id: AttemptId::fresh(UnixMillis(1), [0; 10]),
            at: UnixMillis(1),
            duration_ms: 1,
            outcome: AttemptOutcome::Failed(hooklane_types::FailureKind::Timeout),
        };
        let name = |attempts_made, next| {
            let outcome = Outcome {
                event: &event,
                endpoint: &endpoint,
                attempts_made,
                last: &last,
                next,
            };
            news(&registry, &outcome).map(|news| news.name())
        };
        let retry = Next::RetryIn { ms: 1 };
        for (attempts, next, told) in [
            (3, retry, None),
            (4, retry, Some("message.attempt.failing")),
            (5, retry, None),
            (4, Next::Delivered, None),
            (5, Next::Delivered, Some("message.attempt.recovered")),
            (1, Next::Dead(DeadReason::Gone), Some("message.attempt.exhausted")),
            (
                9,
                Next::Dead(DeadReason::Exhausted),
                Some("message.attempt.exhausted"),
            ),
        ] {
            assert_eq!(name(attempts, next), told, "{attempts} {next:?}");
        }
    }
}
