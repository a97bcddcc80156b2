//! `hooklane faults` on what producers got wrong: looked at, exported, and sent through the pipeline again.

mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_broker::{Destination, Outgoing};
use hooklane_testkit::python;
use hooklane_types::{HeaderValue, Properties};
use serde_json::Value;
use stage::shelf::port;
use stage::{On, SOON, Stage, on_both};

on_both!(a_fault_is_shown_exported_and_replayed_and_is_no_duplicate_of_itself,);

/// A message with an event type that is none, and one of an application that is not known yet.
const PRODUCER: &str = r#"
import os, pika
c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
ch = c.channel(); ch.confirm_delivery()
P = pika.BasicProperties
def late():
    ch.basic_publish("hooklane.events", "order.made", b'{ "n" : 1.0 }', P(delivery_mode=2, message_id="late-1", headers={"application": "late"}))
if os.environ["WHAT"] == "both":
    ch.basic_publish("hooklane.events", "not a type!", b"\xff\x00raw", P(delivery_mode=2, message_id="bad-1", correlation_id="order 17",
        content_type="application/octet-stream", headers={"application": "acme", "shop": {"floor": 3}}))
late()
c.close()
"#;

/// By a foreign client where there is a protocol for one, else by the port that `hooklane publish` has.
async fn publish(stage: &Stage, what: &str) -> Result<()> {
    if stage.on == On::RabbitMq {
        let script = python::code(PRODUCER)?.env("AMQP_URL", &stage.broker_url);
        script.env("WHAT", what).run_ok(SOON).await?;
        return Ok(());
    }
    let text = |text: &str| HeaderValue::Text(text.to_owned());
    let malformed = Properties {
        message_id: Some("bad-1".to_owned()),
        correlation_id: Some("order 17".to_owned()),
        content_type: Some("application/octet-stream".to_owned()),
        headers: vec![
            ("application".to_owned(), text("acme")),
            (
                "shop".to_owned(),
                HeaderValue::Table(vec![("floor".to_owned(), HeaderValue::Integer(3))]),
            ),
        ],
        ..Properties::default()
    };
    let late = Properties {
        message_id: Some("late-1".to_owned()),
        headers: vec![("application".to_owned(), text("late"))],
        ..Properties::default()
    };
    let broker = port(stage).await?;
    let publish = async |routing_key: &str, properties, body: &'static [u8]| {
        let routing_key = routing_key.to_owned();
        let body = body.into();
        let message = Outgoing { properties, body };
        broker
            .publish(Destination::ProducerEvents { routing_key }, message, SOON)
            .await
    };
    if what == "both" {
        publish("not a type!", malformed, b"\xff\x00raw").await?;
    }
    publish("order.made", late, b"{ \"n\" : 1.0 }").await?;
    Ok(())
}

fn json_lines(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The only fault of this reason, as `faults list` shows it.
async fn listed(stage: &Stage, reason: &str) -> Result<Value> {
    let list = ["faults", "list", "--reason", reason, "--format", "json"];
    let mut rows = json_lines(&stage.run(&list).await?)?;
    ensure!(rows.len() == 1, "{reason}: {rows:?}");
    rows.pop().context("a row")
}

/// What must be shown of the malformed message: everything that its producer said.
fn assert_is_the_producers(fault: &Value) {
    assert_eq!(fault["exchange"], "hooklane.events", "{fault}");
    assert_eq!(fault["routing_key"], "not a type!", "{fault}");
    let properties = &fault["properties"];
    assert_eq!(properties["message_id"], "bad-1", "{fault}");
    assert_eq!(properties["correlation_id"], "order 17", "{fault}");
    assert_eq!(properties["content_type"], "application/octet-stream", "{fault}");
    assert_eq!(properties["headers"]["application"], "acme", "{fault}");
    assert_eq!(properties["headers"]["shop"]["floor"], 3, "{fault}");
    assert_eq!(fault["payload_base64"], "/wByYXc=", "{fault}");
}

async fn a_fault_is_shown_exported_and_replayed_and_is_no_duplicate_of_itself(on: On) -> Result<()> {
    // Goal: an operator sees the producer's message, mends what was wrong and replays. Method: a malformed message, which stays a fault
    // however often it is replayed, and one of an application that is added afterwards, whose repeat is claimed before the replay.
    let stage = Stage::on(on).await?;
    let acme = stage.endpoint("ep_acme", "/acme", "");
    stage.settings("", &acme)?;
    let dispatcher = stage.dispatcher().await?;
    publish(&stage, "both").await?;
    stage.wait_depth("faults", SOON, |depth| depth == 2).await?;

    let row = listed(&stage, "malformed").await?;
    let id = row["id"].as_str().context("an id")?;
    let shown = stage.run(&["faults", "show", id]).await?;
    for words in [
        "reason: malformed",
        "routing_key: not a type!",
        "\"bad-1\"",
        "origin: events",
    ] {
        ensure!(shown.contains(words), "no {words} in {shown}");
    }
    let json = stage.run(&["faults", "show", id, "--format", "json"]).await?;
    assert_is_the_producers(&serde_json::from_str(&json)?);
    let late = listed(&stage, "unknown_application").await?;
    let late_id = late["id"].as_str().context("an id")?;
    ensure!(
        late["application"] == "late" && late["event_type"] == "order.made",
        "{late}"
    );
    let payload = stage.run(&["faults", "show", late_id, "--payload"]).await?;
    ensure!(payload.trim_end() == "{ \"n\" : 1.0 }", "{payload}");

    stage
        .run(&["faults", "export", "--output", "faults.jsonl"])
        .await?;
    let exported = json_lines(&std::fs::read_to_string(stage.dir.path().join("faults.jsonl"))?)?;
    ensure!(
        exported.len() == 2 && stage.depth("faults").await? == 2,
        "{exported:?}"
    );
    let malformed = exported.iter().find(|fault| fault["reason"] == "malformed");
    assert_is_the_producers(malformed.context("the malformed one")?);

    let other = stage
        .endpoint("ep_late", "/late", "")
        .replace("\"acme\"", "\"late\"");
    stage.settings("", &(acme + &other))?;
    dispatcher
        .process
        .wait_for_line("were loaded again", SOON)
        .await?;
    // The producer was quicker than the operator: from here on this process knows the id.
    publish(&stage, "late").await?;
    stage.receiver.wait_for_at("/late", 1, SOON).await?;
    let replayed = stage.run(&["faults", "replay", late_id]).await?;
    ensure!(replayed == "replayed 1 of 2\n", "{replayed}");
    stage.receiver.wait_for_at("/late", 2, SOON).await?;
    let requests = stage.receiver.received();
    ensure!(
        requests.iter().all(|request| request.body == "{ \"n\" : 1.0 }"),
        "{requests:?}"
    );
    ensure!(
        stage.receiver.by_webhook_id().len() == 1,
        "the replay bears another webhook-id"
    );
    let duplicates = async || {
        dispatcher
            .metric(&stage.http, "hooklane_events_duplicate_total", "")
            .await
    };
    ensure!(duplicates().await? == 0.0, "the replay was taken for a duplicate");
    publish(&stage, "late").await?;
    hooklane_testkit::eventually("a producer's repeat to be noticed", SOON, || async {
        let count = duplicates().await?;
        ensure!(count == 1.0, "{count} duplicates");
        Ok(())
    })
    .await?;
    ensure!(stage.receiver.total() == 2);

    dispatcher.process.terminate()?;
    dispatcher.process.wait(SOON).await?;
    let replayed = stage.run(&["faults", "replay", "--reason", "malformed"]).await?;
    ensure!(replayed == "replayed 1 of 1\n", "{replayed}");
    // In internal form: not by way of `events`, where producers' messages come in.
    stage.wait_depth("deliveries", SOON, |depth| depth == 1).await?;
    stage.wait_empty("events", SOON).await?;
    let _dispatcher = stage.dispatcher().await?;
    stage.wait_depth("faults", SOON, |depth| depth == 1).await?;
    let again = listed(&stage, "malformed").await?;
    let again = again["id"].as_str().context("an id")?;
    let json = stage.run(&["faults", "show", again, "--format", "json"]).await?;
    assert_is_the_producers(&serde_json::from_str(&json)?);
    Ok(())
}
