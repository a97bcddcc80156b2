//! Installations as operators set them up: accounts with the least rights, producers bound to their applications, TLS to the broker
//! and to ingest; and what the processes tell them: logs and metrics.

mod stage;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::process::{Process, Signal};
use hooklane_testkit::rabbitmq::{Node, Options as NodeOptions};
use hooklane_testkit::tls::Authority;
use hooklane_testkit::{eventually, python};
use serde_json::Value;
use stage::{On, RECOVERY, SOON, Stage, on_both};

on_both!(
    ingest_serves_tls_from_files_that_may_change_and_only_to_listed_networks,
    json_logs_have_one_wide_line_for_each_thing_that_happens,
    metrics_show_event_age_queue_depths_and_the_claims_window,
);

/// What `Stage::settings` writes by itself, where a test puts more keys into `[broker]`.
const EGRESS: &str = "[egress]\nhttps_only = false\nallow = [\"127.0.0.0/8\"]\n";

/// Publishes as `AMQP_URL`'s user; what is not taken ends the script.
const PRODUCER: &str = r#"
import os, pika
def connected():
    c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    ch = c.channel(); ch.confirm_delivery()
    return c, ch
def publish(ch, application, id, user=None, exchange="hooklane.events"):
    ch.basic_publish(exchange, "a.b", ('{"id": "%s"}' % id).encode(), pika.BasicProperties(
        delivery_mode=2, message_id=id, user_id=user, headers={"application": application}))
def refused(**arguments):
    c, ch = connected()
    try:
        publish(ch, **arguments)
        raise SystemExit("taken: %r" % arguments)
    except pika.exceptions.ChannelClosedByBroker as error:
        print("refused", error.reply_code)
    c.close()
c, ch = connected()
"#;

/// Publishes an event of an application that is in no file.
/// An event that was published over HTTP before.
const THE_SAME: [&str; 9] = [
    "publish",
    "--application",
    "acme",
    "--type",
    "on",
    "--id",
    "e-1",
    "--payload",
    "{}",
];
const FOR_NOBODY: [&str; 9] = [
    "publish",
    "--application",
    "nobody",
    "--type",
    "a.b",
    "--id",
    "u-1",
    "--payload",
    "{}",
];

#[tokio::test]
async fn every_role_works_with_the_rights_that_topology_prints() -> Result<()> {
    // Goal: deliveries, retries, both shelves, replay, status and check, with four accounts that may not more than they must; once with
    // `declare = "passive"`, once with the default, which finds that it may not declare and goes on.
    for declare in ["declare = \"passive\"\n", ""] {
        let mut stage = Stage::new().await?;
        stage
            .run(&["topology", "--declare", "--broker", &stage.broker_url])
            .await?;
        let (ingest, dispatcher) = (stage.account("ingest").await?, stage.account("dispatcher").await?);
        let (operator, producer) = (stage.account("operator").await?, stage.account("producer").await?);
        let endpoints = stage.endpoint("ep_hook", "/hook", "retry = [\"100ms\"]")
            + &stage.endpoint("ep_dead", "/dead", "event_types = [\"a.dead\"]\nretry = []");
        let sections = format!("{declare}{EGRESS}");
        stage.receiver.script("/hook", [Reply::status(500), Reply::ok()]);
        stage.receiver.script("/dead", [Reply::status(500), Reply::ok()]);
        stage.broker_url.clone_from(&ingest.url);
        stage.settings(&sections, &endpoints)?;
        let ingest = stage.ingest().await?;
        stage.broker_url.clone_from(&dispatcher.url);
        stage.settings(&sections, &endpoints)?;
        let _dispatcher = stage.dispatcher().await?;
        stage.broker_url.clone_from(&operator.url);
        stage.settings(&sections, &endpoints)?;

        ingest.publish(&stage.http, "a.dead", "{}").await?;
        let code = format!(
            "{PRODUCER}\npublish(ch, 'acme', 'p-1')\npublish(ch, 'nobody', 'p-2')\nc.close()\n\
             for exchange in ['hooklane.ingest', 'hooklane.internal', 'hooklane.delay.1000']:\n    \
             refused(application='acme', id='x', exchange=exchange)\n"
        );
        let said = python::code(&code)?
            .env("AMQP_URL", &producer.url)
            .run_ok(SOON)
            .await?;
        ensure!(said.matches("refused 403").count() == 3, "{said}");
        // 500, its retry, the dead one, and what the producer published.
        stage.receiver.wait_for_at("/hook", 3, SOON).await?;
        stage.wait_depth("dead", SOON, |depth| depth == 1).await?;
        stage.wait_depth("faults", SOON, |depth| depth == 1).await?;
        ensure!(stage.run(&["dead", "list"]).await?.contains("ep_dead"));
        ensure!(
            stage
                .run(&["faults", "list"])
                .await?
                .contains("unknown_application")
        );
        let replayed = stage.run(&["dead", "replay", "--all"]).await?;
        ensure!(replayed.contains("replayed 1 of 1"), "{replayed}");
        stage.receiver.wait_for_at("/dead", 2, SOON).await?;
        let purged = stage.run(&["faults", "purge", "--all", "--yes"]).await?;
        ensure!(purged.contains("purged 1 of 1"), "{purged}");
        let status = stage.run(&["status"]).await?;
        ensure!(
            status.contains("ep_hook") && status.contains("1 of 1 dispatchers answered"),
            "{status}"
        );
        let checked = stage
            .run(&["check", "--role", "dispatcher", "--broker", &dispatcher.url])
            .await?;
        ensure!(
            checked.contains("existence only") || !declare.is_empty(),
            "{checked}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn check_names_the_argument_that_differs() -> Result<()> {
    // Goal: a queue was declared with another bound than the settings say: the queue, the argument and both values are named.
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", ""))?;
    stage.run(&["topology", "--declare"]).await?;
    let other = stage
        .hooklane(&["check"])?
        .env("HOOKLANE_BROKER__EVENTS_BYTES_MAX", "5MiB")
        .run(SOON)
        .await?;
    for words in [
        "hooklane.events",
        "hooklane.ordered",
        "x-max-length-bytes",
        "5242880",
        "1073741824",
    ] {
        ensure!(other.stdout.contains(words), "no {words} in {}", other.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn a_producer_speaks_only_for_its_applications() -> Result<()> {
    // Goal: invariant 10. The broker verifies `user_id`; another application's events, and those without a user, are faults; a user
    // that is another's name is refused by the broker.
    let stage = Stage::new().await?;
    stage.run(&["topology", "--declare"]).await?;
    let producer = stage.account("producer").await?;
    let other = stage
        .endpoint("ep_other", "/other", "")
        .replace("\"acme\"", "\"other\"");
    let applications = format!(
        "[[application]]\nid = \"acme\"\nbroker_users = [\"{}\"]\n",
        producer.name
    );
    stage.settings(&applications, &(stage.endpoint("ep_acme", "/acme", "") + &other))?;
    let _dispatcher = stage.dispatcher().await?;
    let code = format!(
        "{PRODUCER}\nme = os.environ['ME']\npublish(ch, 'acme', 'mine', me)\npublish(ch, 'other', 'foreign', me)\n\
         publish(ch, 'acme', 'nameless')\nc.close()\nrefused(application='other', id='forged', user='guest')\n"
    );
    let script = python::code(&code)?
        .env("AMQP_URL", &producer.url)
        .env("ME", &producer.name);
    let said = script.run_ok(SOON).await?;
    ensure!(said.contains("refused 406"), "{said}");
    stage.wait_depth("faults", SOON, |depth| depth == 2).await?;
    stage.receiver.wait_for(1, SOON).await?;
    stage.wait_empty("events", SOON).await?;
    let requests = stage.receiver.received();
    ensure!(
        requests.len() == 1 && requests[0].body == r#"{"id": "mine"}"#,
        "{requests:?}"
    );
    let list = stage.run(&["faults", "list", "--format", "json"]).await?;
    ensure!(list.matches("\"wrong_application\"").count() == 2, "{list}");
    Ok(())
}

#[tokio::test]
async fn processes_reach_a_broker_that_wants_client_certificates() -> Result<()> {
    // Goal: amqps with a private authority and our certificate, from the settings file; without the certificate `check` says so.
    let authority = std::sync::Arc::new(Authority::new()?);
    let node = Node::start_with(NodeOptions::default().mutual_tls(&authority)).await?;
    let client = authority.client("hooklane")?;
    let stage = Stage::at(&node.amqps_url_for("guest", "guest", "/")).await?;
    let ca = format!("ca_file = {:?}\n", authority.ca_file());
    let certificate = format!(
        "client_certificate = {:?}\nclient_key = {:?}\n",
        client.certificate_file(),
        client.key_file()
    );
    let endpoint = stage.endpoint("ep_hook", "/hook", "");
    stage.settings(&format!("{ca}{certificate}{EGRESS}"), &endpoint)?;
    let ingest = stage.ingest().await?;
    let _dispatcher = stage.dispatcher().await?;
    ingest.publish(&stage.http, "a", "{}").await?;
    stage.receiver.wait_for(1, SOON).await?;
    let good = stage.run(&["check"]).await?;
    ensure!(good.contains("ok       RabbitMQ "), "{good}");
    stage.settings(&format!("{ca}{EGRESS}"), &endpoint)?;
    let bad = stage.hooklane(&["check"])?.run(SOON).await?;
    ensure!(bad.stdout.contains("problem  no connection to"), "{}", bad.stdout);
    Ok(())
}

async fn ingest_serves_tls_from_files_that_may_change_and_only_to_listed_networks(on: On) -> Result<()> {
    // Goal: certificate and key from the settings, a new pair taken at SIGHUP without a restart; the CIDR list of the settings.
    let stage = Stage::on(on).await?;
    let (first, second) = (Authority::new()?, Authority::new()?);
    let (certificate, key) = (
        stage.dir.path().join("server.pem"),
        stage.dir.path().join("server.key"),
    );
    let put = |authority: &Authority| -> Result<()> {
        let identity = authority.server(&["127.0.0.1"])?;
        std::fs::write(&key, identity.key_pem())?;
        Ok(std::fs::write(&certificate, identity.certificate_pem())?)
    };
    let trusting = |authority: &Authority| -> Result<reqwest::Client> {
        let root = reqwest::Certificate::from_pem(authority.ca_pem().as_bytes())?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_built_in_root_certs(false);
        Ok(client.add_root_certificate(root).build()?)
    };
    put(&first)?;
    let endpoint = stage.endpoint("ep_hook", "/hook", "");
    let tls = "tls_certificate = \"server.pem\"\ntls_key = \"server.key\"\n";
    stage.settings(&format!("[ingest]\n{tls}allow = [\"127.0.0.0/8\"]\n"), &endpoint)?;
    let process = stage.ingest_command()?.start()?;
    let line = process.wait_for_line("listening on https://", SOON).await?;
    let url = line.text.split_whitespace().last().context("a URL")?.to_owned();
    let status = async |client: &reqwest::Client| -> Result<u16> {
        let post = client
            .post(format!("{url}/api/v1/app/acme/msg"))
            .header("content-type", "application/json");
        Ok(post
            .body(r#"{"eventType":"a","payload":{}}"#)
            .send()
            .await?
            .status()
            .as_u16())
    };
    eventually("ingest to accept over TLS", SOON, || async {
        let status = status(&trusting(&first)?).await?;
        ensure!(status == 202, "{status}");
        Ok(())
    })
    .await?;
    ensure!(
        status(&trusting(&second)?).await.is_err(),
        "its certificate was not checked"
    );
    put(&second)?;
    process.signal(Signal::HUP)?;
    eventually("the new certificate to be served", SOON, || async {
        let status = status(&trusting(&second)?).await?;
        ensure!(status == 202, "{status}");
        Ok(())
    })
    .await?;

    process.kill9().await?;
    stage.settings("[ingest]\nallow = [\"10.0.0.0/8\"]\n", &endpoint)?;
    let closed = stage.ingest_command()?.start()?;
    let line = closed.wait_for_line("listening on http://", SOON).await?;
    let url = line.text.split_whitespace().last().context("a URL")?.to_owned();
    let answer = stage
        .http
        .post(format!("{url}/api/v1/app/acme/msg"))
        .send()
        .await?;
    ensure!(answer.status().as_u16() == 403, "{}", answer.status());
    Ok(())
}

/// The JSON lines of a process so far.
fn lines(process: &Process) -> Vec<Value> {
    let lines = process.output().lines();
    lines
        .iter()
        .filter_map(|line| serde_json::from_str(&line.text).ok())
        .collect()
}

fn all<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines
        .iter()
        .filter(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.starts_with(message))
        })
        .collect()
}

fn assert_fields(line: &Value, names: &[&str]) {
    for name in names {
        assert!(!line[name].is_null(), "no {name} in {line}");
    }
}

/// Waits until a process says that it lost a connection and made it again.
async fn wait_connected_again(process: &Process, connection: &str) -> Result<()> {
    let what = "the broker's connection to be lost and made again";
    eventually(what, RECOVERY, || async {
        let lines = lines(process);
        let made = all(&lines, "connected to the broker");
        let made = made.iter().filter(|line| line["connection"] == connection);
        ensure!(made.count() >= 2, "{lines:#?}");
        Ok(())
    })
    .await
}

async fn json_logs_have_one_wide_line_for_each_thing_that_happens(on: On) -> Result<()> {
    // Goal: a publish accepted and one refused, each attempt, a fault, the broker's comings and goings: one line each, with its fields,
    // with the event's id, and without payload or secret. Method: parse what the processes wrote.
    let stage = Stage::on(on).await?;
    let endpoint = stage.endpoint("ep_hook", "/hook?key=hidden", "retry = [\"100ms\"]");
    stage.settings("[log]\nformat = \"json\"\n", &endpoint)?;
    stage.receiver.script("/hook", [Reply::status(500), Reply::ok()]);
    let ingest = stage.ingest().await?;
    let dispatcher = stage.dispatcher().await?;
    let id = ingest
        .publish(&stage.http, "invoice.paid", "{\"card\":\"4111\"}")
        .await?;
    ingest
        .post(
            &stage.http,
            "acme",
            r#"{"eventType":"a","payload":"4111"}"#.to_owned(),
        )
        .await?;
    stage.receiver.wait_for(2, SOON).await?;
    stage.run(&FOR_NOBODY).await?;
    stage.wait_depth("faults", SOON, |depth| depth == 1).await?;
    if let Some(vhost) = &stage.vhost {
        vhost.close_all_connections().await?;
        for (connection, process) in [("publish", &ingest.process), ("consume", &dispatcher.process)] {
            wait_connected_again(process, connection).await?;
        }
    }

    let told = lines(&ingest.process);
    let accepted = all(&told, "event accepted");
    ensure!(
        accepted.len() == 1 && accepted[0]["event.id"] == id.as_str(),
        "{accepted:?}"
    );
    assert_fields(
        accepted[0],
        &[
            "timestamp",
            "level",
            "event.type",
            "application",
            "bytes",
            "duration_ms",
            "peer",
            "way",
        ],
    );
    let refused = all(&told, "event refused");
    ensure!(refused.len() == 1, "{refused:?}");
    assert_fields(
        refused[0],
        &["application", "status", "reason", "detail", "duration_ms", "peer"],
    );

    let told = lines(&dispatcher.process);
    let attempts: Vec<_> = told
        .iter()
        .filter(|line| line["attempt.id"].is_string())
        .collect();
    ensure!(attempts.len() == 2, "{attempts:#?}");
    let (failed, delivered) = (attempts[0], attempts[1]);
    for (line, attempt, status, next) in [(failed, 1, 500, "retry"), (delivered, 2, 200, "delivered")] {
        ensure!(
            line["event.id"] == id.as_str() && line["endpoint.id"] == "ep_hook",
            "{line}"
        );
        ensure!(
            line["attempt"] == attempt && line["status"] == status && line["next"] == next,
            "{line}"
        );
        assert_fields(
            line,
            &[
                "event.type",
                "application",
                "run",
                "parks",
                "outcome",
                "duration_ms",
                "bytes",
                "age_ms",
            ],
        );
    }
    ensure!(failed["attempt.id"] != delivered["attempt.id"]);
    let faults = all(&told, "message put on the shelf of faults");
    ensure!(
        faults.len() == 1 && faults[0]["reason"] == "unknown_application",
        "{faults:?}"
    );
    assert_fields(
        faults[0],
        &["event.id", "detail", "queue", "exchange", "message_id", "bytes"],
    );
    for process in [&ingest.process, &dispatcher.process] {
        let text = process.output().stderr();
        for hidden in ["4111", "hidden", stage::SECRET, "guest:guest"] {
            ensure!(!text.contains(hidden), "{hidden} was logged:\n{text}");
        }
    }
    Ok(())
}

async fn metrics_show_event_age_queue_depths_and_the_claims_window(on: On) -> Result<()> {
    // Goal: what an operator watches is there: how old events are at their first attempt, how deep queues are, how far back repeats
    // are noticed. Method: two events, one a repeat, one that waits for a disabled endpoint's return.
    let stage = Stage::on(on).await?;
    let waiting = stage.endpoint("ep_off", "/off", "event_types = [\"off\"]\ndisabled = true");
    stage.settings(
        "",
        &(stage.endpoint("ep_hook", "/hook", "event_types = [\"on\"]") + &waiting),
    )?;
    let ingest = stage.ingest().await?;
    let dispatcher = stage.dispatcher().await?;
    // Once over HTTP and once past it: there a repeat may be refused.
    let event = r#"{"eventType":"on","eventId":"e-1","payload":{}}"#;
    ingest.post(&stage.http, "acme", event.to_owned()).await?;
    stage.run(&THE_SAME).await?;
    ingest.publish(&stage.http, "nobody.wants.it", "{}").await?;
    stage.run(&FOR_NOBODY).await?;
    // The embedded queue is reached without any.
    let connections = stage.by_broker(2.0, 0.0);
    eventually("the metrics", SOON, || async {
        for (name, labels, wanted) in [
            ("hooklane_event_age_seconds_count", "", 1.0),
            ("hooklane_events_duplicate_total", "", 1.0),
            ("hooklane_events_unmatched_total", "", 1.0),
            ("hooklane_claims_entries", "", 1.0),
            ("hooklane_queue_depth", "faults", 1.0),
            ("hooklane_broker_connected", "", connections),
        ] {
            let found = dispatcher.metric(&stage.http, name, labels).await?;
            ensure!(found >= wanted, "{name}{{{labels}}} is {found}");
        }
        Ok(())
    })
    .await?;
    let age = dispatcher
        .metric(&stage.http, "hooklane_event_age_seconds_sum", "")
        .await?;
    ensure!((0.0..SOON.as_secs_f64()).contains(&age), "{age}");
    let accepted = stage
        .http
        .get(format!("{}/metrics", ingest.url))
        .send()
        .await?
        .text()
        .await?;
    ensure!(
        accepted.contains("hooklane_events_accepted_total{way=\"http\"} 2"),
        "{accepted}"
    );
    Ok(())
}
