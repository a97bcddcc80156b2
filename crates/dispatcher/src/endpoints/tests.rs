use super::*;
use crate::fixtures;

fn moment(ms: u64) -> Moment {
    Moment {
        wall: UnixMillis(1_000_000 + ms as i64),
        monotonic_ms: ms,
    }
}

fn known() -> (Endpoints, Arc<Endpoint>, Arc<EndpointState>) {
    let endpoints = Endpoints::new(Arc::new(Metrics::new()));
    let endpoint = Arc::new(fixtures::endpoint("ep_1", "http://127.0.0.1:1/"));
    let state = endpoints.of(&endpoint);
    (endpoints, endpoint, state)
}

async fn at(state: &Arc<EndpointState>, endpoint: &Endpoint, ms: u64) -> Result<Slot, Standing> {
    let limits = Limits::none();
    state
        .admit(endpoint, &limits, || moment(ms), Duration::ZERO)
        .await
}

/// How the endpoint stands to an attempt that would begin now; a place it is given is given back.
async fn standing(state: &Arc<EndpointState>, endpoint: &Endpoint, ms: u64) -> Standing {
    at(state, endpoint, ms).await.err().unwrap_or(Standing::Well)
}

#[tokio::test]
async fn a_hanging_attempt_makes_an_endpoint_sick_until_it_ends() {
    // Goal: over a second in flight without a success is sick; a broken-off attempt ends that as well as a failed one.
    let (_, endpoint, state) = known();
    let slot = at(&state, &endpoint, 0).await.unwrap();
    assert!(at(&state, &endpoint, 900).await.is_ok());
    assert_eq!(
        standing(&state, &endpoint, 1_500).await,
        Standing::Sick { until_ms: 15_000 }
    );
    drop(slot);
    assert!(at(&state, &endpoint, 1_500).await.is_ok());
}

#[tokio::test]
async fn attempts_at_once_are_bounded_and_freed() {
    // Goal: with four places the fifth attempt finds none, until one ends.
    let (_, endpoint, state) = known();
    let mut slots = Vec::new();
    for _ in 0..4 {
        slots.push(at(&state, &endpoint, 0).await.unwrap());
    }
    assert_eq!(at(&state, &endpoint, 0).await.err(), Some(Standing::Well));
    slots
        .pop()
        .unwrap()
        .end("2xx", true, Duration::from_millis(3), UnixMillis(0));
    assert!(at(&state, &endpoint, 0).await.is_ok());
}

#[tokio::test]
async fn what_was_heard_while_an_attempt_waited_for_its_place_holds() {
    // Goal: an attempt that waits for a place does not begin after the one before it was answered 410.
    let (_, endpoint, state) = known();
    let mut slots = Vec::new();
    for _ in 0..4 {
        slots.push(at(&state, &endpoint, 0).await.unwrap());
    }
    let limits = Limits::none();
    let waiting = state.admit(&endpoint, &limits, || moment(0), Duration::from_secs(10));
    let hears = async {
        // The one that waits is polled first, so it has found no place by now.
        state.mark_gone(&endpoint.url);
        slots.clear();
    };
    let (admitted, ()) = tokio::join!(biased; waiting, hears);
    assert_eq!(admitted.err(), Some(Standing::Gone));
}

#[tokio::test]
async fn gone_ends_with_a_change_of_the_endpoint_or_its_file_and_state_with_the_endpoint() {
    // Goal: 410 holds until the endpoint is given anew, as a file that is read again does it; what others changed is no news of it; a removed
    // endpoint leaves no state behind.
    let (endpoints, endpoint, state) = known();
    state.mark_gone(&endpoint.url);
    assert_eq!(standing(&state, &endpoint, 0).await, Standing::Gone);
    let mut registry = Registry::new([], [fixtures::endpoint("ep_2", "http://127.0.0.1:2/")]).unwrap();
    registry.put(endpoint.clone()).unwrap();
    endpoints.follow(&registry);
    assert_eq!(standing(&state, &endpoint, 0).await, Standing::Gone);
    endpoints.follow(&Registry::new([], [Endpoint::clone(&endpoint)]).unwrap());
    assert!(at(&state, &endpoint, 0).await.is_ok());
    assert!(Arc::ptr_eq(&state, &endpoints.of(&endpoint)));
    endpoints.follow(&Registry::default());
    assert!(endpoints.status(&Registry::default(), moment(0)).is_empty());
    assert_eq!(
        (state.label(), endpoints.of(&endpoint).label()),
        ("other", "ep_1")
    );
    assert!(!Arc::ptr_eq(&state, &endpoints.of(&endpoint)));
}

#[tokio::test]
async fn status_shows_every_endpoint_of_the_registry() {
    // Goal: an endpoint that nothing was sent to yet is shown, and a disabled one as disabled.
    let (endpoints, tried, _) = known();
    let mut disabled = fixtures::endpoint("ep_2", "http://127.0.0.1:1/");
    disabled.disabled = true;
    let untried = fixtures::endpoint("ep_3", "http://127.0.0.1:1/");
    let mut registry = Registry::new([], [disabled, untried]).unwrap();
    registry.put(tried).unwrap();
    let mut shown: Vec<_> = endpoints
        .status(&registry, moment(0))
        .into_iter()
        .map(|status| (status.id.to_string(), status.state))
        .collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        shown,
        [
            ("ep_1".to_owned(), EndpointCondition::Ok),
            ("ep_2".to_owned(), EndpointCondition::Disabled),
            ("ep_3".to_owned(), EndpointCondition::Ok),
        ]
    );
}

#[tokio::test]
async fn the_longest_pause_holds_and_ends_by_itself() {
    // Goal: a shorter Retry-After does not cut a longer one; past its end the endpoint is served again.
    let (_, endpoint, state) = known();
    state.pause_until(&endpoint.url, UnixMillis(1_005_000));
    state.pause_until(&endpoint.url, UnixMillis(1_002_000));
    assert_eq!(
        standing(&state, &endpoint, 4_999).await,
        Standing::Paused {
            until: UnixMillis(1_005_000)
        }
    );
    assert!(at(&state, &endpoint, 5_000).await.is_ok());
}

#[tokio::test]
async fn an_endpoint_that_moved_is_not_judged_by_the_place_where_it_was() {
    // Goal: a hanging attempt, a pause and a 410 of the old URL hold up nothing at the new one, whenever they are heard.
    let (endpoints, endpoint, state) = known();
    let hanging = at(&state, &endpoint, 0).await.unwrap();
    state.pause_until(&endpoint.url, UnixMillis(2_000_000));
    assert!(at(&state, &endpoint, 5_000).await.is_err());
    let moved = Arc::new(fixtures::endpoint("ep_1", "http://127.0.0.1:2/"));
    let mut registry = Registry::default();
    registry.put(moved.clone()).unwrap();
    endpoints.follow(&registry);
    assert!(at(&state, &moved, 5_000).await.is_ok());
    assert!(!state.mark_gone(&endpoint.url));
    state.pause_until(&endpoint.url, UnixMillis(3_000_000));
    hanging.end("timeout", false, Duration::from_secs(15), UnixMillis(0));
    assert!(at(&state, &moved, 5_000).await.is_ok());
    assert!(state.mark_gone(&moved.url));
}
