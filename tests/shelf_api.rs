//! Dead letters and faults over the management API: on `hooklane control` with the rights that `hooklane topology` prints, on RabbitMQ and PostgreSQL,
//! and on `hooklane serve`.

mod installation;
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hooklane_broker::{Destination, Holder, Outgoing, Queue, ShelfName};
use hooklane_testkit::eventually;
use hooklane_testkit::postgres::{Database, Server};
use hooklane_testkit::process::Process;
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, AttemptSummary, DeadReason, EndpointId, EventType, Fault,
    FaultReason, HeaderValue, Internal, Origin, Original, Properties, RawMessage, UnixMillis,
};
use installation::Pods;
use serde_json::{Value, json};
use stage::shelf::{dead_letter, port, put, shelves};
use stage::{Dispatcher, On, SOON, Stage, on_both};

on_both!(
    every_filter_of_a_list_shows_its_own,
    pages_show_each_letter_once_while_others_are_taken_off,
    one_is_shown_with_its_payload_and_every_attempt,
    an_export_is_whole_and_takes_nothing_off_the_shelf,
    a_replay_keeps_to_its_rate_says_how_far_it_is_and_can_be_ended,
    a_purge_takes_what_was_meant_and_nothing_else,
    what_is_not_understood_is_refused_by_its_name,
    a_held_shelf_is_waited_for_and_then_told_to_its_operator_alone,
    dead_letters_belong_to_their_applications,
    faults_belong_to_whoever_runs_hooklane,
    a_process_that_is_killed_in_a_replay_loses_nothing,
    a_process_that_stops_in_a_replay_puts_the_rest_back_in_order,
);

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const OTHER: &str = "org_other";

/// An installation whose API is served.
struct Managed {
    stage: Stage,
    /// Serves the API.
    process: Arc<Process>,
    url: String,
    token: String,
    _store: Option<(Server, Database)>,
    /// Delivers.
    _dispatcher: Option<Dispatcher>,
}

impl Managed {
    /// With an endpoint `ep_one` of `acme`, which takes everything.
    async fn on(on: On) -> Result<Managed> {
        match on {
            On::Embedded => {
                let stage = Stage::on(on).await?;
                stage.settings("", &stage.endpoint("ep_one", "/hook", ""))?;
                let serving = stage.dispatcher().await?;
                let token = stage.run(&["token"]).await?.trim().to_owned();
                Ok(Managed {
                    stage,
                    process: serving.process,
                    url: serving.url,
                    token,
                    _store: None,
                    _dispatcher: None,
                })
            }
            On::RabbitMq => Managed::on_rabbitmq().await,
        }
    }

    async fn on_rabbitmq() -> Result<Managed> {
        let Pods {
            stage,
            server,
            database,
            token,
        } = Pods::new().await?;
        stage.run(&["topology", "--declare"]).await?;
        let file = std::fs::read_to_string(stage.file())?;
        let endpoint = stage.endpoint("ep_one", "/hook", "");
        std::fs::write(stage.file(), format!("{file}\n{endpoint}"))?;
        let dispatcher = stage.dispatcher().await?;
        let control = stage.account("control").await?;
        let process = stage
            .hooklane(&["control", "--listen", "127.0.0.1:0"])?
            .env("HOOKLANE_BROKER__URL", &control.url)
            .start()?;
        let line = process.wait_for_line("listening on http", SOON).await?.text;
        let url = line.split_whitespace().last().context("a URL")?.to_owned();
        Ok(Managed {
            stage,
            process: Arc::new(process),
            url,
            token,
            _store: Some((server, database)),
            _dispatcher: Some(dispatcher),
        })
    }

    /// With these letters.
    async fn with(on: On, letters: &[Letter]) -> Result<Managed> {
        let managed = Managed::on(on).await?;
        managed.put(letters).await?;
        Ok(managed)
    }

    async fn put(&self, letters: &[Letter]) -> Result<()> {
        let broker = port(&self.stage).await?;
        // One after another: publishes at once may overtake each other.
        for letter in letters {
            let to = Destination::Internal(Queue::Dead);
            broker
                .publish(to, Outgoing::internal(letter.encode()?), SOON)
                .await?;
        }
        if self.stage.on == On::RabbitMq {
            broker.shut_down().await;
        }
        Ok(())
    }

    async fn send_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, String)> {
        let url = format!("{}/api/v1{path}", self.url);
        let request = self.stage.http.request(method.parse()?, url).bearer_auth(token);
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string()),
            None => request,
        };
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn get_as(&self, token: &str, path: &str) -> Result<Value> {
        let (status, text) = self.send_as(token, "GET", path, None).await?;
        ensure!(status == 200, "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.get_as(&self.token, path).await
    }

    /// The members `msgId` of a list.
    async fn listed_as(&self, token: &str, path: &str) -> Result<Vec<String>> {
        let list = self.get_as(token, path).await?;
        let rows = list["data"].as_array().context("data")?;
        Ok(rows.iter().map(|row| text(row, "msgId")).collect())
    }

    async fn listed(&self, path: &str) -> Result<Vec<String>> {
        self.listed_as(&self.token, path).await
    }

    async fn begin(&self, path: &str, body: Value) -> Result<Value> {
        let (status, text) = self.send_as(&self.token, "POST", path, Some(body)).await?;
        ensure!(status == 202, "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// A job, once it does not run any more.
    async fn ended(&self, shelf: &str, job: &Value) -> Result<Value> {
        let path = format!("{shelf}/job/{}", text(job, "id"));
        eventually("the end of the job", SOON, || async {
            let job = self.get(&path).await?;
            ensure!(job["status"] != "running", "{job}");
            Ok(job)
        })
        .await
    }

    /// A token of an organisation or an application.
    async fn token(&self, arguments: &[&str]) -> Result<String> {
        let told = self.stage.run(&[&["token"], arguments].concat()).await?;
        Ok(told.trim().to_owned())
    }

    async fn application(&self, token: &str, uid: &str) -> Result<String> {
        let body = json!({"name": uid, "uid": uid});
        let (status, made) = self.send_as(token, "POST", "/app", Some(body)).await?;
        ensure!(status == 201, "{made}");
        Ok(text(&serde_json::from_str(&made)?, "id"))
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// A dead letter with what filters look at.
#[derive(Clone)]
struct Letter {
    id: String,
    application: String,
    endpoint: &'static str,
    event_type: &'static str,
    reason: DeadReason,
    age_ms: i64,
    payload: &'static [u8],
}

impl Letter {
    fn of(id: impl Into<String>) -> Letter {
        Letter {
            id: id.into(),
            application: "acme".to_owned(),
            endpoint: "ep_one",
            event_type: "invoice.paid",
            reason: DeadReason::Exhausted,
            age_ms: MINUTE_MS,
            payload: b"{ \"total\": 1.0 }",
        }
    }

    fn encode(&self) -> Result<Bytes> {
        let at = ago(self.age_ms);
        let mut letter = dead_letter(&self.id, at, Bytes::from_static(self.payload))?;
        let delivery = &mut letter.delivery;
        delivery.event.application = ApplicationId::parse(&self.application)?;
        delivery.event.event_type = EventType::parse(self.event_type)?;
        delivery.endpoints = vec![EndpointId::parse(self.endpoint)?];
        for (number, outcome) in [
            AttemptOutcome::Failed(hooklane_types::FailureKind::Timeout),
            AttemptOutcome::Status {
                code: 503,
                retry_after_ms: Some(2_000),
            },
        ]
        .into_iter()
        .enumerate()
        {
            delivery.history.push(AttemptSummary {
                id: AttemptId::parse(&format!("atmpt_{number}"))?,
                at,
                duration_ms: 7,
                outcome,
            });
        }
        letter.reason = self.reason;
        Ok(Internal::Dead(letter).encode())
    }
}

fn ago(ms: i64) -> UnixMillis {
    UnixMillis(jiff::Timestamp::now().as_millisecond() - ms)
}

fn numbered(count: usize) -> Vec<Letter> {
    (0..count).map(|n| Letter::of(format!("msg_{n:04}"))).collect()
}

/// Each differs from the first in what a filter looks at. Ages lie far from every bound that is asked for.
fn of_each_kind() -> Vec<Letter> {
    vec![
        Letter::of("msg_base"),
        Letter {
            application: "globex".to_owned(),
            ..Letter::of("msg_application")
        },
        Letter {
            endpoint: "ep_two",
            ..Letter::of("msg_endpoint")
        },
        Letter {
            event_type: "invoice.sent.late",
            payload: &[0xff, 0x00, b'x'],
            ..Letter::of("msg_type")
        },
        Letter {
            reason: DeadReason::Gone,
            age_ms: 5 * HOUR_MS,
            ..Letter::of("msg_reason")
        },
        Letter {
            reason: DeadReason::EndpointRemoved,
            age_ms: 72 * HOUR_MS,
            ..Letter::of("msg_age")
        },
    ]
}

async fn every_filter_of_a_list_shows_its_own(on: On) -> Result<()> {
    // Goal: no field is ignored, none is taken for another, and several hold at once. Method: letters that differ in one thing each.
    let managed = Managed::with(on, &of_each_kind()).await?;
    let all = [
        "msg_base",
        "msg_application",
        "msg_endpoint",
        "msg_type",
        "msg_reason",
        "msg_age",
    ];
    let without = |id: &str| {
        all.iter()
            .copied()
            .filter(|found| *found != id)
            .collect::<Vec<_>>()
    };
    let (hour, day) = (ago(HOUR_MS).rfc3339(), ago(24 * HOUR_MS).rfc3339());
    let cases = [
        (String::new(), all.to_vec()),
        ("app_id=globex".to_owned(), vec!["msg_application"]),
        ("app_id=acme".to_owned(), without("msg_application")),
        ("endpoint_id=ep_two".to_owned(), vec!["msg_endpoint"]),
        ("event_type=invoice.paid".to_owned(), without("msg_type")),
        ("event_type=invoice.sent.*".to_owned(), vec!["msg_type"]),
        ("event_type=*".to_owned(), all.to_vec()),
        ("event_type=order.*".to_owned(), vec![]),
        ("reason=gone".to_owned(), vec!["msg_reason"]),
        ("reason=expired".to_owned(), vec![]),
        ("id=msg_type".to_owned(), vec!["msg_type"]),
        (format!("before={hour}"), vec!["msg_reason", "msg_age"]),
        (format!("after={hour}"), all[..4].to_vec()),
        (format!("before={hour}&after={day}"), vec!["msg_reason"]),
        (
            "reason=exhausted&app_id=acme&endpoint_id=ep_one&limit=1".to_owned(),
            vec!["msg_base"],
        ),
    ];
    for (query, wanted) in cases {
        let found = managed.listed(&format!("/dead-letter?{query}")).await?;
        ensure!(found == wanted, "{query}: {found:?} instead of {wanted:?}");
    }
    let list = managed.get("/dead-letter?id=msg_reason").await?;
    let row = &list["data"][0];
    ensure!(
        row["appId"] == "acme"
            && row["endpointId"] == "ep_one"
            && row["reason"] == "gone"
            && row["lastOutcome"] == "503",
        "{row}"
    );
    ensure!(list["done"] == true, "{list}");
    Ok(())
}

async fn pages_show_each_letter_once_while_others_are_taken_off(on: On) -> Result<()> {
    // Goal: a page goes on behind the last letter that was shown, whatever was taken off in front of it.
    let managed = Managed::with(on, &numbered(25)).await?;
    let (mut shown, mut iterator) = (Vec::new(), String::new());
    loop {
        let page = managed.get(&format!("/dead-letter?limit=7{iterator}")).await?;
        let rows = page["data"].as_array().context("data")?;
        shown.extend(rows.iter().map(|row| text(row, "msgId")));
        if page["done"] == true {
            break;
        }
        let next = text(&page, "iterator");
        ensure!(
            hex::decode(&next).is_ok_and(|sealed| !String::from_utf8_lossy(&sealed).contains("dead_")),
            "it tells which letter was looked at last, which may be another's: {next}"
        );
        iterator = format!("&iterator={next}");
        if shown.len() == 7 {
            let body = json!({"filter": {"id": "msg_0002"}});
            managed
                .ended("/dead-letter", &managed.begin("/dead-letter/purge", body).await?)
                .await?;
        }
    }
    let wanted: Vec<String> = numbered(25).into_iter().map(|letter| letter.id).collect();
    ensure!(shown == wanted, "{shown:?}");
    Ok(())
}

async fn one_is_shown_with_its_payload_and_every_attempt(on: On) -> Result<()> {
    let letters = [Letter::of("msg_text"), of_each_kind()[3].clone()];
    let managed = Managed::with(on, &letters).await?;
    let list = managed.get("/dead-letter").await?;
    let id = text(&list["data"][0], "id");
    ensure!(id.starts_with("dead_"), "{list}");
    for name in [id.as_str(), "msg_text"] {
        let shown = managed.get(&format!("/dead-letter/{name}")).await?;
        ensure!(
            shown["id"] == id.as_str()
                && shown["msgId"] == "msg_text"
                && shown["payload"] == "{ \"total\": 1.0 }",
            "{shown}"
        );
        let history = shown["history"].as_array().context("attempts")?;
        ensure!(
            history.len() == 2 && history[0]["outcome"] == "timeout" && history[1]["retryAfterMs"] == 2_000,
            "{shown}"
        );
        ensure!(
            shown["contentType"] == "application/json" && shown["attempts"] == 10,
            "{shown}"
        );
    }
    let binary = managed.get("/dead-letter/msg_type").await?;
    ensure!(
        binary["payloadBase64"] == "/wB4" && binary.get("payload").is_none() && binary["payloadBytes"] == 3,
        "{binary}"
    );
    // The command knows it by the same name.
    let shown = managed.stage.run(&["dead", "show", &id]).await?;
    ensure!(shown.contains("msg_text"), "{shown}");
    for nothing in ["msg_nothing", "nothing", "dead_0"] {
        let path = format!("/dead-letter/{nothing}");
        let (status, told) = managed.send_as(&managed.token, "GET", &path, None).await?;
        ensure!(status == 404, "{nothing}: {status} {told}");
    }
    Ok(())
}

async fn an_export_is_whole_and_takes_nothing_off_the_shelf(on: On) -> Result<()> {
    // Goal: a line for each letter, with its payload to the byte; more than is held in memory at once, and in order.
    let mut letters = numbered(300);
    letters.extend(of_each_kind());
    let managed = Managed::with(on, &letters).await?;
    for _ in 0..2 {
        let (status, told) = managed
            .send_as(&managed.token, "GET", "/dead-letter/export", None)
            .await?;
        ensure!(status == 200, "{status} {told}");
        let lines: Vec<Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let ids: Vec<String> = lines.iter().map(|line| text(line, "msgId")).collect();
        let wanted: Vec<String> = letters.iter().map(|letter| letter.id.clone()).collect();
        ensure!(ids == wanted, "{} lines", ids.len());
        ensure!(
            lines[0]["payload"] == "{ \"total\": 1.0 }" && lines[303]["payloadBase64"] == "/wB4",
            "{} {}",
            lines[0],
            lines[303]
        );
    }
    let path = "/dead-letter/export?reason=gone";
    let (_, told) = managed.send_as(&managed.token, "GET", path, None).await?;
    ensure!(told.lines().count() == 1 && told.contains("msg_reason"), "{told}");
    // Whoever breaks it off leaves the shelf to others, in order.
    let url = format!("{}/api/v1/dead-letter/export", managed.url);
    drop(
        managed
            .stage
            .http
            .get(url)
            .bearer_auth(&managed.token)
            .send()
            .await?,
    );
    ensure!(managed.listed("/dead-letter?limit=1").await? == ["msg_0000"]);
    Ok(())
}

async fn a_replay_keeps_to_its_rate_says_how_far_it_is_and_can_be_ended(on: On) -> Result<()> {
    // Goal: the rate protects an endpoint that has just come back; who asks sees how far it is; what was ended leaves the rest in order.
    let mut letters = numbered(60);
    letters.push(Letter {
        event_type: "order.made",
        ..Letter::of("msg_other")
    });
    let managed = Managed::with(on, &letters).await?;
    let one = managed
        .begin("/dead-letter/replay", json!({"filter": {"id": "msg_0000"}}))
        .await?;
    let one = managed.ended("/dead-letter", &one).await?;
    ensure!(
        one["status"] == "finished"
            && one["total"] == 1
            && one["done"] == 1
            && one["left"] == 0
            && one["task"] == "replay",
        "{one}"
    );
    managed.stage.receiver.wait_for(1, SOON).await?;
    let begun = Instant::now();
    let body = json!({"filter": {"eventType": "invoice.*", "appId": "acme"}, "rate": 5});
    let job = managed.begin("/dead-letter/replay", body).await?;
    let path = format!("/dead-letter/job/{}", text(&job, "id"));
    let running = eventually("some to be replayed", SOON, || async {
        let job = managed.get(&path).await?;
        ensure!(job["done"].as_u64() >= Some(3), "{job}");
        Ok(job)
    })
    .await?;
    ensure!(
        running["status"] == "running" && running["total"] == 59,
        "{running}"
    );
    // Another is told which one runs, and so is who wants to look.
    for (method, path, body) in [
        ("POST", "/dead-letter/purge", Some(json!({"all": true}))),
        ("GET", "/dead-letter", None),
    ] {
        let (status, told) = managed.send_as(&managed.token, method, path, body).await?;
        ensure!(
            status == 409 && told.contains(&text(&job, "id")),
            "{path}: {status} {told}"
        );
    }
    let listed = managed.stage.refused(&["dead", "list"]).await?;
    ensure!(listed.stderr.contains("API: replay job_"), "{}", listed.stderr);
    let (status, told) = managed
        .send_as(&managed.token, "POST", &format!("{path}/cancel"), None)
        .await?;
    ensure!(status == 200, "{told}");
    let ended = managed.ended("/dead-letter", &job).await?;
    let took = begun.elapsed();
    let done = ended["done"].as_u64().context("done")?;
    ensure!(
        ended["status"] == "cancelled" && ended["left"] == 59 - done,
        "{ended}"
    );
    // The first goes at once.
    let most = 1 + (5.0 * took.as_secs_f64()) as u64;
    ensure!((3..=most).contains(&done), "{done} in {took:?}");
    managed.stage.receiver.wait_for(1 + done, SOON).await?;
    let left = managed.listed("/dead-letter?limit=250").await?;
    let wanted: Vec<&str> = letters[1 + usize::try_from(done)?..]
        .iter()
        .map(|letter| letter.id.as_str())
        .collect();
    ensure!(left == wanted, "{left:?}");
    let run = managed.stage.receiver.received();
    ensure!(
        run.iter()
            .all(|request| request.webhook_id().is_some_and(|id| id.starts_with("msg_0")))
    );
    let metrics = managed
        .stage
        .http
        .get(format!("{}/metrics", managed.url))
        .send()
        .await?
        .text()
        .await?;
    let counted = format!(
        "hooklane_shelf_taken_total{{by=\"replay\",shelf=\"dead\"}} {}",
        done + 1
    );
    ensure!(metrics.contains(&counted), "no {counted}");
    Ok(())
}

async fn a_purge_takes_what_was_meant_and_nothing_else(on: On) -> Result<()> {
    // Goal: everything goes only where that was said; who did it stands in the log.
    let managed = Managed::with(on, &of_each_kind()).await?;
    for nothing in [
        json!({}),
        json!({"filter": {}}),
        json!({"all": true, "filter": {"id": "msg_base"}}),
    ] {
        let (status, told) = managed
            .send_as(
                &managed.token,
                "POST",
                "/dead-letter/purge",
                Some(nothing.clone()),
            )
            .await?;
        ensure!(status == 422, "{nothing}: {status} {told}");
    }
    let body = json!({"filter": {"reason": "gone"}});
    let job = managed.begin("/dead-letter/purge", body).await?;
    let job = managed.ended("/dead-letter", &job).await?;
    ensure!(job["status"] == "finished" && job["done"] == 1, "{job}");
    ensure!(managed.listed("/dead-letter").await?.len() == 5);
    managed
        .process
        .wait_for_line("reason gone", SOON)
        .await
        .context("the log says who purged what")?;
    let job = managed.begin("/dead-letter/purge", json!({"all": true})).await?;
    ensure!(managed.ended("/dead-letter", &job).await?["done"] == 5);
    managed.stage.wait_empty("dead", SOON).await?;
    // Nothing is left to be done, and that is no failure.
    let job = managed.begin("/dead-letter/purge", json!({"all": true})).await?;
    let job = managed.ended("/dead-letter", &job).await?;
    ensure!(job["status"] == "finished" && job["total"] == 0, "{job}");
    Ok(())
}

async fn what_is_not_understood_is_refused_by_its_name(on: On) -> Result<()> {
    let managed = Managed::on(on).await?;
    let replay = "/dead-letter/replay";
    let filter = |field: &str, value: Value| Some(json!({"filter": {field: value}}));
    let cases = [
        (
            "GET",
            "/dead-letter?reason=poison",
            None,
            "exhausted, expired, gone, endpoint_removed",
        ),
        ("GET", "/fault?reason=gone", None, "malformed, too_large"),
        ("GET", "/dead-letter?application=acme", None, "unknown field"),
        ("GET", "/dead-letter?event_type=*.paid", None, "event_type"),
        ("GET", "/dead-letter?before=yesterday", None, "RFC 3339"),
        ("GET", "/dead-letter?iterator=7", None, "iterator"),
        ("GET", "/dead-letter/export?limit=7", None, "unknown field"),
        (
            "POST",
            replay,
            filter("reason", json!("poison")),
            "exhausted, expired, gone, endpoint_removed",
        ),
        (
            "POST",
            replay,
            filter("application", json!("acme")),
            "unknown field",
        ),
        ("POST", replay, filter("endpointId", json!("no id")), "endpointId"),
        ("POST", replay, Some(json!({"all": true, "rate": 0})), "rate"),
        (
            "POST",
            "/dead-letter/purge",
            Some(json!({"all": true, "rate": 5})),
            "rate",
        ),
    ];
    for (method, path, body, word) in cases {
        let (status, told) = managed.send_as(&managed.token, method, path, body).await?;
        ensure!(
            status == 422 && told.contains(word),
            "{method} {path}: {status} {told}"
        );
    }
    Ok(())
}

async fn a_held_shelf_is_waited_for_and_then_told_to_its_operator_alone(on: On) -> Result<()> {
    // Goal: who asks while a command reads the shelf is answered once that ends, or told in time; the same request, its key and all, is carried out
    // when it comes again then. Method: held by the library, as a command does.
    let managed = Managed::with(on, &numbered(3)).await?;
    let held = shelves(&managed.stage).await?;
    let holder = Holder {
        pid: 4242,
        host: "somewhere".to_owned(),
        user: "ann".to_owned(),
        command: "hooklane dead replay".to_owned(),
        since: UnixMillis(1_700_000_000_000),
    };
    let held = held.open(ShelfName::Dead, holder).await?;
    let other = managed.token(&["--organisation", OTHER]).await?;
    for (method, path, body) in [
        ("GET", "/dead-letter", None),
        ("GET", "/dead-letter/export", None),
        ("POST", "/dead-letter/replay", Some(json!({"all": true}))),
    ] {
        let begun = Instant::now();
        let (status, told) = managed
            .send_as(&managed.token, method, path, body.clone())
            .await?;
        ensure!(status == 409, "{path}: {status} {told}");
        for word in [
            "4242",
            "ann",
            "somewhere",
            "hooklane dead replay",
            "wait until it ends",
        ] {
            ensure!(told.contains(word), "{path} does not say {word}: {told}");
        }
        let took = begun.elapsed();
        ensure!(
            (Duration::from_secs(4)..Duration::from_secs(30)).contains(&took),
            "{path}: {took:?}"
        );
        let (status, told) = managed.send_as(&other, method, path, body).await?;
        ensure!(status == 409 && !told.contains("ann"), "{path}: {status} {told}");
    }
    let url = format!("{}/api/v1/dead-letter/replay", managed.url);
    let keyed = || {
        let request = managed.stage.http.post(&url).bearer_auth(&managed.token);
        let request = request
            .header("idempotency-key", "once")
            .header("content-type", "application/json");
        request.body(r#"{"all": true}"#).send()
    };
    ensure!(keyed().await?.status() == 409);
    // Nobody waits for the other shelf.
    ensure!(managed.get("/fault").await?["data"] == json!([]));
    let waiting = managed.get("/dead-letter");
    let freeing = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        held.close().await?;
        anyhow::Ok(())
    };
    let (list, freed) = tokio::join!(waiting, freeing);
    freed?;
    ensure!(list?["data"].as_array().is_some_and(|rows| rows.len() == 3));
    ensure!(keyed().await?.status() == 202);
    Ok(())
}

async fn dead_letters_belong_to_their_applications(on: On) -> Result<()> {
    // Goal: two organisations, two applications of one, one of the file, one that is gone: each sees, replays and exports its own alone, and only
    // organisations purge.
    let managed = Managed::on(on).await?;
    let other = managed.token(&["--organisation", OTHER]).await?;
    let (first, second) = (
        managed.application(&other, "first").await?,
        managed.application(&other, "second").await?,
    );
    let own = managed.application(&managed.token, "own").await?;
    let letter = |id: &str, application: &str| Letter {
        application: application.to_owned(),
        ..Letter::of(id)
    };
    managed
        .put(&[
            letter("msg_first", &first),
            letter("msg_second", &second),
            letter("msg_own", &own),
            letter("msg_file", "acme"),
            letter("msg_nobody", "app_gone"),
        ])
        .await?;
    let of_first = managed
        .token(&["--organisation", OTHER, "--application", &first])
        .await?;
    let cases: [(&str, &[&str]); 3] = [
        (&managed.token, &["msg_own", "msg_file", "msg_nobody"]),
        (&other, &["msg_first", "msg_second"]),
        (&of_first, &["msg_first"]),
    ];
    let all = managed.stage.run(&["dead", "list", "--format", "json"]).await?;
    let rows: Vec<Value> = all.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (token, wanted) in cases {
        ensure!(managed.listed_as(token, "/dead-letter").await? == wanted);
        let (_, told) = managed.send_as(token, "GET", "/dead-letter/export", None).await?;
        ensure!(told.lines().count() == wanted.len(), "{told}");
        for row in &rows {
            for id in [text(row, "id"), text(row, "dead_letter")] {
                let path = format!("/dead-letter/{id}");
                let (status, told) = managed.send_as(token, "GET", &path, None).await?;
                let expected = if wanted.contains(&text(row, "id").as_str()) {
                    200
                } else {
                    404
                };
                ensure!(status == expected, "{path}: {status} {told}");
            }
        }
    }
    // By id and by uid; what is another's is not there.
    ensure!(managed.listed_as(&other, "/dead-letter?app_id=second").await? == ["msg_second"]);
    for (token, name) in [
        (&of_first, "second"),
        (&other, own.as_str()),
        (&other, "acme"),
        (&other, "nothing"),
    ] {
        let path = format!("/dead-letter?app_id={name}");
        let (status, told) = managed.send_as(token, "GET", &path, None).await?;
        ensure!(status == 404, "{path}: {status} {told}");
    }
    let purge = Some(json!({"all": true}));
    let (status, _) = managed
        .send_as(&of_first, "POST", "/dead-letter/purge", purge.clone())
        .await?;
    ensure!(status == 403);
    // Everything is everything of one's own; what others have is not counted.
    let (_, job) = managed
        .send_as(&of_first, "POST", "/dead-letter/replay", purge.clone())
        .await?;
    let job: Value = serde_json::from_str(&job)?;
    let path = format!("/dead-letter/job/{}", text(&job, "id"));
    let done = eventually("the replay", SOON, || async {
        let job = managed.get_as(&of_first, &path).await?;
        ensure!(job["status"] == "finished", "{job}");
        Ok(job)
    })
    .await?;
    ensure!(done["total"] == 1 && done["done"] == 1, "{done}");
    ensure!(managed.get_as(&other, &path).await?["id"] == job["id"]);
    let of_second = managed
        .token(&["--organisation", OTHER, "--application", &second])
        .await?;
    let stranger = managed.token(&["--organisation", "org_stranger"]).await?;
    for token in [&of_second, &stranger] {
        for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/cancel"))] {
            let (status, told) = managed.send_as(token, method, &path, None).await?;
            ensure!(status == 404, "{status} {told}");
        }
    }
    let (status, job) = managed
        .send_as(&other, "POST", "/dead-letter/purge", purge)
        .await?;
    ensure!(status == 202, "{job}");
    managed
        .ended("/dead-letter", &serde_json::from_str(&job)?)
        .await?;
    // What is gone is nobody's but the operator's, whatever token is left of it.
    let of_own = managed.token(&["--application", &own]).await?;
    ensure!(managed.listed_as(&of_own, "/dead-letter").await? == ["msg_own"]);
    let path = format!("/app/{own}");
    let (status, told) = managed.send_as(&managed.token, "DELETE", &path, None).await?;
    ensure!(status == 204, "{told}");
    ensure!(managed.listed_as(&of_own, "/dead-letter").await?.is_empty());
    // The endpoint of the first is not its application's: its letter may be back, and was purged with the other.
    let left = managed.listed("/dead-letter").await?;
    ensure!(left == ["msg_own", "msg_file", "msg_nobody"], "{left:?}");
    Ok(())
}

fn fault(reason: FaultReason, application: &str, event_type: &str, body: &'static [u8]) -> Bytes {
    let message = RawMessage {
        exchange: "hooklane.events".to_owned(),
        routing_key: event_type.to_owned(),
        properties: Properties {
            message_id: Some("p-1".to_owned()),
            headers: vec![(
                "application".to_owned(),
                HeaderValue::Text(application.to_owned()),
            )],
            ..Properties::default()
        },
        body: Bytes::from_static(body),
    };
    let original = Original {
        origin: Origin::Events,
        message,
    };
    Internal::Fault(Fault::new(reason, "it is in no file", ago(MINUTE_MS), original)).encode()
}

async fn faults_belong_to_whoever_runs_hooklane(on: On) -> Result<()> {
    // Goal: listed, filtered, shown, exported, replayed and purged by the operator's organisation; nobody else hears of any.
    let managed = Managed::on(on).await?;
    let faults = [
        fault(
            FaultReason::UnknownApplication,
            "acme",
            "order.made",
            b"{ \"n\" : 1.0 }",
        ),
        fault(FaultReason::Malformed, "acme", "bad", b"\xff\x00raw"),
    ];
    put(&managed.stage, Queue::Faults, faults).await?;
    let other = managed.token(&["--organisation", OTHER]).await?;
    let own = managed.application(&managed.token, "own").await?;
    let of_own = managed.token(&["--application", &own]).await?;
    let list = managed
        .get("/fault?reason=unknown_application&app_id=acme")
        .await?;
    let row = &list["data"][0];
    ensure!(
        row["detail"] == "it is in no file" && row["origin"] == "events" && row["eventType"] == "order.made",
        "{list}"
    );
    let path = format!("/fault/{}", text(row, "id"));
    let shown = managed.get(&path).await?;
    ensure!(
        shown["payload"] == "{ \"n\" : 1.0 }"
            && shown["properties"]["message_id"] == "p-1"
            && shown["exchange"] == "hooklane.events",
        "{shown}"
    );
    let (_, exported) = managed
        .send_as(&managed.token, "GET", "/fault/export", None)
        .await?;
    ensure!(
        exported.lines().count() == 2 && exported.contains("/wByYXc="),
        "{exported}"
    );
    for token in [&other, &of_own] {
        for (method, path, body) in [
            ("GET", "/fault", None),
            ("GET", "/fault/export", None),
            ("GET", path.as_str(), None),
            ("POST", "/fault/replay", Some(json!({"all": true}))),
            ("POST", "/fault/purge", Some(json!({"all": true}))),
            ("GET", "/fault/job/job_x", None),
        ] {
            let (status, told) = managed.send_as(token, method, path, body).await?;
            ensure!(
                status == 403 && !told.contains("order"),
                "{path}: {status} {told}"
            );
        }
    }
    let body = json!({"filter": {"id": text(row, "id")}});
    let job = managed.begin("/fault/replay", body).await?;
    let job = managed.ended("/fault", &job).await?;
    ensure!(job["status"] == "finished" && job["done"] == 1, "{job}");
    managed.stage.receiver.wait_for(1, SOON).await?;
    ensure!(managed.stage.receiver.received()[0].body.as_ref() == b"{ \"n\" : 1.0 }");
    let job = managed
        .begin("/fault/purge", json!({"filter": {"reason": "malformed"}}))
        .await?;
    ensure!(managed.ended("/fault", &job).await?["done"] == 1);
    managed.stage.wait_empty("faults", SOON).await?;
    Ok(())
}

async fn a_process_that_is_killed_in_a_replay_loses_nothing(on: On) -> Result<()> {
    // Goal: killed at any point, a letter is on the shelf, or on its way, or both. Method: kill -9 in the middle of a replay.
    const COUNT: usize = 100;
    let managed = Managed::with(on, &numbered(COUNT)).await?;
    let job = managed
        .begin("/dead-letter/replay", json!({"all": true, "rate": 20}))
        .await?;
    managed.stage.receiver.wait_for(10, SOON).await?;
    managed.process.kill9().await?;
    let Managed {
        stage,
        _store,
        _dispatcher,
        ..
    } = managed;
    // On the embedded queue the process was everything.
    let _serving = match on {
        On::RabbitMq => None,
        On::Embedded => Some(stage.dispatcher().await?),
    };
    let left = eventually("the shelf to be free", SOON, || async {
        stage
            .run(&["dead", "list", "--limit", "0", "--format", "json"])
            .await
    })
    .await?;
    let left: Vec<Value> = left.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!((1..COUNT).contains(&left.len()), "{} left", left.len());
    eventually("every letter to be here or there", SOON, || async {
        let arrived = stage.receiver.by_webhook_id();
        let lost: Vec<String> = numbered(COUNT)
            .into_iter()
            .map(|letter| letter.id)
            .filter(|id| !arrived.contains_key(id) && !left.iter().any(|row| row["id"] == id.as_str()))
            .collect();
        ensure!(lost.is_empty(), "{lost:?} of {job}");
        Ok(())
    })
    .await
}

async fn a_process_that_stops_in_a_replay_puts_the_rest_back_in_order(on: On) -> Result<()> {
    // Goal: SIGTERM ends a replay as a cancel does, and does not wait for its end.
    const COUNT: usize = 60;
    let managed = Managed::with(on, &numbered(COUNT)).await?;
    managed
        .begin("/dead-letter/replay", json!({"all": true, "rate": 5}))
        .await?;
    managed.stage.receiver.wait_for(4, SOON).await?;
    managed.process.terminate()?;
    let status = managed.process.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", managed.process.output().tail());
    let left = managed
        .stage
        .run(&["dead", "list", "--limit", "0", "--format", "json"])
        .await?;
    let left: Vec<Value> = left.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let left: Vec<String> = left.iter().map(|row| text(row, "id")).collect();
    let letters = numbered(COUNT);
    let wanted: Vec<String> = letters
        .into_iter()
        .skip(COUNT - left.len())
        .map(|letter| letter.id)
        .collect();
    ensure!((1..COUNT).contains(&left.len()) && left == wanted, "{left:?}");
    Ok(())
}
