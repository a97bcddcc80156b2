//! What a change of an endpoint or application does to its deliveries: one test for each row of the table in docs/DELIVERY.md, and in it one
//! delivery for each column: in flight, on the ladder, on the shelf.

mod installation;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_receiver::{Reply, Request};
use hooklane_signing::{HeaderFamily, Scheme, Secret, TOLERANCE_S, Verifier};
use hooklane_testkit::eventually;
use installation::{Pod, Pods};
use serde_json::{Value, json};
use stage::{Ingest, On, Stage, on_both};

on_both!(
    another_url_secret_format_and_schedule,
    other_event_types_and_channels,
    another_throttle_rate,
    disabled_and_enabled_again,
    the_endpoint_is_deleted,
    the_application_is_deleted,
);

/// An attempt in flight is answered after this: long enough for a change that every process follows.
const IN_FLIGHT: Duration = Duration::from_secs(5);
/// The delay of a retry on the ladder, in seconds: likewise.
const ON_LADDER_S: u64 = 6;
/// For what waits at a disabled endpoint: it looks after 30 s first.
const SOON: Duration = Duration::from_secs(90);

/// An installation that is managed over the API. With RabbitMQ: control, ingest, two dispatchers, PostgreSQL.
struct World {
    place: Place,
    api: String,
    ingest: String,
    token: String,
}

/// With what has to live as long.
enum Place {
    Embedded { stage: Box<Stage>, _serving: Ingest },
    RabbitMq { pods: Box<Pods>, _running: Vec<Pod> },
}

impl World {
    async fn on(on: On) -> Result<World> {
        let world = match on {
            On::Embedded => {
                let stage = Box::new(Stage::on(on).await?);
                let serving = stage.ingest().await?;
                let token = stage.run(&["token"]).await?.trim().to_owned();
                let (api, ingest) = (serving.url.clone(), serving.url.clone());
                World {
                    place: Place::Embedded {
                        stage,
                        _serving: serving,
                    },
                    api,
                    ingest,
                    token,
                }
            }
            On::RabbitMq => {
                let pods = Box::new(Pods::new().await?);
                let mut running = Vec::new();
                for role in ["control", "ingest", "dispatcher", "dispatcher"] {
                    running.push(pods.start(role).await?);
                }
                let (api, ingest) = (running[0].url.clone(), running[1].url.clone());
                let token = pods.token.clone();
                World {
                    place: Place::RabbitMq {
                        pods,
                        _running: running,
                    },
                    api,
                    ingest,
                    token,
                }
            }
        };
        world
            .ask("POST", "/app", Some(json!({"name": "Acme", "uid": "acme"})))
            .await?;
        Ok(world)
    }

    fn stage(&self) -> &Stage {
        match &self.place {
            Place::Embedded { stage, .. } => stage,
            Place::RabbitMq { pods, .. } => &pods.stage,
        }
    }

    async fn send(&self, url: &str, method: &str, path: &str, body: Option<Value>) -> Result<(u16, Value)> {
        let answer = self
            .stage()
            .http
            .request(method.parse()?, format!("{url}/api/v1{path}"))
            .bearer_auth(&self.token)
            .header("content-type", "application/json")
            .body(body.map_or_else(String::new, |body| body.to_string()))
            .send()
            .await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (status, body) = self.send(&self.api, method, path, body).await?;
        ensure!((200..300).contains(&status), "{method} {path}: {status} {body}");
        Ok(body)
    }

    /// Makes an endpoint at the path of its name, which gets the events of that type; `delays` in seconds.
    async fn endpoint(&self, name: &str, delays: &[u64]) -> Result<()> {
        let body = json!({
            "url": self.stage().receiver.url(&format!("/{name}")), "uid": name, "eventTypes": [name],
            "hooklane": {"retry": {"delays": delays, "jitter": 0}},
        });
        self.ask("POST", "/app/acme/endpoint", Some(body)).await.map(drop)
    }

    async fn change(&self, name: &str, body: Value) -> Result<()> {
        let path = format!("/app/acme/endpoint/{name}");
        self.ask("PATCH", &path, Some(body)).await.map(drop)
    }

    async fn publish(&self, name: &str) -> Result<String> {
        let body = json!({"eventType": name, "payload": {"a": 1}});
        let (status, answer) = self
            .send(&self.ingest, "POST", "/app/acme/msg", Some(body))
            .await?;
        ensure!(status == 202, "{status} {answer}");
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    /// An event whose first attempt is in flight, and is answered so later.
    async fn in_flight(&self, name: &str, delays: &[u64], reply: Reply) -> Result<String> {
        self.endpoint(name, delays).await?;
        let receiver = &self.stage().receiver;
        receiver.script(&format!("/{name}"), [reply.after(IN_FLIGHT), Reply::ok()]);
        let before = receiver.in_flight();
        let id = self.publish(name).await?;
        eventually("the attempt to be in flight", SOON, || async {
            ensure!(receiver.in_flight() > before);
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// An event that waits on the ladder for its second attempt.
    async fn on_ladder(&self, name: &str, more_delays: &[u64]) -> Result<String> {
        self.endpoint(name, &[&[ON_LADDER_S], more_delays].concat())
            .await?;
        let path = format!("/{name}");
        let receiver = &self.stage().receiver;
        receiver.script(&path, [Reply::status(500), Reply::ok()]);
        let id = self.publish(name).await?;
        receiver.wait_for_at(&path, 1, SOON).await?;
        Ok(id)
    }

    /// A dead letter on the shelf, whose endpoint would take it now.
    async fn on_shelf(&self, name: &str) -> Result<String> {
        self.endpoint(name, &[]).await?;
        let path = format!("/{name}");
        self.stage()
            .receiver
            .script(&path, [Reply::status(500), Reply::ok()]);
        let id = self.publish(name).await?;
        self.dead(&id, "exhausted").await?;
        Ok(id)
    }

    /// Why an event is on the shelf.
    async fn reasons(&self, id: &str) -> Result<Vec<String>> {
        let list = self.stage().run(&["dead", "list", "--format", "json"]).await?;
        let rows: Result<Vec<Value>, _> = list.lines().map(serde_json::from_str).collect();
        let rows = rows.with_context(|| list.clone())?;
        let of_event = rows.iter().filter(|row| row["id"] == id);
        Ok(of_event
            .map(|row| row["reason"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    /// Waits until an event is on the shelf, once, for this reason.
    async fn dead(&self, id: &str, reason: &str) -> Result<()> {
        eventually(&format!("the dead letter {reason}"), SOON, || async {
            let reasons = self.reasons(id).await?;
            ensure!(reasons == [reason], "{reasons:?}");
            Ok(())
        })
        .await
    }

    async fn replay(&self, id: &str) -> Result<()> {
        self.stage().run(&["dead", "replay", id]).await.map(drop)
    }

    /// Waits until so many requests came to a path; gives them.
    async fn arrived(&self, path: &str, count: usize) -> Result<Vec<Request>> {
        let receiver = &self.stage().receiver;
        receiver.wait_for_at(path, count as u64, SOON).await?;
        let requests = receiver.received_at(path);
        ensure!(requests.len() == count, "{path}: {} requests", requests.len());
        Ok(requests)
    }
}

fn has_id(request: &Request, id: &str) -> bool {
    request.webhook_id() == Some(id)
}

async fn another_url_secret_format_and_schedule(on: On) -> Result<()> {
    let world = World::on(on).await?;
    let shelf = world.on_shelf("shelf").await?;
    let ladder = world.on_ladder("ladder", &[3_600]).await?;
    let flight = world.in_flight("flight", &[3_600], Reply::ok()).await?;
    let gone = world.in_flight("gone", &[3_600], Reply::status(410)).await?;
    let receiver = &world.stage().receiver;
    receiver.script("/new/ladder", [Reply::status(500), Reply::ok()]);
    for name in ["ladder", "flight", "gone", "shelf"] {
        let change = json!({
            "url": receiver.url(&format!("/new/{name}")),
            "hooklane": {"retry": {"delays": [1, 1], "jitter": 0}, "signature": "standard"},
        });
        world.change(name, change).await?;
    }
    let path = "/app/acme/endpoint/ladder";
    let headers = json!({"headers": {"x-new": "1"}});
    world
        .ask("PUT", &format!("{path}/headers"), Some(headers))
        .await?;
    world
        .ask("POST", &format!("{path}/secret/rotate"), Some(json!({})))
        .await?;
    let secret = world.ask("GET", &format!("{path}/secret"), None).await?;

    // In flight: ends as it began.
    ensure!(has_id(&world.arrived("/flight", 1).await?[0], &flight));
    // So does one whose old URL says 410; the new one is not gone for that.
    world.dead(&gone, "gone").await?;
    let later = world.publish("gone").await?;
    ensure!(has_id(&world.arrived("/new/gone", 1).await?[0], &later));
    // On the ladder: the next attempt goes by what is in force then, and so does the schedule after it, which was an hour.
    let retried = world.arrived("/new/ladder", 2).await?;
    let secret = Secret::parse(secret["key"].as_str().context("a key")?)?;
    let verifier = Verifier::new(Scheme::Standard(HeaderFamily::Webhook), vec![secret])?;
    for request in &retried {
        ensure!(has_id(request, &ladder) && request.header("x-new") == Some("1"));
        let now_s = jiff::Timestamp::now().as_second();
        verifier.verify(|name| request.header(name), &request.body, now_s, TOLERANCE_S)?;
    }
    // On the shelf: stays there, and a replay goes by what is in force.
    world.dead(&shelf, "exhausted").await?;
    world.replay(&shelf).await?;
    ensure!(has_id(&world.arrived("/new/shelf", 1).await?[0], &shelf));
    ensure!(world.reasons(&shelf).await?.is_empty());
    ensure!(receiver.received_at("/new/flight").is_empty());
    world.arrived("/ladder", 1).await.map(drop)
}

async fn other_event_types_and_channels(on: On) -> Result<()> {
    let world = World::on(on).await?;
    let shelf = world.on_shelf("shelf").await?;
    let ladder = world.on_ladder("ladder", &[]).await?;
    let flight = world.in_flight("flight", &[1], Reply::status(500)).await?;
    for name in ["ladder", "flight", "shelf"] {
        let change = json!({"eventTypes": ["other"], "channels": ["eu"]});
        world.change(name, change).await?;
    }
    // What would have come by the filters of before does not come any more.
    world.publish("ladder").await?;
    // In flight: goes on, with its retry. On the ladder, and from the shelf: was routed when its event came.
    for (name, id) in [("flight", &flight), ("ladder", &ladder)] {
        let requests = world.arrived(&format!("/{name}"), 2).await?;
        ensure!(requests.iter().all(|request| has_id(request, id)), "{name}");
    }
    world.replay(&shelf).await?;
    let requests = world.arrived("/shelf", 2).await?;
    ensure!(requests.iter().all(|request| has_id(request, &shelf)));
    world.arrived("/ladder", 2).await.map(drop)
}

/// That requests came no quicker than one a second since `begun`, but for one at once from each of two dispatchers.
fn ensure_one_a_second(requests: &[Request], begun: Instant) -> Result<()> {
    let mut at: Vec<Instant> = requests.iter().map(|request| request.at).collect();
    at.sort();
    for (n, at) in at.iter().enumerate() {
        let earliest = Duration::from_secs((n as u64).saturating_sub(1));
        let found = at.saturating_duration_since(begun);
        ensure!(found >= earliest, "request {n} came after {found:?}");
    }
    Ok(())
}

async fn another_throttle_rate(on: On) -> Result<()> {
    let world = World::on(on).await?;
    let receiver = &world.stage().receiver;
    world.on_shelf("shelf").await?;
    receiver.script("/shelf", [Reply::status(500)]);
    for _ in 0..3 {
        let id = world.publish("shelf").await?;
        world.dead(&id, "exhausted").await?;
    }
    world.endpoint("ladder", &[ON_LADDER_S]).await?;
    receiver.script("/ladder", [Reply::status(500)]);
    for _ in 0..4 {
        world.publish("ladder").await?;
    }
    receiver.wait_for_at("/ladder", 4, SOON).await?;
    receiver.script("/ladder", [Reply::ok()]);
    receiver.script("/shelf", [Reply::ok()]);
    let flight = world.in_flight("flight", &[], Reply::ok()).await?;
    let changed = Instant::now();
    for name in ["ladder", "shelf", "flight"] {
        world.change(name, json!({"throttleRate": 1})).await?;
    }
    // In flight: ends as it began. On the ladder: four retries that are due together come one by one.
    ensure!(has_id(&world.arrived("/flight", 1).await?[0], &flight));
    let retried = world.arrived("/ladder", 8).await?;
    // They were due ON_LADDER_S after they failed, which was after the first of them came.
    let due = (retried[0].at + Duration::from_secs(ON_LADDER_S)).max(changed);
    ensure_one_a_second(&retried[4..], due)?;
    // On the shelf: a replay keeps to the limit.
    receiver.forget();
    let replayed = Instant::now();
    world.stage().run(&["dead", "replay", "--all"]).await?;
    ensure_one_a_second(&world.arrived("/shelf", 4).await?, replayed)?;
    // Taken away, what comes then does not wait.
    world.change("shelf", json!({"throttleRate": null})).await?;
    let before = receiver.received_at("/shelf").len();
    for _ in 0..30 {
        world.publish("shelf").await?;
    }
    let begun = Instant::now();
    world.arrived("/shelf", before + 30).await?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(20), "30 took {took:?} without a limit");
    Ok(())
}

async fn disabled_and_enabled_again(on: On) -> Result<()> {
    let world = World::on(on).await?;
    let shelf = world.on_shelf("shelf").await?;
    let ladder = world.on_ladder("ladder", &[]).await?;
    let flight = world.in_flight("flight", &[1], Reply::ok()).await?;
    let failing = world.in_flight("failing", &[1], Reply::status(500)).await?;
    let names = ["ladder", "flight", "failing", "shelf"];
    for name in names {
        world.change(name, json!({"disabled": true})).await?;
    }
    // In flight: ends as it ends. A failed one waits, as does what is on the ladder, replayed, or new.
    ensure!(has_id(&world.arrived("/flight", 1).await?[0], &flight));
    world.replay(&shelf).await?;
    let new = world.publish("flight").await?;
    // The retries are due by now, and a second look at everything finds nothing sent.
    tokio::time::sleep(Duration::from_secs(ON_LADDER_S + 3)).await;
    for name in names {
        world.arrived(&format!("/{name}"), 1).await?;
    }
    for id in [&ladder, &failing, &shelf, &new] {
        ensure!(world.reasons(id).await?.is_empty(), "{id} was given up");
    }
    for name in names {
        world.change(name, json!({"disabled": false})).await?;
    }
    for (name, id) in [
        ("ladder", &ladder),
        ("flight", &new),
        ("failing", &failing),
        ("shelf", &shelf),
    ] {
        let requests = world.arrived(&format!("/{name}"), 2).await?;
        ensure!(has_id(&requests[1], id), "{name}");
    }
    Ok(())
}

/// The deliveries of one endpoint each, which are asserted in [`Removed::given_up`].
struct Removed {
    shelf: String,
    ladder: String,
    flight: String,
    failing: String,
}

impl Removed {
    async fn begin(world: &World) -> Result<Removed> {
        Ok(Removed {
            shelf: world.on_shelf("shelf").await?,
            ladder: world.on_ladder("ladder", &[]).await?,
            flight: world.in_flight("flight", &[1], Reply::ok()).await?,
            failing: world.in_flight("failing", &[1], Reply::status(500)).await?,
        })
    }

    async fn given_up(&self, world: &World) -> Result<()> {
        // In flight: ends as it ends. A failed one has nobody to be retried at.
        ensure!(has_id(&world.arrived("/flight", 1).await?[0], &self.flight));
        world.dead(&self.failing, "endpoint_removed").await?;
        // On the ladder: given up when its time comes.
        world.dead(&self.ladder, "endpoint_removed").await?;
        // On the shelf: stays as it is, to be looked at; replayed it is given up again.
        world.dead(&self.shelf, "exhausted").await?;
        world.replay(&self.shelf).await?;
        world.dead(&self.shelf, "endpoint_removed").await?;
        for path in ["/failing", "/ladder", "/shelf"] {
            world.arrived(path, 1).await?;
        }
        ensure!(world.reasons(&self.flight).await?.is_empty());
        Ok(())
    }
}

async fn the_endpoint_is_deleted(on: On) -> Result<()> {
    let world = World::on(on).await?;
    let deliveries = Removed::begin(&world).await?;
    for name in ["ladder", "flight", "failing", "shelf"] {
        let path = format!("/app/acme/endpoint/{name}");
        world.ask("DELETE", &path, None).await?;
    }
    // One that is made under the same uid is another, and gets nothing of it.
    world.endpoint("ladder", &[]).await?;
    deliveries.given_up(&world).await?;
    let resend = format!("/app/acme/msg/{}/endpoint/flight/resend", deliveries.flight);
    let (status, answer) = world.send(&world.api, "POST", &resend, Some(json!({}))).await?;
    ensure!(status == 404, "{status} {answer}");
    Ok(())
}

async fn the_application_is_deleted(on: On) -> Result<()> {
    let world = World::on(on).await?;
    let deliveries = Removed::begin(&world).await?;
    world.ask("DELETE", "/app/acme", None).await?;
    deliveries.given_up(&world).await?;
    let refused = world.publish("flight").await;
    ensure!(refused.is_err(), "an event was taken for it");
    Ok(())
}
