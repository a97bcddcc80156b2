//! What a receiver's answer leads to: retries, dead letters, replays.

mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use serde_json::Value;
use stage::{Dispatcher, Ingest, On, SOON, Stage, on_both};

on_both!(
    a_500_is_retried_by_the_schedule_until_it_is_delivered,
    the_users_own_example_tries_again_after_one_two_and_four_seconds,
    the_last_failed_attempt_makes_a_dead_letter_that_can_be_replayed,
    a_replay_uses_the_endpoints_settings_of_today,
    retry_after_of_a_429_is_a_minimum,
    a_receiver_that_hangs_resets_or_closes_is_tried_again,
    the_status_decides_however_the_body_ends,
    after_a_410_nothing_more_is_sent,
    an_endpoint_removed_from_the_file_gets_nothing_more,
    a_disabled_endpoints_deliveries_wait,
    a_sick_endpoint_does_not_hold_up_the_others,
);

/// Three attempts, a second apart and then two; a short timeout.
const QUICK: &str =
    "timeout = \"2s\"\nretry = { attempts = 3, first = \"1s\", factor = 2, max = \"1m\", jitter = 0.0 }\n";

struct Running {
    stage: Stage,
    ingest: Ingest,
    dispatchers: Vec<Dispatcher>,
}

async fn running(on: On, more: &str) -> Result<Running> {
    let stage = Stage::on(on).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", more))?;
    let ingest = stage.ingest().await?;
    let dispatchers = stage.dispatchers(2).await?;
    Ok(Running {
        stage,
        ingest,
        dispatchers,
    })
}

impl Running {
    async fn publish(&self) -> Result<String> {
        self.ingest
            .publish(&self.stage.http, "invoice.paid", "{\"n\":1}")
            .await
    }

    /// The gaps between the requests, each under the same id and with the same body.
    fn gaps(&self, id: &str) -> Vec<Duration> {
        let requests = self.stage.receiver.received();
        for request in &requests {
            assert_eq!(request.webhook_id(), Some(id));
            assert_eq!(request.body, "{\"n\":1}");
        }
        requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
    }
}

/// A promised delay: never early; late by three times the promised tolerance at most (a second).
fn assert_delay(found: Duration, promised: Duration) {
    // The receiver's clock starts after the request was read, the dispatcher's after the answer: a few milliseconds apart.
    assert!(
        found + Duration::from_millis(20) >= promised,
        "{found:?} is earlier than {promised:?}"
    );
    assert!(
        found <= promised + Duration::from_secs(3),
        "{found:?} is later than {promised:?}"
    );
}

async fn a_500_is_retried_by_the_schedule_until_it_is_delivered(on: On) -> Result<()> {
    // Goal: 500, 500, 200 with delays of 1 s and 2 s, signed anew each time, nothing left over.
    let running = running(on, QUICK).await?;
    running
        .stage
        .receiver
        .script("/hook", [Reply::status(500), Reply::status(500), Reply::ok()]);
    let id = running.publish().await?;
    running.stage.receiver.wait_for(3, SOON).await?;
    let gaps = running.gaps(&id);
    assert_delay(gaps[0], Duration::from_secs(1));
    assert_delay(gaps[1], Duration::from_secs(2));
    running.stage.wait_empty("deliveries", SOON).await?;
    assert_eq!(running.stage.depth("dead").await?, 0);
    Ok(())
}

async fn the_users_own_example_tries_again_after_one_two_and_four_seconds(on: On) -> Result<()> {
    // Goal: a timeout of 5 s and three retries, after 1, 2 and 4 s, then the shelf. Method: the first attempt hangs into its
    // timeout, the others are answered 500.
    let running = running(
        on,
        "timeout = \"5s\"\nretry = { attempts = 4, first = \"1s\", factor = 2, jitter = 0.0 }\n",
    )
    .await?;
    running
        .stage
        .receiver
        .script("/hook", [Reply::hang(), Reply::status(500)]);
    let id = running.publish().await?;
    running.stage.receiver.wait_for(4, SOON).await?;
    let gaps = running.gaps(&id);
    for (gap, promised_s) in gaps.iter().zip([5 + 1, 2, 4]) {
        assert_delay(*gap, Duration::from_secs(promised_s));
    }
    running.stage.wait_depth("dead", SOON, |depth| depth == 1).await?;
    running.stage.wait_empty("deliveries", SOON).await?;
    assert_eq!(running.stage.receiver.total(), 4);
    Ok(())
}

async fn the_last_failed_attempt_makes_a_dead_letter_that_can_be_replayed(on: On) -> Result<()> {
    // Goal: three 500s, a dead letter with its reason and history; then a replay under the same id delivers it.
    let running = running(on, QUICK).await?;
    running.stage.receiver.script(
        "/hook",
        [
            Reply::status(500),
            Reply::status(500),
            Reply::status(500),
            Reply::ok(),
        ],
    );
    let id = running.publish().await?;
    running.stage.wait_depth("dead", SOON, |depth| depth == 1).await?;
    assert_eq!(running.stage.receiver.total(), 3);

    let list = running.stage.run(&["dead", "list", "--format", "json"]).await?;
    let row: Value = serde_json::from_str(list.lines().next().context("one row")?)?;
    assert_eq!(row["id"], id.as_str());
    assert_eq!(row["reason"], "exhausted");
    let shown = running
        .stage
        .run(&["dead", "show", &id, "--format", "json"])
        .await?;
    assert!(shown.contains("500"), "{shown}");
    assert_eq!(
        running.stage.depth("dead").await?,
        1,
        "looking used the message up"
    );

    running.stage.run(&["dead", "replay", &id]).await?;
    running.stage.receiver.wait_for(4, SOON).await?;
    running.gaps(&id);
    running.stage.wait_empty("dead", SOON).await?;
    Ok(())
}

async fn a_replay_uses_the_endpoints_settings_of_today(on: On) -> Result<()> {
    // Goal: an endpoint that moved gets its dead letters where it is now. Method: another URL and secret in the file, then a replay.
    let running = running(on, "retry = []\n").await?;
    running.stage.receiver.script("/hook", [Reply::status(500)]);
    let id = running.publish().await?;
    running.stage.wait_depth("dead", SOON, |depth| depth == 1).await?;
    let moved = running
        .stage
        .endpoint("ep_hook", "/moved", "headers = { x-now = \"today\" }");
    running.stage.settings("", &moved)?;
    for dispatcher in &running.dispatchers {
        dispatcher
            .process
            .wait_for_line("were loaded again", SOON)
            .await?;
    }
    running.stage.run(&["dead", "replay", "--all"]).await?;
    running.stage.receiver.wait_for_at("/moved", 1, SOON).await?;
    let request = running.stage.receiver.received_at("/moved").remove(0);
    assert_eq!(request.webhook_id(), Some(id.as_str()));
    assert_eq!(request.header("x-now"), Some("today"));
    assert_eq!(running.stage.receiver.look(|log| log.count_at("/hook")), 1);
    Ok(())
}

#[tokio::test]
async fn a_delayed_message_without_a_target_holds_up_no_retry() -> Result<()> {
    // Goal: at-least-once dead-lettering stands still at a message that it can bring nowhere; ours ends on the shelf of faults.
    // Method: such a message in front of a retry in the same queue of the ladder.
    let running = running(On::RabbitMq, "retry = [\"1s\"]\n").await?;
    let code = r#"
import os, pika
c = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
ch = c.channel(); ch.confirm_delivery()
for level in [500, 1000, 2000]:
    ch.basic_publish("hooklane.delay.%d" % level, "nowhere", b"x", pika.BasicProperties(delivery_mode=2))
c.close()
"#;
    let script = hooklane_testkit::python::code(code)?;
    script
        .env("AMQP_URL", &running.stage.broker_url)
        .run_ok(SOON)
        .await?;
    running
        .stage
        .receiver
        .script("/hook", [Reply::status(500), Reply::ok()]);
    let id = running.publish().await?;
    running.stage.receiver.wait_for(2, SOON).await?;
    assert_delay(running.gaps(&id)[0], Duration::from_secs(1));
    running
        .stage
        .wait_depth("faults", SOON, |depth| depth == 3)
        .await?;
    let list = running.stage.run(&["faults", "list", "--format", "json"]).await?;
    assert_eq!(list.matches("\"unroutable\"").count(), 3, "{list}");
    Ok(())
}

async fn retry_after_of_a_429_is_a_minimum(on: On) -> Result<()> {
    // Goal: the schedule says 1 s, the endpoint 4 s: 4 s it is.
    let running = running(on, QUICK).await?;
    running.stage.receiver.script(
        "/hook",
        [Reply::status(429).header("retry-after", "4"), Reply::ok()],
    );
    let id = running.publish().await?;
    running.stage.receiver.wait_for(2, SOON).await?;
    assert_delay(running.gaps(&id)[0], Duration::from_secs(4));
    Ok(())
}

#[tokio::test]
async fn retry_after_may_be_a_date() -> Result<()> {
    // Goal: an HTTP date is waited for as seconds are. Method: a 503 that names the time in five seconds.
    let running = running(On::RabbitMq, QUICK).await?;
    let asked = std::sync::atomic::AtomicBool::new(false);
    running.stage.receiver.script_with("/hook", move |_| {
        if asked.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Reply::ok();
        }
        let then = std::time::SystemTime::now() + Duration::from_secs(5);
        Reply::status(503).header("retry-after", &httpdate::fmt_http_date(then))
    });
    let id = running.publish().await?;
    running.stage.receiver.wait_for(2, SOON).await?;
    // A date has whole seconds, so that up to one is cut off.
    assert_delay(running.gaps(&id)[0], Duration::from_secs(4));
    Ok(())
}

async fn a_receiver_that_hangs_resets_or_closes_is_tried_again(on: On) -> Result<()> {
    // Goal: timeout (2 s) and reset and close are failures like any other.
    let running = running(
        on,
        "timeout = \"2s\"\nretry = [\"100ms\", \"100ms\", \"100ms\"]\n",
    )
    .await?;
    running.stage.receiver.script(
        "/hook",
        [Reply::hang(), Reply::reset(), Reply::close(), Reply::ok()],
    );
    let id = running.publish().await?;
    running.stage.receiver.wait_for(4, SOON).await?;
    let gaps = running.gaps(&id);
    assert_delay(gaps[0], Duration::from_millis(2100));
    running.stage.wait_empty("deliveries", SOON).await?;
    assert_eq!(running.stage.depth("dead").await?, 0);
    Ok(())
}

async fn the_status_decides_however_the_body_ends(on: On) -> Result<()> {
    // Goal: 200 with a body that hangs, and 200 with 10 GiB, are delivered once; the dispatcher's memory stays flat.
    let running = running(on, "timeout = \"15s\"\n").await?;
    running.stage.receiver.script(
        "/hook",
        [Reply::hang_in_body("begin"), Reply::huge_body(10 << 30)],
    );
    running.publish().await?;
    running.stage.receiver.wait_for(1, SOON).await?;
    running.publish().await?;
    running.stage.receiver.wait_for(2, SOON).await?;
    running.stage.wait_empty("events", SOON).await?;
    for queue in ["deliveries", "dead", "faults"] {
        assert_eq!(running.stage.depth(queue).await?, 0, "{queue}");
    }
    assert_eq!(running.stage.receiver.total(), 2);
    assert!(
        running.stage.receiver.body_bytes_sent() < 1 << 30,
        "the answer was not cut"
    );
    for dispatcher in &running.dispatchers {
        let peak = dispatcher.process.peak_rss_bytes()?;
        assert!(peak < 200 << 20, "peak memory {peak}");
    }
    Ok(())
}

/// Waits until all dispatchers have said so often that the endpoint is gone: one of them heard it from the other.
async fn all_know_it_is_gone(running: &Running, times: usize) -> Result<()> {
    hooklane_testkit::eventually("all to know that it is gone", SOON, || async {
        for dispatcher in &running.dispatchers {
            let lines = dispatcher.process.output().lines();
            let said = lines
                .iter()
                .filter(|line| line.text.contains("the endpoint is gone"));
            let said = said.count();
            ensure!(said == times, "one said it {said} times");
        }
        Ok(())
    })
    .await
}

async fn after_a_410_nothing_more_is_sent(on: On) -> Result<()> {
    // Goal: 410 makes this delivery and later ones dead letters with reason gone, without a POST, in the dispatcher that was answered so
    // and in the other one; until the file changes, and until they restart.
    let mut running = running(on, QUICK).await?;
    let is_gone = Arc::new(AtomicBool::new(true));
    let answers = is_gone.clone();
    running
        .stage
        .receiver
        .script_with("/hook", move |_| match answers.load(Ordering::SeqCst) {
            true => Reply::status(410),
            false => Reply::ok(),
        });
    running.publish().await?;
    all_know_it_is_gone(&running, 1).await?;
    // It would answer well again; nobody asks.
    is_gone.store(false, Ordering::SeqCst);
    for _ in 0..10 {
        running.publish().await?;
    }
    running
        .stage
        .wait_depth("dead", SOON, |depth| depth == 11)
        .await?;
    let list = running.stage.run(&["dead", "list", "--format", "json"]).await?;
    assert_eq!(list.matches("\"gone\"").count(), 11, "{list}");
    assert_eq!(running.stage.receiver.total(), 1);
    for dispatcher in &running.dispatchers {
        let (name, reason) = ("hooklane_dead_letters_total", "reason=\"gone\"");
        let dead = dispatcher.metric(&running.stage.http, name, reason).await?;
        ensure!(dead >= 1.0, "one had no deliveries to give up");
    }

    let changed = running
        .stage
        .endpoint("ep_hook", "/hook", &format!("{QUICK}# changed\n"));
    running.stage.settings("", &changed)?;
    hooklane_testkit::eventually("all to give it another chance", SOON, || async {
        let status = running.stage.status().await?;
        let answered = status["dispatchers"].as_array().map_or(0, Vec::len);
        ensure!(answered == running.dispatchers.len(), "{status}");
        ensure!(status["endpoints"][0]["state"] == "ok", "{status}");
        Ok(())
    })
    .await?;
    for _ in 0..4 {
        running.publish().await?;
    }
    running.stage.receiver.wait_for(5, SOON).await?;

    is_gone.store(true, Ordering::SeqCst);
    running.publish().await?;
    all_know_it_is_gone(&running, 2).await?;
    is_gone.store(false, Ordering::SeqCst);
    for dispatcher in std::mem::take(&mut running.dispatchers) {
        dispatcher.process.terminate()?;
        dispatcher.process.wait(SOON).await?;
    }
    running.dispatchers = running.stage.dispatchers(2).await?;
    running.publish().await?;
    running.stage.receiver.wait_for(7, SOON).await?;
    running.stage.wait_depth("dead", SOON, |depth| depth == 12).await
}

async fn an_endpoint_removed_from_the_file_gets_nothing_more(on: On) -> Result<()> {
    // Goal: its retries become dead letters with reason endpoint_removed; the file is followed without a restart.
    let running = running(on, "retry = [\"3s\", \"3s\"]\n").await?;
    running
        .stage
        .receiver
        .script("/hook", [Reply::status(500), Reply::ok()]);
    running.publish().await?;
    running.stage.receiver.wait_for(1, SOON).await?;
    running
        .stage
        .settings("", &running.stage.endpoint("ep_other", "/other", ""))?;
    running.stage.wait_depth("dead", SOON, |depth| depth == 1).await?;
    let list = running.stage.run(&["dead", "list", "--format", "json"]).await?;
    assert!(list.contains("endpoint_removed"), "{list}");
    assert_eq!(running.stage.receiver.look(|log| log.count_at("/hook")), 1);
    Ok(())
}

async fn a_disabled_endpoints_deliveries_wait(on: On) -> Result<()> {
    // Goal: nothing is sent while disabled, all of it after; method: change the file.
    let running = running(on, "disabled = true\n").await?;
    let id = running.publish().await?;
    running.stage.wait_empty("events", SOON).await?;
    assert_eq!(running.stage.receiver.total(), 0);
    running
        .stage
        .settings("", &running.stage.endpoint("ep_hook", "/hook", ""))?;
    running.stage.receiver.wait_for(1, SOON * 4).await?;
    running.gaps(&id);
    Ok(())
}

async fn a_sick_endpoint_does_not_hold_up_the_others(on: On) -> Result<()> {
    // Goal: one endpoint hangs; the other gets all its events at once, and the hanging one's deliveries wait uncounted.
    let stage = Stage::on(on).await?;
    let sick = stage.endpoint(
        "ep_sick",
        "/sick",
        "event_types = [\"both\"]\ntimeout = \"10s\"\nmax_in_flight = 4",
    );
    let well = stage.endpoint("ep_well", "/well", "event_types = [\"*\"]");
    stage.settings("", &format!("{sick}{well}"))?;
    let ingest = stage.ingest().await?;
    let dispatchers = stage.dispatchers(2).await?;
    stage.receiver.script("/sick", [Reply::hang()]);
    for _ in 0..200 {
        ingest.publish(&stage.http, "both", "{}").await?;
    }
    stage.receiver.wait_for_at("/well", 200, SOON).await?;
    let sick_attempts = stage.receiver.look(|log| log.count_at("/sick"));
    ensure!(
        sick_attempts <= 40,
        "{sick_attempts} attempts were made at an endpoint that hangs"
    );
    hooklane_testkit::eventually("the rest to be parked", SOON, || async {
        let mut parks = 0.0;
        for dispatcher in &dispatchers {
            parks += dispatcher.metric(&stage.http, "hooklane_parks_total", "").await?;
        }
        ensure!(parks >= 150.0, "only {parks} deliveries were parked");
        Ok(())
    })
    .await
}
