//! A part of a batch, added up in memory: what is known already, then each record in turn.

use std::collections::{BTreeMap, HashMap, HashSet};

use hooklane_types::{Event, UnixMillis};

use crate::history::merge::{ContentRank, News, Run, status_of_targets};
use crate::history::{Attempt, DeliveryKey, Record, Status};

/// An event's application and id.
pub(super) type EventName<'a> = (&'a str, &'a str);

/// What is known of an event.
pub(super) struct Known {
    pub(super) day: i32,
    pub(super) at: UnixMillis,
    pub(super) is_expunged: bool,
    pub(super) rank: Option<ContentRank>,
}

pub(super) struct EventState<'a> {
    pub(super) name: EventName<'a>,
    /// What was there before; none if it was unknown.
    pub(super) was_at: Option<UnixMillis>,
    pub(super) known: Known,
    /// What it gets.
    pub(super) content: Option<&'a Event>,
}

/// A run of an event to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RunName<'a> {
    /// The event's place in [`Batch::events`].
    pub(super) event: usize,
    pub(super) endpoint: &'a str,
    pub(super) run: u32,
}

/// One state for each target, and whether it is another now.
#[derive(Default)]
pub(super) struct Targets(pub(super) BTreeMap<u16, (Run, bool)>);

/// An event, by its place in [`Batch::events`], at an endpoint.
pub(super) type Place<'a> = (usize, &'a str);

/// Where an event stands at an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) run: u32,
    pub(super) status: Status,
    pub(super) next: Option<UnixMillis>,
    /// How the delivery of the first run to the first target stands: it has no row of its own.
    pub(super) first: Run,
}

/// Run and target of the delivery that a destination's row has. What a version before this one wrote of it stands in a row of its own, and counts
/// as well.
pub(super) const FIRST: (u32, u16) = (0, 0);

pub(super) struct Batch<'a> {
    records: Vec<&'a Record>,
    /// In the order of their first record.
    pub(super) events: Vec<EventState<'a>>,
    by_name: HashMap<EventName<'a>, usize>,
    /// Every run that a record names.
    pub(super) runs: HashMap<RunName<'a>, Targets>,
    /// Where there was something.
    pub(super) standings: HashMap<Place<'a>, Standing>,
    /// Attempts that were there, by their event and id; and those that were played.
    pub(super) seen: HashSet<(usize, &'a str)>,
    pub(super) attempts: Vec<(usize, &'a Attempt)>,
    pub(super) late_outcomes: usize,
}

pub(super) fn name_of(record: &Record) -> EventName<'_> {
    let (application, id, _) = record.event();
    (application.as_str(), id.as_str())
}

fn delivery_of(record: &Record) -> Option<&DeliveryKey> {
    match record {
        Record::Event(_) => None,
        Record::Attempt(attempt) => Some(&attempt.delivery),
        Record::Settled(settled) => Some(&settled.delivery),
    }
}

impl<'a> Batch<'a> {
    /// `home` says where an unknown event stands.
    pub(super) fn new(
        records: Vec<&'a Record>,
        mut known: HashMap<(String, String), Known>,
        home: impl Fn(UnixMillis) -> i32,
    ) -> Batch<'a> {
        let mut batch = Batch {
            records,
            events: Vec::new(),
            by_name: HashMap::new(),
            runs: HashMap::new(),
            standings: HashMap::new(),
            seen: HashSet::new(),
            attempts: Vec::new(),
            late_outcomes: 0,
        };
        for record in &batch.records {
            let name = name_of(record);
            let at = record.event().2;
            let event = *batch.by_name.entry(name).or_insert_with(|| {
                let known = known.remove(&(name.0.to_owned(), name.1.to_owned()));
                batch.events.push(EventState {
                    name,
                    was_at: known.as_ref().map(|known| known.at),
                    known: known.unwrap_or_else(|| Known {
                        day: home(at),
                        at,
                        is_expunged: false,
                        rank: None,
                    }),
                    content: None,
                });
                batch.events.len() - 1
            });
            if let Some(delivery) = delivery_of(record) {
                batch.runs.entry(run_name(event, delivery)).or_default();
            }
        }
        batch
    }

    /// Attempts that the batch names, with their event's place.
    pub(super) fn named_attempts(&self) -> impl Iterator<Item = (usize, &'a Attempt)> {
        self.records.iter().filter_map(|record| match record {
            Record::Attempt(attempt) => Some((self.by_name[&name_of(record)], attempt)),
            _ => None,
        })
    }

    /// Adds the records, in their order, to what is known.
    pub(super) fn play(&mut self) {
        for record in std::mem::take(&mut self.records) {
            let at = self.by_name[&name_of(record)];
            let event = &mut self.events[at];
            event.known.at = event.known.at.min(record.event().2);
            match record {
                Record::Event(content) => {
                    let rank = ContentRank::of(content);
                    if event.known.rank.is_none_or(|known| rank < known) {
                        event.known.rank = Some(rank);
                        event.content = Some(content);
                    }
                }
                Record::Attempt(attempt) => {
                    if self.seen.insert((at, attempt.id.as_str())) {
                        self.attempts.push((at, attempt));
                        self.take(at, &attempt.delivery, News::from(attempt));
                    }
                }
                Record::Settled(settled) => self.take(at, &settled.delivery, News::from(settled)),
            }
        }
    }

    fn take(&mut self, event: usize, delivery: &'a DeliveryKey, news: News) {
        let targets = self.runs.entry(run_name(event, delivery)).or_default();
        let (run, is_changed) = targets.0.entry(delivery.target).or_default();
        let old = run.clone();
        self.late_outcomes += usize::from(run.take(news));
        *is_changed |= *run != old;
    }

    /// Deliveries that are another now and have a row of their own.
    pub(super) fn later_deliveries(&self) -> Vec<(&RunName<'a>, u16, &Run)> {
        let targets = self.runs.iter().flat_map(|(name, targets)| {
            let each = targets.0.iter();
            each.map(move |(target, (run, is_changed))| (name, *target, run, *is_changed))
        });
        targets
            .filter(|(name, target, _, is_changed)| *is_changed && (name.run, *target) != FIRST)
            .map(|(name, target, run, _)| (name, target, run))
            .collect()
    }

    /// What is another now where events stand: their newest run decides, and every one of its targets is known if the batch names it.
    pub(super) fn moved(&self) -> Vec<(Place<'a>, Standing)> {
        let mut moved: HashMap<Place<'a>, Standing> = HashMap::new();
        for (name, targets) in &self.runs {
            if targets.0.is_empty() {
                continue;
            }
            let place = (name.event, name.endpoint);
            let known = self.standings.get(&place);
            let standing = moved.entry(place).or_insert_with(|| Standing {
                run: known.map_or(0, |known| known.run),
                status: known.map_or(Status::Pending, |known| known.status),
                next: known.and_then(|known| known.next),
                first: known.map(|known| known.first.clone()).unwrap_or_default(),
            });
            if name.run == FIRST.0
                && let Some((first, _)) = targets.0.get(&FIRST.1)
            {
                standing.first = first.clone();
            }
            if name.run >= standing.run {
                let runs: Vec<Run> = targets.0.values().map(|(run, _)| run.clone()).collect();
                (standing.status, standing.next) = status_of_targets(&runs);
                standing.run = name.run;
            }
        }
        moved.retain(|place, standing| self.standings.get(place) != Some(standing));
        moved.into_iter().collect()
    }
}

fn run_name(event: usize, delivery: &DeliveryKey) -> RunName<'_> {
    RunName {
        event,
        endpoint: delivery.endpoint.as_str(),
        run: delivery.run,
    }
}
