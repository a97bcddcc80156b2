//! What must not go out or come in: addresses inside, plain HTTP, bodies over the limit, publishers without a token.

mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Receiver, Reply};
use hooklane_testkit::dns::{Answer, Dns};
use stage::{On, SOON, Stage, on_both};

on_both!(
    addresses_inside_are_blocked_in_every_spelling,
    a_name_that_resolves_inside_is_blocked,
    a_name_that_is_bound_anew_is_judged_anew,
    a_redirect_to_an_address_inside_is_not_followed,
    proxies_of_the_environment_are_ignored,
    plain_http_is_refused_unless_allowed,
    bodies_over_the_limit_are_refused_declared_or_chunked,
    without_a_token_nobody_publishes_and_none_listens_outside,
);

const NO_RETRY: &str = "retry = []\n";

/// Publishes one event to an endpoint at this URL, with these sections, and waits for its dead letter; gives `dead show`.
async fn dead_letter_of(stage: &Stage, sections: &str, url: &str) -> Result<String> {
    stage.settings(
        sections,
        &format!(
            "[[endpoint]]\nid = \"ep_in\"\napplication = \"acme\"\nurl = \"{url}\"\nsecret = \"{}\"\n{NO_RETRY}",
            stage::SECRET
        ),
    )?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    let id = ingest.publish(&stage.http, "a", "{}").await?;
    stage.wait_depth("dead", SOON, |depth| depth >= 1).await?;
    let shown = stage.run(&["dead", "show", &id, "--format", "json"]).await?;
    stage.run(&["dead", "purge", "--all", "--yes"]).await?;
    Ok(shown)
}

async fn addresses_inside_are_blocked_in_every_spelling(on: On) -> Result<()> {
    // Goal: loopback literal, decimal, octal, mapped; the receiver listens there and must see nothing.
    let stage = Stage::on(on).await?;
    let port = stage.receiver.address().port();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "localhost",
        "169.254.169.254",
    ] {
        let shown = dead_letter_of(
            &stage,
            "[egress]\nhttps_only = false\n",
            &format!("http://{host}:{port}/x"),
        )
        .await?;
        assert!(shown.contains("blocked"), "{host}: {shown}");
    }
    assert_eq!(stage.receiver.total(), 0);
    Ok(())
}

async fn a_name_that_resolves_inside_is_blocked(on: On) -> Result<()> {
    // Goal: a public name with a loopback address; method: a scripted name server.
    let stage = Stage::on(on).await?;
    let dns = Dns::start().await?;
    let port = stage.receiver.address().port();
    dns.script("inside.example", [Answer::addresses(&["127.0.0.1"])]);
    let sections = format!("[egress]\nhttps_only = false\ndns = [\"{}\"]\n", dns.address());
    let shown = dead_letter_of(&stage, &sections, &format!("http://inside.example:{port}/x")).await?;
    assert!(shown.contains("blocked"), "{shown}");
    assert_eq!(stage.receiver.total(), 0);
    Ok(())
}

async fn a_name_that_is_bound_anew_is_judged_anew(on: On) -> Result<()> {
    // Goal: rebinding; method: only 127.0.0.2 is allowed, where the first attempt is answered 500; then the name server says
    // 127.0.0.1, where another receiver must see nothing.
    let stage = Stage::on(on).await?;
    let dns = Dns::start().await?;
    let outside = Receiver::start(Options {
        listen: "127.0.0.2:0".parse()?,
        ..Options::default()
    })
    .await?;
    let port = outside.address().port();
    let inside = Receiver::start(Options {
        listen: format!("127.0.0.1:{port}").parse()?,
        ..Options::default()
    })
    .await?;
    outside.script("/x", [Reply::status(500).header("connection", "close")]);
    dns.script(
        "rebind.example",
        [
            Answer::addresses(&["127.0.0.2"]).ttl_s(1),
            Answer::addresses(&["127.0.0.1"]).ttl_s(1),
        ],
    );
    let sections = format!(
        "[egress]\nhttps_only = false\nallow = [\"127.0.0.2/32\"]\ndns = [\"{}\"]\n",
        dns.address()
    );
    stage.settings(
        &sections,
        &format!(
            "[[endpoint]]\nid = \"ep_in\"\napplication = \"acme\"\nurl = \"http://rebind.example:{port}/x\"\n\
             secret = \"{}\"\nretry = [\"3s\"]\n",
            stage::SECRET
        ),
    )?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    let id = ingest.publish(&stage.http, "a", "{}").await?;
    stage.wait_depth("dead", SOON, |depth| depth == 1).await?;
    let shown = stage.run(&["dead", "show", &id, "--format", "json"]).await?;
    assert!(shown.contains("500") && shown.contains("blocked"), "{shown}");
    assert_eq!((outside.total(), inside.total()), (1, 0));
    Ok(())
}

async fn a_redirect_to_an_address_inside_is_not_followed(on: On) -> Result<()> {
    // Goal: 302 is a failed attempt; its target sees nothing.
    let stage = Stage::on(on).await?;
    let target = stage.receiver.url("/secret");
    stage.receiver.script("/hook", [Reply::redirect(&target)]);
    let url = stage.receiver.url("/hook");
    let shown = dead_letter_of(&stage, "", &url).await?;
    assert!(shown.contains("302"), "{shown}");
    assert_eq!(stage.receiver.look(|log| log.count_at("/secret")), 0);
    Ok(())
}

async fn proxies_of_the_environment_are_ignored(on: On) -> Result<()> {
    // Goal: HTTP_PROXY names the receiver's own address as a proxy for another one; the delivery must go straight.
    let stage = Stage::on(on).await?;
    let trap = Receiver::start(Options::default()).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", ""))?;
    let proxy = trap.url("");
    let command = stage
        .dispatcher_command()?
        .env("HTTP_PROXY", &proxy)
        .env("http_proxy", &proxy)
        .env("ALL_PROXY", &proxy);
    let _dispatcher = stage.dispatcher_by(command).await?;
    let ingest = stage.ingest().await?;
    ingest.publish(&stage.http, "a", "{}").await?;
    stage.receiver.wait_for(1, SOON).await?;
    assert_eq!(trap.connections_opened(), 0);
    Ok(())
}

async fn plain_http_is_refused_unless_allowed(on: On) -> Result<()> {
    // Goal: https_only is the default, and the file's problem is named with its line and remedy.
    let stage = Stage::on(on).await?;
    stage.settings("[egress]\n", &stage.endpoint("ep_hook", "/hook", ""))?;
    let ended = stage.dispatcher_command()?.run(SOON).await?;
    ensure!(!ended.status.success());
    assert!(
        ended.stderr.contains("https_only") && ended.stderr.contains("hooklane.toml:"),
        "{}",
        ended.stderr
    );
    Ok(())
}

async fn bodies_over_the_limit_are_refused_declared_or_chunked(on: On) -> Result<()> {
    // Goal: 413 for 1.5 MiB with content-length and for the same in chunks; nothing reaches the queue.
    let stage = Stage::on(on).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", ""))?;
    let ingest = stage.ingest().await?;
    let big = format!(
        "{{\"eventType\":\"a\",\"payload\":{{\"x\":\"{}\"}}}}",
        "x".repeat(3 << 19)
    );
    let url = format!("{}/api/v1/app/acme/msg", ingest.url);
    let declared = stage
        .http
        .post(&url)
        .header("content-type", "application/json")
        .body(big.clone())
        .send()
        .await?;
    assert_eq!(declared.status().as_u16(), 413);
    let code = r#"
import os, http.client
from urllib.parse import urlsplit
u = urlsplit(os.environ["URL"])
c = http.client.HTTPConnection(u.hostname, u.port)
def chunks():
    yield b'{"eventType":"a","payload":{"x":"'
    for _ in range(24): yield b'x' * 65536
    yield b'"}}'
try:
    c.request("POST", u.path, body=chunks(), headers={"content-type": "application/json", "transfer-encoding": "chunked"}, encode_chunked=True)
except (BrokenPipeError, ConnectionResetError):
    pass
print(c.getresponse().status)
"#;
    let said = hooklane_testkit::python::code(code)?
        .env("URL", &url)
        .run_ok(SOON)
        .await?;
    assert_eq!(said.trim(), "413");
    assert_eq!(stage.depth("events").await?, 0);
    Ok(())
}

async fn without_a_token_nobody_publishes_and_none_listens_outside(on: On) -> Result<()> {
    // Goal: 401 without or with a wrong token; listening on all interfaces without a token is refused at start.
    let stage = Stage::on(on).await?;
    stage.settings(
        "[ingest]\ntoken = \"let-me-in\"\n",
        &stage.endpoint("ep_hook", "/hook", ""),
    )?;
    let ingest = stage.ingest().await?;
    let body = r#"{"eventType":"a","payload":{}}"#.to_owned();
    assert_eq!(ingest.post(&stage.http, "acme", body.clone()).await?.0, 401);
    let url = format!("{}/api/v1/app/acme/msg", ingest.url);
    for (token, status) in [("wrong", 401), ("let-me-in", 202)] {
        let answer = stage
            .http
            .post(&url)
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(body.clone())
            .send()
            .await?;
        assert_eq!(answer.status().as_u16(), status, "{token}");
    }
    ingest.process.terminate()?;
    ingest.process.wait(SOON).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", ""))?;
    let elsewhere = ["--listen", "0.0.0.0:0"];
    if on == On::RabbitMq {
        let ended = stage.refused(&[&["ingest"], &elsewhere[..]].concat()).await?;
        assert!(ended.stderr.contains("token"), "{}", ended.stderr);
        return Ok(());
    }
    // `serve` has tokens of its own, and takes no event without one there.
    let serve = stage.hooklane(&[&["serve"], &elsewhere[..]].concat())?.start()?;
    let line = serve.wait_for_line("listening on http", SOON).await?.text;
    let port = line.rsplit(':').next().context("a port")?;
    let url = format!("http://127.0.0.1:{port}/api/v1/app/acme/msg");
    let token = stage.run(&["token"]).await?;
    for (token, status) in [("", 401), ("wrong", 401), (token.trim(), 202)] {
        let request = stage
            .http
            .post(&url)
            .header("content-type", "application/json")
            .body(body.clone());
        let request = match token {
            "" => request,
            token => request.bearer_auth(token),
        };
        assert_eq!(request.send().await?.status().as_u16(), status, "{token}");
    }
    Ok(())
}
