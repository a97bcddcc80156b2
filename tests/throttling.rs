//! Limits of attempts a second: never exceeded, and everything arrives. Bounds from below are exact, for an attempt cannot arrive before
//! it began; those from above have three times the time.

mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use stage::{Dispatcher, Ingest, On, SOON, Stage, load, on_both};

on_both!(
    no_more_attempts_arrive_than_the_limit_allows_and_all_events_do,
    retries_keep_to_the_limit_too,
    an_applications_limit_holds_for_all_its_endpoints_together,
    a_limited_endpoint_holds_up_no_other_and_its_waiting_costs_no_attempt,
    a_change_of_the_limit_is_in_force_for_what_comes_then,
);

/// What a dispatcher of several waits before it begins with what is limited.
const SETTLE: Duration = Duration::from_secs(5);
const DISPATCHERS: usize = 2;

struct Running {
    stage: Stage,
    ingest: Ingest,
    dispatchers: Vec<Dispatcher>,
    /// Before the first event.
    begun: Instant,
}

/// Two dispatchers where several can be; `endpoints` gets the stage.
async fn running(on: On, endpoints: impl FnOnce(&Stage) -> String) -> Result<Running> {
    let stage = Stage::on(on).await?;
    stage.settings("", &endpoints(&stage))?;
    let ingest = stage.ingest().await?;
    let dispatchers = stage.dispatchers(DISPATCHERS).await?;
    Ok(Running {
        stage,
        ingest,
        dispatchers,
        begun: Instant::now(),
    })
}

impl Running {
    /// That no attempt arrived before the limit allowed it: the n-th comes at least so many intervals after the beginning as there
    /// are others in front of it, but for the burst of each dispatcher.
    fn ensure_limited(&self, per_second: u32, dispatchers: usize) -> Result<()> {
        let burst = dispatchers * (per_second as usize / 10).max(1);
        let mut arrived: Vec<Instant> = self
            .stage
            .receiver
            .received()
            .iter()
            .map(|request| request.at)
            .collect();
        arrived.sort();
        for (n, at) in arrived.iter().enumerate() {
            let earliest = Duration::from_secs((n + 1).saturating_sub(burst) as u64) / per_second;
            let found = *at - self.begun;
            ensure!(
                found >= earliest,
                "attempt {n} came after {found:?}, and not before {earliest:?}"
            );
        }
        Ok(())
    }

    /// Waits for so many attempts, three times as long as the limit needs for them.
    async fn arrived(&self, count: u64, per_second: u64) -> Result<()> {
        let needed = Duration::from_secs(count.div_ceil(per_second)) + SETTLE;
        self.stage
            .receiver
            .wait_for(count, 3 * needed)
            .await
            .with_context(|| format!("{count} at {per_second} a second"))
    }

    async fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        let mut sum = 0.0;
        for dispatcher in &self.dispatchers {
            sum += dispatcher.metric(&self.stage.http, name, labels).await?;
        }
        Ok(sum)
    }
}

async fn no_more_attempts_arrive_than_the_limit_allows_and_all_events_do(on: On) -> Result<()> {
    // Goal: 80 events at once, 10 a second: the ladder brings them back no sooner than that, and in time.
    let running = running(on, |stage| {
        stage.endpoint("ep_hook", "/hook", "throttle_rate = 10")
    })
    .await?;
    let ids = load::publish(&running.stage, &running.ingest, 80).await?;
    running.arrived(80, 10).await?;
    running.ensure_limited(10, running.dispatchers.len())?;
    ensure!(stage::assert_all_arrived(&running.stage.receiver, &ids)? == 0);
    ensure!(
        running
            .metric("hooklane_parks_total", "reason=\"throttled\"")
            .await?
            >= 60.0,
        "few waited in the broker"
    );
    running.stage.wait_empty("deliveries", SOON).await?;
    assert_eq!(running.stage.depth("dead").await?, 0);
    Ok(())
}

async fn retries_keep_to_the_limit_too(on: On) -> Result<()> {
    // Goal: 30 events of which each fails once are 60 attempts, and the limit counts them all.
    let running = running(on, |stage| {
        let more = "throttle_rate = 10\nretry = { delays = [\"100ms\", \"100ms\", \"100ms\"], jitter = 0 }";
        stage.endpoint("ep_hook", "/hook", more)
    })
    .await?;
    let failed = std::sync::Mutex::new(std::collections::HashSet::new());
    running.stage.receiver.script_with("/hook", move |request| {
        let id = request.webhook_id().unwrap_or_default().to_owned();
        let is_first = failed.lock().is_ok_and(|mut failed| failed.insert(id));
        if is_first { Reply::status(500) } else { Reply::ok() }
    });
    let ids = load::publish(&running.stage, &running.ingest, 30).await?;
    running.arrived(60, 10).await?;
    running.ensure_limited(10, running.dispatchers.len())?;
    stage::assert_all_arrived(&running.stage.receiver, &ids)?;
    running.stage.wait_empty("deliveries", SOON).await?;
    assert_eq!(running.stage.receiver.total(), 60);
    assert_eq!(running.stage.depth("dead").await?, 0);
    Ok(())
}

async fn an_applications_limit_holds_for_all_its_endpoints_together(on: On) -> Result<()> {
    // Goal: three endpoints, one of which has a lower limit of its own, get 15 a second together; that one no more than its own.
    let running = running(on, |stage| {
        let endpoints: String = [("ep_a", ""), ("ep_b", ""), ("ep_c", "throttle_rate = 3")]
            .iter()
            .map(|(id, more)| stage.endpoint(id, &format!("/{id}"), more))
            .collect();
        format!("[[application]]\nid = \"acme\"\nthrottle_rate = 15\n{endpoints}")
    })
    .await?;
    load::publish(&running.stage, &running.ingest, 24).await?;
    running.arrived(72, 5).await?;
    running.ensure_limited(15, running.dispatchers.len())?;
    let mut own: Vec<Instant> = running
        .stage
        .receiver
        .received_at("/ep_c")
        .iter()
        .map(|request| request.at)
        .collect();
    own.sort();
    ensure!(own.len() == 24);
    let burst = running.dispatchers.len();
    let last = own[23] - running.begun;
    ensure!(
        last >= Duration::from_secs(24 - burst as u64) / 3,
        "the endpoint's own limit did not hold: {last:?}"
    );
    Ok(())
}

async fn a_limited_endpoint_holds_up_no_other_and_its_waiting_costs_no_attempt(on: On) -> Result<()> {
    // Goal: with 1,000 deliveries in front that go out one a second, more than the process has places, an event for another endpoint is
    // there at once. What waits has no attempt, and none is given up.
    let running = running(on, |stage| {
        let limited = stage.endpoint("ep_slow", "/slow", "event_types = [\"load\"]\nthrottle_rate = 1");
        let other = stage.endpoint("ep_other", "/other", "event_types = [\"other\"]");
        format!("{limited}{other}")
    })
    .await?;
    load::publish(&running.stage, &running.ingest, 1_000).await?;
    let asked = Instant::now();
    for _ in 0..20 {
        running.ingest.publish(&running.stage.http, "other", "{}").await?;
    }
    running.stage.receiver.wait_for_at("/other", 20, SOON).await?;
    let took = asked.elapsed();
    running.ensure_limited(1, running.dispatchers.len() + 20)?;
    let slow = running.stage.receiver.received_at("/slow").len();
    ensure!(
        slow < 200,
        "{slow} arrived while 20 of another endpoint did ({took:?})"
    );
    running.stage.wait_empty("events", SOON).await?;
    let attempts = running.metric("hooklane_attempts_total", "").await?;
    let arrived = running.stage.receiver.total() as f64;
    ensure!(attempts <= arrived, "{attempts} attempts, {arrived} arrived");
    assert_eq!(running.stage.depth("dead").await?, 0);
    Ok(())
}

async fn a_change_of_the_limit_is_in_force_for_what_comes_then(on: On) -> Result<()> {
    // Goal: an event that would wait for minutes arrives at once when the limit is taken away.
    let running = running(on, |stage| {
        stage.endpoint("ep_hook", "/hook", "throttle_rate = 1")
    })
    .await?;
    load::publish(&running.stage, &running.ingest, 20).await?;
    running.arrived(3, 1).await?;
    running.ensure_limited(1, running.dispatchers.len())?;
    let endpoint = running.stage.endpoint("ep_hook", "/hook", "");
    running.stage.settings("", &endpoint)?;
    for dispatcher in &running.dispatchers {
        dispatcher
            .process
            .wait_for_line("were loaded again", SOON)
            .await?;
    }
    let id = running.ingest.publish(&running.stage.http, "later", "{}").await?;
    running
        .stage
        .receiver
        .wait_until("the later event", SOON, |log| {
            log.by_webhook_id().contains_key(&id)
        })
        .await?;
    // And the others at the slots that they have.
    running.arrived(21, 1).await
}

#[tokio::test]
async fn the_limit_holds_over_restarts_of_serve() -> Result<()> {
    // Goal: killed again and again, a process begins with an empty bucket: no restart lets a burst through.
    let stage = Stage::on(On::Embedded).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", "throttle_rate = 5"))?;
    let ingest = stage.ingest().await?;
    let running = Running {
        dispatchers: stage.dispatchers(1).await?,
        ingest,
        begun: Instant::now(),
        stage,
    };
    load::publish(&running.stage, &running.ingest, 40).await?;
    let Running {
        stage,
        ingest,
        dispatchers,
        begun,
    } = running;
    let mut process = dispatchers[0].process.clone();
    drop((ingest, dispatchers));
    for round in 1..=4 {
        stage.receiver.wait_for(round * 5, SOON).await?;
        process.kill9().await?;
        process = stage.dispatcher().await?.process;
    }
    let running = Running {
        ingest: stage.ingest().await?,
        dispatchers: stage.dispatchers(1).await?,
        begun,
        stage,
    };
    running.arrived(40, 5).await?;
    running.ensure_limited(5, 1)
}

#[tokio::test]
async fn dispatchers_that_come_and_go_keep_the_limit_together() -> Result<()> {
    // Goal: 20 a second over a second and a third dispatcher that come, and one that is killed, while 300 events wait.
    let stage = Stage::on(On::RabbitMq).await?;
    stage.settings("", &stage.endpoint("ep_hook", "/hook", "throttle_rate = 20"))?;
    let ingest = stage.ingest().await?;
    let mut running = Running {
        dispatchers: vec![stage.dispatcher().await?],
        ingest,
        begun: Instant::now(),
        stage,
    };
    let ids = load::publish(&running.stage, &running.ingest, 300).await?;
    running.arrived(20, 20).await?;
    running.dispatchers.push(running.stage.dispatcher().await?);
    running.arrived(60, 20).await?;
    running.dispatchers.push(running.stage.dispatcher().await?);
    running.arrived(100, 10).await?;
    running.dispatchers.remove(0).process.kill9().await?;
    // What the one that was killed had in hand comes again: so many requests are not so many events.
    let every_event = |log: &hooklane_receiver::Log| log.distinct() >= 300;
    let receiver = &running.stage.receiver;
    receiver.wait_until("every event", 6 * SOON, every_event).await?;
    // A dispatcher's burst is two while it is alone, and one as one of two or more.
    running.ensure_limited(20, 2)?;
    stage::assert_all_arrived(&running.stage.receiver, &ids)?;
    Ok(())
}
