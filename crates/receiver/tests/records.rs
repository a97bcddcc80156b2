//! What is recorded, verified, counted, and waited for.

mod client;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use client::Client;
use hooklane_receiver::{Error, Options, Receiver, Reply, Verdict};
use hooklane_signing::{HeaderFamily, Scheme, Secret, Signer, Verifier};
use hooklane_testkit::eventually;
use hooklane_testkit::tls::Authority;
use http::{Request, Version};
use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const WAIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_request_is_recorded_whole() -> Result<()> {
    // Goal: path, query, headers, body bytes, connection and version are what was sent.
    let receiver = Receiver::start(Options::default()).await?;
    let client = Client::new(Version::HTTP_11, None);
    for id in ["msg_1", "msg_2"] {
        let response = client
            .post(&receiver.url("/hook?a=1"), id, "{ \"n\": 1.0 }")
            .await?;
        ensure!(response.status() == 200);
    }
    let received = receiver.received_at("/hook");
    ensure!(received.len() == 2);
    let first = received.first().context("nothing")?;
    ensure!(
        first.method == "POST" && first.query.as_deref() == Some("a=1") && first.body == "{ \"n\": 1.0 }"
    );
    ensure!(first.webhook_id() == Some("msg_1") && first.http_version == Version::HTTP_11);
    ensure!(
        received.iter().all(|request| request.connection == 1),
        "{received:?}"
    );
    ensure!(first.verdict.is_none() && first.server_name.is_none());
    Ok(())
}

#[tokio::test]
async fn counts_outlive_the_requests_that_are_kept() -> Result<()> {
    // Goal: two requests are kept, repeats per id and per path are counted over all five.
    let receiver = Receiver::start(Options {
        requests_kept_max: 2,
        ..Options::default()
    })
    .await?;
    let client = Client::new(Version::HTTP_11, None);
    for (path, id) in [
        ("/a", "msg_1"),
        ("/a", "msg_1"),
        ("/b", "msg_1"),
        ("/b", "msg_2"),
        ("/b", "msg_3"),
    ] {
        client.status(&receiver.url(path), id).await?;
    }
    let kept = receiver.received();
    ensure!(
        kept.iter()
            .filter_map(|request| request.webhook_id())
            .eq(["msg_2", "msg_3"])
    );
    ensure!(receiver.total() == 5);
    ensure!(receiver.by_webhook_id() == [("msg_1", 3), ("msg_2", 1), ("msg_3", 1)].map(owned).into());
    receiver.look(|log| {
        ensure!(log.count_at("/a") == 2 && log.distinct_at("/a") == 1 && log.distinct_at("/b") == 3);
        ensure!(log.distinct() == 4, "{} deliveries", log.distinct());
        ensure!(log.by_webhook_id_at("/a") == [("msg_1", 2)].map(owned).into());
        Ok(())
    })?;
    receiver.forget();
    ensure!(receiver.total() == 0 && receiver.by_webhook_id().is_empty());
    Ok(())
}

fn owned((id, count): (&str, u64)) -> (String, u64) {
    (id.to_owned(), count)
}

#[tokio::test]
async fn a_wait_ends_with_the_arrival_or_says_what_came() -> Result<()> {
    // Goal: waits see the past and the future, and a failed one names what it waited for and what came instead.
    let receiver = Receiver::start(Options::default()).await?;
    let client = Client::new(Version::HTTP_11, None);
    let url = receiver.url("/hook");
    let (waited, sent) = tokio::join!(
        receiver.wait_for_at("/hook", 1, WAIT),
        client.status(&url, "msg_1")
    );
    waited?;
    sent?;
    receiver
        .wait_for(1, Duration::ZERO)
        .await
        .context("the past was not seen")?;
    let failed = receiver.wait_for(2, Duration::from_millis(50)).await;
    let error = failed.err().context("a request came from nowhere")?;
    ensure!(matches!(error, Error::Deadline { .. }));
    let text = error.to_string();
    ensure!(
        text.contains("2 requests") && text.contains("1 requests came") && text.contains("msg_1"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn each_request_carries_the_verdict_on_its_signature() -> Result<()> {
    // Goal: a good signature, a changed body and no signature; a script that answers by the verdict.
    let receiver = Receiver::start(Options::default()).await?;
    let scheme = Scheme::Standard(HeaderFamily::Webhook);
    let secret = Secret::symmetric_from_bytes(&[7; 32])?;
    receiver.verify_default(Verifier::new(scheme.clone(), vec![secret.clone()])?);
    receiver.script_with("/", |request| match &request.verdict {
        Some(Verdict::Valid) => Reply::ok(),
        _ => Reply::status(401),
    });
    let client = Client::new(Version::HTTP_11, None);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)?
        .as_secs()
        .cast_signed();
    let signer = Signer::new(scheme, vec![secret])?;
    let headers = signer.sign("msg_1", now, b"{}");
    for (headers, body, status) in [
        (&headers[..], "{}", 200),
        (&headers, "{ }", 401),
        (&[], "{}", 401),
    ] {
        let mut request = Request::post(receiver.url("/"));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = client
            .send(request.body(Full::new(Bytes::from_static(body.as_bytes())))?)
            .await?;
        ensure!(response.status() == status, "{:?}", receiver.received().last());
    }
    ensure!(receiver.look(|log| (log.valid(), log.invalid())) == (1, 2));
    Ok(())
}

#[tokio::test]
async fn tls_shows_name_and_client_certificate_in_both_versions_of_http() -> Result<()> {
    // Goal: HTTPS with SNI, ALPN and mutual TLS.
    let authority = Authority::new()?;
    let server = authority.server(&["localhost"])?;
    let tls = Some(authority.mutual_server_config(&server)?);
    let receiver = Receiver::start(Options {
        tls,
        ..Options::default()
    })
    .await?;
    let identity = authority.client("dispatcher")?;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let client = Client::new(version, Some(authority.client_config(Some(&identity))?));
        ensure!(
            client
                .status(&receiver.url_by_name("localhost", "/"), "msg_1")
                .await?
                == 200
        );
        let last = receiver.received().pop().context("nothing")?;
        ensure!(
            last.http_version == version && last.server_name.as_deref() == Some("localhost"),
            "{last:?}"
        );
        ensure!(last.client_certificate.is_some());
    }
    let stranger = Client::new(Version::HTTP_11, Some(authority.client_config(None)?));
    ensure!(
        stranger
            .status(&receiver.url_by_name("localhost", "/"), "msg_1")
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn bodies_that_break_off_or_are_too_long_are_counted_and_not_recorded() -> Result<()> {
    // Goal: half a request is no delivery.
    let receiver = Receiver::start(Options {
        body_bytes_max: 10,
        ..Options::default()
    })
    .await?;
    let client = Client::new(Version::HTTP_11, None);
    let response = client.post(&receiver.url("/"), "msg_1", "eleven bytes").await?;
    ensure!(response.status() == 413);
    let mut stream = TcpStream::connect(receiver.address()).await?;
    stream
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhal")
        .await?;
    drop(stream);
    eventually("the broken request to be counted", WAIT, || async {
        ensure!(
            receiver.broken_requests() == 2,
            "{} broken",
            receiver.broken_requests()
        );
        Ok(())
    })
    .await?;
    ensure!(receiver.total() == 0);
    Ok(())
}

#[tokio::test]
async fn a_stopped_receiver_frees_its_port_and_ends_its_connections() -> Result<()> {
    // Goal: an endpoint that goes away and comes back at the same address. Method: stop with a hanging request, start again.
    let receiver = Receiver::start(Options::default()).await?;
    receiver.script("/", [Reply::hang()]);
    let (address, url) = (receiver.address(), receiver.url("/"));
    let hanging =
        tokio::spawn(async move { Client::new(Version::HTTP_11, None).status(&url, "msg_1").await });
    receiver.wait_for(1, WAIT).await?;
    tokio::time::timeout(WAIT, receiver.stop()).await?;
    ensure!(tokio::time::timeout(WAIT, hanging).await??.is_err());
    ensure!(TcpStream::connect(address).await.is_err());
    let again = Receiver::start(Options {
        listen: address,
        ..Options::default()
    })
    .await?;
    ensure!(
        Client::new(Version::HTTP_11, None)
            .status(&again.url("/"), "msg_1")
            .await?
            == 200
    );
    let taken = Receiver::start(Options {
        listen: address,
        ..Options::default()
    })
    .await;
    ensure!(matches!(taken.err(), Some(Error::Listen { .. })));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once_lose_no_request() -> Result<()> {
    // Goal: counts are exact under load. Method: 32 connections, 10,000 requests, each id twice. The rate is printed, not judged: the machine decides it.
    const EACH: u64 = 312;
    const CONNECTIONS: u64 = 32;
    let receiver = Receiver::start(Options::default()).await?;
    let begun = Instant::now();
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let url = receiver.url("/");
            tokio::spawn(async move {
                let client = Client::new(Version::HTTP_11, None);
                for request in 0..EACH {
                    client
                        .status(&url, &format!("msg_{}_{request}", number / 2))
                        .await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    receiver
        .wait_for(EACH * CONNECTIONS, Duration::from_secs(120))
        .await?;
    println!(
        "{:.0} requests/s",
        (EACH * CONNECTIONS) as f64 / begun.elapsed().as_secs_f64()
    );
    for sender in senders {
        sender.await??;
    }
    ensure!(receiver.connections_opened() == CONNECTIONS);
    let counts = receiver.by_webhook_id();
    ensure!(counts.len() as u64 == EACH * CONNECTIONS / 2 && counts.values().all(|count| *count == 2));
    Ok(())
}
