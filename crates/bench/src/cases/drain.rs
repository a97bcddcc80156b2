//! (b) Draining a backlog to one receiver.

use super::{at_once, bare, drained, rounds};
use crate::calibrate::Tuning;
use crate::rows::{Goal, Row, Run};
use crate::stage::{Load, On, Stage};

/// What a dispatcher may take.
pub const PEAK_MIB_MAX: f64 = 64.0;

/// All rounds.
pub async fn run(stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    let count = stage.options.events;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in rounds(stage) {
        bare.push(bare::drain(stage, tuning, count).await?);
        let run = drained(stage, Load::of(count), count, |settings, receiver| {
            settings.endpoint(receiver, "/ok", &at_once(tuning.concurrency))
        });
        ours.push(run.await?);
    }
    let (what, who, goal) = match stage.on {
        On::RabbitMq { .. } => (
            "draining a backlog, from RabbitMQ",
            "hooklane dispatcher",
            Some(Goal::AtLeast(0.9)),
        ),
        On::Embedded => (
            "draining a backlog, from the embedded queue",
            "hooklane serve",
            None,
        ),
    };
    let row = |who: &str, runs: &[Run]| Row::new('b', what, who, "deliveries", runs);
    let bare = row("bare loop", &bare);
    let ours = memory(row(who, &ours).beside(&bare, "of the bare loop", goal));
    Ok(vec![bare, ours])
}

/// Judges the peak of what delivers.
pub fn memory(row: Row) -> Row {
    let peak = ["dispatcher", "serve"]
        .iter()
        .find_map(|name| row.peak_mib.get(name).copied());
    let goal = row
        .peak_mib
        .contains_key("dispatcher")
        .then_some(Goal::AtMost(PEAK_MIB_MAX));
    match peak {
        Some(peak) => row.judge("MiB at most", peak, goal),
        None => row,
    }
}
