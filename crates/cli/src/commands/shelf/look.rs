//! List, show, export: nothing is taken off the shelf.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use hooklane_control::{ControlError, Ended, Entry, Scanned};
use serde_json::Value;

use super::table::{Table, cell};
use super::{Cells, Connect, FilterFlags, Format, Session, Shown};
use crate::commands::meter::Meter;
use crate::commands::{print, usage};

/// Most bytes of a payload that `show` shows.
const PAYLOAD_SHOWN_BYTES: usize = 4 * 1024;

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    filter: FilterFlags,
    /// At most so many; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u64,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl List {
    pub fn run<E: Shown>(self) -> anyhow::Result<()> {
        let filter = self.filter.filter::<E>(None)?;
        let limit = if self.limit == 0 { u64::MAX } else { self.limit };
        self.connect.run::<E, _>("list", async |session, _| {
            let mut rows = Rows::<E>::new(self.format);
            let mut shown = 0;
            let reader = session.reader();
            let scanned = reader
                .scan::<E>(&filter, |entry| {
                    rows.add(&entry.row(reader.now))?;
                    shown += 1;
                    if shown < limit {
                        return Ok(ControlFlow::Continue(()));
                    }
                    // Before the shelf is put back in order, which may take a moment.
                    rows.flush()?;
                    Ok(ControlFlow::Break(()))
                })
                .await;
            let Some(scanned) = unless_closed(session, E::SHELF, scanned)? else {
                return Ok(());
            };
            unless_closed(session, E::SHELF, rows.flush().map_err(ControlError::from))?;
            summary(&scanned);
            Ok(())
        })
    }
}

fn summary(scanned: &Scanned) {
    let Scanned {
        total,
        read,
        matched,
        ended,
    } = scanned;
    match ended {
        Ended::AtTheEnd => print::note(format_args!("{matched} of {total}")),
        Ended::Enough => print::note(format_args!(
            "{matched} shown, {read} of {total} looked at; --limit 0 shows all"
        )),
        Ended::Stopped => print::note(format_args!("{matched} shown, stopped after {read} of {total}")),
    }
}

/// A closed pipe (`| head`) ends a command in order, and is no failure.
fn unless_closed<T>(
    session: &Session,
    shelf: hooklane_broker::ShelfName,
    result: Result<T, ControlError>,
) -> anyhow::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(ControlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(session.failure(shelf, error)),
    }
}

enum Rows<E: Entry> {
    Table(Table<io::Stdout>),
    Json(BufWriter<io::Stdout>, std::marker::PhantomData<fn(E)>),
}

impl<E: Shown> Rows<E> {
    fn new(format: Format) -> Rows<E> {
        match format {
            Format::Table => Rows::Table(Table::new(io::stdout(), E::Row::HEADER)),
            Format::Json => Rows::Json(BufWriter::new(io::stdout()), std::marker::PhantomData),
        }
    }

    fn add(&mut self, row: &E::Row) -> io::Result<()> {
        match self {
            Rows::Table(table) => table.add(row.cells()),
            Rows::Json(out, _) => json_line(out, row),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Rows::Table(table) => table.flush(),
            Rows::Json(out, _) => out.flush(),
        }
    }
}

fn json_line(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    connect: Connect,
    /// The id that `list` shows
    id: String,
    #[command(flatten)]
    filter: FilterFlags,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write the payload, whole and nothing else
    #[arg(long, conflicts_with = "format")]
    payload: bool,
}

impl Show {
    pub fn run<E: Shown>(self) -> anyhow::Result<()> {
        let filter = self.filter.filter::<E>(Some(self.id.clone()))?;
        self.connect.run::<E, _>("show", async |session, _| {
            let mut out = io::stdout();
            let scanned = session
                .reader()
                .scan::<E>(&filter, |entry| {
                    if self.payload {
                        // Those that share an id share the payload.
                        out.write_all(entry.payload())?;
                        return Ok(ControlFlow::Break(()));
                    }
                    let detail = entry.detail(PAYLOAD_SHOWN_BYTES);
                    match self.format {
                        Format::Json => json_line(&mut out, &detail)?,
                        Format::Table => text(&mut out, &serde_json::to_value(&detail)?)?,
                    }
                    out.flush()?;
                    Ok(ControlFlow::Continue(()))
                })
                .await;
            match unless_closed(session, E::SHELF, scanned)? {
                Some(Scanned {
                    matched: 0,
                    ended: Ended::AtTheEnd,
                    total,
                    ..
                }) => Err(anyhow!(
                    "none of the {total} has the id {}; `list` shows them",
                    cell(&self.id)
                )),
                _ => Ok(()),
            }
        })
    }
}

/// One field a line, the payload at the end.
fn text(out: &mut impl Write, detail: &Value) -> io::Result<()> {
    let Value::Object(fields) = detail else {
        return writeln!(out, "{detail}");
    };
    for (name, value) in fields.iter().filter(|(name, _)| *name != "payload") {
        match value {
            Value::Null => {}
            Value::String(text) => writeln!(out, "{name}: {}", safe(text))?,
            Value::Array(items) if items.is_empty() => {}
            Value::Array(items) if items.iter().all(Value::is_object) => {
                writeln!(out, "{name}:")?;
                for item in items {
                    writeln!(out, "  {item}")?;
                }
            }
            other => writeln!(out, "{name}: {other}")?,
        }
    }
    if let Some(Value::String(payload)) = fields.get("payload") {
        let is_cut = fields.get("payload_cut") == Some(&Value::Bool(true));
        writeln!(
            out,
            "payload{}:",
            if is_cut {
                " (its beginning; --payload writes it whole)"
            } else {
                ""
            }
        )?;
        writeln!(out, "{}", safe(payload))?;
    }
    writeln!(out)
}

/// Without what would move a terminal's cursor.
fn safe(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    filter: FilterFlags,
    /// Where to write, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub fn run<E: Shown>(self) -> anyhow::Result<()> {
        let filter = self.filter.filter::<E>(None)?;
        let mut out = Sink::new(self.output)?;
        self.connect.run::<E, _>("export", async |session, _| {
            let mut meter = Meter::new();
            let scanned = session
                .reader()
                .scan::<E>(&filter, |entry| {
                    out.add(&entry.detail(usize::MAX))?;
                    meter.tell(format_args!("exported {}", out.written));
                    Ok(ControlFlow::Continue(()))
                })
                .await;
            drop(meter);
            let Some(scanned) = unless_closed(session, E::SHELF, scanned)? else {
                return Ok(());
            };
            unless_closed(session, E::SHELF, out.finish().map_err(ControlError::from))?;
            summary(&scanned);
            anyhow::ensure!(scanned.ended != Ended::Stopped, "the export is not complete");
            Ok(())
        })
    }
}

/// Where an export goes.
struct Sink {
    out: Box<dyn Write>,
    /// The file, until something stands in it that somebody may want: an export that never began leaves nothing in the way of
    /// the next one.
    empty: Option<PathBuf>,
    written: u64,
}

impl Sink {
    fn new(path: Option<PathBuf>) -> anyhow::Result<Sink> {
        let out: Box<dyn Write> = match &path {
            None => Box::new(BufWriter::new(io::stdout())),
            Some(path) => {
                let file = File::create_new(path).with_context(|| {
                    format!(
                        "{} cannot be made (a file that is there stays as it is)",
                        path.display()
                    )
                });
                Box::new(BufWriter::new(
                    file.map_err(|error| usage(format!("--output: {error:#}")))?,
                ))
            }
        };
        Ok(Sink {
            out,
            empty: path,
            written: 0,
        })
    }

    fn add(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        self.empty = None;
        self.written += 1;
        json_line(&mut self.out, value)
    }

    /// The export is there, if only an empty one.
    fn finish(&mut self) -> io::Result<()> {
        self.empty = None;
        self.out.flush()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(path) = self.empty.take()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "the empty file of an export that failed stays");
        }
    }
}
