//! What to measure.

use std::path::PathBuf;
use std::str::FromStr;

/// The prefix of the bench's exchanges and queues, unless it is set.
pub const PREFIX: &str = "hooklane-bench";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Publishing, over AMQP and HTTP.
    Publish,
    /// Draining a backlog to one receiver.
    Drain,
    /// Publishing and draining at once, and the latency at a steady pace.
    Both,
    /// Many endpoints: of one event, and registered.
    Endpoints,
    /// 20 of 25 endpoints hang.
    Hanging,
    /// Retries that fall due at once.
    Retries,
    /// Memory with a large backlog.
    Backlog,
    /// With a store beside without.
    History,
}

impl Case {
    /// All cases, in order.
    pub const ALL: [Case; 8] = [
        Case::Publish,
        Case::Drain,
        Case::Both,
        Case::Endpoints,
        Case::Hanging,
        Case::Retries,
        Case::Backlog,
        Case::History,
    ];

    /// Its letter.
    pub fn letter(self) -> char {
        match self {
            Case::Publish => 'a',
            Case::Drain => 'b',
            Case::Both => 'c',
            Case::Endpoints => 'd',
            Case::Hanging => 'e',
            Case::Retries => 'f',
            Case::Backlog => 'g',
            Case::History => 'h',
        }
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let found = Case::ALL
            .into_iter()
            .find(|case| text.len() == 1 && text.starts_with(case.letter()));
        found.ok_or_else(|| {
            "a: publishing, b: draining, c: both at once, d: many endpoints, e: endpoints that hang, f: retries, g: a large backlog, h: with a store".to_owned()
        })
    }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object per row.
    Json,
}

/// All that a run is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's URL; without one, the embedded queue.
    pub broker: Option<String>,
    /// The URL of a PostgreSQL database for case h on a broker; the embedded queue has a store of its own.
    pub store: Option<String>,
    /// In front of the names of exchanges and queues.
    pub prefix: String,
    /// What to measure.
    pub cases: Vec<Case>,
    /// Runs of each kind.
    pub rounds: usize,
    /// Events in each run.
    pub events: u64,
    /// Retries that fall due at once, in case f.
    pub retries: u64,
    /// Endpoints registered, in case d.
    pub registered: u64,
    /// Events that wait, in case g.
    pub backlog: u64,
    /// How rows are written.
    pub format: Format,
    /// The binary whose services are measured, and which runs the parts.
    pub executable: PathBuf,
    /// Its flag by which a service ends when its standard input does.
    pub end_with_stdin: &'static str,
}
