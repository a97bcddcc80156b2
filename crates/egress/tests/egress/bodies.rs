//! The status decides, however the body ends.

use std::time::{Duration, Instant};

use hooklane_receiver::{Body, Options, Protocol, Receiver, Reply};
use hooklane_testkit::tls::Authority;

use crate::world::{World, request, trusting};

const GIB: u64 = 1024 * 1024 * 1024;

/// The most memory that this process ever had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_gibibytes_are_cut_and_memory_stays_flat() {
    // Goal: 20 attempts at once get their status and 64 KiB each; the receivers send little more.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    receiver.script("/hook", [Reply::huge_body(10 * GIB)]);
    let before_kib = peak_kib();
    let attempts: Vec<_> = (0..20)
        .map(|_| {
            let (client, given) = (world.client.clone(), request(&receiver.url("/hook")));
            tokio::spawn(async move { client.post(given).await.result.unwrap() })
        })
        .collect();
    for attempt in attempts {
        let response = attempt.await.unwrap();
        assert_eq!(
            (response.status, response.body.len(), response.body_cut),
            (200, 64 * 1024, true)
        );
    }
    let sent_mib = receiver.body_bytes_sent() / 1024 / 1024;
    assert!(sent_mib < 500, "the receiver sent {sent_mib} MiB");
    let grown_kib = peak_kib() - before_kib;
    assert!(grown_kib < 100 * 1024, "memory grew by {grown_kib} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_over_http_2_is_cut_and_the_connection_lives() {
    // Goal: over HTTP/2 only the stream is reset: the next attempt takes the same connection.
    let authority = Authority::new().unwrap();
    let identity = authority.server(&["127.0.0.1"]).unwrap();
    let tls = Some(authority.server_config(&identity).unwrap());
    let options = Options {
        tls,
        protocol: Protocol::Http2,
        ..Options::default()
    };
    let receiver = Receiver::start(options).await.unwrap();
    receiver.script("/hook", [Reply::huge_body(10 * GIB)]);
    let world = World::new();
    for _ in 0..5 {
        let mut given = request(&receiver.url("/hook"));
        given.tls = trusting(authority.ca_file());
        let response = world.ok(given).await;
        assert_eq!(
            (response.status, response.body.len(), response.body_cut),
            (200, 64 * 1024, true)
        );
        assert_eq!(response.version, http::Version::HTTP_2);
    }
    assert_eq!(receiver.connections_opened(), 1);
    assert!(
        receiver.body_bytes_sent() < 50 * 1024 * 1024,
        "{}",
        receiver.body_bytes_sent()
    );
}

#[tokio::test]
async fn a_body_that_hangs_or_trickles_does_not_change_the_status() {
    // Goal: 200 after about 2 s, not after the timeout of 10 s, with what had come.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    receiver.script("/hang", [Reply::hang_in_body("begun")]);
    receiver.script(
        "/trickle",
        [Reply::slow_body("x", Duration::from_millis(50), 100_000)],
    );
    for path in ["/hang", "/trickle"] {
        let begun = Instant::now();
        let response = world.ok(request(&receiver.url(path))).await;
        assert_eq!((response.status, response.body_cut), (200, true), "{path}");
        assert!(!response.body.is_empty(), "{path}");
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{path}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn the_deadline_also_ends_a_body() {
    // Goal: with 500 ms for everything, a body that hangs ends then, and the status stands.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    receiver.script("/hook", [Reply::hang_in_body("begun")]);
    let mut given = request(&receiver.url("/hook"));
    given.timeout = Duration::from_millis(500);
    let answer = world.client.post(given).await;
    assert_eq!(answer.result.unwrap().status, 200);
    assert!(
        answer.duration < Duration::from_millis(1500),
        "{:?}",
        answer.duration
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_change_the_status() {
    // Goal: fewer bytes than announced, then the end: 200, cut.
    let server = crate::raw::RawServer::saying(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await;
    let response = World::new().ok(request(&server.url())).await;
    assert_eq!((response.status, response.body_cut), (200, true));
    assert_eq!(response.body, "short");
}

#[tokio::test]
async fn a_body_somewhat_over_the_bound_saves_its_connection() {
    // Goal: only the bound is kept, the rest is read away, and the connection is used again.
    let world = World::with(|settings| settings.answer_bytes_max = 10);
    let receiver = Receiver::start(Options::default()).await.unwrap();
    receiver.script("/hook", [Reply::ok().with(Body::Huge { bytes: 20_000 })]);
    for _ in 0..3 {
        let response = world.ok(request(&receiver.url("/hook"))).await;
        assert_eq!((response.body.len(), response.body_cut), (10, true));
    }
    assert_eq!(receiver.connections_opened(), 1);
}
