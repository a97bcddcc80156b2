//! `hooklane status` over two dispatchers, or the one process that is everything: queues, retries that wait, endpoints in every state.

mod stage;

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use hooklane_receiver::Reply;
use serde_json::{Value, json};
use stage::{On, SOON, Stage, on_both};

on_both!(status_shows_queues_retries_and_endpoints_in_every_state,);

/// One endpoint of each kind, each with an event type of its own.
fn endpoints(stage: &Stage) -> String {
    let endpoint = |name: &str, more: &str| {
        let more = format!("event_types = [\"a.{name}\"]\n{more}");
        stage.endpoint(&format!("ep_{name}"), &format!("/{name}"), &more)
    };
    let retry_in = |delay: &str| {
        format!(
            "retry = {{ attempts = 2, first = \"{delay}\", factor = 1, max = \"{delay}\", jitter = 0.0 }}"
        )
    };
    [
        endpoint("delivered", ""),
        endpoint("failing", &retry_in("20m")),
        endpoint("failing_too", &retry_in("2h")),
        endpoint("given_up", "retry = []"),
        endpoint("disabled", "disabled = true"),
        endpoint("sick", "timeout = \"60s\""),
        endpoint("untried", ""),
    ]
    .concat()
}

/// What the object of a list that has this name says.
fn of<'a>(status: &'a Value, list: &str, key: &str, name: &str) -> Result<&'a Value> {
    let rows = status[list].as_array().with_context(|| format!("no {list}"))?;
    let row = rows.iter().find(|row| row[key] == name);
    row.with_context(|| format!("no {name} among the {list} of {status}"))
}

/// Compares the JSON answer with what was done, where this many dispatchers run.
fn judge(status: &Value, dispatchers: usize) -> Result<()> {
    ensure!(status["dispatchers_expected"] == dispatchers, "{status}");
    let answered = status["dispatchers"].as_array().context("dispatchers")?;
    let pods: HashSet<_> = answered.iter().map(|one| one["pod"].as_str()).collect();
    ensure!(
        answered.len() == dispatchers && pods.len() == dispatchers,
        "{status}"
    );
    for (name, messages, consumers) in [
        ("events", 0, dispatchers),
        ("ordered", 0, dispatchers),
        ("deliveries", 0, dispatchers),
        ("suspects", 0, dispatchers),
        ("dead", 1, 0),
        ("faults", 0, 0),
    ] {
        let queue = of(status, "queues", "name", name)?;
        let found = (&queue["messages"], &queue["consumers"]);
        ensure!(found == (&json!(messages), &json!(consumers)), "{queue}");
    }
    for (within, messages) in [
        ("1 s", 0),
        ("10 s", 0),
        ("1 min", 0),
        ("10 min", 0),
        ("1 h", 1),
        ("1 d", 1),
    ] {
        let due = of(status, "retries", "within", within)?;
        ensure!(due["messages"] == messages, "{due}");
    }
    for (id, state, in_flight, last) in [
        ("ep_delivered", "ok", 0, json!("2xx")),
        ("ep_failing", "ok", 0, json!("5xx")),
        ("ep_failing_too", "ok", 0, json!("5xx")),
        ("ep_given_up", "ok", 0, json!("5xx")),
        ("ep_disabled", "disabled", 0, Value::Null),
        ("ep_sick", "sick", 1, Value::Null),
        ("ep_untried", "ok", 0, Value::Null),
    ] {
        let endpoint = of(status, "endpoints", "id", id)?;
        let found = (
            &endpoint["state"],
            &endpoint["in_flight"],
            &endpoint["last_outcome"],
        );
        ensure!(found == (&json!(state), &json!(in_flight), &last), "{endpoint}");
        ensure!(endpoint["last_at"].is_null() == last.is_null(), "{endpoint}");
    }
    Ok(())
}

/// The words of the table's row that begins with these.
fn row(table: &str, first: &[&str]) -> Result<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut rows = table.lines().map(words);
    let found = rows.find(|words| words.len() > first.len() && words.iter().zip(first).all(|(a, b)| a == b));
    let mut words = found.with_context(|| format!("no row {first:?} in\n{table}"))?;
    Ok(words.split_off(first.len()))
}

async fn status_shows_queues_retries_and_endpoints_in_every_state(on: On) -> Result<()> {
    // Goal: what was delivered, fails, was given up, is disabled, hangs, or was never tried, each as it is, as JSON and as a table; what
    // only one of the two dispatchers knows is shown too.
    let stage = Stage::on(on).await?;
    stage.settings("", &endpoints(&stage))?;
    for name in ["failing", "failing_too", "given_up"] {
        stage.receiver.script(&format!("/{name}"), [Reply::status(500)]);
    }
    stage.receiver.script("/sick", [Reply::hang()]);
    let ingest = stage.ingest().await?;
    let running = stage.dispatchers(2).await?;
    let dispatchers = running.len();
    for name in ["delivered", "failing", "failing_too", "given_up", "sick"] {
        ingest.publish(&stage.http, &format!("a.{name}"), "{}").await?;
    }
    hooklane_testkit::eventually("status to show it all", SOON, || async {
        judge(&stage.status().await?, dispatchers)
    })
    .await?;

    let table = stage.run(&["status"]).await?;
    for (name, numbers) in [("events", ["0", &dispatchers.to_string()]), ("dead", ["1", "0"])] {
        ensure!(row(&table, &[name])? == numbers, "{table}");
    }
    for (within, messages) in [(["1", "h"], "1"), (["1", "d"], "1"), (["10", "min"], "0")] {
        ensure!(row(&table, &within)? == [messages], "{table}");
    }
    for (id, begins) in [
        ("ep_delivered", ["ok", "0", "2xx"]),
        ("ep_failing", ["ok", "0", "5xx"]),
        ("ep_given_up", ["ok", "0", "5xx"]),
        ("ep_disabled", ["disabled", "0", "-"]),
        ("ep_sick", ["sick", "1", "-"]),
        ("ep_untried", ["ok", "0", "-"]),
    ] {
        let found = row(&table, &[id])?;
        ensure!(found.starts_with(&begins.map(str::to_owned)), "{table}");
        // A time and an age, or neither.
        let is_tried = begins[2] != "-";
        ensure!(found[3..].iter().all(|word| (word != "-") == is_tried), "{table}");
    }
    let answered = format!("{dispatchers} of {dispatchers} dispatchers answered");
    ensure!(table.contains(&answered), "{table}");
    Ok(())
}
