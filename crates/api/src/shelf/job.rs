//! Replays and purges: in the background, one at a time on a shelf, to be seen and ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hooklane_types::UnixMillis;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::port::{ShelfError, Step};
use super::scope::Scope;
use crate::text::time;

/// Jobs of a shelf that are remembered when they are over, and for how long.
const KEPT_MAX: usize = 100;
const KEPT_FOR: Duration = Duration::from_secs(3_600);

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    Replay,
    Purge,
}

impl Task {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Task::Replay => "replay",
            Task::Purge => "purge",
        }
    }
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ShelfJobStatus")]
pub(crate) enum Status {
    Running,
    /// Everything that was meant was done, or cannot be.
    Finished,
    /// It was ended; the rest is still there.
    Cancelled,
    /// `error` says why; the rest is still there.
    Failed,
}

/// How far a job is.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) status: Status,
    /// It has read the shelf.
    pub(crate) is_open: bool,
    /// None before they were counted.
    pub(crate) total: Option<u64>,
    pub(crate) done: u64,
    pub(crate) kept: u64,
    /// Why it failed.
    pub(crate) failed: Option<ShelfError>,
    pub(crate) updated_at: UnixMillis,
}

/// A replay or a purge.
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) task: Task,
    /// Whose.
    pub(crate) owner: Scope,
    pub(crate) begun_at: UnixMillis,
    pub(crate) stop: CancellationToken,
    pub(crate) state: watch::Sender<State>,
    clock: fn() -> UnixMillis,
}

/// A replay or a purge.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ShelfJobOut")]
pub(crate) struct JobOut {
    id: String,
    task: Task,
    status: Status,
    /// Messages that are meant; null before they were counted.
    total: Option<u64>,
    /// Messages that were replayed, or taken off for good.
    done: u64,
    /// Messages that it has not come to.
    left: Option<u64>,
    /// Messages that cannot be replayed, and stay on the shelf.
    kept: u64,
    /// Why it failed, in words.
    error: Option<String>,
    created_at: String,
    updated_at: String,
}

impl Job {
    pub(crate) fn new(task: Task, owner: Scope, stop: CancellationToken, clock: fn() -> UnixMillis) -> Job {
        let now = clock();
        let state = State {
            status: Status::Running,
            is_open: false,
            total: None,
            done: 0,
            kept: 0,
            failed: None,
            updated_at: now,
        };
        Job {
            id: format!("job_{}", hex::encode(rand::random::<[u8; 12]>())),
            task,
            owner,
            begun_at: now,
            stop,
            state: watch::Sender::new(state),
            clock,
        }
    }

    pub(crate) fn step(&self, step: Step) {
        self.change(|state| match step {
            Step::Opened => state.is_open = true,
            Step::Taken(count) => state.done = count,
            Step::Kept(count) => state.kept = count,
        });
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        let now = (self.clock)();
        self.state.send_modify(|state| {
            change(state);
            state.updated_at = now;
        });
    }

    pub(crate) fn end(&self, status: Status, failed: Option<&ShelfError>) {
        self.change(|state| {
            state.status = status;
            state.failed = failed.cloned();
        });
    }

    pub(crate) fn status(&self) -> Status {
        self.state.borrow().status
    }

    pub(crate) fn out(&self) -> JobOut {
        let state = self.state.borrow();
        let past = state.done + state.kept;
        JobOut {
            id: self.id.clone(),
            task: self.task,
            status: state.status,
            total: state.total,
            done: state.done,
            left: state.total.map(|total| total.saturating_sub(past)),
            kept: state.kept,
            error: (state.status == Status::Failed).then(|| words(state.failed.as_ref()).to_owned()),
            created_at: time(self.begun_at),
            updated_at: time(state.updated_at),
        }
    }
}

/// Why it failed, for whoever asked for it: what names processes and brokers is for the log.
fn words(failed: Option<&ShelfError>) -> &'static str {
    match failed {
        Some(ShelfError::Held(_)) => "somebody else reads the shelf; ask for it again",
        Some(ShelfError::TooDeep { .. }) => {
            "too much lies in front of what is meant; replay or purge the oldest first"
        }
        Some(ShelfError::Away(_)) => "the broker did not answer, or took no more; ask for it again",
        None => "it broke down; ask for it again",
    }
}

/// Jobs of one shelf, the newest at the back.
#[derive(Default)]
pub(crate) struct Jobs(Mutex<VecDeque<Arc<Job>>>);

impl Jobs {
    /// Takes a job, or says which one runs.
    pub(crate) fn begin(&self, job: &Arc<Job>) -> Result<(), Arc<Job>> {
        let mut all = self.lock();
        if let Some(running) = running(&all) {
            return Err(running);
        }
        let oldest = UnixMillis(job.begun_at.0 - i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX));
        all.retain(|job| job.state.borrow().updated_at >= oldest);
        while all.len() >= KEPT_MAX {
            all.pop_front();
        }
        all.push_back(job.clone());
        Ok(())
    }

    /// Nothing came of it.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().retain(|job| job.id != id);
    }

    pub(crate) fn running(&self) -> Option<Arc<Job>> {
        running(&self.lock())
    }

    pub(crate) fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().iter().find(|job| job.id == id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn running(all: &VecDeque<Arc<Job>>) -> Option<Arc<Job>> {
    all.iter().find(|job| job.status() == Status::Running).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(now: fn() -> UnixMillis) -> Arc<Job> {
        let owner = Scope {
            organisation: "org_x".to_owned(),
            application: None,
            is_operator: false,
        };
        Arc::new(Job::new(Task::Replay, owner, CancellationToken::new(), now))
    }

    fn end(job: &Job) {
        job.end(Status::Finished, None);
    }

    #[test]
    fn one_runs_at_a_time_and_those_that_are_over_are_remembered_for_a_while() {
        // Goal: what is kept is bounded by number and by time.
        let jobs = Jobs::default();
        let (first, second) = (job(|| UnixMillis(0)), job(|| UnixMillis(1)));
        assert!(jobs.begin(&first).is_ok());
        assert_eq!(jobs.begin(&second).unwrap_err().id, first.id);
        end(&first);
        assert!(jobs.begin(&second).is_ok() && jobs.find(&first.id).is_some());
        end(&second);
        for _ in 0..KEPT_MAX {
            let more = job(|| UnixMillis(2));
            assert!(jobs.begin(&more).is_ok());
            end(&more);
        }
        assert!(jobs.find(&first.id).is_none() && jobs.find(&second.id).is_none());
        let late = job(|| UnixMillis(3_600_003));
        assert!(jobs.begin(&late).is_ok());
        assert_eq!(jobs.lock().len(), 1);
    }

    #[test]
    fn what_is_left_follows_from_what_was_counted() {
        let job = job(|| UnixMillis(0));
        assert_eq!(job.out().left, None);
        job.change(|state| state.total = Some(5));
        job.step(Step::Taken(2));
        job.step(Step::Kept(1));
        assert_eq!(job.out().left, Some(2));
    }
}
