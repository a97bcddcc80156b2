//! What breaks in production, under load: dispatchers that come and go, the broker restarted, blocked, full and cut off. After each:
//! every accepted event was delivered, none lost, repeats only where a crash explains them and under the same webhook-id, nothing
//! restarted by hand. Crashes with attempts in flight are in crashes.rs.

mod stage;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::process::{Process, Spawn};
use hooklane_testkit::proxy::Proxy;
use hooklane_testkit::rabbitmq::{Cluster, Node};
use stage::load::{PUBLISHERS, RETRY, beside, end, more, publish, wait_all, wait_ready};
use stage::{Dispatcher, Ingest, On, RECOVERY, SOON, Stage};

/// What one loss of a connection may repeat in one dispatcher: an endpoint's attempts in flight (64 by default), and as many whose
/// ack was on its way.
const REPEATS_PER_LOSS: u64 = 128;

/// One endpoint that answers at once, an ingest, and dispatchers.
async fn with_dispatchers(stage: &Stage, count: usize) -> Result<(Ingest, Vec<Dispatcher>)> {
    stage.settings("", &stage.endpoint("ep_hook", "/hook", RETRY))?;
    Ok((stage.ingest().await?, stage.dispatchers(count).await?))
}

/// What processes said, without the line for each event that went well.
fn said(processes: &[&Process]) -> Vec<String> {
    let lines = processes.iter().flat_map(|process| process.output().lines());
    lines
        .map(|line| line.text)
        .filter(|text| !text.contains("event accepted") && !text.contains("report: delivered"))
        .collect()
}

#[tokio::test]
async fn dispatchers_come_and_go_under_load() -> Result<()> {
    // Goal: 1 -> 3 -> 1, then a rolling restart, while events come; nothing lost, nothing repeated.
    let stage = Stage::new().await?;
    let (ingest, mut running) = with_dispatchers(&stage, 1).await?;
    let moves = async {
        more(&stage, 100, SOON).await?;
        let added = stage.dispatchers(2).await?;
        more(&stage, 100, SOON).await?;
        for gone in added {
            end(gone).await?;
            more(&stage, 50, SOON).await?;
        }
        // Rolling: the next is there before the last one goes.
        for _ in 0..2 {
            let next = stage.dispatcher().await?;
            end(std::mem::replace(&mut running[0], next)).await?;
            more(&stage, 50, SOON).await?;
        }
        Ok(())
    };
    let (accepted, ()) = beside(&stage, &ingest, moves).await?;
    let repeats = wait_all(&stage, &ingest, &[&running[0]], &accepted).await?;
    println!("1 -> 3 -> 1 and rolling: {repeats} repeats of {}", accepted.len());
    assert_eq!(repeats, 0);
    Ok(())
}

#[tokio::test]
async fn the_one_process_may_be_killed_and_stopped_under_load() -> Result<()> {
    // Goal: what is ingest, dispatcher and queue at once is killed and started again, then stopped and started again, while producers
    // publish; they see refusals meanwhile, and nothing is lost. Only the kill may repeat.
    let stage = Stage::on(On::Embedded).await?;
    let (ingest, mut running) = with_dispatchers(&stage, 1).await?;
    let moves = async {
        more(&stage, 200, SOON).await?;
        running[0].process.kill9().await?;
        running = stage.dispatchers(1).await?;
        more(&stage, 200, SOON).await?;
        let repeats = repeats(&stage);
        for _ in 0..3 {
            end(running.remove(0)).await?;
            running = stage.dispatchers(1).await?;
            more(&stage, 100, SOON).await?;
        }
        Ok(repeats)
    };
    let (accepted, by_the_kill) = beside(&stage, &ingest, moves).await?;
    let repeats = wait_all(&stage, &ingest, &[&running[0]], &accepted).await?;
    println!(
        "killed and stopped under load: {by_the_kill} and then {repeats} repeats of {}",
        accepted.len()
    );
    // Those in flight, and those whose producers were not answered.
    ensure!(by_the_kill <= REPEATS_PER_LOSS + PUBLISHERS as u64);
    ensure!(repeats == by_the_kill, "stopping repeats");
    Ok(())
}

/// How often events came again so far.
fn repeats(stage: &Stage) -> u64 {
    let counts = stage.receiver.by_webhook_id();
    counts.values().map(|count| count - 1).sum()
}

#[tokio::test]
async fn a_full_disk_delays_and_loses_nothing() -> Result<()> {
    // Goal: on the embedded broker, publishers get 503 with Retry-After while nothing can be written, readiness says so, and everything
    // goes on by itself. Method: the system refuses the process every write to a file.
    let stage = Stage::on(On::Embedded).await?;
    let endpoint = stage.endpoint("ep_hook", "/hook", RETRY);
    stage.settings("[ingest]\npublish_timeout = \"2s\"\n", &endpoint)?;
    let running = stage.dispatcher().await?;
    let ingest = stage.ingest().await?;
    let limit = async |bytes: &str| -> Result<()> {
        let process = format!("--pid={}", running.process.pid());
        let command = Spawn::program("prlimit").arg(process);
        let limit = format!("--fsize={bytes}:");
        command.arg(limit).run_ok(SOON).await.map(drop)
    };
    let trouble = async {
        more(&stage, 200, SOON).await?;
        limit("1").await?;
        wait_ready(&stage, &ingest.url, false).await?;
        assert_refused(&stage, &ingest).await?;
        let blocked = async || running.metric(&stage.http, "hooklane_broker_blocked", "").await;
        ensure!(blocked().await? == 1.0, "no alert would fire");
        limit("unlimited").await?;
        wait_ready(&stage, &ingest.url, true).await?;
        ensure!(blocked().await? == 0.0, "the alert would go on");
        more(&stage, 200, RECOVERY).await
    };
    let (mut accepted, ()) = beside(&stage, &ingest, trouble).await?;
    accepted.push(publish_late(&stage, &ingest).await?);
    let repeats = wait_all(&stage, &ingest, &[&running], &accepted).await?;
    println!("a full disk: {repeats} repeats of {}", accepted.len());
    // What a producer repeats is known to the process that took it the first time.
    ensure!(repeats == 0, "{repeats} repeats");
    Ok(())
}

#[tokio::test]
async fn the_broker_may_restart_under_load() -> Result<()> {
    // Goal: kill -9 and later a clean stop of the broker while events come; everything reconnects by itself.
    let node = Node::start().await?;
    let stage = Stage::at(&node.amqp_url()).await?;
    let (ingest, running) = with_dispatchers(&stage, 2).await?;
    let trouble = async {
        more(&stage, 200, SOON).await?;
        // Queues must be older than half a second before their only node is killed (RabbitMQ's own limit).
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.kill9().await?;
        node.restart().await?;
        more(&stage, 200, RECOVERY).await?;
        node.stop().await?;
        node.restart().await?;
        more(&stage, 200, RECOVERY).await
    };
    let (accepted, ()) = beside(&stage, &ingest, trouble).await?;
    let repeats = wait_all(&stage, &ingest, &[&running[0], &running[1]], &accepted).await?;
    println!(
        "broker killed and restarted under load: {repeats} repeats of {}",
        accepted.len()
    );
    ensure!(repeats <= 2 * 2 * REPEATS_PER_LOSS);
    Ok(())
}

#[tokio::test]
async fn a_connection_may_be_cut_and_half_open() -> Result<()> {
    // Goal: reset connections, none for a while, then a network that swallows everything; both sides notice and go on.
    let plain = Stage::new().await?;
    let vhost = plain.vhost.as_ref().context("a stage of its own has a vhost")?;
    let proxy = Proxy::start(vhost.authority()).await?;
    let stage = Stage::at(&format!("{}?heartbeat=1", vhost.url_by(proxy.address()))).await?;
    let (ingest, running) = with_dispatchers(&stage, 2).await?;
    let trouble = async {
        more(&stage, 200, SOON).await?;
        proxy.reset_connections();
        more(&stage, 200, RECOVERY).await?;
        proxy.cut().await;
        for process in [&running[0].url, &running[1].url, &ingest.url] {
            wait_ready(&stage, process, false).await?;
        }
        proxy.restore().await;
        more(&stage, 200, RECOVERY).await?;
        proxy.freeze();
        // Nothing tells them but the silence.
        for process in [&running[0].url, &running[1].url, &ingest.url] {
            wait_ready(&stage, process, false).await?;
        }
        proxy.restore().await;
        more(&stage, 200, RECOVERY).await
    };
    let (accepted, ()) = beside(&stage, &ingest, trouble).await?;
    let repeats = wait_all(&stage, &ingest, &[&running[0], &running[1]], &accepted).await?;
    println!(
        "reset, cut and half-open: {repeats} repeats of {}",
        accepted.len()
    );
    ensure!(repeats <= 3 * 2 * REPEATS_PER_LOSS);
    Ok(())
}

/// An event that is published during the trouble and after it.
const LATE: &str = r#"{"eventType":"load","eventId":"late","payload":{"n":"late"}}"#;

/// A producer is told to come again.
async fn assert_refused(stage: &Stage, ingest: &Ingest) -> Result<()> {
    let url = format!("{}/api/v1/app/acme/msg", ingest.url);
    let refused = stage.http.post(url).header("content-type", "application/json");
    let refused = refused.body(LATE).send().await?;
    ensure!(
        refused.status() == 503 && refused.headers().contains_key("retry-after"),
        "{refused:?}"
    );
    Ok(())
}

/// It does; gives the event's id.
async fn publish_late(stage: &Stage, ingest: &Ingest) -> Result<String> {
    let (status, answer) = ingest.post(&stage.http, "acme", LATE.to_owned()).await?;
    ensure!(status == 202, "{status} {answer}");
    Ok(answer["id"].as_str().context("the answer has an id")?.to_owned())
}

#[tokio::test]
async fn a_memory_alarm_of_20_seconds_delays_and_loses_nothing() -> Result<()> {
    // Goal: publishers get 503 with Retry-After meanwhile, readiness says so, and everything goes on by itself.
    let node = Node::start().await?;
    let stage = Stage::at(&node.amqp_url()).await?;
    let endpoint = stage.endpoint("ep_hook", "/hook", RETRY);
    stage.settings("[ingest]\npublish_timeout = \"2s\"\n", &endpoint)?;
    let (ingest, running) = (stage.ingest().await?, stage.dispatchers(2).await?);
    let trouble = async {
        more(&stage, 200, SOON).await?;
        node.set_memory_alarm(true).await?;
        let alarm = tokio::time::Instant::now();
        for url in [&ingest.url, &running[0].url, &running[1].url] {
            wait_ready(&stage, url, false).await?;
        }
        assert_refused(&stage, &ingest).await?;
        tokio::time::sleep_until(alarm + Duration::from_secs(20)).await;
        node.set_memory_alarm(false).await?;
        for url in [&ingest.url, &running[0].url, &running[1].url] {
            wait_ready(&stage, url, true).await?;
        }
        more(&stage, 200, RECOVERY).await
    };
    let (mut accepted, ()) = beside(&stage, &ingest, trouble).await?;
    accepted.push(publish_late(&stage, &ingest).await?);
    let repeats = wait_all(&stage, &ingest, &[&running[0], &running[1]], &accepted).await?;
    println!("memory alarm for 20 s: {repeats} repeats of {}", accepted.len());
    // What was on its way when the alarm began came, and again when its producer repeated it: each dispatcher knows what it has
    // claimed itself.
    ensure!(repeats <= PUBLISHERS as u64 + 1);
    Ok(())
}

#[tokio::test]
async fn one_node_of_three_may_be_killed() -> Result<()> {
    // Goal: a cluster loses a node under load, first one that nobody is connected to, then the one that all are connected to: they
    // go on at the next of their URLs.
    let cluster = Cluster::start(3).await?;
    let stage = Stage::at(&cluster.urls().join(",")).await?;
    let (ingest, running) = with_dispatchers(&stage, 2).await?;
    let trouble = async {
        more(&stage, 200, SOON).await?;
        cluster.node(2).kill9().await?;
        more(&stage, 200, RECOVERY).await?;
        cluster.node(2).restart().await?;
        cluster.wait_joined().await?;
        more(&stage, 200, RECOVERY).await?;
        cluster.node(0).kill9().await?;
        // It stays away until others have taken over.
        more(&stage, 400, RECOVERY).await?;
        cluster.node(0).restart().await?;
        more(&stage, 200, RECOVERY).await
    };
    let (accepted, ()) = beside(&stage, &ingest, trouble)
        .await
        .with_context(|| format!("{:#?}", said(&[&ingest.process, &running[0].process])))?;
    let repeats = wait_all(&stage, &ingest, &[&running[0], &running[1]], &accepted).await?;
    println!(
        "two nodes of three killed, one after the other: {repeats} repeats of {}",
        accepted.len()
    );
    ensure!(repeats <= 2 * 2 * REPEATS_PER_LOSS);
    Ok(())
}

#[tokio::test]
async fn a_queue_deleted_under_its_consumers_comes_back() -> Result<()> {
    // Goal: somebody deletes work queues; dispatchers declare them again and consume them, by themselves.
    let stage = Stage::new().await?;
    let (ingest, running) = with_dispatchers(&stage, 2).await?;
    let vhost = stage.vhost.as_ref().context("a stage of its own has a vhost")?;
    for queue in ["deliveries", "events"] {
        let name = format!("hooklane.{queue}");
        vhost.ctl(&["delete_queue", "-p", vhost.name(), &name]).await?;
        hooklane_testkit::eventually("both to consume it again", SOON, || async {
            let status = stage.status().await?;
            let queues = status["queues"].as_array().context("it lists queues")?;
            let consumers = queues.iter().find(|row| row["name"] == queue);
            ensure!(consumers.is_some_and(|row| row["consumers"] == 2), "{status}");
            Ok(())
        })
        .await?;
    }
    // The first attempt comes by `events`, the retry by `deliveries`.
    let arrived = AtomicU64::new(0);
    stage
        .receiver
        .script_with("/hook", move |_| match arrived.fetch_add(1, Ordering::Relaxed) {
            0..20 => Reply::status(500),
            _ => Reply::ok(),
        });
    let accepted = publish(&stage, &ingest, 20).await?;
    stage.receiver.wait_for(40, SOON).await?;
    let repeats = wait_all(&stage, &ingest, &[&running[0], &running[1]], &accepted).await?;
    assert_eq!(repeats, 20, "one retry for each");
    Ok(())
}
