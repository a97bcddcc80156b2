//! No address inside.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use hooklane_receiver::{Options, Receiver, Reply};
use hooklane_telemetry::Metric;
use hooklane_testkit::dns::{Answer, Dns};
use hooklane_testkit::eventually;
use hooklane_types::FailureKind;

use crate::world::{PATIENCE, World, request};

/// A client that may reach 127.0.0.2 alone.
fn narrow(dns: Option<&Dns>) -> World {
    let servers: Vec<SocketAddr> = dns.map(Dns::address).into_iter().collect();
    World::with(move |settings| {
        settings.allowed_networks = vec!["127.0.0.2/32".parse().unwrap()];
        settings.dns_servers = servers;
        settings.connections_idle_max = 0;
    })
}

async fn listening(address: &str) -> Receiver {
    Receiver::start(Options {
        listen: address.parse().unwrap(),
        ..Options::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn literal_addresses_inside_are_blocked_in_every_spelling() {
    // Goal: a receiver on 127.0.0.1 sees no connection, however its address is written.
    let receiver = listening("127.0.0.1:0").await;
    let port = receiver.address().port();
    let world = narrow(None);
    let spellings = [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "127.0.0.1.",
        "１２７.0.0.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
    ];
    for spelling in spellings {
        let failure = world
            .failure(request(&format!("http://{spelling}:{port}/")))
            .await;
        assert_eq!(
            failure.kind,
            FailureKind::Blocked,
            "{spelling}: {}",
            failure.detail
        );
    }
    assert_eq!(receiver.connections_opened(), 0);
    assert!(world.value(Metric::AddressesBlocked, &[]) >= spellings.len() as f64);
    assert_eq!(world.value(Metric::ConnectionsOpened, &[]), 0.0);
}

#[tokio::test]
async fn an_allowed_network_is_reached() {
    // Goal: 127.0.0.2 by address and by name, while 127.0.0.1 stays blocked.
    let dns = Dns::start().await.unwrap();
    dns.script("inside.example", [Answer::addresses(&["127.0.0.2"])]);
    let receiver = listening("127.0.0.2:0").await;
    let world = narrow(Some(&dns));
    assert_eq!(world.status(&receiver.url("/hook")).await, 200);
    assert_eq!(
        world
            .status(&receiver.url_by_name("inside.example", "/hook"))
            .await,
        200
    );
    assert_eq!(world.kind("http://127.0.0.1/").await, FailureKind::Blocked);
}

#[tokio::test]
async fn a_name_that_resolves_inside_is_blocked() {
    // Goal: private, metadata and mapped addresses behind names.
    let dns = Dns::start().await.unwrap();
    let world = narrow(Some(&dns));
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "fd00:ec2::254",
    ] {
        let name = format!("{}.example", address.replace([':', '.'], "x"));
        dns.script(&name, [Answer::addresses(&[address])]);
        let failure = world.failure(request(&format!("http://{name}/"))).await;
        assert_eq!(
            failure.kind,
            FailureKind::Blocked,
            "{address}: {}",
            failure.detail
        );
        assert!(failure.detail.contains(&name), "{}", failure.detail);
    }
}

#[tokio::test]
async fn of_several_addresses_only_those_outside_are_tried() {
    // Goal: 127.0.0.1 comes first in the answer and has a listener; the attempt goes to 127.0.0.2.
    let dns = Dns::start().await.unwrap();
    dns.script("mixed.example", [Answer::addresses(&["127.0.0.1", "127.0.0.2"])]);
    let allowed = listening("127.0.0.2:0").await;
    let forbidden = listening(&format!("127.0.0.1:{}", allowed.address().port())).await;
    let world = narrow(Some(&dns));
    let answer = world.post(&allowed.url_by_name("mixed.example", "/hook")).await;
    assert_eq!(answer.result.unwrap().status, 200);
    assert_eq!(answer.remote, Some(allowed.address()));
    assert_eq!(forbidden.connections_opened(), 0);
}

#[tokio::test]
async fn a_name_that_moves_inside_is_blocked_from_then_on() {
    // Goal: rebinding. The first answer is reachable, later ones are 127.0.0.1, where somebody listens on that port.
    let dns = Dns::start().await.unwrap();
    dns.script(
        "moving.example",
        [
            Answer::addresses(&["127.0.0.2"]),
            Answer::addresses(&["127.0.0.1"]),
        ],
    );
    let allowed = listening("127.0.0.2:0").await;
    let forbidden = listening(&format!("127.0.0.1:{}", allowed.address().port())).await;
    let world = narrow(Some(&dns));
    let url = allowed.url_by_name("moving.example", "/hook");
    assert_eq!(world.status(&url).await, 200);
    eventually("the second answer", PATIENCE, || async {
        match world.post(&url).await.result {
            // The first answer is kept for a second, whatever its TTL.
            Ok(response) => bail!("still {}", response.status),
            Err(failure) => {
                ensure!(failure.kind == FailureKind::Blocked, "{failure:?}");
                Ok(())
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(forbidden.connections_opened(), 0);
}

#[tokio::test]
async fn a_redirect_inside_is_not_followed() {
    // Goal: 302, 307 and 308 are the answer; their target sees nothing.
    let (allowed, forbidden) = (listening("127.0.0.2:0").await, listening("127.0.0.1:0").await);
    let world = narrow(None);
    for status in [301, 302, 307, 308] {
        allowed.script(
            "/hook",
            [Reply::status(status).header("location", &forbidden.url("/inside"))],
        );
        assert_eq!(world.status(&allowed.url("/hook")).await, status);
    }
    assert_eq!(forbidden.connections_opened(), 0);
}
