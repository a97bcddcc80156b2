//! Publishing a file of JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use futures_util::{StreamExt, stream};
use hooklane_types::{ApplicationId, Channel, EventType, ProducerId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CONTENT_TYPE_DEFAULT, NewEvent, Way};
use crate::commands::print;

/// Longest line, in bytes: a payload of the largest size that can be set, and what stands around it.
const LINE_BYTES_MAX: u64 = 130 * 1024 * 1024;
/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// One line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LineEvent {
    event_type: String,
    payload: Box<RawValue>,
    event_id: Option<String>,
    application: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
}

/// Publishes every line from `from` on, many under way at once, and shows progress. Stops at the first line that fails, and
/// says with which one to begin again.
pub async fn publish(way: &Way, path: &Path, application: &ApplicationId, from: u64) -> anyhow::Result<()> {
    ensure!(from > 0, "--from-line: lines are counted from 1");
    let is_amqp = matches!(way, Way::Amqp(_));
    let lines = Lines::open(path)?.skip(usize::try_from(from - 1).context("--from-line is too large")?);
    let published = stream::iter((from..).zip(lines))
        .map(|(number, line)| async move {
            let publish = async {
                match event(&line?, application, is_amqp)? {
                    Some(event) => way.publish(event).await.map(|_| true),
                    None => Ok(false),
                }
            };
            (number, publish.await)
        })
        .buffered(way.window());
    tokio::pin!(published);
    let mut progress = Progress::begin();
    let mut next = from;
    loop {
        let item = tokio::select! {
            item = published.next() => item,
            _ = tokio::signal::ctrl_c() => Some((next, Err(anyhow!("interrupted")))),
        };
        match item {
            None => break,
            Some((number, Ok(is_event))) => {
                next = number + 1;
                progress.count(is_event);
            }
            Some((number, Err(error))) => {
                progress.end();
                return Err(error.context(format!(
                    "stopped at line {number}; run again with --from-line {number} (of the lines after it some may have \
                     been accepted: those with an eventId are not delivered twice)"
                )));
            }
        }
    }
    progress.end();
    Ok(())
}

/// The event of a line; none in an empty one.
fn event(line: &[u8], application: &ApplicationId, is_amqp: bool) -> anyhow::Result<Option<NewEvent>> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let line: LineEvent = serde_json::from_slice(line).context("not an event")?;
    if is_amqp && !line.channels.is_empty() {
        bail!("channels are not part of the AMQP contract: publish with --via http://…");
    }
    let application = match &line.application {
        Some(text) => ApplicationId::parse(text)?,
        None => application.clone(),
    };
    Ok(Some(NewEvent {
        application,
        event_type: EventType::parse(&line.event_type)?,
        id: line.event_id.as_deref().map(ProducerId::parse).transpose()?,
        channels: line
            .channels
            .iter()
            .map(|text| Channel::parse(text))
            .collect::<Result<_, _>>()?,
        content_type: CONTENT_TYPE_DEFAULT.to_owned(),
        payload: line.payload.get().as_bytes().to_vec(),
    }))
}

/// The lines of a file or of standard input, each bounded.
struct Lines {
    reader: Box<dyn BufRead + Send>,
    has_ended: bool,
}

impl Lines {
    fn open(path: &Path) -> anyhow::Result<Lines> {
        let reader: Box<dyn BufRead + Send> = if path == Path::new("-") {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file =
                File::open(path).with_context(|| format!("--lines {} cannot be read", path.display()))?;
            Box::new(BufReader::new(file))
        };
        Ok(Lines {
            reader,
            has_ended: false,
        })
    }

    fn read(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = (&mut self.reader)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line);
        let bytes = read.context("the lines cannot be read")?;
        ensure!(
            bytes as u64 <= LINE_BYTES_MAX,
            "the line has more than {LINE_BYTES_MAX} bytes"
        );
        Ok((bytes > 0).then_some(line))
    }
}

impl Iterator for Lines {
    type Item = anyhow::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let line = self.read().transpose();
        self.has_ended = !matches!(line, Some(Ok(_)));
        line
    }
}

/// What a person sees on standard error.
struct Progress {
    begun: Instant,
    shown: Instant,
    events: u64,
    is_terminal: bool,
}

impl Progress {
    fn begin() -> Progress {
        let now = Instant::now();
        Progress {
            begun: now,
            shown: now,
            events: 0,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn count(&mut self, is_event: bool) {
        self.events += u64::from(is_event);
        if self.shown.elapsed() >= PROGRESS_EVERY {
            self.shown = Instant::now();
            // On a terminal one line is written again and again.
            if self.is_terminal {
                print::progress(&self)
            } else {
                print::note(&self)
            }
        }
    }

    fn end(&self) {
        if self.is_terminal {
            print::progress(self);
            print::note("");
        } else {
            print::note(self)
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = self.events as f64 / seconds.max(0.001);
        write!(
            f,
            "published {} in {seconds:.1} s ({rate:.0}/s)",
            print::count(self.events, "event")
        )
    }
}
