//! `hooklane dead` on a shelf of many kinds of letters: every filter, export, and the rate of a replay.

mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hooklane_broker::Queue;
use hooklane_types::DeadReason;
use serde_json::Value;
use stage::shelf::{Letter, put};
use stage::{On, SOON, Stage, on_both};

on_both!(
    every_filter_of_dead_list_shows_its_own_in_table_and_json,
    an_export_is_whole_filtered_and_takes_nothing_off_the_shelf,
    an_export_that_never_began_leaves_no_file,
    a_replay_keeps_to_its_rate,
);

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const BASE: Letter = Letter {
    id: "msg_base",
    application: "acme",
    endpoint: "ep_one",
    event_type: "invoice.paid",
    reason: DeadReason::Exhausted,
    age: MINUTE,
    payload: b"{ \"total\": 1.0 }",
};

/// Each differs from the first in what a filter looks at. Ages lie far from every bound that is asked for.
fn letters() -> [Letter; 6] {
    [
        BASE,
        Letter {
            id: "msg_application",
            application: "globex",
            ..BASE
        },
        Letter {
            id: "msg_endpoint",
            endpoint: "ep_two",
            ..BASE
        },
        Letter {
            id: "msg_type",
            event_type: "invoice.sent.late",
            payload: &[0xff, 0x00, b'x'],
            ..BASE
        },
        Letter {
            id: "msg_reason",
            reason: DeadReason::Gone,
            age: 5 * HOUR,
            ..BASE
        },
        Letter {
            id: "msg_age",
            reason: DeadReason::EndpointRemoved,
            age: 3 * DAY,
            ..BASE
        },
    ]
}

async fn with(on: On, letters: &[Letter]) -> Result<Stage> {
    let stage = Stage::on(on).await?;
    let bodies: Vec<_> = letters.iter().map(Letter::encode).collect::<Result<_>>()?;
    put(&stage, Queue::Dead, bodies).await?;
    Ok(stage)
}

/// What `dead list` shows with these flags, as a table and as JSON: the ids, which must be the same.
async fn listed(stage: &Stage, flags: &[&str]) -> Result<Vec<String>> {
    let list = [&["dead", "list"], flags].concat();
    let table = stage.run(&list).await?;
    let mut lines = table.lines();
    let header = lines.next().context("a header")?;
    ensure!(
        header.starts_with("ID ") && header.contains(" ENDPOINT ") && header.ends_with("AGE"),
        "{header}"
    );
    let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let in_table: Vec<_> = lines.map(first).collect();
    let json = stage.run(&[&list[..], &["--format", "json"]].concat()).await?;
    let rows: Vec<Value> = json.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let in_json: Vec<_> = rows
        .iter()
        .map(|row| row["id"].as_str().unwrap_or_default().to_owned())
        .collect();
    ensure!(in_table == in_json, "{table}\n{json}");
    Ok(in_json)
}

async fn every_filter_of_dead_list_shows_its_own_in_table_and_json(on: On) -> Result<()> {
    // Goal: no flag is ignored, none is taken for another, and several hold at once. Method: letters that differ in one thing each.
    let stage = with(on, &letters()).await?;
    let (most, old) = (
        ["msg_base", "msg_application", "msg_endpoint", "msg_type"],
        ["msg_reason", "msg_age"],
    );
    let all = [&most[..], &old[..]].concat();
    let without = |id: &str| {
        all.iter()
            .copied()
            .filter(|found| *found != id)
            .collect::<Vec<_>>()
    };
    let cases: [(&[&str], Vec<&str>); 16] = [
        (&[], all.clone()),
        (&["--application", "globex"], vec!["msg_application"]),
        (&["--application", "acme"], without("msg_application")),
        (&["--endpoint", "ep_two"], vec!["msg_endpoint"]),
        (&["--endpoint", "ep_one"], without("msg_endpoint")),
        (&["--type", "invoice.paid"], without("msg_type")),
        (&["--type", "invoice.sent.*"], vec!["msg_type"]),
        (&["--type", "*"], all.clone()),
        (&["--type", "order.*"], vec![]),
        (&["--reason", "gone"], vec!["msg_reason"]),
        (&["--reason", "endpoint_removed"], vec!["msg_age"]),
        (&["--reason", "expired"], vec![]),
        (&["--older-than", "1h"], old.to_vec()),
        (&["--newer-than", "1h"], most.to_vec()),
        (
            &["--older-than", "1h", "--newer-than", "1day"],
            vec!["msg_reason"],
        ),
        (
            &[
                "--reason",
                "exhausted",
                "--application",
                "acme",
                "--endpoint",
                "ep_one",
                "--limit",
                "1",
            ],
            vec!["msg_base"],
        ),
    ];
    for (flags, wanted) in cases {
        let found = listed(&stage, flags).await?;
        ensure!(found == wanted, "{flags:?}: {found:?} instead of {wanted:?}");
    }
    ensure!(listed(&stage, &[]).await? == all, "looking changed the shelf");
    Ok(())
}

async fn an_export_is_whole_filtered_and_takes_nothing_off_the_shelf(on: On) -> Result<()> {
    // Goal: enough to publish again, to the byte, also where a payload is no text; into a file of its own, which is never written over.
    let stage = with(on, &letters()).await?;
    let exported = stage
        .run(&["dead", "export", "--output", "letters.jsonl"])
        .await?;
    ensure!(exported.is_empty(), "{exported}");
    let path = stage.dir.path().join("letters.jsonl");
    let text = std::fs::read_to_string(&path)?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let wanted = letters();
    ensure!(lines.len() == wanted.len(), "{text}");
    for (line, letter) in lines.iter().zip(&wanted) {
        for (key, value) in [
            ("id", letter.id),
            ("application", letter.application),
            ("event_type", letter.event_type),
            ("reason", letter.reason.name()),
            ("content_type", "application/json"),
        ] {
            ensure!(line[key] == value, "{key} of {line}");
        }
        ensure!(
            line["endpoints"] == serde_json::json!([letter.endpoint]),
            "{line}"
        );
        ensure!(
            line["payload_bytes"] == letter.payload.len() && line["payload_cut"] == false,
            "{line}"
        );
    }
    ensure!(lines[0]["payload"] == "{ \"total\": 1.0 }", "{}", lines[0]);
    ensure!(
        lines[3]["payload_base64"] == "/wB4" && lines[3]["payload"].is_null(),
        "{}",
        lines[3]
    );

    let again = ["dead", "export", "--reason", "gone", "--output", "letters.jsonl"];
    let refused = stage.hooklane(&again)?.run(SOON).await?;
    ensure!(
        refused.status.code() == Some(2) && refused.stderr.contains("stays as it is"),
        "{}",
        refused.stderr
    );
    ensure!(
        std::fs::read_to_string(&path)? == text,
        "the export was written over"
    );
    let gone = stage.run(&again[..4]).await?;
    ensure!(
        gone.lines().count() == 1 && gone.contains("\"msg_reason\""),
        "{gone}"
    );
    stage.wait_depth("dead", SOON, |depth| depth == 6).await?;
    Ok(())
}

async fn an_export_that_never_began_leaves_no_file(on: On) -> Result<()> {
    // Goal: the same command works as soon as what stopped it is mended. Method: a broker that is not there, or a directory without a queue, then one
    // that is.
    let stage = with(on, &[BASE]).await?;
    let export = ["dead", "export", "--output", "letters.jsonl"];
    let variable = stage.by_broker("HOOKLANE_BROKER__URL", "HOOKLANE_EMBEDDED__DATA_DIR");
    let failed = stage
        .hooklane(&export)?
        .env(variable, stage.by_broker("amqp://127.0.0.1:1", "nowhere"))
        .run(SOON)
        .await?;
    ensure!(
        failed.status.code() == Some(stage.by_broker(1, 2)),
        "{} {}",
        failed.status,
        failed.stderr
    );
    stage.run(&export).await?;
    let text = std::fs::read_to_string(stage.dir.path().join("letters.jsonl"))?;
    ensure!(text.lines().count() == 1, "{text}");
    Ok(())
}

async fn a_replay_keeps_to_its_rate(on: On) -> Result<()> {
    // Goal: --rate protects an endpoint that has just come back: 21 letters at 10 a second take two seconds, not one, and not much more.
    const COUNT: usize = 21;
    let least = Duration::from_millis(2_000);
    let stage = with(on, &[BASE; COUNT]).await?;
    let begun = Instant::now();
    let said = stage
        .run(&["dead", "replay", "--endpoint", "ep_one", "--rate", "10/s"])
        .await?;
    let took = begun.elapsed();
    ensure!(said == "replayed 21 of 21\n", "{said}");
    ensure!((least..3 * least).contains(&took), "it took {took:?}");
    stage
        .wait_depth("deliveries", SOON, |depth| depth == COUNT as u64)
        .await?;
    stage.wait_empty("dead", SOON).await?;
    Ok(())
}
