//! What breaks in production, under load: dispatchers killed, stopped and added, the broker restarted, blocked and cut off. After
//! each: every accepted event was delivered, none lost, repeats only where a crash explains them and under the same webhook-id,
//! nothing restarted by hand.

mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use hooklane_testkit::process::Process;
use hooklane_testkit::proxy::Proxy;
use hooklane_testkit::rabbitmq::{Cluster, Node};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use serde_json::Value;
use stage::load::{PUBLISHERS, beside, more, publish, settled, wait_all, wait_ready};
use stage::{Dispatcher, Ingest, RECOVERY, SOON, Stage};

/// Retries soon, so that what a fault of the broker made fail is not waited for.
const RETRY: &str = "retry = [\"1s\", \"1s\", \"1s\"]";

/// What one loss of a connection may repeat in one dispatcher: an endpoint's attempts in flight (64 by default), and as many whose
/// ack was on its way.
const REPEATS_PER_LOSS: u64 = 128;

/// Messages in work at once in a dispatcher of [`ROOMY`].
const ROOM: u64 = 2000;
/// Room for well over a thousand attempts in flight in one dispatcher.
const ROOMY: &str = "[dispatcher]\nin_flight_max = 2000\n";

/// 3,000 events wait for an endpoint with room for 2,000 attempts at once, which answers two of three after 4 s. The third it
/// answers at once: so it is not sick.
async fn with_a_thousand_in_flight() -> Result<(Stage, Ingest, Dispatcher, Vec<String>)> {
    let stage = Stage::new().await?;
    stage.settings(
        ROOMY,
        &stage.endpoint("ep_slow", "/slow", &format!("max_in_flight = 2000\n{RETRY}")),
    )?;
    let arrived = AtomicU64::new(0);
    stage.receiver.script_with("/slow", move |_| {
        match arrived.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Reply::ok(),
            _ => Reply::ok().after(Duration::from_secs(4)),
        }
    });
    let ingest = stage.ingest().await?;
    let accepted = publish(&stage, &ingest, 3000).await?;
    let dispatcher = stage.dispatcher().await?;
    hooklane_testkit::eventually("1,000 in flight", SOON, || async {
        let in_flight = stage.receiver.in_flight();
        ensure!(in_flight >= 1000, "{in_flight} in flight");
        Ok(())
    })
    .await?;
    Ok((stage, ingest, dispatcher, accepted))
}

/// One endpoint that answers at once, an ingest, and dispatchers.
async fn with_dispatchers(stage: &Stage, count: usize) -> Result<(Ingest, Vec<Dispatcher>)> {
    stage.settings("", &stage.endpoint("ep_hook", "/hook", RETRY))?;
    Ok((stage.ingest().await?, stage.dispatchers(count).await?))
}

#[tokio::test]
async fn kill_9_between_post_and_ack_loses_nothing() -> Result<()> {
    // Goal: invariant 2; method: 1,000 deliveries in flight in one dispatcher, kill -9, then a second one takes over.
    let (stage, ingest, first, accepted) = with_a_thousand_in_flight().await?;
    let in_flight = stage.receiver.in_flight();
    first.process.kill9().await?;
    let second = stage.dispatcher().await?;
    let repeats = wait_all(&stage, &ingest, &[&second], &accepted).await?;
    println!(
        "kill -9 with {in_flight} in flight: {repeats} repeats of {}",
        accepted.len()
    );
    // All that were in flight, for their answers were not there; and nothing that had not been begun. An ack that was written
    // may not have been read.
    ensure!(
        (1000..ROOM + ROOM / 4).contains(&repeats),
        "{repeats} repeats are not what was in flight"
    );
    Ok(())
}

#[tokio::test]
async fn sigterm_with_a_thousand_in_flight_repeats_nothing() -> Result<()> {
    // Goal: invariant 8; method: SIGTERM in flight, exit within the grace, what was in flight is not repeated.
    let (stage, ingest, first, accepted) = with_a_thousand_in_flight().await?;
    let in_flight = stage.receiver.in_flight();
    first.process.terminate()?;
    let status = first.process.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", first.process.output().tail());
    let served = stage.receiver.total();
    ensure!(served < 3000, "nothing was left to give back");
    let second = stage.dispatcher().await?;
    let repeats = wait_all(&stage, &ingest, &[&second], &accepted).await?;
    println!("SIGTERM with {in_flight} in flight, {served} of 3,000 served: {repeats} repeats");
    ensure!(
        repeats == 0,
        "{repeats} repeats: {:#?}",
        lines_of_repeats(&stage, &[&first, &second])
    );
    Ok(())
}

/// What dispatchers said about one event that came more than once.
fn lines_of_repeats(stage: &Stage, dispatchers: &[&Dispatcher]) -> Vec<String> {
    let counts = stage.receiver.by_webhook_id();
    let Some((id, _)) = counts.iter().find(|(_, count)| **count > 1) else {
        return Vec::new();
    };
    let lines = dispatchers
        .iter()
        .flat_map(|dispatcher| dispatcher.process.output().lines());
    lines
        .filter(|line| line.text.contains(id))
        .map(|line| line.text)
        .collect()
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

/// SIGTERM, and a clean end.
async fn end(dispatcher: Dispatcher) -> Result<()> {
    dispatcher.process.terminate()?;
    let status = dispatcher.process.wait(SOON).await?;
    ensure!(
        status.success(),
        "{status}: {}",
        dispatcher.process.output().tail()
    );
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

/// An event that is published during the alarm and after it.
const LATE: &str = r#"{"eventType":"load","eventId":"late","payload":{"n":"late"}}"#;

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
        let url = format!("{}/api/v1/app/acme/msg", ingest.url);
        let refused = stage.http.post(url).header("content-type", "application/json");
        let refused = refused.body(LATE).send().await?;
        ensure!(
            refused.status() == 503 && refused.headers().contains_key("retry-after"),
            "{refused:?}"
        );
        tokio::time::sleep_until(alarm + Duration::from_secs(20)).await;
        node.set_memory_alarm(false).await?;
        for url in [&ingest.url, &running[0].url, &running[1].url] {
            wait_ready(&stage, url, true).await?;
        }
        more(&stage, 200, RECOVERY).await
    };
    let (mut accepted, ()) = beside(&stage, &ingest, trouble).await?;
    // The producer that was refused tries again.
    let (status, answer) = ingest.post(&stage.http, "acme", LATE.to_owned()).await?;
    ensure!(status == 202, "{status} {answer}");
    accepted.push(answer["id"].as_str().context("the answer has an id")?.to_owned());
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
            let status: Value = serde_json::from_str(&stage.run(&["status", "--format", "json"]).await?)?;
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

#[tokio::test]
async fn two_thousand_endpoints_of_one_event_survive_a_kill_half_way() -> Result<()> {
    // Goal: each of 2,000 endpoints gets the event; a crash repeats at most the 16 attempts of each slice in work.
    const SLICES_IN_WORK: u64 = 16;
    let stage = Stage::new().await?;
    let endpoints: String = (0..2000)
        .map(|n| stage.endpoint(&format!("ep_{n}"), &format!("/e{n}"), ""))
        .collect();
    stage.settings(
        &format!("[dispatcher]\nretries_in_flight_max = {SLICES_IN_WORK}\n"),
        &endpoints,
    )?;
    stage
        .receiver
        .script_default([Reply::ok().after(Duration::from_millis(50))]);
    let ingest = stage.ingest().await?;
    let first = stage.dispatcher().await?;
    let id = ingest.publish(&stage.http, "a", "{}").await?;
    stage.receiver.wait_for(1000, SOON).await?;
    first.process.kill9().await?;
    let half_way = stage.receiver.total();
    ensure!(half_way < 2000, "it was over before the kill");
    let second = stage.dispatcher().await?;
    let every = Arc::new((0..2000).map(|n| format!("/e{n}")).collect::<Vec<_>>());
    let wanted = every.clone();
    stage
        .receiver
        .wait_until("every endpoint to be served", RECOVERY, move |log| {
            wanted.iter().all(|path| log.count_at(path) > 0)
        })
        .await?;
    settled(&stage, &[&second]).await?;
    let counts = stage.receiver.by_webhook_id();
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&id]);
    let repeats = counts[&id] - 2000;
    println!("2,000 endpoints, killed at {half_way}: {repeats} repeats");
    // As many slices again may have been done without their ack having been read.
    ensure!(repeats <= 2 * 16 * SLICES_IN_WORK);
    Ok(())
}

/// 1,000 events wait for an endpoint that takes 8 at once; dispatchers are started and ended over them, this often. Gives the repeats.
async fn restarts_over_a_backlog(count: usize, kill: impl Fn(usize) -> bool) -> Result<u64> {
    let stage = Stage::new().await?;
    let limited = format!("max_in_flight = 8\n{RETRY}");
    stage.settings("", &stage.endpoint("ep_slow", "/slow", &limited))?;
    stage
        .receiver
        .script("/slow", [Reply::ok().after(Duration::from_millis(50))]);
    let ingest = stage.ingest().await?;
    let accepted = publish(&stage, &ingest, 1000).await?;
    for round in 0..count {
        let dispatcher = stage.dispatcher().await?;
        let seen = stage.receiver.total();
        // Alive until it did something, or for a moment when nothing is left to do.
        let _ = stage
            .receiver
            .wait_for(seen + 1, Duration::from_millis(300))
            .await;
        if kill(round) {
            dispatcher.process.kill9().await?;
        } else {
            end(dispatcher).await?;
        }
    }
    let running = stage.dispatchers(2).await?;
    wait_all(&stage, &ingest, &[&running[0], &running[1]], &accepted).await
}

#[tokio::test]
async fn thirty_restarts_over_a_backlog_convict_nobody() -> Result<()> {
    // Goal: SIGTERM and kill -9 in turn, 30 times, over 1,000 waiting events: all delivered, no fault.
    let repeats = restarts_over_a_backlog(30, |round| round % 2 == 0).await?;
    println!("30 restarts over 1,000 events: {repeats} repeats");
    Ok(())
}

#[tokio::test]
async fn restarts_by_sigterm_over_a_backlog_repeat_nothing() -> Result<()> {
    // Goal: a deployment costs no repeat, whatever was under way: attempts, parking, messages that became suspects.
    let repeats = restarts_over_a_backlog(8, |_| false).await?;
    println!("8 restarts by SIGTERM over 1,000 events: {repeats} repeats");
    assert_eq!(repeats, 0);
    Ok(())
}

/// Of the issue: far over the event limit, and in all far over any memory that a dispatcher should take.
const BODIES: usize = 200;
const BODY_BYTES: usize = 10 << 20;
/// The bound on bodies (64 MiB), what a dispatcher has without any, one body on its way in and out, and what the allocator keeps. In
/// an unoptimized build.
const RESIDENT_BYTES_MAX: u64 = 300 << 20;

#[tokio::test]
async fn two_hundred_bodies_of_ten_mebibytes_do_not_move_the_memory_bound() -> Result<()> {
    // Goal: all of them become faults, and the dispatcher's peak of memory stays within its bound.
    let node = Node::start().await?;
    let stage = Stage::at(&node.amqp_url()).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", RETRY))?;
    let dispatcher = stage.dispatcher().await?;
    let connection = Connection::connect(&node.amqp_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let body = vec![b'x'; BODY_BYTES];
    for number in 0..BODIES {
        let confirm = async || {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(format!("large-{number}").into());
            let (exchange, key) = ("hooklane.events".into(), "large".into());
            let sent = channel
                .basic_publish(exchange, key, BasicPublishOptions::default(), &body, properties)
                .await?;
            anyhow::Ok(sent.await?)
        };
        // The queue is full meanwhile: a producer publishes again.
        while matches!(confirm().await?, Confirmation::Nack(_)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    hooklane_testkit::eventually("all to be faults", RECOVERY, || async {
        let faults = dispatcher
            .metric(&stage.http, "hooklane_faults_total", "too_large")
            .await?;
        ensure!(faults == BODIES as f64, "{faults} of {BODIES}");
        Ok(())
    })
    .await?;
    let peak_bytes = dispatcher.process.peak_rss_bytes()?;
    println!(
        "{BODIES} bodies of 10 MiB: at most {} MiB resident",
        peak_bytes >> 20
    );
    ensure!(peak_bytes < RESIDENT_BYTES_MAX, "{peak_bytes} bytes");
    assert_eq!(stage.receiver.total(), 0);
    Ok(())
}
