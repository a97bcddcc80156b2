//! Each kind of reply, as a client sees it.

mod client;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use client::Client;
use hooklane_receiver::{Options, Protocol, Receiver, Reply};
use hooklane_testkit::eventually;
use http::Version;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WAIT: Duration = Duration::from_secs(20);
/// Long enough for an answer on loopback to have come, if it were to come.
const SILENCE: Duration = Duration::from_millis(300);
const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nhost: x\r\nwebhook-id: msg_1\r\ncontent-length: 2\r\n\r\n{}";

async fn receiver(replies: impl IntoIterator<Item = Reply>) -> Result<Receiver> {
    let receiver = Receiver::start(Options::default()).await?;
    receiver.script("/", replies);
    Ok(receiver)
}

async fn raw(receiver: &Receiver) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(receiver.address()).await?;
    stream.write_all(REQUEST).await?;
    Ok(stream)
}

#[tokio::test]
async fn replies_come_in_turn_and_the_last_repeats() -> Result<()> {
    // Goal: a list is one reply per request; other paths have the default.
    let replies = [
        Reply::status(500),
        Reply::status(429).header("retry-after", "2"),
        Reply::ok().body("done"),
    ];
    let receiver = receiver(replies).await?;
    let client = Client::new(Version::HTTP_11, None);
    let url = receiver.url("/");
    ensure!(client.status(&url, "msg_1").await? == 500);
    let limited = client.post(&url, "msg_1", "{}").await?;
    ensure!(
        limited.status() == 429 && limited.headers()["retry-after"] == "2",
        "{limited:?}"
    );
    for _ in 0..2 {
        let done = client.post(&url, "msg_1", "{}").await?;
        ensure!(done.into_body().collect().await?.to_bytes() == "done");
    }
    ensure!(client.status(&receiver.url("/elsewhere"), "msg_1").await? == 200);
    receiver.script_default([Reply::status(404)]);
    ensure!(client.status(&receiver.url("/elsewhere"), "msg_1").await? == 404);
    Ok(())
}

#[tokio::test]
async fn a_closure_decides_by_the_request() -> Result<()> {
    // Goal: script_with sees the request and its answer is the one sent.
    let receiver = Receiver::start(Options::default()).await?;
    receiver.script_with("/", |request| match request.webhook_id() {
        Some("msg_bad") => Reply::status(400),
        _ => Reply::status(204),
    });
    let client = Client::new(Version::HTTP_11, None);
    ensure!(client.status(&receiver.url("/"), "msg_bad").await? == 400);
    ensure!(client.status(&receiver.url("/"), "msg_good").await? == 204);
    Ok(())
}

#[tokio::test]
async fn a_delay_comes_before_the_answer_and_after_the_recording() -> Result<()> {
    // Goal: the request is seen at once, its answer late, and it is in flight meanwhile.
    let delay = Duration::from_millis(500);
    let receiver = receiver([Reply::status(503).after(delay)]).await?;
    let (client, url, begun) = (
        Client::new(Version::HTTP_11, None),
        receiver.url("/"),
        Instant::now(),
    );
    let answer = tokio::spawn(async move { client.status(&url, "msg_1").await });
    receiver.wait_for(1, WAIT).await?;
    ensure!(
        begun.elapsed() < delay,
        "recorded only after {:?}",
        begun.elapsed()
    );
    ensure!(receiver.in_flight() == 1 && receiver.in_flight_peak() == 1);
    ensure!(answer.await?? == 503 && begun.elapsed() >= delay);
    eventually("the request to end", WAIT, || async {
        ensure!(receiver.in_flight() == 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hang_keeps_the_connection_and_sends_nothing() -> Result<()> {
    // Goal: silence, no end; the client's leaving ends it.
    let receiver = receiver([Reply::hang()]).await?;
    let mut stream = raw(&receiver).await?;
    receiver.wait_for(1, WAIT).await?;
    ensure!(
        tokio::time::timeout(SILENCE, stream.read_u8()).await.is_err(),
        "something came"
    );
    ensure!(receiver.in_flight() == 1);
    drop(stream);
    eventually("the hanging request to end with its client", WAIT, || async {
        ensure!(receiver.in_flight() == 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn hang_in_body_sends_headers_and_a_part_and_no_end() -> Result<()> {
    // Goal: the status can be read, the body never ends.
    let receiver = receiver([Reply::hang_in_body("part")]).await?;
    let client = Client::new(Version::HTTP_11, None);
    let mut response = client.post(&receiver.url("/"), "msg_1", "{}").await?;
    ensure!(response.status() == 200);
    let first = response.body_mut().frame().await.context("no body")??;
    ensure!(first.into_data().is_ok_and(|data| data == "part"));
    ensure!(
        tokio::time::timeout(SILENCE, response.body_mut().frame())
            .await
            .is_err(),
        "the body went on"
    );
    Ok(())
}

#[tokio::test]
async fn reset_is_a_rst_and_close_is_an_end() -> Result<()> {
    // Goal: the two are told apart on the socket.
    let receiver = receiver([Reply::reset(), Reply::close()]).await?;
    let reset = tokio::time::timeout(WAIT, raw(&receiver).await?.read_u8()).await?;
    ensure!(
        reset
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "{reset:?}"
    );
    let mut rest = Vec::new();
    tokio::time::timeout(WAIT, raw(&receiver).await?.read_to_end(&mut rest)).await??;
    ensure!(rest.is_empty(), "{rest:?}");
    ensure!(receiver.total() == 2 && receiver.connections_opened() == 2);
    Ok(())
}

#[tokio::test]
async fn a_huge_body_stops_with_its_reader_and_counts_what_was_sent() -> Result<()> {
    // Goal: 10 GiB are offered and not held in memory; after the reader left nothing more is sent.
    const OFFERED: u64 = 10 << 30;
    let receiver = receiver([Reply::huge_body(OFFERED), Reply::huge_body(100_000)]).await?;
    let client = Client::new(Version::HTTP_11, None);
    let mut response = client.post(&receiver.url("/"), "msg_1", "{}").await?;
    let mut read = 0;
    while read < 1_000_000 {
        let frame = response.body_mut().frame().await.context("the body ended")??;
        read += frame.into_data().map_or(0, |data| data.len());
    }
    drop(response);
    eventually("the stream to stop", WAIT, || async {
        ensure!(receiver.in_flight() == 0);
        Ok(())
    })
    .await?;
    let sent = receiver.body_bytes_sent();
    ensure!(
        (1_000_000..OFFERED / 10).contains(&sent),
        "{sent} bytes were sent"
    );
    let whole = client.post(&receiver.url("/"), "msg_1", "{}").await?;
    ensure!(whole.into_body().collect().await?.to_bytes().len() == 100_000);
    Ok(())
}

#[tokio::test]
async fn a_slow_body_trickles_to_its_end() -> Result<()> {
    // Goal: chunks come one per interval, and the body ends.
    let receiver = receiver([Reply::slow_body("ab", Duration::from_millis(50), 4)]).await?;
    let begun = Instant::now();
    let response = Client::new(Version::HTTP_11, None)
        .post(&receiver.url("/"), "msg_1", "{}")
        .await?;
    ensure!(response.into_body().collect().await?.to_bytes() == "abababab");
    ensure!(
        begun.elapsed() >= Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn a_redirect_names_its_target() -> Result<()> {
    // Goal: status and location, not followed by itself.
    let receiver = receiver([Reply::redirect("http://169.254.169.254/")]).await?;
    let response = Client::new(Version::HTTP_11, None)
        .post(&receiver.url("/"), "msg_1", "{}")
        .await?;
    ensure!(response.status() == 302 && response.headers()["location"] == "http://169.254.169.254/");
    Ok(())
}

#[tokio::test]
async fn every_reply_works_over_http_2_too() -> Result<()> {
    // Goal: one client connection, prior knowledge; a reset ends it and the next request opens another.
    let receiver = Receiver::start(Options {
        protocol: Protocol::Http2,
        ..Options::default()
    })
    .await?;
    receiver.script(
        "/",
        [Reply::status(500), Reply::ok(), Reply::reset(), Reply::ok()],
    );
    let client = Client::new(Version::HTTP_2, None);
    let url = receiver.url("/");
    ensure!(client.status(&url, "msg_1").await? == 500);
    ensure!(client.status(&url, "msg_1").await? == 200);
    ensure!(receiver.connections_opened() == 1);
    ensure!(client.status(&url, "msg_1").await.is_err());
    ensure!(client.status(&url, "msg_1").await? == 200);
    ensure!(receiver.connections_opened() == 2);
    ensure!(
        receiver
            .received()
            .iter()
            .all(|request| request.http_version == Version::HTTP_2)
    );
    Ok(())
}
