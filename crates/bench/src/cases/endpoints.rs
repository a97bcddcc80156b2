//! (d) Many endpoints: 1, 10 and 100 of one event, and 1 and 100,000 registered.

use super::{at_once, drained, rounds};
use crate::calibrate::Tuning;
use crate::rows::{Goal, Row, Run};
use crate::settings::Settings;
use crate::stage::{Load, On, Stage};

const FAN_OUTS: [u64; 3] = [1, 10, 100];
/// Endpoints of one of the other applications.
const OF_ONE_APPLICATION: u64 = 10;

/// All rounds.
pub async fn run(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let mut rows = fan_out(stage, tuning).await?;
    rows.extend(registered(stage, tuning).await?);
    Ok(rows)
}

async fn fan_out(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let mut runs: [Vec<Run>; FAN_OUTS.len()] = Default::default();
    for _ in rounds(stage) {
        for (runs, endpoints) in runs.iter_mut().zip(FAN_OUTS) {
            let events = (stage.options.events / endpoints).max(1);
            let run = drained(
                stage,
                Load::of(events),
                events * endpoints,
                |settings, receiver| {
                    let each = at_once(tuning.concurrency);
                    (0..endpoints).fold(settings, |settings, number| {
                        settings.endpoint(receiver, &format!("/ok/{number}"), &each)
                    })
                },
            );
            runs.push(run.await?);
        }
    }
    let rows: Vec<Row> = runs
        .iter()
        .zip(FAN_OUTS)
        .map(|(runs, endpoints)| {
            let who = format!("endpoints of each event: {endpoints}");
            Row::new(
                'd',
                "draining events for several endpoints",
                who,
                "deliveries",
                runs,
            )
        })
        .collect();
    let base = rows[0].clone();
    let beside = |row: Row| row.beside(&base, "of one endpoint's rate", None);
    Ok(rows
        .into_iter()
        .enumerate()
        .map(|(index, row)| if index == 0 { row } else { beside(row) })
        .collect())
}

async fn registered(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let (count, many) = (stage.options.events, stage.options.registered.max(1));
    let (mut one, mut all) = (Vec::new(), Vec::new());
    for _ in rounds(stage) {
        for (runs, others) in [(&mut one, 0), (&mut all, many - 1)] {
            let run = drained(stage, Load::of(count), count, |settings, receiver| {
                let settings = settings.endpoint(receiver, "/ok", &at_once(tuning.concurrency));
                (0..others).fold(settings, other)
            });
            runs.push(run.await?);
        }
    }
    let what = "draining with many endpoints registered, one of them for these events";
    let row = |endpoints: u64, runs: &[Run]| {
        Row::new(
            'd',
            what,
            format!("endpoints registered: {endpoints}"),
            "deliveries",
            runs,
        )
    };
    let (one, all) = (row(1, &one), row(many, &all));
    let name = match stage.on {
        On::RabbitMq { .. } => "dispatcher",
        On::Embedded => "serve",
    };
    let cost = |row: &Row| row.cpu_us.get(name).copied().unwrap_or(0.0);
    let ratio = cost(&all) / cost(&one);
    let all = all.judge("of its CPU time for one", ratio, Some(Goal::AtMost(1.05)));
    Ok(vec![one, all])
}

/// An endpoint that gets none of the events.
fn other(settings: Settings, number: u64) -> Settings {
    let application = format!("app_{}", number / OF_ONE_APPLICATION);
    let url = format!("http://127.0.0.1:9/{number}");
    let types = format!("event_types = [\"type{}.*\"]", number % OF_ONE_APPLICATION);
    settings.endpoint_of(&application, &format!("ep_other_{number}"), &url, &types)
}
