//! Processes that deliver are killed and stopped with attempts in flight, restarted over a backlog, and given more than they have room
//! for, on either broker. After each: every accepted event was delivered, repeats only where a kill explains them, nobody convicted.

mod stage;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::{BrokerError, Destination, Outgoing};
use hooklane_receiver::Reply;
use hooklane_testkit::rabbitmq::Node;
use hooklane_types::Properties;
use stage::load::{RETRY, end, publish, settled, wait_all};
use stage::shelf::port;
use stage::{Dispatcher, Ingest, On, RECOVERY, SOON, Stage, on_both};

on_both!(
    kill_9_between_post_and_ack_loses_nothing,
    sigterm_with_a_thousand_in_flight_repeats_nothing,
    two_thousand_endpoints_of_one_event_survive_a_kill_half_way,
    thirty_restarts_over_a_backlog_convict_nobody,
    restarts_by_sigterm_over_a_backlog_repeat_nothing,
    a_burst_of_retries_comes_in_time_and_once,
    two_hundred_bodies_of_ten_mebibytes_do_not_move_the_memory_bound,
);

/// Messages in work at once in a dispatcher of [`ROOMY`].
const ROOM: u64 = 2000;
/// Room for well over a thousand attempts in flight in one dispatcher.
const ROOMY: &str = "[dispatcher]\nin_flight_max = 2000\n";

/// More than are answered at once and have room, so that some are left to be given back.
const WAITING: usize = 4000;

/// Many events wait for an endpoint with room for 2,000 attempts at once, which answers two of three after 4 s. The third it
/// answers at once: so it is not sick.
async fn with_a_thousand_in_flight(on: On) -> Result<(Stage, Ingest, Dispatcher, Vec<String>)> {
    let stage = Stage::on(on).await?;
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
    let accepted = publish(&stage, &ingest, WAITING).await?;
    let dispatcher = stage.dispatcher().await?;
    hooklane_testkit::eventually("1,000 in flight", SOON, || async {
        let in_flight = stage.receiver.in_flight();
        ensure!(in_flight >= 1000, "{in_flight} in flight");
        Ok(())
    })
    .await?;
    Ok((stage, ingest, dispatcher, accepted))
}

async fn kill_9_between_post_and_ack_loses_nothing(on: On) -> Result<()> {
    // Goal: invariant 2; method: 1,000 deliveries in flight in one dispatcher, kill -9, then a second one takes over.
    let (stage, ingest, first, accepted) = with_a_thousand_in_flight(on).await?;
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

async fn sigterm_with_a_thousand_in_flight_repeats_nothing(on: On) -> Result<()> {
    // Goal: invariant 8; method: SIGTERM in flight, exit within the grace, what was in flight is not repeated.
    let (stage, ingest, first, accepted) = with_a_thousand_in_flight(on).await?;
    let in_flight = stage.receiver.in_flight();
    first.process.terminate()?;
    let status = first.process.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", first.process.output().tail());
    let served = stage.receiver.total();
    ensure!(served < WAITING as u64, "nothing was left to give back");
    let second = stage.dispatcher().await?;
    let repeats = wait_all(&stage, &ingest, &[&second], &accepted).await?;
    println!("SIGTERM with {in_flight} in flight, {served} of {WAITING} served: {repeats} repeats");
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

async fn two_thousand_endpoints_of_one_event_survive_a_kill_half_way(on: On) -> Result<()> {
    // Goal: each of 2,000 endpoints gets the event; a crash repeats at most the 16 attempts of each slice in work.
    const SLICES_IN_WORK: u64 = 16;
    let stage = Stage::on(on).await?;
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
async fn restarts_over_a_backlog(on: On, count: usize, kill: impl Fn(usize) -> bool) -> Result<u64> {
    let stage = Stage::on(on).await?;
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
    let running: Vec<_> = running.iter().collect();
    wait_all(&stage, &ingest, &running, &accepted).await
}

async fn thirty_restarts_over_a_backlog_convict_nobody(on: On) -> Result<()> {
    // Goal: SIGTERM and kill -9 in turn, 30 times, over 1,000 waiting events: all delivered, no fault.
    let repeats = restarts_over_a_backlog(on, 30, |round| round % 2 == 0).await?;
    println!("30 restarts over 1,000 events: {repeats} repeats");
    Ok(())
}

async fn restarts_by_sigterm_over_a_backlog_repeat_nothing(on: On) -> Result<()> {
    // Goal: a deployment costs no repeat, whatever was under way: attempts, parking, messages that became suspects.
    let repeats = restarts_over_a_backlog(on, 8, |_| false).await?;
    println!("8 restarts by SIGTERM over 1,000 events: {repeats} repeats");
    assert_eq!(repeats, 0);
    Ok(())
}

/// Each attempt of so many events fails at first.
const BURST: usize = 1_000;

async fn a_burst_of_retries_comes_in_time_and_once(on: On) -> Result<()> {
    // Goal: retries that are due together are neither early nor lost nor doubled. Method: an endpoint that answers the first attempt
    // of each event with 500.
    let delay = Duration::from_secs(2);
    let stage = Stage::on(on).await?;
    let endpoint = stage.endpoint("ep_hook", "/hook", "max_in_flight = 2000\nretry = [\"2s\"]");
    stage.settings(ROOMY, &endpoint)?;
    let seen = Mutex::new(HashSet::new());
    stage.receiver.script_with("/hook", move |request| {
        let id = request.webhook_id().unwrap_or_default().to_owned();
        let is_first = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Reply::status(if is_first { 500 } else { 200 })
    });
    let (ingest, running) = (stage.ingest().await?, stage.dispatcher().await?);
    let accepted = publish(&stage, &ingest, BURST).await?;
    stage.receiver.wait_for(2 * BURST as u64, SOON).await?;
    let repeats = wait_all(&stage, &ingest, &[&running], &accepted).await?;
    ensure!(
        repeats == BURST as u64,
        "{repeats} repeats, and not one retry for each"
    );
    let mut attempts: HashMap<String, Vec<Instant>> = HashMap::new();
    for request in stage.receiver.received() {
        let id = request.webhook_id().context("a webhook-id")?.to_owned();
        attempts.entry(id).or_default().push(request.at);
    }
    let gaps = attempts.values().map(|at| at[1] - at[0]);
    let (least, most) = (gaps.clone().min(), gaps.max());
    println!("{BURST} retries after 2 s: from {least:?} to {most:?}");
    // The receiver's clock starts after the request was read, the dispatcher's after the answer: a few milliseconds apart.
    ensure!(least.is_some_and(|least| least + Duration::from_millis(20) >= delay));
    Ok(())
}

/// Of the issue: far over the event limit, and in all far over any memory that a dispatcher should take.
const BODIES: usize = 200;
/// Still ten times what may be in memory.
const BODIES_EMBEDDED: usize = 64;
const BODY_BYTES: usize = 10 << 20;
/// The bound on bodies (64 MiB), what a dispatcher has without any, one body on its way in and out, and what the allocator keeps. In
/// an unoptimized build.
const RESIDENT_BYTES_MAX: u64 = 300 << 20;

async fn two_hundred_bodies_of_ten_mebibytes_do_not_move_the_memory_bound(on: On) -> Result<()> {
    // Goal: all of them become faults, and the dispatcher's peak of memory stays within its bound.
    let node = match on {
        On::RabbitMq => Some(Node::start().await?),
        On::Embedded => None,
    };
    let stage = match &node {
        Some(node) => Stage::at(&node.amqp_url()).await?,
        None => Stage::on(on).await?,
    };
    // Who has the queue itself writes each body several times: fewer, and no `fsync` for each.
    let count = stage.by_broker(BODIES, BODIES_EMBEDDED);
    let sections = stage.by_broker("", "[embedded]\nsynchronous = \"normal\"\n");
    stage.settings(sections, &stage.endpoint("ep_hook", "/hook", RETRY))?;
    let dispatcher = stage.dispatcher().await?;
    let broker = port(&stage).await?;
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    for number in 0..count {
        let large = || Outgoing {
            properties: Properties {
                message_id: Some(format!("large-{number}")),
                ..Properties::default()
            },
            body: body.clone(),
        };
        let to = || Destination::ProducerEvents {
            routing_key: "large".to_owned(),
        };
        // The queue is full meanwhile: a producer publishes again.
        while let Err(error) = broker.publish(to(), large(), SOON).await {
            ensure!(matches!(error, BrokerError::Full), "{error:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    broker.shut_down().await;
    hooklane_testkit::eventually("all to be faults", RECOVERY, || async {
        let faults = dispatcher
            .metric(&stage.http, "hooklane_faults_total", "too_large")
            .await?;
        ensure!(faults == count as f64, "{faults} of {count}");
        Ok(())
    })
    .await?;
    let peak_bytes = dispatcher.process.peak_rss_bytes()?;
    println!(
        "{count} bodies of 10 MiB: at most {} MiB resident",
        peak_bytes >> 20
    );
    ensure!(peak_bytes < RESIDENT_BYTES_MAX, "{peak_bytes} bytes");
    assert_eq!(stage.receiver.total(), 0);
    Ok(())
}
