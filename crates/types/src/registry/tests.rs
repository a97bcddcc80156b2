use std::time::{Duration, Instant};

use bytes::Bytes;
use hooklane_signing::{HeaderFamily, Scheme, Secret, Signer};
use proptest::prelude::*;
use url::Url;

use super::*;
use crate::filter::{Channel, EventType, TypePattern};
use crate::id::EventId;
use crate::time::UnixMillis;

fn signer() -> Signer {
    let secret = Secret::symmetric_from_bytes(&[7; 32]).unwrap();
    Signer::new(Scheme::Standard(HeaderFamily::Webhook), vec![secret]).unwrap()
}

fn endpoint(id: &str, application: &str, patterns: &[&str], channels: &[&str]) -> Endpoint {
    let id = EndpointId::parse(id).unwrap();
    let url = Url::parse("https://example.com/hook").unwrap();
    let mut endpoint = Endpoint::new(id, ApplicationId::parse(application).unwrap(), url, signer());
    endpoint.event_types = patterns
        .iter()
        .map(|pattern| TypePattern::parse(pattern).unwrap())
        .collect();
    endpoint.channels = channels
        .iter()
        .map(|channel| Channel::parse(channel).unwrap())
        .collect();
    endpoint
}

fn event(application: &str, event_type: &str, channels: &[&str]) -> Event {
    Event {
        id: EventId::fresh(UnixMillis(0), [0; 10]),
        producer_id: None,
        application: ApplicationId::parse(application).unwrap(),
        event_type: EventType::parse(event_type).unwrap(),
        channels: channels
            .iter()
            .map(|channel| Channel::parse(channel).unwrap())
            .collect(),
        accepted_at: UnixMillis(0),
        content_type: "application/json".to_owned(),
        traceparent: None,
        headers: Vec::new(),
        payload: Bytes::new(),
    }
}

fn ids(registry: &Registry, event: &Event) -> Vec<String> {
    registry
        .route(event)
        .map(|endpoint| endpoint.id.to_string())
        .collect()
}

#[test]
fn an_event_goes_to_its_applications_endpoints_only() {
    let endpoints = [
        endpoint("a1", "acme", &["*"], &[]),
        endpoint("b1", "other", &["*"], &[]),
    ];
    let registry = Registry::new([], endpoints).unwrap();
    assert_eq!(ids(&registry, &event("acme", "x", &[])), ["a1"]);
    assert_eq!(ids(&registry, &event("other", "x", &[])), ["b1"]);
    assert!(ids(&registry, &event("nobody", "x", &[])).is_empty());
}

#[test]
fn an_event_goes_to_who_wants_its_type_and_channel_in_the_order_of_the_configuration() {
    let endpoints = [
        endpoint("z", "acme", &["invoice.*"], &[]),
        endpoint("y", "acme", &["invoice.paid", "*"], &[]),
        endpoint("x", "acme", &["*"], &["eu"]),
        endpoint("w", "acme", &["order.*"], &[]),
    ];
    let registry = Registry::new([], endpoints).unwrap();
    assert_eq!(
        ids(&registry, &event("acme", "invoice.paid", &[])),
        ["z", "y"],
        "each once"
    );
    assert_eq!(
        ids(&registry, &event("acme", "invoice.paid", &["us", "eu"])),
        ["z", "y", "x"]
    );
}

#[test]
fn a_disabled_endpoint_is_routed_to_because_its_deliveries_wait() {
    let disabled = Endpoint {
        disabled: true,
        ..endpoint("a1", "acme", &["*"], &[])
    };
    let registry = Registry::new([], [disabled]).unwrap();
    assert_eq!(ids(&registry, &event("acme", "x", &[])), ["a1"]);
}

#[test]
fn applications_are_known_with_and_without_endpoints() {
    let empty = ApplicationId::parse("empty").unwrap();
    let registry = Registry::new([empty.clone()], [endpoint("a1", "acme", &["*"], &[])]).unwrap();
    assert!(registry.knows(&empty));
    assert!(registry.knows(&ApplicationId::parse("acme").unwrap()));
    assert!(!registry.knows(&ApplicationId::parse("nobody").unwrap()));
}

#[test]
fn an_endpoint_id_stands_once_also_across_applications() {
    let twice = [
        endpoint("a1", "acme", &["*"], &[]),
        endpoint("a1", "other", &["*"], &[]),
    ];
    assert!(matches!(Registry::new([], twice), Err(RegistryError::EndpointTwice(id)) if id.as_str() == "a1"));
}

/// The quickest of several rounds of routing: the one that was disturbed least.
fn route_time(registry: &Registry, event: &Event) -> Duration {
    let round = || {
        let begun = Instant::now();
        let routed: usize = (0..100).map(|_| registry.route(event).count()).sum();
        assert_eq!(routed, 300);
        begun.elapsed()
    };
    (0..20).map(|_| round()).min().unwrap()
}

/// Goal: routing an event costs the same however many endpoints other applications have. 20,000 of them would make a scan
/// of all some thousand times slower; fifty times leaves room for a busy machine.
#[test]
fn the_cost_of_an_event_does_not_depend_on_other_applications() {
    let own = || (0..3).map(|n| endpoint(&format!("own{n}"), "acme", &["*"], &[]));
    let others = (0..20_000).map(|n| endpoint(&format!("e{n}"), &format!("app{}", n % 100), &["*"], &[]));
    let event = event("acme", "invoice.paid", &[]);
    let alone = route_time(&Registry::new([], own()).unwrap(), &event);
    let among = route_time(&Registry::new([], own().chain(others)).unwrap(), &event);
    assert!(among < alone * 50, "{among:?} among others, {alone:?} alone");
}

/// One endpoint's wishes, or an event: a few words each, so that matches are frequent.
fn words(from: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(from), 0..=most)
}

const APPLICATIONS: &[&str] = &["acme", "other"];
const PATTERNS: &[&str] = &["*", "a", "a.*", "a.b", "a.b.*", "b"];
const TYPES: &[&str] = &["a", "a.b", "a.b.c", "ab", "b"];
const CHANNELS: &[&str] = &["c1", "c2", "c3"];

/// Whether a pattern in text form wants a type: written apart from the code under test.
fn wants(pattern: &str, event_type: &str) -> bool {
    pattern == "*"
        || pattern == event_type
        || pattern
            .strip_suffix('*')
            .is_some_and(|stem| stem.ends_with('.') && event_type.starts_with(stem))
}

proptest! {
    #[test]
    fn routing_is_the_filter_over_all_endpoints(
        endpoints in proptest::collection::vec(
            (proptest::sample::select(APPLICATIONS), words(PATTERNS, 3), words(CHANNELS, 2)), 0..12,
        ),
        application in proptest::sample::select(APPLICATIONS),
        event_type in proptest::sample::select(TYPES),
        channels in words(CHANNELS, 2),
    ) {
        let expected: Vec<String> = endpoints
            .iter()
            .enumerate()
            .filter(|(_, (owner, patterns, wanted))| {
                *owner == application
                    && patterns.iter().any(|pattern| wants(pattern, event_type))
                    && (wanted.is_empty() || wanted.iter().any(|channel| channels.contains(channel)))
            })
            .map(|(n, _)| format!("e{n}"))
            .collect();
        let all = endpoints.iter().enumerate().map(|(n, (owner, patterns, wanted))| {
            endpoint(&format!("e{n}"), owner, patterns, wanted)
        });
        let registry = Registry::new([], all).unwrap();
        prop_assert_eq!(ids(&registry, &event(application, event_type, &channels)), expected);
    }
}

fn id(text: &str) -> ApplicationId {
    ApplicationId::parse(text).unwrap()
}

#[test]
fn names_are_those_of_an_organisation() {
    // Goal: two organisations may call their own the same, and neither reaches the other's.
    let owned = |id_text: &str, organisation: &str| Owned {
        id: id(id_text),
        organisation: organisation.to_owned(),
        uid: Some(id("shop")),
        throttle_rate: (id_text == "app_1").then(|| 7u64.try_into().unwrap()),
    };
    let file = Registry::new([id("acme")], [endpoint("in_file", "acme", &["*"], &[])]).unwrap();
    let file = file.with_throttle_rates([(id("acme"), 3u64.try_into().unwrap())]);
    let stored = [
        endpoint("ep_1", "app_1", &["*"], &[]),
        endpoint("ep_2", "app_2", &["*"], &[]),
    ];
    let applications = [owned("app_1", "org_a"), owned("app_2", "org_b")];
    let mut registry = Registry::of("org_a");
    applications.into_iter().for_each(|owned| registry.own(owned));
    for endpoint in stored {
        registry.put(Arc::new(endpoint)).unwrap();
    }
    let registry = registry.beside(&file).unwrap();
    assert_eq!(registry.resolve(&id("shop")), Some(&id("app_1")));
    assert_eq!(
        registry.resolve(&id("app_2")),
        Some(&id("app_2")),
        "ids are unique"
    );
    assert_eq!(registry.resolve(&id("acme")), Some(&id("acme")));
    for (organisation, name, expected) in [
        ("org_a", "shop", Some("app_1")),
        ("org_b", "shop", Some("app_2")),
        ("org_a", "app_2", None),
        ("org_b", "app_1", None),
        ("org_a", "acme", Some("acme")),
        ("org_b", "acme", None),
        ("org_c", "shop", None),
    ] {
        let found = registry.resolve_in(organisation, &id(name));
        assert_eq!(found, expected.map(id).as_ref(), "{organisation} {name}");
    }
    let rate = |name| registry.throttle_rate(&id(name)).map(u16::from);
    assert_eq!(
        [rate("acme"), rate("app_1"), rate("app_2")],
        [Some(3), Some(7), None]
    );
    assert_eq!(registry.route(&event("acme", "a", &[])).count(), 1);
    assert_eq!(registry.route(&event("app_2", "a", &[])).count(), 1);
}

#[test]
fn a_change_is_seen_in_the_copy_that_it_was_made_in_alone() {
    let mut registry = Registry::of("org_a");
    let named = |uid: Option<&str>| Owned {
        id: id("app_1"),
        organisation: "org_a".to_owned(),
        uid: uid.map(id),
        throttle_rate: None,
    };
    registry.own(named(Some("shop")));
    for n in ["ep_1", "ep_2", "ep_3"] {
        registry.put(Arc::new(endpoint(n, "app_1", &["*"], &[]))).unwrap();
    }
    let before = registry.clone();
    registry.own(named(Some("store")));
    registry
        .put(Arc::new(endpoint("ep_2", "app_1", &["a"], &[])))
        .unwrap();
    registry.remove(&EndpointId::parse("ep_1").unwrap());
    let foreign = registry.put(Arc::new(endpoint("ep_3", "app_2", &["*"], &[])));
    assert!(matches!(foreign, Err(RegistryError::EndpointTwice(_))));
    let (a, b) = (event("app_1", "a", &[]), event("app_1", "b", &[]));
    assert_eq!(ids(&before, &b), ["ep_1", "ep_2", "ep_3"]);
    assert_eq!(
        ids(&registry, &a),
        ["ep_2", "ep_3"],
        "in the order in which they came"
    );
    assert_eq!(ids(&registry, &b), ["ep_3"]);
    assert_eq!(registry.endpoints().count(), 2);
    assert!(registry.knows(&id("store")) && !registry.knows(&id("shop")) && before.knows(&id("shop")));
}

#[test]
fn an_application_is_known_until_nothing_speaks_of_it() {
    let mut registry = Registry::of("org_a");
    let owned = |name: &str| Owned {
        id: id(name),
        organisation: "org_a".to_owned(),
        uid: Some(id("shop")),
        throttle_rate: None,
    };
    registry.own(owned("app_1"));
    registry
        .put(Arc::new(endpoint("ep_1", "app_1", &["*"], &[])))
        .unwrap();
    // Its name went to another one, of which was told first.
    registry.own(owned("app_2"));
    registry.disown(&id("app_1"));
    assert_eq!(registry.resolve(&id("shop")), Some(&id("app_2")));
    assert!(registry.knows(&id("app_1")), "its endpoint is there");
    registry.remove(&EndpointId::parse("ep_1").unwrap());
    assert!(!registry.knows(&id("app_1")));
    let file = Registry::new([id("app_2")], []).unwrap();
    registry.disown(&id("app_2"));
    assert!(
        registry.beside(&file).unwrap().knows(&id("app_2")),
        "the file speaks of it"
    );
    assert_eq!(registry.applications().count(), 0);
}

#[test]
fn what_stands_in_two_places_stands_together_whichever_is_larger() {
    let mut stored = Registry::of("org_a");
    stored.own(Owned {
        id: id("acme"),
        organisation: "org_b".to_owned(),
        uid: Some(id("shop")),
        throttle_rate: Some(5u64.try_into().unwrap()),
    });
    stored
        .put(Arc::new(endpoint("ep_1", "acme", &["*"], &[])))
        .unwrap();
    for files in [0, 1, 5] {
        let in_file = (0..files).map(|n| endpoint(&format!("file_{n}"), "acme", &["*"], &[]));
        let file = Registry::new([id("acme"), id("empty")], in_file).unwrap();
        let file =
            file.with_throttle_rates(["acme", "empty"].map(|name| (id(name), 9u64.try_into().unwrap())));
        let both = stored.beside(&file).unwrap();
        assert_eq!(both.route(&event("acme", "a", &[])).count(), files + 1);
        assert_eq!(both.endpoints().count(), files + 1);
        assert_eq!(both.resolve_in("org_b", &id("shop")), Some(&id("acme")));
        assert_eq!(both.resolve_in("org_a", &id("empty")), Some(&id("empty")));
        assert_eq!(both.uid(&id("acme")), Some(&id("shop")));
        let rate = |name| both.throttle_rate(&id(name)).map(u16::from);
        assert_eq!(
            [rate("acme"), rate("empty")],
            [Some(5), Some(9)],
            "the owner decides"
        );
        let twice = Registry::new([], [endpoint("ep_1", "other", &["*"], &[])]).unwrap();
        assert!(both.beside(&twice).is_err());
    }
}
