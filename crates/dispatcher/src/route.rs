//! From an event to its endpoints: served inline, or cut into slices.

use std::sync::Arc;

use hooklane_types::{Delivery, Endpoint, EndpointId, Event, Registry, SLICE_ENDPOINTS_MAX};

/// How an event goes on.
#[derive(Debug)]
pub(crate) enum Routing {
    /// Nobody wants it.
    Unmatched,
    /// Few enough to be served from the event's own message.
    Inline(Vec<Arc<Endpoint>>),
    /// To be published to `deliveries` first, at most [`SLICE_ENDPOINTS_MAX`] endpoints each.
    Slices(Vec<Vec<EndpointId>>),
}

/// Routes an event. One without a lasting id is never served inline: its message carries nothing that would be the same
/// after a redelivery, so it is published again with its fresh id before the first attempt.
pub(crate) fn route(registry: &Registry, event: &Event, id_lasts: bool) -> Routing {
    let endpoints: Vec<_> = registry.route(event).cloned().collect();
    if endpoints.is_empty() {
        return Routing::Unmatched;
    }
    if id_lasts && endpoints.len() <= SLICE_ENDPOINTS_MAX {
        return Routing::Inline(endpoints);
    }
    let slices = endpoints
        .chunks(SLICE_ENDPOINTS_MAX)
        .map(|slice| slice.iter().map(|endpoint| endpoint.id.clone()).collect())
        .collect();
    Routing::Slices(slices)
}

/// The message for one slice.
pub(crate) fn slice(event: &Event, endpoints: Vec<EndpointId>) -> Delivery {
    Delivery {
        event: event.clone(),
        endpoints,
        target: 0,
        run: 0,
        attempts_made: 0,
        parks: 0,
        remaining_ms: 0,
        deadline: None,
        history: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::fixtures;

    fn registry(count: usize) -> Registry {
        let endpoints = (0..count).map(|n| fixtures::endpoint(&format!("ep_{n:04}"), "http://127.0.0.1:1/"));
        Registry::new([], endpoints).unwrap()
    }

    #[test]
    fn up_to_sixteen_endpoints_are_served_inline() {
        // Goal: 1 and 16 endpoints stay with the message, 17 do not, none is unmatched.
        let event = fixtures::event();
        assert!(matches!(route(&registry(0), &event, true), Routing::Unmatched));
        for count in [1, 16] {
            let Routing::Inline(endpoints) = route(&registry(count), &event, true) else {
                panic!("{count}")
            };
            assert_eq!(endpoints.len(), count);
        }
        assert!(matches!(route(&registry(17), &event, true), Routing::Slices(slices) if slices.len() == 2));
    }

    #[test]
    fn two_thousand_endpoints_are_cut_into_slices_that_hold_each_once() {
        // Goal: every endpoint is in exactly one slice, no slice is over its bound, each survives the envelope.
        let event = fixtures::event();
        let Routing::Slices(slices) = route(&registry(2_000), &event, true) else {
            panic!("not sliced")
        };
        assert_eq!(slices.len(), 125);
        assert!(slices.iter().all(|slice| slice.len() <= SLICE_ENDPOINTS_MAX));
        let all: HashSet<_> = slices.iter().flatten().collect();
        assert_eq!(all.len(), 2_000);
        assert_eq!(slices.iter().map(Vec::len).sum::<usize>(), 2_000);
        let sent = hooklane_types::Internal::Delivery(slice(&event, slices[0].clone()));
        assert_eq!(hooklane_types::Internal::decode(sent.encode()), Ok(sent));
    }

    #[test]
    fn an_event_without_a_lasting_id_is_never_served_inline() {
        // Goal: even one endpoint is reached through a slice that carries the fresh id.
        let event = fixtures::event();
        assert!(matches!(route(&registry(1), &event, false), Routing::Slices(slices) if slices.len() == 1));
        assert!(matches!(route(&registry(0), &event, false), Routing::Unmatched));
    }
}
