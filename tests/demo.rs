//! The whole way of an event on one screen, with the built binary and a private RabbitMQ: a payment, a build, an alert; signatures
//! verified on arrival; an endpoint that fails, its retries, its dead letter, and the replay. Exits 0 only if all of it was seen.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Options, Receiver, Reply, Verdict};
use hooklane_signing::{HeaderFamily, Scheme, Secret, Verifier};
use hooklane_testkit::process::{self, Process};
use hooklane_testkit::rabbitmq::Node;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SOON: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<()> {
    let began = Instant::now();
    let say = |text: &str| println!("{:6.1} s  {text}", began.elapsed().as_secs_f64());

    let node = Node::start().await?;
    say(&format!("a private RabbitMQ is up: {}", node.name()));
    let receiver = Receiver::start(Options::default()).await?;
    receiver.verify_default(Verifier::new(
        Scheme::Standard(HeaderFamily::Webhook),
        vec![Secret::parse(SECRET)?],
    )?);
    receiver.script("/alerts", [Reply::status(500), Reply::status(500), Reply::ok()]);
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("hooklane.toml"), settings(&node, &receiver))?;
    say(&format!(
        "a receiver listens on {}; two endpoints are configured",
        receiver.url("")
    ));

    let start = |role: &str| {
        process::hooklane()?
            .args([role, "--listen", "127.0.0.1:0"])
            .cwd(dir.path())
            .start()
    };
    let ingest: Process = start("ingest")?;
    let _dispatchers = [start("dispatcher")?, start("dispatcher")?];
    let line = ingest.wait_for_line("listening on http", SOON).await?.text;
    let url = line[line.find("http").context("a URL")?..]
        .split_whitespace()
        .next()
        .context("a URL")?
        .to_owned();
    say(&format!("hooklane ingest on {url}, and two dispatchers"));

    for (event_type, payload) in [
        (
            "payment.succeeded",
            r#"{"payment": "pay_17", "amount": 49.90, "currency": "EUR"}"#,
        ),
        ("build_completed", r#"{"build": 4711, "status": "passed"}"#),
        ("alert.raised", r#"{"alert": "disk", "level": "critical"}"#),
    ] {
        let said = process::hooklane()?
            .args([
                "publish",
                "--application",
                "acme",
                "--type",
                event_type,
                "--payload",
                payload,
                "--via",
                &url,
            ])
            .cwd(dir.path())
            .run_ok(SOON)
            .await?;
        say(&format!("published {event_type}: {}", said.trim()));
    }
    receiver.wait_for_at("/all", 3, SOON).await?;
    for request in receiver.received_at("/all") {
        ensure!(
            matches!(request.verdict, Some(Verdict::Valid)),
            "a signature was not valid"
        );
        say(&format!(
            "arrived, signature valid: {}",
            String::from_utf8_lossy(&request.body)
        ));
    }

    receiver.wait_for_at("/alerts", 2, SOON).await?;
    say("the endpoint for alerts answered 500 twice");
    let list = hooklane_testkit::eventually("the dead letter", SOON, || async {
        let list = run(dir.path(), &["dead", "list"]).await?;
        ensure!(list.contains("ep_alerts"), "not there yet:\n{list}");
        Ok(list)
    })
    .await?;
    say("$ hooklane dead list");
    print!("{list}");
    run(dir.path(), &["dead", "replay", "--all"]).await?;
    say("$ hooklane dead replay --all");
    receiver.wait_for_at("/alerts", 3, SOON).await?;
    let ids: Vec<_> = receiver
        .received_at("/alerts")
        .iter()
        .map(|r| r.webhook_id().map(str::to_owned))
        .collect();
    ensure!(
        ids.iter().all(|id| *id == ids[0]),
        "the replay bears another webhook-id"
    );
    say("replayed under the same webhook-id, and delivered");
    say("all of it was seen");
    Ok(())
}

async fn run(dir: &Path, arguments: &[&str]) -> Result<String> {
    process::hooklane()?.args(arguments).cwd(dir).run_ok(SOON).await
}

fn settings(node: &Node, receiver: &Receiver) -> String {
    let endpoint = |id: &str, path: &str, types: &str| {
        format!(
            "[[endpoint]]\nid = \"{id}\"\napplication = \"acme\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\nevent_types = [\"{types}\"]\n\
             retry = {{ attempts = 2, first = \"1s\", factor = 2, max = \"1m\", jitter = 0.0 }}\n",
            receiver.url(path)
        )
    };
    format!(
        "[broker]\nurl = \"{}\"\n[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n{}{}",
        node.amqp_url(),
        endpoint("ep_all", "/all", "*"),
        endpoint("ep_alerts", "/alerts", "alert.*")
    )
}
