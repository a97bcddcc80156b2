//! TLS: whom we trust, who we are, and sessions.

use std::fs;

use anyhow::ensure;
use hooklane_receiver::{Options, Protocol, Receiver};
use hooklane_telemetry::Metric;
use hooklane_testkit::eventually;
use hooklane_testkit::tls::{Authority, Identity};
use hooklane_types::endpoint::ClientCertificate;
use hooklane_types::{FailureKind, TlsFiles};

use crate::raw::RawServer;
use crate::world::{PATIENCE, World, request, trusting};

async fn receiver(authority: &Authority, identity: &Identity) -> Receiver {
    let tls = Some(authority.server_config(identity).unwrap());
    Receiver::start(Options {
        tls,
        protocol: Protocol::Http1,
        ..Options::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn an_endpoints_own_authority_is_trusted_by_it_alone() {
    // Goal: with the CA file it works, without it the handshake fails, also after it worked for the other profile.
    let authority = Authority::new().unwrap();
    let receiver = receiver(&authority, &authority.server(&["127.0.0.1"]).unwrap()).await;
    let world = World::new();
    let mut given = request(&receiver.url("/hook"));
    given.tls = trusting(authority.ca_file());
    let response = world.ok(given).await;
    assert_eq!((response.status, response.version), (200, http::Version::HTTP_11));
    let failure = world.failure(request(&receiver.url("/hook"))).await;
    assert_eq!(failure.kind, FailureKind::Tls, "{}", failure.detail);
    let mut given = request(&receiver.url("/hook"));
    let other = Authority::new().unwrap();
    given.tls = trusting(other.ca_file());
    assert_eq!(world.failure(given).await.kind, FailureKind::Tls);
    assert_eq!(receiver.total(), 1);
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_a_tls_failure() {
    // Goal: another name, an expired one, and a port that speaks no TLS.
    let authority = Authority::new().unwrap();
    let world = World::new();
    for identity in [
        authority.server(&["elsewhere.example"]).unwrap(),
        authority.expired_server(&["127.0.0.1"]).unwrap(),
    ] {
        let receiver = receiver(&authority, &identity).await;
        let mut given = request(&receiver.url("/hook?token=hidden"));
        given.tls = trusting(authority.ca_file());
        let failure = world.failure(given).await;
        assert_eq!(failure.kind, FailureKind::Tls, "{}", failure.detail);
        assert!(failure.detail.contains("certificate"), "{}", failure.detail);
        assert!(!failure.detail.contains("hidden"), "{}", failure.detail);
    }
    let plain = RawServer::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(
        world.kind(&format!("https://{}/", plain.address)).await,
        FailureKind::Tls
    );
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_wanted() {
    // Goal: over both versions of HTTP, with it 200 and the receiver saw it; without it, or with one of another
    // authority, a TLS failure (in TLS 1.3 the refusal comes only after the handshake).
    let (authority, stranger) = (Authority::new().unwrap(), Authority::new().unwrap());
    let identity = authority.server(&["127.0.0.1"]).unwrap();
    let world = World::new();
    let files = |identity: &Identity| TlsFiles {
        ca: Some(authority.ca_file().to_owned()),
        client: Some(ClientCertificate {
            certificate: identity.certificate_file().to_owned(),
            key: identity.key_file().to_owned(),
        }),
    };
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let tls = Some(authority.mutual_server_config(&identity).unwrap());
        let receiver = Receiver::start(Options {
            tls,
            protocol,
            ..Options::default()
        })
        .await
        .unwrap();
        let mut given = request(&receiver.url("/hook"));
        given.tls = files(&authority.client("hooklane").unwrap());
        assert_eq!(world.ok(given).await.status, 200);
        assert!(receiver.received()[0].client_certificate.is_some());
        for tls in [
            trusting(authority.ca_file()),
            files(&stranger.client("hooklane").unwrap()),
        ] {
            let mut given = request(&receiver.url("/hook"));
            given.tls = tls;
            let failure = world.failure(given).await;
            assert_eq!(failure.kind, FailureKind::Tls, "{protocol:?}: {}", failure.detail);
        }
        assert_eq!(receiver.total(), 1);
    }
}

#[tokio::test]
async fn a_second_connection_resumes_the_session() {
    // Goal: without kept connections, only the first of five handshakes is a full one.
    let authority = Authority::new().unwrap();
    let receiver = receiver(&authority, &authority.server(&["127.0.0.1"]).unwrap()).await;
    let world = World::with(|settings| settings.connections_idle_max = 0);
    for _ in 0..5 {
        let mut given = request(&receiver.url("/hook"));
        given.tls = trusting(authority.ca_file());
        world.ok(given).await;
    }
    assert_eq!(receiver.connections_opened(), 5);
    assert_eq!(world.value(Metric::TlsHandshakes, &["full"]), 1.0);
    assert_eq!(world.value(Metric::TlsHandshakes, &["resumed"]), 4.0);
    assert_eq!(world.value(Metric::TlsSessions, &[]), 1.0);
}

#[tokio::test]
async fn the_session_cache_keeps_within_its_bound() {
    // Goal: ten servers, by ten addresses, leave at most four entries.
    let authority = Authority::new().unwrap();
    let names: Vec<String> = (1..=10).map(|n| format!("127.0.1.{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tls = Some(
        authority
            .server_config(&authority.server(&names).unwrap())
            .unwrap(),
    );
    let listen = "0.0.0.0:0".parse().unwrap();
    let receiver = Receiver::start(Options {
        tls,
        listen,
        ..Options::default()
    })
    .await
    .unwrap();
    let world = World::with(|settings| settings.tls_sessions_max = 4);
    for name in names {
        let mut given = request(&receiver.url_by_name(name, "/hook"));
        given.tls = trusting(authority.ca_file());
        world.ok(given).await;
        let sessions = world.value(Metric::TlsSessions, &[]);
        assert!((1.0..=4.0).contains(&sessions), "{sessions}");
    }
}

#[tokio::test]
async fn changed_files_come_into_force_without_a_restart() {
    // Goal: a CA file that trusts nobody we meet is replaced: refused before, answered after. A broken file in
    // between leaves the last good one in force.
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let receiver = receiver(&authority, &authority.server(&["127.0.0.1"]).unwrap()).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), other.ca_pem()).unwrap();
    let world = World::with(|settings| settings.connections_idle_max = 0);
    let given = || {
        let mut given = request(&receiver.url("/hook"));
        given.tls = trusting(file.path());
        given
    };
    assert_eq!(world.failure(given()).await.kind, FailureKind::Tls);
    fs::write(file.path(), authority.ca_pem().repeat(2)).unwrap();
    eventually("the new file in force", PATIENCE, || async {
        let answer = world.client.post(given()).await;
        ensure!(answer.result.is_ok(), "{:?}", answer.result);
        Ok(())
    })
    .await
    .unwrap();
    fs::write(file.path(), "broken").unwrap();
    assert_eq!(world.ok(given()).await.status, 200);
}
