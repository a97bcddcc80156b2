//! Replay and purge: what is meant leaves the shelf.

use std::num::NonZeroU32;
use std::ops::ControlFlow;

use clap::Args;
use hooklane_control::{Ended, Filter, ROUND_MAX, ReplayOptions};

use super::{Connect, FilterFlags, Shown};
use crate::commands::meter::Meter;
use crate::commands::{print, usage};

#[derive(Args)]
pub struct Replay {
    #[command(flatten)]
    connect: Connect,
    /// The id that `list` shows
    id: Option<String>,
    #[command(flatten)]
    filter: FilterFlags,
    /// Everything that lies there
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// At most so many a second, like 50/s
    #[arg(long, value_name = "COUNT/s", value_parser = rate)]
    rate: Option<NonZeroU32>,
}

/// `50/s`, or `50`.
fn rate(text: &str) -> Result<NonZeroU32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number
        .parse()
        .map_err(|_| "it is a number of at least 1 a second, like 50/s".to_owned())
}

impl Replay {
    pub fn run<E: Shown>(self) -> anyhow::Result<()> {
        let filter = self.filter.filter::<E>(self.id.clone())?;
        meant::<E>(&filter, self.all)?;
        self.connect.run::<E, _>("replay", async |session, settings| {
            let broker = session.broker()?;
            let options = ReplayOptions {
                rate: self.rate,
                publish_timeout: settings.broker.publish_timeout,
                round: ROUND_MAX,
            };
            let mut meter = Meter::new();
            let mut moved = 0;
            let replayed = session
                .reader()
                .replay::<E>(&*broker, &filter, options, |replayed| {
                    moved = replayed.replayed;
                    meter.tell(format_args!(
                        "replayed {} (shelf: {})",
                        replayed.replayed, replayed.total
                    ));
                })
                .await;
            drop(meter);
            broker.shut_down().await;
            let replayed = replayed.map_err(|error| {
                session.failure(E::SHELF, error).context(format!(
                    "stopped after {moved} were replayed and taken off the shelf; nothing is lost: the rest is still there, and what was \
                     on its way may have been published too, then it comes again under the same webhook-id; run it again"
                ))
            })?;
            print::line(format_args!(
                "replayed {} of {}",
                replayed.replayed, replayed.total
            ))?;
            if replayed.left > 0 {
                print::note(format_args!(
                    "{} cannot be replayed and stay on the shelf (the log says why)",
                    replayed.left
                ));
            }
            done(replayed.ended)?;
            found(&filter, replayed.replayed + replayed.left)
        })
    }
}

#[derive(Args)]
pub struct Purge {
    #[command(flatten)]
    connect: Connect,
    /// The id that `list` shows
    id: Option<String>,
    #[command(flatten)]
    filter: FilterFlags,
    /// Everything that lies there
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Do it. Without this it is only counted what would go
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub fn run<E: Shown>(self) -> anyhow::Result<()> {
        let filter = self.filter.filter::<E>(self.id.clone())?;
        meant::<E>(&filter, self.all)?;
        self.connect.run::<E, _>("purge", async |session, _| {
            let explain = |error| session.failure(E::SHELF, error);
            if !self.yes {
                let counted = session
                    .reader()
                    .scan::<E>(&filter, |_| Ok(ControlFlow::Continue(())))
                    .await;
                let counted = counted.map_err(explain)?;
                return Err(usage(format!(
                    "{} of {} would be deleted for good; to do it, say --yes",
                    counted.matched, counted.total
                )));
            }
            let mut meter = Meter::new();
            let tell =
                |scanned: &hooklane_control::Scanned| meter.tell(format_args!("purged {}", scanned.matched));
            let purged = session.reader().purge::<E>(&filter, tell).await;
            drop(meter);
            let purged = purged.map_err(explain)?;
            print::line(format_args!("purged {} of {}", purged.matched, purged.total))?;
            done(purged.ended)?;
            found(&filter, purged.matched)
        })
    }
}

/// Everything is meant only where that was said.
fn meant<E: Shown>(filter: &Filter<E::Reason>, all: bool) -> anyhow::Result<()> {
    match (filter.is_empty(), all) {
        (true, false) => Err(usage(
            "name an id, give a filter like --endpoint or --reason, or say --all",
        )),
        (false, true) => Err(usage("--all means everything: it goes with no filter")),
        _ => Ok(()),
    }
}

fn done(ended: Ended) -> anyhow::Result<()> {
    anyhow::ensure!(
        ended != Ended::Stopped,
        "stopped before the end; the rest is still on the shelf"
    );
    Ok(())
}

/// An id that is not there is a failure; a filter that nothing meets is not.
fn found<R>(filter: &Filter<R>, count: u64) -> anyhow::Result<()> {
    match &filter.id {
        Some(id) if count == 0 => {
            anyhow::bail!("none has the id {}; `list` shows them", super::table::cell(id))
        }
        _ => Ok(()),
    }
}
