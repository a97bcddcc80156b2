//! Connections: reused, bounded, counted.

use std::time::Duration;

use anyhow::ensure;
use hooklane_receiver::{Options, Protocol, Receiver, Reply};
use hooklane_telemetry::Metric;
use hooklane_testkit::eventually;
use hooklane_testkit::tls::Authority;

use crate::world::{PATIENCE, World, request, trusting};

#[tokio::test]
async fn a_hundred_posts_take_one_connection() {
    // Goal: counted at the receiver, with bodies in the answers.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    receiver.script("/hook", [Reply::ok().body("{\"ok\":true}")]);
    for _ in 0..100 {
        assert_eq!(world.status(&receiver.url("/hook")).await, 200);
    }
    assert_eq!(receiver.total(), 100);
    assert_eq!(receiver.connections_opened(), 1);
    assert_eq!(world.value(Metric::ConnectionsOpened, &[]), 1.0);
    assert_eq!(world.value(Metric::ConnectionsOpen, &[]), 1.0);
}

#[tokio::test]
async fn http_2_carries_many_posts_at_once_on_one_connection() {
    // Goal: after the first one, 50 posts at once are streams of the same connection.
    let authority = Authority::new().unwrap();
    let identity = authority.server(&["localhost", "127.0.0.1"]).unwrap();
    let tls = Some(authority.server_config(&identity).unwrap());
    let receiver = Receiver::start(Options {
        tls,
        protocol: Protocol::Auto,
        ..Options::default()
    })
    .await
    .unwrap();
    receiver.script_default([Reply::ok().after(Duration::from_millis(50))]);
    let world = World::new();
    let given = || {
        let mut given = request(&receiver.url("/hook"));
        given.tls = trusting(authority.ca_file());
        given
    };
    assert_eq!(world.ok(given()).await.version, http::Version::HTTP_2);
    let attempts: Vec<_> = (0..50)
        .map(|_| {
            let (client, given) = (world.client.clone(), given());
            tokio::spawn(async move { client.post(given).await.result.unwrap() })
        })
        .collect();
    for attempt in attempts {
        assert_eq!(attempt.await.unwrap().version, http::Version::HTTP_2);
    }
    assert_eq!(receiver.connections_opened(), 1);
    assert!(receiver.in_flight_peak() > 10, "{}", receiver.in_flight_peak());
}

#[tokio::test]
async fn connections_beyond_the_bound_close_after_their_request() {
    // Goal: 20 at once open 20 connections; afterwards at most 3 are kept.
    let world = World::with(|settings| settings.connections_idle_max = 3);
    let receiver = Receiver::start(Options::default()).await.unwrap();
    receiver.script_default([Reply::ok().after(Duration::from_millis(200))]);
    let attempts: Vec<_> = (0..20)
        .map(|_| {
            let (client, given) = (world.client.clone(), request(&receiver.url("/hook")));
            tokio::spawn(async move { client.post(given).await.result.unwrap() })
        })
        .collect();
    for attempt in attempts {
        attempt.await.unwrap();
    }
    assert!(receiver.connections_opened() > 3);
    eventually("at most 3 open connections", PATIENCE, || async {
        let open = world.value(Metric::ConnectionsOpen, &[]);
        ensure!((1.0..=3.0).contains(&open), "{open} are open");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_idle_connection_closes_in_time() {
    // Goal: the bound on idle time holds without another request.
    let world = World::with(|settings| settings.connection_idle = Duration::from_millis(200));
    let receiver = Receiver::start(Options::default()).await.unwrap();
    assert_eq!(world.status(&receiver.url("/hook")).await, 200);
    eventually("no open connection", PATIENCE, || async {
        let open = world.value(Metric::ConnectionsOpen, &[]);
        ensure!(open == 0.0, "{open} are open");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_pooled_connection_that_the_receiver_closed_costs_no_attempt() {
    // Goal: a restarted receiver gets the next post on a new connection.
    let world = World::new();
    let receiver = Receiver::start(Options::default()).await.unwrap();
    let address = receiver.address();
    assert_eq!(world.status(&receiver.url("/hook")).await, 200);
    receiver.stop().await;
    let receiver = Receiver::start(Options {
        listen: address,
        ..Options::default()
    })
    .await
    .unwrap();
    assert_eq!(world.status(&receiver.url("/hook")).await, 200);
    assert_eq!(receiver.total(), 1);
}

#[tokio::test]
async fn a_timed_out_connection_is_not_used_again() {
    // Goal: the answer to a request that was given up never meets the next one.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    receiver.script("/slow", [Reply::status(500).after(Duration::from_millis(400))]);
    let mut given = request(&receiver.url("/slow"));
    given.timeout = Duration::from_millis(100);
    assert_eq!(world.failure(given).await.kind.name(), "timeout");
    for _ in 0..20 {
        assert_eq!(world.status(&receiver.url("/hook")).await, 200);
    }
    assert_eq!(receiver.connections_opened(), 2);
}
