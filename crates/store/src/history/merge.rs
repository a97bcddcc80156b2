//! How records add up. Every rule is a minimum or a maximum, so that neither the order nor the number of times matters.

use hooklane_types::{AttemptId, DeadReason, Event, UnixMillis};
use sha2::{Digest, Sha256};

use super::query::Status;
use hooklane_types::record::{Attempt, Decision, Settled};

/// Which of two contents of one event stays: the smaller one, by its time first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentRank {
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// A number made from all the rest.
    pub fingerprint: i64,
}

impl ContentRank {
    /// The rank of a content.
    pub fn of(event: &Event) -> ContentRank {
        let mut hash = Sha256::new();
        // The length goes in front, so that no two contents give the same bytes.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(event.producer_id.as_ref().map_or("", |id| id.as_str()).as_bytes());
        add(event.event_type.as_str().as_bytes());
        add(&event.channels.len().to_be_bytes());
        for channel in &event.channels {
            add(channel.as_str().as_bytes());
        }
        add(event.content_type.as_bytes());
        add(event.traceparent.as_deref().unwrap_or_default().as_bytes());
        for (name, value) in &event.headers {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(&event.payload);
        let digest = hash.finalize();
        let bits = digest[..8]
            .iter()
            .fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
        ContentRank {
            accepted_at: event.accepted_at,
            fingerprint: bits as i64,
        }
    }
}

/// What is known of one delivery: of an event, an endpoint, a target and a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The latest attempt, by time and id.
    pub last: Option<(UnixMillis, AttemptId)>,
    /// When it is tried again, by what was decided after the latest attempt. Means nothing once it has ended.
    pub again: Option<UnixMillis>,
    /// How it ended.
    pub terminal: Option<Terminal>,
}

/// How a delivery ended. Of two, delivered stays before dead, then the earlier before the later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Why it was given up; none when it was delivered.
    pub dead: Option<DeadReason>,
    /// When.
    pub at: UnixMillis,
    /// By which attempt; none when it ended without one.
    pub attempt: Option<AttemptId>,
}

impl Terminal {
    fn rank(&self) -> (bool, UnixMillis, Option<&AttemptId>, Option<&'static str>) {
        let name = self.dead.map(DeadReason::name);
        (self.dead.is_some(), self.at, self.attempt.as_ref(), name)
    }
}

/// What a record says of its delivery.
#[derive(Clone, Debug)]
pub struct News {
    last: Option<(UnixMillis, AttemptId)>,
    again: Option<UnixMillis>,
    terminal: Option<Terminal>,
}

impl From<&Attempt> for News {
    fn from(attempt: &Attempt) -> News {
        let ended = |dead| Terminal {
            dead,
            at: attempt.at,
            attempt: Some(attempt.id.clone()),
        };
        let (again, terminal) = match attempt.decision {
            Decision::Again(at) => (Some(at), None),
            Decision::Delivered => (None, Some(ended(None))),
            Decision::Dead(reason) => (None, Some(ended(Some(reason)))),
        };
        News {
            last: Some((attempt.at, attempt.id.clone())),
            again,
            terminal,
        }
    }
}

impl From<&Settled> for News {
    fn from(settled: &Settled) -> News {
        News {
            last: None,
            again: None,
            terminal: Some(Terminal {
                dead: Some(settled.reason),
                at: settled.at,
                attempt: None,
            }),
        }
    }
}

impl Run {
    /// Takes in what a record says. Whether that is a terminal outcome beside the one that stays.
    pub fn take(&mut self, news: News) -> bool {
        if news.last > self.last {
            (self.last, self.again) = (news.last, news.again);
        }
        let Some(new) = news.terminal else {
            return false;
        };
        match &mut self.terminal {
            None => {
                self.terminal = Some(new);
                false
            }
            Some(old) => {
                let is_another = *old != new;
                if new.rank() < old.rank() {
                    *old = new;
                }
                is_another
            }
        }
    }

    /// Takes in what else is known of it.
    pub fn add(&mut self, other: Run) {
        self.take(News {
            last: other.last,
            again: other.again,
            terminal: other.terminal,
        });
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        match &self.terminal {
            None => Status::Pending,
            Some(Terminal { dead: None, .. }) => Status::Delivered,
            Some(Terminal { dead: Some(_), .. }) => Status::Dead,
        }
    }
}

/// Where an event stands at an endpoint, from the states of its newest run there, one for each target: pending while one of them is, else dead
/// if one of them is. And when the next of them is tried.
pub fn status_of_targets(runs: &[Run]) -> (Status, Option<UnixMillis>) {
    let has = |status| runs.iter().any(|run| run.status() == status);
    let status = match () {
        () if has(Status::Pending) => Status::Pending,
        () if has(Status::Dead) => Status::Dead,
        () => Status::Delivered,
    };
    let pending = runs.iter().filter(|run| run.status() == Status::Pending);
    (status, pending.filter_map(|run| run.again).min())
}
