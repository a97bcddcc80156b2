//! What breaks in production, under load: dispatchers killed, stopped and added, the broker restarted, blocked and cut off. After
//! each: every accepted event was delivered, none lost, repeats under the same webhook-id, nothing restarted by hand.

mod stage;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use hooklane_receiver::Reply;
use hooklane_testkit::proxy::Proxy;
use hooklane_testkit::rabbitmq::{Cluster, Node};
use stage::{Ingest, RECOVERY, SOON, Stage, assert_all_arrived};

/// Room for a thousand attempts in flight in one dispatcher.
const ROOMY: &str = "[dispatcher]\nin_flight_max = 2000\n";

/// Publishes this many events, some at once, each until it is accepted; gives their ids.
async fn publish(stage: &Stage, ingest: &Ingest, count: usize) -> Result<Vec<String>> {
    stream::iter(0..count)
        .map(|n| async move {
            let body = format!(r#"{{"eventType":"load","eventId":"n{n}","payload":{{"n":{n}}}}}"#);
            let until = tokio::time::Instant::now() + RECOVERY;
            loop {
                // A refusal (503) or a broken connection is what producers retry, with the same eventId.
                let found = ingest.post(&stage.http, "acme", body.clone()).await;
                match found {
                    Ok((202, answer)) => break Ok(answer["id"].as_str().unwrap_or_default().to_owned()),
                    Ok((503, _)) | Err(_) if tokio::time::Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Ok((status, answer)) => anyhow::bail!("answered {status} {answer}"),
                    Err(error) => break Err(error),
                }
            }
        })
        .buffer_unordered(64)
        .try_collect()
        .await
}

async fn wait_all(stage: &Stage, accepted: &[String]) -> Result<u64> {
    let wanted = accepted.len();
    stage.receiver.wait_until("all to arrive", RECOVERY, move |log| log.distinct() >= wanted).await?;
    assert_all_arrived(&stage.receiver, accepted)
}

/// A stage whose endpoint takes 800 ms for each answer, so that a thousand are in flight at once.
async fn with_a_slow_endpoint() -> Result<Stage> {
    let stage = Stage::new().await?;
    stage.settings(ROOMY, &stage.endpoint("ep_slow", "/slow", "max_in_flight = 2000\nretry = [\"1s\", \"1s\", \"1s\"]"))?;
    stage.receiver.script("/slow", [Reply::ok().after(Duration::from_millis(800))]);
    Ok(stage)
}

#[tokio::test]
async fn kill_9_between_post_and_ack_loses_nothing() -> Result<()> {
    // Goal: invariant 2; method: 1,000 deliveries in flight in one dispatcher, kill -9, then a second one takes over.
    let stage = with_a_slow_endpoint().await?;
    let ingest = stage.ingest().await?;
    let first = stage.dispatcher().await?;
    let accepted = publish(&stage, &ingest, 3000).await?;
    hooklane_testkit::eventually("1,000 in flight", SOON, || async {
        let in_flight = stage.receiver.in_flight();
        ensure!(in_flight >= 1000, "{in_flight} in flight");
        Ok(())
    })
    .await?;
    first.process.kill9().await?;
    let _second = stage.dispatcher().await?;
    let repeats = wait_all(&stage, &accepted).await?;
    println!("kill -9 with at least 1,000 in flight: {repeats} repeats of {}", accepted.len());
    stage.wait_empty("faults", SOON).await
}

#[tokio::test]
async fn sigterm_with_a_thousand_in_flight_repeats_nothing() -> Result<()> {
    // Goal: invariant 8; method: SIGTERM in flight, exit within the grace, what was in flight is not repeated.
    let stage = with_a_slow_endpoint().await?;
    let ingest = stage.ingest().await?;
    let first = stage.dispatcher().await?;
    let accepted = publish(&stage, &ingest, 3000).await?;
    hooklane_testkit::eventually("1,000 in flight", SOON, || async {
        ensure!(stage.receiver.in_flight() >= 1000);
        Ok(())
    })
    .await?;
    first.process.terminate()?;
    let status = first.process.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", first.process.output().tail());
    let _second = stage.dispatcher().await?;
    let repeats = wait_all(&stage, &accepted).await?;
    assert_eq!(repeats, 0);
    stage.wait_empty("faults", SOON).await
}

#[tokio::test]
async fn dispatchers_come_and_go_under_load() -> Result<()> {
    // Goal: 1 -> 3 -> 1, then a rolling restart, while events come; nothing lost.
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", "retry = [\"1s\", \"1s\"]"))?;
    let ingest = stage.ingest().await?;
    let first = stage.dispatcher().await?;
    let load = publish(&stage, &ingest, 6000);
    let moves = async {
        let mut more = stage.dispatchers(2).await?;
        for gone in more.drain(..) {
            gone.process.terminate()?;
            gone.process.wait(SOON).await?;
        }
        let next = stage.dispatcher().await?;
        first.process.terminate()?;
        first.process.wait(SOON).await?;
        anyhow::Ok(next)
    };
    let (accepted, _last) = tokio::try_join!(load, moves)?;
    let repeats = wait_all(&stage, &accepted).await?;
    assert_eq!(repeats, 0);
    Ok(())
}

#[tokio::test]
async fn the_broker_may_restart_under_load() -> Result<()> {
    // Goal: kill -9 and later a clean stop of the broker while events come; everything reconnects by itself.
    let node = Node::start().await?;
    let stage = Stage::at(&node.amqp_url()).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", "retry = [\"1s\", \"1s\"]"))?;
    let ingest = stage.ingest().await?;
    let _dispatchers = stage.dispatchers(2).await?;
    let load = publish(&stage, &ingest, 4000);
    let trouble = async {
        // Queues must be older than half a second before their only node is killed (RabbitMQ's own limit).
        stage.receiver.wait_for(200, SOON).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.kill9().await?;
        node.restart().await?;
        stage.receiver.wait_for(1000, RECOVERY).await?;
        node.stop().await?;
        node.restart().await
    };
    let (accepted, ()) = tokio::try_join!(load, trouble)?;
    let repeats = wait_all(&stage, &accepted).await?;
    println!("two broker restarts under load: {repeats} repeats of {}", accepted.len());
    Ok(())
}

#[tokio::test]
async fn a_connection_may_be_cut_and_half_open() -> Result<()> {
    // Goal: reset connections, then a network that swallows everything; both sides notice and go on.
    let plain = Stage::new().await?;
    let vhost = plain.vhost.as_ref().expect("a stage of its own has a vhost");
    let proxy = Proxy::start(vhost.authority()).await?;
    let url = vhost.url_by(proxy.address());
    let mut stage = Stage::at(&format!("{url}?heartbeat=2")).await?;
    stage.vhost = None;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", "retry = [\"1s\", \"1s\"]"))?;
    let ingest = stage.ingest().await?;
    let _dispatchers = stage.dispatchers(2).await?;
    let load = publish(&stage, &ingest, 4000);
    let trouble = async {
        stage.receiver.wait_for(200, SOON).await?;
        proxy.reset_connections();
        stage.receiver.wait_for(800, RECOVERY).await?;
        proxy.cut().await;
        proxy.restore().await;
        stage.receiver.wait_for(1500, RECOVERY).await?;
        proxy.freeze();
        // Longer than two heartbeats: both sides must find out by themselves.
        tokio::time::sleep(Duration::from_secs(8)).await;
        proxy.restore().await;
        anyhow::Ok(())
    };
    let (accepted, ()) = tokio::try_join!(load, trouble)?;
    let repeats = wait_all(&stage, &accepted).await?;
    println!("reset, cut and half-open: {repeats} repeats of {}", accepted.len());
    Ok(())
}

#[tokio::test]
async fn a_memory_alarm_of_20_seconds_delays_and_loses_nothing() -> Result<()> {
    // Goal: publishers get 503 meanwhile, readiness says so, and everything goes on by itself.
    let node = Node::start().await?;
    let stage = Stage::at(&node.amqp_url()).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", "retry = [\"1s\", \"1s\"]"))?;
    let ingest = stage.ingest().await?;
    let _dispatchers = stage.dispatchers(2).await?;
    let load = publish(&stage, &ingest, 3000);
    let trouble = async {
        stage.receiver.wait_for(200, SOON).await?;
        node.set_memory_alarm(true).await?;
        tokio::time::sleep(Duration::from_secs(20)).await;
        node.set_memory_alarm(false).await
    };
    let (accepted, ()) = tokio::try_join!(load, trouble)?;
    let repeats = wait_all(&stage, &accepted).await?;
    println!("memory alarm for 20 s: {repeats} repeats of {}", accepted.len());
    Ok(())
}

#[tokio::test]
async fn one_node_of_three_may_be_killed() -> Result<()> {
    // Goal: a cluster loses a node under load; processes that were connected to another one go on.
    let cluster = Cluster::start(3).await?;
    let urls = cluster.urls();
    let stage = Stage::at(&urls[0]).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", "retry = [\"1s\", \"1s\"]"))?;
    let ingest = stage.ingest().await?;
    let _dispatchers = stage.dispatchers(2).await?;
    let load = publish(&stage, &ingest, 3000);
    let trouble = async {
        stage.receiver.wait_for(200, SOON).await?;
        cluster.node(2).kill9().await?;
        stage.receiver.wait_for(2000, RECOVERY).await?;
        cluster.node(2).restart().await
    };
    let (accepted, ()) = tokio::try_join!(load, trouble)?;
    let repeats = wait_all(&stage, &accepted).await?;
    println!("one node of three killed: {repeats} repeats of {}", accepted.len());
    Ok(())
}

#[tokio::test]
async fn two_thousand_endpoints_of_one_event_survive_a_kill_half_way() -> Result<()> {
    // Goal: each of 2,000 endpoints gets the event; a crash repeats at most 16 attempts a message in flight.
    let stage = Stage::new().await?;
    let endpoints: String = (0..2000).map(|n| stage.endpoint(&format!("ep_{n}"), &format!("/e{n}"), "")).collect();
    stage.settings("", &endpoints)?;
    stage.receiver.script_default([Reply::ok().after(Duration::from_millis(50))]);
    let ingest = stage.ingest().await?;
    let first = stage.dispatcher().await?;
    let id = ingest.publish(&stage.http, "a", "{}").await?;
    stage.receiver.wait_for(500, SOON).await?;
    first.process.kill9().await?;
    let _second = stage.dispatcher().await?;
    let every = Arc::new((0..2000).map(|n| format!("/e{n}")).collect::<Vec<_>>());
    let wanted = every.clone();
    stage
        .receiver
        .wait_until("every endpoint to be served", RECOVERY, move |log| wanted.iter().all(|path| log.count_at(path) > 0))
        .await?;
    stage.wait_empty("deliveries", SOON).await?;
    let counts = stage.receiver.by_webhook_id();
    assert_eq!(counts.keys().collect::<Vec<_>>(), [&id]);
    println!("2,000 endpoints, killed half way: {} repeats", counts[&id] - 2000);
    Ok(())
}

#[tokio::test]
async fn thirty_restarts_over_a_backlog_convict_nobody() -> Result<()> {
    // Goal: SIGTERM and kill -9 in turn, 30 times, over 1,000 waiting events: all delivered, no fault.
    let stage = Stage::new().await?;
    stage.settings("", &stage.endpoint("ep_slow", "/slow", "retry = [\"1s\", \"1s\"]\nmax_in_flight = 8"))?;
    stage.receiver.script("/slow", [Reply::ok().after(Duration::from_millis(200))]);
    let ingest = stage.ingest().await?;
    let accepted = publish(&stage, &ingest, 1000).await?;
    for round in 0..30 {
        let dispatcher = stage.dispatcher().await?;
        let seen = stage.receiver.total();
        // Alive until it did something, or for a moment when nothing is left to do.
        let _ = stage.receiver.wait_for(seen + 1, Duration::from_millis(500)).await;
        if round % 2 == 0 {
            dispatcher.process.kill9().await?;
        } else {
            dispatcher.process.terminate()?;
            dispatcher.process.wait(SOON).await?;
        }
    }
    let _last = stage.dispatchers(2).await?;
    let repeats = wait_all(&stage, &accepted).await?;
    for queue in ["suspects", "deliveries", "events"] {
        stage.wait_empty(queue, RECOVERY).await?;
    }
    assert_eq!(stage.depth("faults").await?, 0);
    println!("30 restarts over 1,000 events: {repeats} repeats");
    Ok(())
}
