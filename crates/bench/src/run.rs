//! A whole run: case after case, each on a stage that is taken down again whatever happens.

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use crate::calibrate::{Tuning, tune};
use crate::cases;
use crate::options::{Case, Options};
use crate::print::Printer;
use crate::rows::Row;
use crate::stage::Stage;

/// Measures what the options say and writes a row for each thing measured.
///
/// # Errors
/// When a process fails, an event is lost, or a prefix is in use.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let mut printer = Printer::new(options.format);
    printer.note(&machine(options))?;
    let tuning = staged(options, async |stage| tune(stage, options).await).await?;
    printer.note(&format!(
        "the bare loop is fastest with {} POSTs at once, {} events without a confirm ({} beside POSTs); in SQLite with {} rows in a transaction",
        tuning.concurrency, tuning.window, tuning.window_both, tuning.batch
    ))?;
    for case in &options.cases {
        let rows = staged(options, async |stage| measure(*case, stage, &tuning).await).await?;
        for row in &rows {
            printer.row(row)?;
        }
    }
    Ok(())
}

async fn measure(case: Case, stage: &Stage<'_>, tuning: &Tuning) -> anyhow::Result<Vec<Row>> {
    match case {
        Case::Publish => cases::publish::run(stage, tuning).await,
        Case::Drain => cases::drain::run(stage, tuning).await,
        Case::Both => cases::both::run(stage, tuning).await,
        Case::Endpoints => cases::endpoints::run(stage, tuning).await,
        Case::Hanging => cases::hanging::run(stage).await,
        Case::Retries => cases::retries::run(stage).await,
        Case::Backlog => cases::backlog::run(stage, tuning).await,
        Case::History => cases::history::run(stage, tuning).await,
    }
}

/// Does something on a stage; takes it down after it, after a failure and after a signal.
async fn staged<'a, T>(
    options: &'a Options,
    work: impl AsyncFnOnce(&Stage<'a>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stage = Stage::open(options).await?;
    let done = tokio::select! {
        done = work(&stage) => done,
        _ = interrupt.recv() => Err(anyhow::anyhow!("ended by a signal")),
        _ = terminate.recv() => Err(anyhow::anyhow!("ended by a signal")),
    };
    let closed = stage.close().await;
    match (done, closed) {
        (Ok(done), Ok(())) => Ok(done),
        (Err(error), Ok(())) => Err(error),
        (Ok(_), Err(error)) => Err(error),
        (Err(error), Err(also)) => bail!("{error:#}; {also:#}"),
    }
}

fn machine(options: &Options) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let on = if options.broker.is_some() {
        "RabbitMQ"
    } else {
        "the embedded queue"
    };
    format!(
        "on {on}; {cores} cores; {} events of {} bytes in a run, {} rounds; medians (least to most)",
        options.events,
        crate::payload::PAYLOAD_BYTES,
        options.rounds
    )
}
