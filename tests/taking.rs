//! What a dispatcher takes from `events`, and when: nothing before its endpoints are known, and then whatever producers send.

mod stage;

use anyhow::{Result, ensure};
use hooklane_testkit::{proxy::Proxy, python};
use serde_json::Value;
use stage::{On, SECRET, SOON, Stage, on_both};

on_both!(nothing_is_taken_before_the_endpoints_are_known,);

async fn nothing_is_taken_before_the_endpoints_are_known(on: On) -> Result<()> {
    // Goal: without them a dispatcher would ack events as wanted by nobody, and give up all retries. Method: starts with the file missing
    // or bad, beside a RabbitMQ that counts connections; then one with the right file, which delivers what waits there.
    let mut stage = Stage::on(on).await?;
    let behind = match &stage.vhost {
        Some(vhost) => {
            let proxy = Proxy::start(vhost.authority()).await?;
            let url = vhost.url_by(proxy.address());
            Some((proxy, url))
        }
        None => {
            // So that events can wait: a directory is made by what serves.
            stage.settings("", &stage.endpoint("ep_hook", "/hook", ""))?;
            drop(stage.dispatcher().await?);
            None
        }
    };
    let endpoint = stage.endpoint("ep_hook", "/hook", "");
    stage.settings("", &endpoint)?;
    for number in ["1", "2", "3"] {
        stage.publish("a.b", number, &[]).await?;
    }
    let mut broker: Vec<&str> = Vec::new();
    if let Some((_, url)) = &behind {
        stage.broker_url.clone_from(url);
        broker.extend(["--broker", url]);
    }
    let without_url = endpoint.replace("url = ", "uri = ");
    let no_secret = endpoint.replace(&format!("secret = \"{SECRET}\""), "secret_file = \"none.secret\"");
    let line = stage.by_broker("hooklane.toml:7", "hooklane.toml:5");
    // The file, the flags, and what the report must say: what is wrong, and what to do.
    let cases: [(Option<&str>, &[&str], [&str; 2]); 5] = [
        (
            None,
            &[],
            ["hooklane.toml: there is no such file", "hooklane init"],
        ),
        (
            Some(&endpoint),
            &["--config", "none.toml"],
            ["none.toml", "hooklane init"],
        ),
        (Some("[[endpoint]\n"), &[], [line, "TOML"]),
        (
            Some(&without_url),
            &[],
            ["endpoint[1].uri: unknown key", "did you mean `url`?"],
        ),
        (
            Some(&no_secret),
            &[],
            ["none.secret cannot be read", "hooklane may read"],
        ),
    ];
    for (endpoints, flags, words) in cases {
        match endpoints {
            Some(endpoints) => stage.settings("", endpoints)?,
            None => std::fs::remove_file(stage.file())?,
        }
        let start = stage.dispatcher_command()?.args(&broker).args(flags);
        let ended = start.run(SOON).await?;
        ensure!(
            ended.status.code() == Some(2),
            "{words:?}: {} {}",
            ended.status,
            ended.stderr
        );
        for word in words {
            ensure!(ended.stderr.contains(word), "no {word:?} in {}", ended.stderr);
        }
    }
    let connections = || behind.as_ref().map_or(0, |(proxy, _)| proxy.connections_opened());
    ensure!(
        connections() == 0,
        "a dispatcher without endpoints went to the broker"
    );
    stage.settings("", &endpoint)?;
    let _dispatcher = stage.dispatcher().await?;
    stage.receiver.wait_for(3, SOON).await?;
    ensure!(
        on == On::Embedded || connections() > 0,
        "the broker is not behind the proxy"
    );
    stage.wait_empty("events", SOON).await?;
    ensure!(stage.receiver.total() == 3 && stage.depth("faults").await? == 0);
    Ok(())
}

/// What client libraries let pass and AMQP allows: bytes that are no UTF-8 wherever a short text stands, and tables in tables.
const PRODUCER: &str = r#"
import os, sys, pika
sys.setrecursionlimit(100000)
c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
ch = c.channel(); ch.confirm_delivery()
latin = b"caf\xe9"
def publish(name, key="order.made", headers={}, **properties):
    properties.setdefault("message_id", name)
    ch.basic_publish("hooklane.events", key, ('{"name": "%s"}' % name).encode(), pika.BasicProperties(
        delivery_mode=2, headers={"application": "acme", **headers}, **properties))
def nested(levels, wrap):
    value = 7
    for _ in range(levels):
        value = wrap(value)
    return value
for n in range(int(os.environ["ROUNDS"])):
    publish("bad id %d" % n, message_id=latin)
    publish("bad type %d" % n, type=latin)
    publish("bad key %d" % n, key=latin)
    publish("bad content type %d" % n, content_type=latin)
    publish("bad application %d" % n, headers={"application": latin})
    publish("good headers %d" % n, headers={latin: latin})
    publish("good rest %d" % n, correlation_id=latin, reply_to=latin, app_id=latin)
    publish("good tables %d" % n, headers={"deep": nested(6000, lambda inner: {"n": inner})})
    publish("good lists %d" % n, headers={"deep": nested(8000, lambda inner: [inner])})
    publish("good plain %d" % n)
c.close()
"#;

#[tokio::test]
async fn what_no_client_should_send_becomes_a_fault_or_is_mended_and_stops_nobody() -> Result<()> {
    // Goal: one bad producer harms only itself. Method: good events between bad ones, two dispatchers, and nobody reconnects or dies.
    const ROUNDS: usize = 3;
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", ""))?;
    let dispatchers = stage.dispatchers(2).await?;
    let script = python::code(PRODUCER)?.env("AMQP_URL", &stage.broker_url);
    script.env("ROUNDS", ROUNDS.to_string()).run_ok(SOON).await?;
    stage.receiver.wait_for(5 * ROUNDS as u64, SOON).await?;
    stage
        .wait_depth("faults", SOON, |depth| depth == 5 * ROUNDS as u64)
        .await?;
    stage.wait_empty("events", SOON).await?;

    let delivered = stage.receiver.received();
    ensure!(delivered.len() == 5 * ROUNDS, "{delivered:?}");
    let is_good = |body: &[u8]| body.starts_with(b"{\"name\": \"good ");
    ensure!(
        delivered.iter().all(|request| is_good(&request.body)),
        "{delivered:?}"
    );
    let list = stage.run(&["faults", "export"]).await?;
    let faults: Vec<Value> = list.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (what, detail) in [
        ("id", "`message_id` is not UTF-8"),
        ("type", "event type"),
        ("key", "event type"),
        ("content type", "`content_type`"),
        ("application", "`application`"),
    ] {
        let body = format!("{{\"name\": \"bad {what} ");
        let of_this = faults.iter().filter(|fault| {
            let payload = fault["payload"].as_str().unwrap_or_default();
            payload.starts_with(&body) && payload.len() == body.len() + 3
        });
        let of_this: Vec<_> = of_this.collect();
        ensure!(of_this.len() == ROUNDS, "{what}: {of_this:?}");
        for fault in of_this {
            let said = fault["detail"].as_str().unwrap_or_default();
            ensure!(fault["reason"] == "malformed" && said.contains(detail), "{fault}");
        }
    }
    for dispatcher in &dispatchers {
        ensure!(
            dispatcher.process.exited().is_none(),
            "{}",
            dispatcher.process.output().tail()
        );
        let again = dispatcher
            .metric(&stage.http, "hooklane_broker_reconnects_total", "")
            .await?;
        ensure!(
            again == 0.0,
            "a connection was lost: {}",
            dispatcher.process.output().tail()
        );
    }
    Ok(())
}
