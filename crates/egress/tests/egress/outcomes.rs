//! What an attempt can come to.

use std::time::{Duration, Instant};

use hooklane_receiver::{Options, Receiver, Reply};
use hooklane_types::endpoint::ClientCertificate;
use hooklane_types::{FailureKind, HttpAuth, TlsFiles};
use tokio::net::TcpListener;

use crate::raw::RawServer;
use crate::world::{World, request, trusting};

#[tokio::test]
async fn an_answer_is_its_status() {
    // Goal: every status is an answer, a redirect too, with Retry-After as it came and the body as it came.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    for status in [200, 204, 302, 400, 410, 500] {
        receiver.script("/hook", [Reply::status(status)]);
        assert_eq!(world.status(&receiver.url("/hook")).await, status);
    }
    let limited = Reply::status(429)
        .header("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")
        .body("slow down");
    receiver.script("/hook", [limited.header("content-encoding", "gzip")]);
    let answer = world.post(&receiver.url("/hook")).await;
    let response = answer.result.unwrap();
    assert_eq!(response.status, 429);
    assert_eq!(
        response.retry_after.as_deref(),
        Some("Fri, 31 Dec 1999 23:59:59 GMT")
    );
    assert_eq!(response.body, "slow down");
    assert!(!response.body_cut);
    assert_eq!(response.version, http::Version::HTTP_11);
    assert_eq!(answer.remote, Some(receiver.address()));
    assert!(!answer.duration.is_zero());
}

#[tokio::test]
async fn the_request_arrives_as_it_was_given() {
    // Goal: body to the byte, headers (also doubled ones), and what is added: host, length, user agent.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    let mut given = request(&receiver.url("/hook?key=a%20b&x=#fragment"));
    given.headers.extend([
        ("X-Twice".into(), "1".into()),
        ("x-twice".into(), "zwei ü".into()),
    ]);
    given.auth = Some(HttpAuth::Basic {
        username: "user".into(),
        password: "pässword:".into(),
    });
    world.ok(given).await;
    let arrived = receiver.received().remove(0);
    assert_eq!(arrived.method, http::Method::POST);
    assert_eq!(arrived.query.as_deref(), Some("key=a%20b&x="));
    assert_eq!(arrived.body, "{\"a\": 1.0}");
    assert_eq!(
        arrived.header("host"),
        Some(receiver.address().to_string().as_str())
    );
    assert_eq!(arrived.header("content-length"), Some("10"));
    assert_eq!(arrived.header("content-type"), Some("application/json"));
    assert!(arrived.header("user-agent").unwrap().starts_with("Hooklane/"));
    assert_eq!(arrived.header("accept-encoding"), None);
    assert_eq!(arrived.headers.get_all("x-twice").iter().count(), 2);
    assert_eq!(
        arrived
            .headers
            .get_all("x-twice")
            .iter()
            .nth(1)
            .unwrap()
            .as_bytes(),
        "zwei ü".as_bytes()
    );
    assert_eq!(
        arrived.header("authorization"),
        Some("Basic dXNlcjpww6Rzc3dvcmQ6")
    );

    let mut given = request(&receiver.url("/hook"));
    given.auth = Some(HttpAuth::Bearer {
        token: "secret-token".into(),
    });
    given.headers.push(("user-agent".into(), "mine".into()));
    world.ok(given).await;
    let arrived = receiver.received().remove(1);
    assert_eq!(arrived.header("authorization"), Some("Bearer secret-token"));
    assert_eq!(arrived.header("user-agent"), Some("mine"));
}

#[tokio::test]
async fn a_receiver_that_hangs_is_a_timeout() {
    // Goal: the deadline ends it, and the answer says whom we were connected to.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    receiver.script("/hook", [Reply::hang()]);
    let mut given = request(&receiver.url("/hook"));
    given.timeout = Duration::from_millis(300);
    let answer = world.client.post(given).await;
    let failure = answer.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert_eq!(failure.detail, "no status within 300 ms");
    assert_eq!(answer.remote, Some(receiver.address()));
    assert!(answer.duration < Duration::from_secs(2), "{:?}", answer.duration);
}

#[tokio::test]
async fn a_head_that_dribbles_is_a_timeout() {
    // Goal: bytes that keep coming do not extend the deadline.
    let (world, server) = (
        World::new(),
        RawServer::dribbling(Duration::from_millis(20)).await,
    );
    let mut given = request(&server.url());
    given.timeout = Duration::from_millis(400);
    let begun = Instant::now();
    assert_eq!(world.failure(given).await.kind, FailureKind::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_that_ends_without_a_status_is_closed() {
    // Goal: FIN and RST after the request, and a head that breaks off.
    let (world, receiver) = (World::new(), Receiver::start(Options::default()).await.unwrap());
    for reply in [Reply::close(), Reply::reset()] {
        receiver.script("/hook", [reply]);
        assert_eq!(world.kind(&receiver.url("/hook")).await, FailureKind::Closed);
    }
    let server = RawServer::saying(b"HTTP/1.1 200 OK\r\ncontent-").await;
    assert_eq!(world.kind(&server.url()).await, FailureKind::Closed);
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    // Goal: garbage, a version we never asked for, and a head without end.
    let world = World::new();
    let endless: &'static [u8] = Box::leak(
        [b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &[b'a'; 200_000]]
            .concat()
            .into_boxed_slice(),
    );
    for said in [
        b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(),
        b"HTTP/3.0 200 OK\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        endless,
    ] {
        let server = RawServer::saying(said).await;
        assert_eq!(
            world.kind(&server.url()).await,
            FailureKind::Protocol,
            "{:?}",
            &said[..7]
        );
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_a_connect_failure() {
    // Goal: refused is Connect, and the detail names the address.
    let world = World::new();
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let failure = world
        .failure(request(&format!("http://{address}/secret?token=hidden")))
        .await;
    assert_eq!(failure.kind, FailureKind::Connect);
    assert!(
        failure.detail.contains(&address.to_string()),
        "{}",
        failure.detail
    );
    assert!(
        !failure.detail.contains("secret") && !failure.detail.contains("hidden"),
        "{}",
        failure.detail
    );
}

#[tokio::test]
async fn what_the_configuration_forbids_is_never_sent() {
    // Goal: each of these fails as Configuration without a connection, and no detail holds a secret.
    let receiver = Receiver::start(Options::default()).await.unwrap();
    let world = World::with(|settings| settings.https_only = true);
    assert_eq!(
        world.kind(&receiver.url("/hook")).await,
        FailureKind::Configuration
    );

    let world = World::new();
    let with_header = |name: &str, value: &str| {
        let mut given = request(&receiver.url("/hook"));
        given.headers.push((name.to_owned(), value.to_owned()));
        given
    };
    for (name, value) in [
        ("x-a", "s3cret\r\nx-b: 1"),
        ("x-a", "s3cret\0"),
        ("x-a", "s3cret\u{7f}"),
        ("s3cret name", "1"),
        ("", "s3cret"),
        ("s3crét", "1"),
        ("Host", "s3cret"),
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("connection", "s3cret"),
        ("Keep-Alive", "s3cret"),
    ] {
        let failure = world.failure(with_header(name, value)).await;
        assert_eq!(failure.kind, FailureKind::Configuration, "{name}: {value}");
        assert!(!failure.detail.contains("s3cr"), "{}", failure.detail);
    }
    let mut given = request(&receiver.url("/hook"));
    given.auth = Some(HttpAuth::Bearer {
        token: "s3cret\n".into(),
    });
    let failure = world.failure(given).await;
    assert_eq!(failure.kind, FailureKind::Configuration);
    assert!(!failure.detail.contains("s3cret"), "{}", failure.detail);

    for url in ["http://user:s3cret@127.0.0.1/", "ftp://127.0.0.1/"] {
        assert_eq!(world.kind(url).await, FailureKind::Configuration, "{url}");
    }

    let mut given = request("https://127.0.0.1/");
    given.tls = trusting("/no/such/ca.pem".as_ref());
    let failure = world.failure(given).await;
    assert_eq!(failure.kind, FailureKind::Configuration);
    assert!(failure.detail.contains("/no/such/ca.pem"), "{}", failure.detail);

    let mut given = request("https://127.0.0.1/");
    let certificate = ClientCertificate {
        certificate: "/dev/null".into(),
        key: "/dev/null".into(),
    };
    given.tls = TlsFiles {
        ca: None,
        client: Some(certificate),
    };
    assert_eq!(world.failure(given).await.kind, FailureKind::Configuration);

    assert_eq!(receiver.connections_opened(), 0);
}

#[tokio::test]
async fn only_the_final_status_counts() {
    // Goal: interim answers are passed over, 101 is an answer like any other, and HTTP/1.0 is understood.
    let world = World::new();
    for (said, status) in [
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
                .as_slice(),
            204,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            101,
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200),
        (b"HTTP/1.1 999 \r\ncontent-length: 0\r\n\r\n", 999),
    ] {
        let server = RawServer::saying(said).await;
        assert_eq!(world.status(&server.url()).await, status);
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_counts() {
    // Goal: a receiver that refuses 8 MiB after its first bytes, and closes on the rest, has answered.
    let world = World::new();
    for _ in 0..10 {
        let server =
            RawServer::saying(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await;
        let mut given = request(&server.url());
        given.body = vec![b'a'; 8 * 1024 * 1024].into();
        assert_eq!(world.ok(given).await.status, 413);
    }
}
