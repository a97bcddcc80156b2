use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;

/// Lines kept of one process; older ones are dropped.
const LINES_MAX: usize = 200_000;
/// A longer line is cut.
const LINE_BYTES_MAX: u64 = 256 * 1024;
/// Lines shown in an error.
const LINES_SHOWN: usize = 40;

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a process wrote.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where.
    pub stream: Stream,
    /// The text without its line end; bytes that are no UTF-8 replaced.
    pub text: String,
}

/// What a process has written so far. Clones share it. Read by threads, so it is bound to no runtime.
#[derive(Clone)]
pub struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    lines: Mutex<Lines>,
    /// The number of lines so far, and of streams that are still open.
    progress: watch::Sender<(u64, usize)>,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<Line>,
    dropped: u64,
}

impl Output {
    pub(crate) fn new() -> Output {
        Output {
            shared: Arc::new(Shared {
                lines: Mutex::default(),
                progress: watch::Sender::new((0, 0)),
            }),
        }
    }

    /// Reads a stream to its end in a thread of its own.
    pub(crate) fn follow(&self, stream: Stream, reader: impl Read + Send + 'static) -> Result<()> {
        self.shared.progress.send_modify(|(_, open)| *open += 1);
        let output = self.clone();
        thread::Builder::new()
            .name("testkit-output".into())
            .spawn(move || {
                let mut reader = BufReader::new(reader);
                while let Some(text) = next_line(&mut reader) {
                    output.add(Line { stream, text });
                }
                output.shared.progress.send_modify(|(_, open)| *open -= 1);
            })?;
        Ok(())
    }

    fn add(&self, line: Line) {
        let mut lines = self.lock();
        if lines.kept.len() == LINES_MAX {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        lines.kept.push_back(line);
        drop(lines);
        self.shared.progress.send_modify(|(count, _)| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines that are kept, in the order of arrival.
    pub fn lines(&self) -> Vec<Line> {
        self.lock().kept.iter().cloned().collect()
    }

    /// What was written to standard output.
    pub fn stdout(&self) -> String {
        self.text(Stream::Stdout)
    }

    /// What was written to standard error.
    pub fn stderr(&self) -> String {
        self.text(Stream::Stderr)
    }

    fn text(&self, stream: Stream) -> String {
        let lines = self.lock();
        let mut text = String::new();
        for line in lines.kept.iter().filter(|line| line.stream == stream) {
            text.push_str(&line.text);
            text.push('\n');
        }
        text
    }

    /// How many lines have come: a point from which [`Output::wait_for_after`] looks on.
    pub fn mark(&self) -> u64 {
        let lines = self.lock();
        lines.dropped + lines.kept.len() as u64
    }

    /// Waits for a line that contains the text, written earlier or later.
    ///
    /// # Errors
    /// At the deadline, or when the process closes its output first; with its last lines.
    pub async fn wait_for(&self, text: &str, deadline: Duration) -> Result<Line> {
        self.wait_for_after(0, text, deadline).await
    }

    /// Waits for a line that contains the text, among those after the mark.
    ///
    /// # Errors
    /// As [`Output::wait_for`].
    pub async fn wait_for_after(&self, mark: u64, text: &str, deadline: Duration) -> Result<Line> {
        self.wait_until(mark, &format!("a line with {text:?}"), deadline, |line| {
            line.text.contains(text)
        })
        .await
    }

    /// Waits for a line for which the predicate holds, among those after the mark.
    ///
    /// # Errors
    /// As [`Output::wait_for`], naming `what`.
    pub async fn wait_until(
        &self,
        mark: u64,
        what: &str,
        deadline: Duration,
        holds: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let mut progress = self.shared.progress.subscribe();
        let mut next = mark;
        let search = async {
            loop {
                let (_, open) = *progress.borrow_and_update();
                if let Some(line) = self.search(&mut next, &holds) {
                    return Ok(line);
                }
                if open == 0 {
                    bail!("the process ended without {what}:\n{}", self.tail());
                }
                progress.changed().await?;
            }
        };
        match tokio::time::timeout(deadline, search).await {
            Ok(found) => found,
            Err(_) => bail!("waited {deadline:?} for {what}:\n{}", self.tail()),
        }
    }

    /// Looks at each line once.
    fn search(&self, next: &mut u64, holds: impl Fn(&Line) -> bool) -> Option<Line> {
        let lines = self.lock();
        let skip = next.saturating_sub(lines.dropped) as usize;
        let found = lines.kept.iter().skip(skip).find(|line| holds(line)).cloned();
        *next = lines.dropped + lines.kept.len() as u64;
        found
    }

    /// Waits until all that hold the output have closed it, which includes grandchildren.
    pub(crate) async fn wait_for_end(&self, deadline: Duration) -> Result<()> {
        let mut progress = self.shared.progress.subscribe();
        let ended = tokio::time::timeout(deadline, progress.wait_for(|(_, open)| *open == 0)).await;
        match ended {
            Ok(_) => Ok(()),
            Err(_) => bail!("the output is still held after {deadline:?}:\n{}", self.tail()),
        }
    }

    /// The last lines, for errors.
    pub fn tail(&self) -> String {
        let lines = self.lock();
        let skip = lines.kept.len().saturating_sub(LINES_SHOWN);
        let shown: Vec<&str> = lines
            .kept
            .iter()
            .skip(skip)
            .map(|line| line.text.as_str())
            .collect();
        shown.join("\n")
    }
}

fn next_line(reader: &mut impl BufRead) -> Option<String> {
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
    if !matches!(read, Ok(1..)) {
        return None;
    }
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
