//! Publishing by every way, as a stranger would: over HTTP, over AMQP by foreign clients, as CloudEvents, from a shell; and the
//! snippets of docs/PUBLISHING.md as they stand there.

mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Request;
use hooklane_testkit::{javascript, process::Spawn, python};
use serde_json::json;
use stage::{On, SOON, Stage, on_both};

on_both!(
    http_payload_arrives_to_the_byte,
    a_repeat_over_http_bears_the_same_id,
    http_refusals_name_the_field,
    cloud_events_arrive_in_both_modes_over_http,
    the_shell_publishes_one_event_and_a_file_of_lines,
    what_publish_prints_is_the_webhook_id,
);

/// The first fenced block of a document whose first line names this file.
fn snippet(document: &str, file: &str) -> Result<String> {
    let path = python::workspace_root().join("docs").join(document);
    let text = std::fs::read_to_string(path)?;
    text.split("```")
        .filter_map(|block| block.split_once('\n'))
        .map(|(_language, code)| code)
        .find(|code| {
            code.lines()
                .next()
                .is_some_and(|line| line.contains(&format!("{file}:")))
        })
        .map(str::to_owned)
        .with_context(|| format!("docs/{document} has no block for {file}"))
}

async fn with_one_endpoint(on: On) -> Result<Stage> {
    let stage = Stage::on(on).await?;
    stage.settings("", &stage.endpoint("ep_all", "/hook", ""))?;
    Ok(stage)
}

async fn http_payload_arrives_to_the_byte(on: On) -> Result<()> {
    // Goal: white space, key order, 1.0 and doubled keys survive; method: compare the receiver's bytes.
    let stage = with_one_endpoint(on).await?;
    let ingest = stage.ingest().await?;
    let _dispatchers = stage.dispatchers(2).await?;
    let payload = "{ \"b\" : 1.0,\t\"a\": 1e2 , \"b\": \"\\u00e9\u{e9}\" }";
    let id = ingest.publish(&stage.http, "invoice.paid", payload).await?;
    stage.receiver.wait_for(1, SOON).await?;
    let request = stage.receiver.received().remove(0);
    assert_eq!(std::str::from_utf8(&request.body)?, payload);
    assert_eq!(request.webhook_id(), Some(id.as_str()));
    assert_eq!(request.header("content-type"), Some("application/json"));
    Ok(())
}

async fn a_repeat_over_http_bears_the_same_id(on: On) -> Result<()> {
    // Goal: eventId makes a repeat harmless: without a store it is accepted under the same id, with one refused; one id at the receiver.
    let stage = with_one_endpoint(on).await?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    let body = json!({"eventType": "a", "eventId": "order-1", "payload": {}}).to_string();
    let (first, one) = ingest.post(&stage.http, "acme", body.clone()).await?;
    let (second, two) = ingest.post(&stage.http, "acme", body).await?;
    match on {
        On::RabbitMq => {
            assert_eq!((first, second), (202, 202));
            assert_eq!(one["id"], two["id"]);
        }
        On::Embedded => assert_eq!((first, second), (202, 409), "{two}"),
    }
    stage.wait_empty("events", SOON).await?;
    assert_eq!(stage.receiver.by_webhook_id().len(), 1);
    Ok(())
}

async fn http_refusals_name_the_field(on: On) -> Result<()> {
    // Goal: bad requests get a clear error; method: a table of bodies, statuses and words.
    let stage = with_one_endpoint(on).await?;
    let ingest = stage.ingest().await?;
    for (body, status, word) in [
        ("{", 400, "JSON"),
        (r#"{"payload":{}}"#, 422, "eventType"),
        (r#"{"eventType":"a b","payload":{}}"#, 422, "eventType"),
        (r#"{"eventType":"a"}"#, 422, "payload"),
        (r#"{"eventType":"a","payload":[1]}"#, 422, "payload"),
        (r#"{"eventType":"a","payload":{},"tags":["x"]}"#, 422, "tags"),
        (
            r#"{"eventType":"a","payload":{},"channels":["not ok"]}"#,
            422,
            "channels",
        ),
        (
            r#"{"eventType":"a","payload":{},"eventId":"not ok"}"#,
            422,
            "eventId",
        ),
    ] {
        let (found, answer) = ingest.post(&stage.http, "acme", body.to_owned()).await?;
        assert_eq!(found, status, "{body} answered {answer}");
        assert!(answer.to_string().contains(word), "{body} answered {answer}");
    }
    let unknown = ingest
        .post(
            &stage.http,
            "nobody",
            r#"{"eventType":"a","payload":{}}"#.to_owned(),
        )
        .await?;
    assert_eq!(unknown.0, 404);
    Ok(())
}

#[tokio::test]
async fn a_python_producer_publishes_every_kind_of_message() -> Result<()> {
    // Goal: the AMQP contract, and that nothing foreign means anything; method: pika, then what arrives.
    let stage = with_one_endpoint(On::RabbitMq).await?;
    let _dispatchers = stage.dispatchers(2).await?;
    let code = r#"
import os, pika
c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
ch = c.channel(); ch.confirm_delivery()
def publish(name, **properties):
    headers = {"application": "acme"}; headers.update(properties.pop("headers", {}))
    ch.basic_publish("hooklane.events", "test." + name, ('{"name": "%s"}' % name).encode(),
        pika.BasicProperties(delivery_mode=2, headers=headers, **properties))
publish("with", message_id="plain-1")
publish("with", message_id="plain-1")
publish("without")
publish("long", message_id="x" * 255)
publish("dotted", message_id="a.b\r\n")
publish("expiring", message_id="e-1", expiration="60000")
publish("forged", message_id="f-1", headers={"webhook-id": "msg_forged", "x-hooklane-attempt": 7, "x-hooklane-not-before": 9999999999999, "x-death": []})
publish("typed", message_id="t-1", type="other.type")
# A message_id has at most 255 bytes on the wire; a longer id of a producer comes as a CloudEvent's.
publish("longer", headers={"cloudEvents:specversion": "1.0", "cloudEvents:id": "y" * 300, "cloudEvents:source": "/s", "cloudEvents:type": "a"})
c.close()
"#;
    python::code(code)?
        .env("AMQP_URL", &stage.broker_url)
        .run_ok(SOON)
        .await?;
    stage.wait_empty("events", SOON).await?;
    stage.wait_empty("deliveries", SOON).await?;
    stage.receiver.wait_for(8, SOON).await?;
    let requests = stage.receiver.received();
    for name in [
        "with", "without", "long", "dotted", "expiring", "forged", "typed", "longer",
    ] {
        let body = format!("{{\"name\": \"{name}\"}}");
        let found: Vec<_> = requests
            .iter()
            .filter(|request| request.body == body.as_bytes())
            .collect();
        ensure!(!found.is_empty(), "{name} did not arrive");
        let ids: std::collections::HashSet<_> = found.iter().map(|request| request.webhook_id()).collect();
        assert_eq!(ids.len(), 1, "{name} came under several ids");
        let id = found[0].webhook_id().context("a webhook-id")?;
        assert!(
            id.starts_with("msg_") && !id.contains('.') && id != "msg_forged",
            "{id}"
        );
        assert!(found[0].header("x-hooklane-attempt").is_none());
    }
    assert_eq!(stage.depth("faults").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_message_that_cannot_be_understood_becomes_a_fault() -> Result<()> {
    // Goal: unknown application, bad type, 300-byte id in a header form; method: pika, then the shelf by command.
    let stage = with_one_endpoint(On::RabbitMq).await?;
    let _dispatcher = stage.dispatcher().await?;
    let code = r#"
import os, pika
c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
ch = c.channel(); ch.confirm_delivery()
P = pika.BasicProperties
ch.basic_publish("hooklane.events", "a.b", b"{}", P(delivery_mode=2, headers={"application": "nobody"}, message_id="u"))
ch.basic_publish("hooklane.events", "not a type!", b"{}", P(delivery_mode=2, headers={"application": "acme"}, message_id="m"))
ch.basic_publish("hooklane.events", "a.b", b"x" * (2 * 1024 * 1024), P(delivery_mode=2, headers={"application": "acme"}, message_id="l"))
c.close()
"#;
    python::code(code)?
        .env("AMQP_URL", &stage.broker_url)
        .run_ok(SOON)
        .await?;
    stage.wait_depth("faults", SOON, |depth| depth == 3).await?;
    let list = stage.run(&["faults", "list", "--format", "json"]).await?;
    for reason in ["unknown_application", "malformed", "too_large"] {
        assert!(list.contains(reason), "{reason} is not in {list}");
    }
    assert_eq!(stage.receiver.total(), 0);
    Ok(())
}

async fn cloud_events_arrive_in_both_modes_over_http(on: On) -> Result<()> {
    // Goal: binary and structured mode, as CloudEvents' own library sends them; batch refused with 415.
    let stage = with_one_endpoint(on).await?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    let url = format!("{}/api/v1/app/acme/msg", ingest.url);
    let code = r#"
import os, urllib.request
from cloudevents.core.v1.event import CloudEvent
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
def send(message):
    r = urllib.request.Request(os.environ["URL"], data=message.body, headers=dict(message.headers), method="POST")
    print(urllib.request.urlopen(r).status)
def event(id):
    return CloudEvent({"id": id, "source": "/shop", "type": "order.made", "specversion": "1.0", "datacontenttype": "application/json"}, {"n": id})
send(to_binary(event("b1"), JSONFormat()))
send(to_structured(event("s1"), JSONFormat()))
"#;
    python::code(code)?.env("URL", &url).run_ok(SOON).await?;
    stage.receiver.wait_for(2, SOON).await?;
    let requests = stage.receiver.received();
    let binary = requests
        .iter()
        .find(|request| request.header("ce-id") == Some("b1"))
        .context("b1")?;
    assert_eq!(binary.header("ce-source"), Some("/shop"));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&binary.body)?,
        json!({"n": "b1"})
    );
    assert_eq!(count_structured(&requests), 1);
    let batch = stage
        .http
        .post(&url)
        .header("content-type", "application/cloudevents-batch+json")
        .body("[]")
        .send()
        .await?;
    assert_eq!(batch.status().as_u16(), 415);
    Ok(())
}

fn count_structured(requests: &[Request]) -> usize {
    let types = requests
        .iter()
        .filter_map(|request| request.header("content-type"));
    types
        .filter(|found| found.starts_with("application/cloudevents+json"))
        .count()
}

#[tokio::test]
async fn cloud_events_arrive_in_both_modes_over_amqp() -> Result<()> {
    // Goal: binary and structured mode by the AMQP binding; method: pika.
    let stage = with_one_endpoint(On::RabbitMq).await?;
    let _dispatcher = stage.dispatcher().await?;
    let code = r#"
import os, pika
c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
ch = c.channel(); ch.confirm_delivery()
ch.basic_publish("hooklane.events", "x", b'{"n": "a1"}', pika.BasicProperties(delivery_mode=2, content_type="application/json",
  headers={"application": "acme", "cloudEvents:specversion": "1.0", "cloudEvents:id": "a1", "cloudEvents:source": "/shop", "cloudEvents:type": "order.made"}))
ch.basic_publish("hooklane.events", "x", b'{"specversion":"1.0","id":"a2","source":"/shop","type":"order.made","data":{"n":"a2"}}', pika.BasicProperties(delivery_mode=2,
  content_type="application/cloudevents+json; charset=utf-8", headers={"application": "acme"}))
c.close()
"#;
    python::code(code)?
        .env("AMQP_URL", &stage.broker_url)
        .run_ok(SOON)
        .await?;
    stage.receiver.wait_for(2, SOON).await?;
    let requests = stage.receiver.received();
    assert!(
        requests
            .iter()
            .any(|request| request.header("ce-id") == Some("a1") && request.body == r#"{"n": "a1"}"#)
    );
    assert_eq!(count_structured(&requests), 1);
    Ok(())
}

async fn the_shell_publishes_one_event_and_a_file_of_lines(on: On) -> Result<()> {
    // Goal: `hooklane publish` in both forms and over both ways.
    let stage = with_one_endpoint(on).await?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    stage.publish("a.one", "{\"n\": 1.0}", &[]).await?;
    stage.publish("a.two", "{}", &["--via", &ingest.url]).await?;
    let lines: String = (0..500)
        .map(|n| format!("{{\"application\":\"acme\",\"eventType\":\"a.line\",\"eventId\":\"l{n}\",\"payload\":{{ \"n\":{n}.0 }}}}\n"))
        .collect();
    std::fs::write(stage.dir.path().join("events.jsonl"), lines)?;
    stage.run(&["publish", "--lines", "events.jsonl"]).await?;
    stage.receiver.wait_for(502, SOON).await?;
    let bodies: Vec<_> = stage
        .receiver
        .received()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(bodies.iter().any(|body| body == "{ \"n\":499.0 }"));
    assert!(bodies.iter().any(|body| body == "{\"n\": 1.0}"));
    Ok(())
}

async fn what_publish_prints_is_the_webhook_id(on: On) -> Result<()> {
    // Goal: by either way, with an id of the producer's and without, the id that is printed is the one that arrives.
    let stage = with_one_endpoint(on).await?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    let http = ["--via", &ingest.url];
    let http_id = ["--via", &ingest.url, "--id", "order-2"];
    let ways: [&[&str]; 5] = [&[], &[], &["--id", "order-1"], &http, &http_id];
    let mut printed = Vec::new();
    for (n, way) in ways.iter().enumerate() {
        let payload = format!("{{\"n\": {n}}}");
        let id = stage.publish("a.b", &payload, way).await?;
        printed.push((bytes::Bytes::from(payload), id.trim().to_owned()));
    }
    stage.receiver.wait_for(ways.len() as u64, SOON).await?;
    let mut arrived: Vec<_> = stage
        .receiver
        .received()
        .into_iter()
        .map(|request| {
            let id = request.webhook_id().unwrap_or_default().to_owned();
            (request.body, id)
        })
        .collect();
    arrived.sort();
    assert_eq!(printed, arrived);
    Ok(())
}

async fn snippet_publishes(snippet: Spawn) -> Result<()> {
    let stage = with_one_endpoint(On::RabbitMq).await?;
    let _dispatcher = stage.dispatcher().await?;
    let said = snippet
        .env("AMQP_URL", &stage.broker_url)
        .run_ok(SOON * 3)
        .await?;
    assert!(said.contains("published"), "{said}");
    stage.receiver.wait_for(1, SOON).await?;
    assert_eq!(
        stage.receiver.received()[0].body,
        r#"{"invoice": 17, "total": 1.0}"#
    );
    Ok(())
}

#[tokio::test]
async fn the_python_snippet_publishes() -> Result<()> {
    // Goal: the documented code runs as it stands.
    snippet_publishes(python::code(&snippet("PUBLISHING.md", "publish.py")?)?).await
}

#[tokio::test]
async fn the_node_snippet_publishes() -> Result<()> {
    // Goal: the documented code runs as it stands.
    snippet_publishes(javascript::code(&snippet("PUBLISHING.md", "publish.js")?)?).await
}

#[tokio::test]
async fn the_go_snippet_publishes() -> Result<()> {
    // Goal: the documented code runs as it stands, with Debian's amqp091-go.
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("publish.go");
    std::fs::write(&file, snippet("PUBLISHING.md", "publish.go")?)?;
    let go = Spawn::program("go")
        .args(["run", "publish.go"])
        .cwd(dir.path())
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", dir.path().join("cache"));
    snippet_publishes(go).await
}
