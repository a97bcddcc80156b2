//! Names: resolved once, cached within bounds.

use std::time::Duration;

use hooklane_receiver::{Options, Receiver};
use hooklane_telemetry::Metric;
use hooklane_testkit::dns::{Answer, Dns, RecordType};
use hooklane_types::FailureKind;

use crate::world::{World, request};

async fn world(dns: &Dns) -> World {
    let server = dns.address();
    World::with(move |settings| {
        settings.dns_servers = vec![server];
        settings.connections_idle_max = 0;
        settings.dns_entries_max = 4;
    })
}

#[tokio::test]
async fn a_name_is_resolved_once_for_many_attempts() {
    // Goal: 20 attempts at once and 5 later ones, each on a connection of its own, ask the name server once.
    let (dns, receiver) = (
        Dns::start().await.unwrap(),
        Receiver::start(Options::default()).await.unwrap(),
    );
    dns.script("hook.example", [Answer::addresses(&["127.0.0.1"]).ttl_s(60)]);
    let world = world(&dns).await;
    let url = receiver.url_by_name("hook.example", "/hook");
    let attempts: Vec<_> = (0..20)
        .map(|_| {
            let (client, given) = (world.client.clone(), request(&url));
            tokio::spawn(async move { client.post(given).await.result.unwrap().status })
        })
        .collect();
    for attempt in attempts {
        assert_eq!(attempt.await.unwrap(), 200);
    }
    for _ in 0..5 {
        assert_eq!(world.status(&url).await, 200);
    }
    assert_eq!(receiver.connections_opened(), 25);
    assert_eq!(dns.queries_of("hook.example", RecordType::A), 1);
    assert_eq!(world.value(Metric::DnsLookups, &["miss"]), 1.0);
    assert!(world.value(Metric::DnsLookups, &["hit"]) >= 5.0);
    assert_eq!(
        receiver.received()[0].header("host"),
        Some(format!("hook.example:{}", receiver.address().port()).as_str())
    );
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_failure() {
    // Goal: no such name, no address, a server that fails, and a name that cannot be one; a repeat asks nobody.
    let dns = Dns::start().await.unwrap();
    dns.script("empty.example", [Answer::addresses(&[])]);
    dns.script("broken.example", [Answer::ServerFailure]);
    let world = world(&dns).await;
    for name in ["missing.example", "empty.example", "broken.example"] {
        let failure = world
            .failure(request(&format!("http://{name}/hook?token=hidden")))
            .await;
        assert_eq!(failure.kind, FailureKind::Dns, "{name}: {}", failure.detail);
        assert!(
            failure.detail.contains(name) && !failure.detail.contains("hidden"),
            "{}",
            failure.detail
        );
    }
    let asked = dns.queries("missing.example");
    assert_eq!(world.kind("http://missing.example/").await, FailureKind::Dns);
    assert_eq!(dns.queries("missing.example"), asked);
    let long = format!("http://{}.example/", "a".repeat(64));
    assert_eq!(world.kind(&long).await, FailureKind::Dns);
}

#[tokio::test]
async fn a_name_server_that_is_silent_ends_with_the_deadline() {
    // Goal: the attempt's deadline bounds the look-up too.
    let dns = Dns::start().await.unwrap();
    dns.script("silent.example", [Answer::Silence]);
    let world = world(&dns).await;
    let mut given = request("http://silent.example/");
    given.timeout = Duration::from_millis(300);
    let answer = world.client.post(given).await;
    let failure = answer.result.unwrap_err();
    assert_eq!(
        (failure.kind, failure.detail.as_str()),
        (FailureKind::Timeout, "no connection within 300 ms")
    );
    assert!(answer.duration < Duration::from_secs(2), "{:?}", answer.duration);
    assert_eq!(world.kind("http://silent.example/").await, FailureKind::Dns);
}

#[tokio::test]
async fn the_cache_keeps_within_its_bound() {
    // Goal: twenty names leave at most four entries.
    let dns = Dns::start().await.unwrap();
    let world = world(&dns).await;
    for n in 0..20 {
        assert_eq!(
            world.kind(&format!("http://name{n}.example/")).await,
            FailureKind::Dns
        );
        let entries = world.value(Metric::DnsEntries, &[]);
        assert!((1.0..=4.0).contains(&entries), "{entries}");
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_connect() {
    // Goal: nobody listens on 127.0.0.9; the second address answers.
    let (dns, receiver) = (
        Dns::start().await.unwrap(),
        Receiver::start(Options::default()).await.unwrap(),
    );
    dns.script("two.example", [Answer::addresses(&["127.0.0.9", "127.0.0.1"])]);
    let world = world(&dns).await;
    for _ in 0..4 {
        assert_eq!(
            world.status(&receiver.url_by_name("two.example", "/hook")).await,
            200
        );
    }
}
