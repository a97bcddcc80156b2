//! PostgreSQL is away or killed, and whoever records is killed: deliveries go on, and afterwards everything is in the history, once.

mod installation;
mod served;
mod stage;

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_testkit::eventually;
use hooklane_testkit::postgres::Server;
use installation::{Pod, Pods, Producer, end, is_up, listens};
use serde_json::{Value, json};
use stage::SOON;

/// How long PostgreSQL is away, in seconds; as many as this variable says, where there is one: an hour was tried so.
const AWAY_S: u64 = 30;
const AWAY_VARIABLE: &str = "HOOKLANE_TEST_AWAY_S";
/// Each event arrives within a second of its acceptance, three times.
const ARRIVES_WITHIN: Duration = Duration::from_secs(3);
/// Events of a round, over each of the two ways.
const ROUND: usize = 10;
/// Between two rounds: some hundred events a second leave the machine to what is tested.
const REST: Duration = Duration::from_millis(100);
/// At least so much of the time that PostgreSQL is away: an hour has no more rounds than half a minute.
const REST_OF_AWAY: u32 = 300;
/// How often the recorder is killed.
const KILLS: usize = 8;

fn away() -> Result<Duration> {
    let seconds = match std::env::var(AWAY_VARIABLE) {
        Ok(seconds) => seconds.parse().context(AWAY_VARIABLE)?,
        Err(_) => AWAY_S,
    };
    Ok(Duration::from_secs(seconds))
}

/// Publishes over HTTP and AMQP until `trouble` is over, and gives how many events. Each round has to arrive before the next begins: so nothing
/// pauses meanwhile.
async fn under_load(
    pods: &Pods,
    ingests: &[Pod],
    application: &str,
    trouble: impl Future<Output = Result<()>>,
) -> Result<usize> {
    let producer = Producer::connect(pods).await?;
    let rest = REST.max(away()? / REST_OF_AWAY);
    let (is_over, sent) = (Cell::new(false), Cell::new(0));
    let load = async {
        while !is_over.get() {
            for n in 0..ROUND {
                pods.publish(&ingests[n % ingests.len()], application, n).await?;
                producer
                    .publish(application, &format!("order-{}", sent.get()))
                    .await?;
                sent.set(sent.get() + 2);
            }
            let arrived = pods
                .stage
                .receiver
                .wait_for(sent.get() as u64, ARRIVES_WITHIN)
                .await;
            arrived.with_context(|| format!("deliveries paused after {} events", sent.get()))?;
            tokio::time::sleep(rest).await;
        }
        Ok(())
    };
    let trouble = async {
        trouble.await?;
        is_over.set(true);
        Ok(())
    };
    tokio::try_join!(load, trouble).map(|((), ())| sent.get())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_killed_for_30_seconds_under_load_pauses_no_delivery_and_costs_no_record() -> Result<()> {
    // Method: kill -9 of every process of PostgreSQL, events over HTTP and AMQP before, throughout and after; each has to arrive in its time.
    let pods = Pods::new().await?;
    let control = pods.start("control").await?;
    let ingests = [pods.start("ingest").await?, pods.start("ingest").await?];
    let _dispatchers = [pods.start("dispatcher").await?, pods.start("dispatcher").await?];
    pods.pair(&control, "acme").await?;
    let away = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        pods.server.kill9().await?;
        tokio::time::sleep(away()?).await;
        let (status, why) = control.asked("/readyz").await?;
        ensure!(status == 200, "control does without its store: {why}");
        pods.server.restart().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    };
    let sent = under_load(&pods, &ingests, "acme", away).await?;
    println!("{sent} events");
    pods.recorded(sent).await?;
    ensure!(
        pods.stage.receiver.total() == sent as u64,
        "something was delivered twice"
    );
    // Changes are followed again.
    eventually("the API", SOON, || async { pods.pair(&control, "later").await }).await?;
    pods.publish(&ingests[0], "later", 0).await?;
    pods.stage.receiver.wait_for(sent as u64 + 1, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_killed_at_any_moment_pauses_no_delivery_and_costs_no_record() -> Result<()> {
    // Method: kill -9 of `hooklane control` again and again under load, each time after a random while, in the middle of its batches.
    let pods = Pods::new().await?;
    let mut control = pods.start("control").await?;
    let ingests = [pods.start("ingest").await?];
    let _dispatcher = pods.start("dispatcher").await?;
    pods.pair(&control, "acme").await?;
    let kills = async {
        for _ in 0..KILLS {
            let lives = Duration::from_millis(rand::random_range(50..1_500));
            println!("killed {lives:?} after it was ready");
            tokio::time::sleep(lives).await;
            control.process.kill9().await?;
            control = pods.start("control").await?;
        }
        Ok(())
    };
    let sent = under_load(&pods, &ingests, "acme", kills).await?;
    println!("{sent} events over {KILLS} kills");
    pods.recorded(sent).await?;
    ensure!(
        pods.stage.receiver.total() == sent as u64,
        "something was delivered twice"
    );
    end(control).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_begin_without_the_store_say_so_and_go_on_by_themselves() -> Result<()> {
    // Goal: no orchestrator kills them meanwhile (`/healthz`), none sends them anything (`/readyz`), and who asks all the same is told when to come
    // again.
    let pods = Pods::new().await?;
    pods.server.kill9().await?;
    let nowhere = pods.stage.dir.path().join("none.json").display().to_string();
    let mut waiting = Vec::new();
    for role in ["control", "ingest", "dispatcher"] {
        let process = pods.begin(role, &[("HOOKLANE_STORE__SNAPSHOT", nowhere.as_str())])?;
        process.wait_for_line("waiting for the store", SOON).await?;
        let pod = listens(process).await?;
        ensure!(pod.asked("/healthz").await?.0 == 200);
        let (status, why) = pod.asked("/readyz").await?;
        ensure!(
            status == 503 && why.contains("waiting for the store"),
            "{role}: {status} {why}"
        );
        ensure!(pod.asked("/metrics").await?.0 == 200);
        waiting.push(pod);
    }
    for pod in &waiting[..2] {
        let url = format!("{}/api/v1/app", pod.url);
        let event = json!({"eventType": "a.b", "payload": {}}).to_string();
        for request in [
            pods.stage.http.get(&url),
            pods.stage.http.post(format!("{url}/acme/msg")).body(event),
        ] {
            let answer = request.bearer_auth(&pods.token).send().await?;
            ensure!(
                answer.status() == 503 && answer.headers().contains_key("retry-after"),
                "{answer:?}"
            );
            let text = answer.text().await?;
            ensure!(text.contains("service_unavailable"), "{text}");
        }
    }
    pods.server.restart().await?;
    let mut ready = Vec::new();
    for pod in waiting {
        ready.push(is_up(pod.process).await?);
    }
    pods.pair(&ready[0], "acme").await?;
    pods.publish(&ready[1], "acme", 0).await?;
    pods.stage.receiver.wait_for(1, SOON).await?;
    for pod in ready {
        end(pod).await?;
    }
    Ok(())
}

/// A `hooklane serve` whose store is a server of its own; an application `file` of the settings has an endpoint at `/file`.
struct Alone {
    server: Server,
    stage: served::Stage,
    token: String,
}

impl Alone {
    async fn new() -> Result<Alone> {
        let server = Server::start().await?;
        let database = server.database().await?;
        let settings = format!("[store]\nurl = \"{}\"\n", database.url());
        let endpoint = |hook: &str| {
            let url = hook.replace("/hook", "/file");
            format!(
                "[[endpoint]]\nid = \"ep_file\"\napplication = \"file\"\nurl = \"{url}\"\nsecret = \"{}\"\n",
                served::SECRET
            )
        };
        let stage = served::Stage::with(&settings, endpoint).await?;
        // The database goes with its server.
        std::mem::forget(database);
        Ok(Alone {
            server,
            stage,
            token: String::new(),
        })
    }

    async fn post(&self, serving: &served::Serving, path: &str, body: Value) -> Result<(u16, Value)> {
        let request = self.stage.http.post(format!("{}/api/v1{path}", serving.url));
        let request = request
            .bearer_auth(&self.token)
            .header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_str(&answer.text().await?)?))
    }

    /// An application of the API with an endpoint.
    async fn pair(&self, serving: &served::Serving, uid: &str) -> Result<String> {
        let made = self
            .post(serving, "/app", json!({"name": uid, "uid": uid}))
            .await?;
        ensure!(made.0 == 201, "{made:?}");
        let url = self.stage.receiver.url("/hook");
        let path = format!("/app/{uid}/endpoint");
        let (status, made) = self.post(serving, &path, json!({"url": url})).await?;
        ensure!(status == 201, "{made}");
        Ok(made["id"].as_str().context("an id")?.to_owned())
    }

    async fn listed(&self, serving: &served::Serving, uid: &str) -> Result<usize> {
        let url = format!("{}/api/v1/app/{uid}/msg", serving.url);
        let answer = self.stage.http.get(url).bearer_auth(&self.token).send().await?;
        ensure!(answer.status() == 200, "{answer:?}");
        let page: Value = serde_json::from_str(&answer.text().await?)?;
        Ok(page["data"].as_array().map_or(0, Vec::len))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_begins_without_its_store_by_the_copy_that_it_has_kept() -> Result<()> {
    // Goal: events of the file's applications and of the API's are taken and delivered; the API says 503; what was delivered is in the history
    // once the store is back.
    let mut alone = Alone::new().await?;
    let serving = alone.stage.serve().await?;
    alone.token = alone.stage.ok(&["token"]).await?.trim().to_owned();
    let endpoint = alone.pair(&serving, "acme").await?;
    let copy = alone.stage.data().join("snapshot.json");
    eventually("the copy", SOON, || async {
        let text = std::fs::read_to_string(&copy)?;
        ensure!(text.contains(&endpoint) && text.contains("\"end\""), "{text}");
        ensure!(!text.contains("whsec_"), "a secret stands in it");
        Ok(())
    })
    .await?;
    serving.end(served::End::Kill9).await?;
    alone.server.kill9().await?;
    let serving = alone.stage.serve().await?;
    for application in ["acme", "file"] {
        alone.stage.publish(&serving, application, "order-1").await?;
    }
    alone.stage.receiver.wait_for_at("/hook", 1, SOON).await?;
    alone.stage.receiver.wait_for_at("/file", 1, SOON).await?;
    let refused = alone.post(&serving, "/app", json!({"name": "x"})).await?;
    ensure!(refused.0 == 503, "{refused:?}");
    alone.server.restart().await?;
    eventually("the history", SOON, || async {
        let count = alone.listed(&serving, "acme").await?;
        ensure!(count == 1, "{count}");
        Ok(())
    })
    .await?;
    // Changes are followed again.
    alone.pair(&serving, "later").await?;
    alone.stage.publish(&serving, "later", "order-2").await?;
    alone.stage.receiver.wait_for_at("/hook", 2, SOON).await?;
    serving.end(served::End::Terminate).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_whose_copy_is_damaged_waits_for_its_store_as_if_there_were_none() -> Result<()> {
    // Goal: a file that is no use is told of by its path, and keeps nobody from going on once the store is back. Method: a copy without an end.
    let alone = Alone::new().await?;
    alone.server.kill9().await?;
    let copy = alone.stage.data().join("snapshot.json");
    std::fs::create_dir_all(alone.stage.data())?;
    std::fs::write(&copy, "{\"snapshot\":{\"version\":1}}\n")?;
    let process = alone.stage.serving(&[])?.start()?;
    let told = process.wait_for_line("cannot be used", SOON).await?.text;
    ensure!(
        told.contains("snapshot.json") && told.contains("its end is missing"),
        "{told}"
    );
    let line = process.wait_for_line("listening on http", SOON).await?.text;
    let url = line.split_whitespace().last().context("a URL")?.to_owned();
    let serving = served::Serving { process, url };
    let (status, why) = alone.stage.readiness(&serving).await?;
    ensure!(
        status == 503 && why.contains("waiting for the store"),
        "{status} {why}"
    );
    alone.server.restart().await?;
    eventually("a whole copy", SOON, || async {
        let text = std::fs::read_to_string(&copy)?;
        ensure!(text.contains("\"end\""), "{text}");
        Ok(())
    })
    .await?;
    alone.stage.publish(&serving, "file", "order-1").await?;
    alone.stage.receiver.wait_for_at("/file", 1, SOON).await?;
    serving.end(served::End::Terminate).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_that_never_saw_its_store_takes_nothing_out_of_its_queue_until_it_does() -> Result<()> {
    // Goal: without what is in the store an event would miss its endpoints. What is put into the queue by command waits there.
    let mut alone = Alone::new().await?;
    alone.server.kill9().await?;
    let process = alone.stage.serving(&[])?.start()?;
    let line = process.wait_for_line("listening on http", SOON).await?.text;
    let url = line.split_whitespace().last().context("a URL")?.to_owned();
    let serving = served::Serving { process, url };
    let (status, why) = alone.stage.readiness(&serving).await?;
    ensure!(
        status == 503 && why.contains("waiting for the store"),
        "{status} {why}"
    );
    let refused = alone.stage.post(&serving, "file", "order-1", "").await?;
    ensure!(refused.status() == 503 && refused.headers().contains_key("retry-after"));
    let publish = [
        "publish",
        "--application",
        "file",
        "--type",
        "a.b",
        "--payload",
        "{}",
    ];
    alone.stage.ok(&publish).await?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        ensure!(
            alone.stage.receiver.total() == 0,
            "it delivered without a registry"
        );
        tokio::time::sleep(REST).await;
    }
    alone.server.restart().await?;
    alone.stage.receiver.wait_for_at("/file", 1, SOON).await?;
    alone.token = alone.stage.ok(&["token"]).await?.trim().to_owned();
    alone.pair(&serving, "acme").await?;
    serving.end(served::End::Terminate).await
}
