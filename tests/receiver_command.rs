//! `hooklane receiver`: what it prints, what it checks, and how it fails.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_testkit::process::{self, Process};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SOON: Duration = Duration::from_secs(30);

struct Listening {
    process: Process,
    url: String,
    http: reqwest::Client,
}

async fn receiver(more: &[&str]) -> Result<Listening> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let process = process::hooklane()?
        .args(["receiver", "--port", "0"])
        .args(more)
        .start()?;
    let line = process.wait_for_line("listening on http", SOON).await?.text;
    let url = line.split_whitespace().last().context("a URL")?.to_owned();
    let http = reqwest::Client::builder().no_proxy().timeout(SOON).build()?;
    Ok(Listening { process, url, http })
}

impl Listening {
    async fn post(&self, headers: &[(String, String)], body: &str) -> Result<u16> {
        let mut request = self.http.post(format!("{}/hook", self.url)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Ok(request.send().await?.status().as_u16())
    }
}

/// The headers of a body, by `hooklane sign`.
async fn signed(body: &str) -> Result<Vec<(String, String)>> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("body"), body)?;
    let said = process::hooklane()?
        .args(["sign", "body", "--secret", SECRET, "--id", "msg_1"])
        .cwd(dir.path())
        .run_ok(SOON)
        .await?;
    let lines = said.lines().map(|line| line.split_once(": ").context("a header"));
    lines
        .map(|line| line.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect()
}

#[tokio::test]
async fn each_request_is_one_line_with_the_verdict_on_its_signature() -> Result<()> {
    // Goal: valid, forged and unsigned requests are told apart, in the line and by the answer; the first two fail as told.
    let receiver = receiver(&["--secret", SECRET, "--fail", "2", "--status", "503"]).await?;
    let headers = signed("{}").await?;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(receiver.post(&headers, "{}").await?);
    }
    answers.push(receiver.post(&headers, "{ }").await?);
    answers.push(receiver.post(&[], "secret body").await?);
    ensure!(answers == [503, 503, 204, 401, 401], "{answers:?}");
    receiver.process.terminate()?;
    ensure!(receiver.process.wait(SOON).await?.success());
    receiver
        .process
        .wait_for_line("received 5 requests", SOON)
        .await?;
    let said = receiver.process.output().stdout();
    let expected = [
        "POST /hook msg_1: 2 bytes, signature valid, answered 503",
        "POST /hook msg_1: 2 bytes, signature valid, answered 503",
        "POST /hook msg_1: 2 bytes, signature valid, answered 204",
        "POST /hook msg_1: 3 bytes, signature NOT valid (no signature matches: another secret, or the body is not the bytes that were sent), answered 401",
        "POST /hook (no webhook-id): 11 bytes, signature NOT valid (the header webhook-id is missing), answered 401",
        "received 5 requests, 3 with a valid signature",
    ];
    let lines: Vec<&str> = said.lines().skip(1).collect();
    ensure!(lines == expected, "{said}");
    Ok(())
}

#[tokio::test]
async fn without_a_secret_nothing_is_checked_and_an_answer_can_be_late() -> Result<()> {
    // Goal: no flag, no failure; a delay holds for each answer.
    let receiver = receiver(&["--delay", "300ms"]).await?;
    let began = Instant::now();
    ensure!(receiver.post(&[], "{}").await? == 204);
    ensure!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    receiver
        .process
        .wait_for_line("signature not checked, answered 204", SOON)
        .await?;
    Ok(())
}

#[tokio::test]
async fn it_hangs_and_resets_as_it_is_told() -> Result<()> {
    // Goal: a reset is seen as one; a hang answers nothing until the client gives up. With --fail 1, the next one is answered.
    let resetting = receiver(&["--reset", "--fail", "1"]).await?;
    ensure!(resetting.post(&[], "{}").await.is_err());
    ensure!(resetting.post(&[], "{}").await? == 204);
    resetting.process.wait_for_line("connection reset", SOON).await?;
    let hanging = receiver(&["--hang"]).await?;
    for _ in 0..2 {
        let request = hanging
            .http
            .post(&hanging.url)
            .timeout(Duration::from_millis(300));
        let error = request.send().await.err().context("it answered")?;
        ensure!(error.is_timeout(), "{error:?}");
    }
    hanging.process.wait_for_line("not answered", SOON).await?;
    Ok(())
}

#[tokio::test]
async fn flags_that_contradict_each_other_are_refused() -> Result<()> {
    // Goal: one kind of failure at a time; a wrong secret, a taken port and an impossible status are said at once.
    let taken = receiver(&[]).await?;
    let address = taken.url.trim_start_matches("http://");
    for (code, arguments) in [
        (2, vec!["receiver", "--hang", "--reset"]),
        (2, vec!["receiver", "--hang", "--status", "500"]),
        (2, vec!["receiver", "--status", "42"]),
        (2, vec!["receiver", "--secret", "nonsense"]),
        (1, vec!["receiver", "--listen", address]),
    ] {
        let ended = process::hooklane()?.args(&arguments).run(SOON).await?;
        ensure!(
            ended.status.code() == Some(code),
            "{arguments:?}: {} {}",
            ended.status,
            ended.stderr
        );
    }
    Ok(())
}
