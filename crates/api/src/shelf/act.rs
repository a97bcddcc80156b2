//! Replay and purge: what is chosen leaves the shelf.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use hooklane_telemetry::Metric;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::{error, info};

use super::Kind;
use super::desk::{PATIENCE, Unread, patiently};
use super::job::{Job, JobOut, Status, Task};
use super::port::{Ended, Reading, Shelf, ShelfError, Step};
use super::scope::{May, MayPurge, Scope};
use super::selection::{Chosen, FilterIn, ReasonIn};
use crate::answer::Refusal;
use crate::body::Json;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;

/// How long a job waits for the shelf between counting and beginning: somebody may have been faster.
const JOB_PATIENCE: Duration = Duration::from_secs(60);
/// How long the answer to a cancel waits for the end.
const CANCELLED_WITHIN: Duration = Duration::from_secs(5);

/// What is replayed, and how fast.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, rename = "{R}ReplayIn")]
pub(crate) struct ReplayIn<R> {
    /// Which.
    filter: Option<FilterIn<R>>,
    /// Everything: goes with no filter.
    #[serde(default)]
    all: bool,
    /// At most so many a second.
    rate: Option<NonZeroU32>,
}

/// What is taken off for good.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, rename = "{R}PurgeIn")]
pub(crate) struct PurgeIn<R> {
    /// Which.
    filter: Option<FilterIn<R>>,
    /// Everything: goes with no filter.
    #[serde(default)]
    all: bool,
}

/// What a job does, and how fast.
#[derive(Clone, Copy)]
struct Plan {
    task: Task,
    rate: Option<NonZeroU32>,
}

/// Everything is meant only where that was said.
fn meant<K: Kind>(filter: Option<FilterIn<ReasonIn<K>>>, all: bool) -> Result<Chosen<K>, Refusal> {
    let wrong = |field: &str, why: &str| Err(Refusal::field(["body", field], why, "value_error"));
    match (filter.map(Chosen::of_body), all) {
        (None, true) => Ok(Chosen::everything()),
        (Some(chosen), false) if !chosen.is_everything() => Ok(chosen),
        (Some(_), true) => wrong("all", "this means everything: it goes with no filter"),
        (None | Some(_), false) => wrong("filter", "choose by a field of `filter`, or say `\"all\": true`"),
    }
}

pub(super) async fn replay<K: Kind>(
    State(api): State<Arc<Api>>,
    May(scope, _): May<K>,
    query: Query,
    Json(body): Json<ReplayIn<ReasonIn<K>>>,
) -> Result<(StatusCode, Out<JobOut>), Refusal> {
    query.finish()?;
    let plan = Plan {
        task: Task::Replay,
        rate: body.rate,
    };
    begin(&api, scope, meant(body.filter, body.all)?, plan).await
}

pub(super) async fn purge<K: Kind>(
    State(api): State<Arc<Api>>,
    MayPurge(scope, _): MayPurge<K>,
    query: Query,
    Json(body): Json<PurgeIn<ReasonIn<K>>>,
) -> Result<(StatusCode, Out<JobOut>), Refusal> {
    query.finish()?;
    let plan = Plan {
        task: Task::Purge,
        rate: None,
    };
    begin(&api, scope, meant(body.filter, body.all)?, plan).await
}

/// Begins a job, and answers once it has the shelf.
async fn begin<K: Kind>(
    api: &Arc<Api>,
    scope: Scope,
    chosen: Chosen<K>,
    plan: Plan,
) -> Result<(StatusCode, Out<JobOut>), Refusal> {
    let selection = chosen.selection(api, &scope).await?;
    let desk = K::desk(&api.shelves);
    let job = Arc::new(Job::new(
        plan.task,
        scope.clone(),
        desk.stop.child_token(),
        api.clock,
    ));
    let refusal = |error| scope.refusal::<K>(error);
    desk.jobs
        .begin(&job)
        .map_err(|running| refusal(Unread::Job(running)))?;
    // Until the task has it, nobody else ends it.
    let ending = Ending(job.clone());
    let (shelf, turn) = desk.turn().await.map_err(|error| {
        desk.jobs.forget(&job.id);
        refusal(error)
    })?;
    let reading = Reading {
        selection,
        purpose: format!("{} {}", plan.task.name(), job.id),
        now: api.now(),
        stop: job.stop.clone(),
    };
    info!(
        shelf = K::SHELF,
        job.id = job.id,
        task = plan.task.name(),
        organisation = job.owner.organisation,
        application = job.owner.application.as_ref().map(tracing::field::display),
        selection = reading.words(),
        "a job begins at a shelf"
    );
    let (task_api, worked_at) = (api.clone(), job.clone());
    desk.tasks.spawn(async move {
        let work = Work {
            api: task_api,
            job: worked_at,
            shelf,
            reading,
            plan,
            _turn: turn,
        };
        work.carry_out().await;
        drop(ending);
    });
    let mut state = job.state.subscribe();
    // The job has the sender: this ends.
    let begun = state.wait_for(|state| state.is_open || state.status != Status::Running);
    let unread = begun
        .await
        .ok()
        .and_then(|state| state.failed.clone().filter(|_| !state.is_open));
    if let Some(error) = unread {
        desk.jobs.forget(&job.id);
        return Err(refusal(Unread::Shelf(error)));
    }
    Ok((StatusCode::ACCEPTED, Out(job.out())))
}

/// A job whose task is gone, however that came, does not run any more.
struct Ending(Arc<Job>);

impl Drop for Ending {
    fn drop(&mut self) {
        if self.0.status() == Status::Running {
            self.0.end(Status::Failed, None);
        }
    }
}

/// A job at its shelf.
struct Work<K: Kind> {
    api: Arc<Api>,
    job: Arc<Job>,
    shelf: Arc<dyn Shelf<K>>,
    reading: Reading<K>,
    plan: Plan,
    _turn: OwnedSemaphorePermit,
}

impl<K: Kind> Work<K> {
    async fn carry_out(self) {
        let ended = self.run().await;
        let (status, why) = match &ended {
            Ok(Ended::AtTheEnd) => (Status::Finished, None),
            Ok(Ended::Stopped) => (Status::Cancelled, None),
            Err(error) => (Status::Failed, Some(error)),
        };
        self.job.end(status, why);
        let state = self.job.state.borrow().clone();
        // The level is fixed where a line is made.
        macro_rules! tell {
            ($level:ident, $text:literal) => {
                $level!(
                    shelf = K::SHELF,
                    job.id = self.job.id,
                    task = self.plan.task.name(),
                    organisation = self.job.owner.organisation,
                    done = state.done,
                    kept = state.kept,
                    error = why.map(tracing::field::display),
                    $text
                )
            };
        }
        match status {
            Status::Finished | Status::Running => tell!(info, "a job at a shelf has ended"),
            Status::Cancelled => tell!(info, "a job at a shelf was ended; the rest is still there"),
            Status::Failed => tell!(error, "a job at a shelf failed; the rest is still there"),
        }
    }

    async fn run(&self) -> Result<Ended, ShelfError> {
        let told = |step| self.told(step);
        let total = patiently(PATIENCE, || self.shelf.count(&self.reading, &told)).await?;
        if self.job.stop.is_cancelled() {
            return Ok(Ended::Stopped);
        }
        self.job.change(|state| state.total = Some(total));
        if total == 0 {
            return Ok(Ended::AtTheEnd);
        }
        match self.plan.task {
            Task::Replay => {
                let replay = || self.shelf.replay(&self.reading, self.plan.rate, &told);
                patiently(JOB_PATIENCE, replay).await
            }
            Task::Purge => patiently(JOB_PATIENCE, || self.shelf.purge(&self.reading, &told)).await,
        }
    }

    fn told(&self, step: Step) {
        if let Step::Taken(count) = step {
            let before = self.job.state.borrow().done;
            let labels = [K::SHELF, self.plan.task.name()];
            let more = count.saturating_sub(before);
            self.api.metrics.add(Metric::ShelfTaken, &labels, more as f64);
        }
        self.job.step(step);
    }
}

pub(super) async fn get_job<K: Kind>(
    State(api): State<Arc<Api>>,
    May(scope, _): May<K>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Out<JobOut>, Refusal> {
    query.finish()?;
    Ok(Out(found::<K>(&api, &scope, &id)?.out()))
}

pub(super) async fn cancel_job<K: Kind>(
    State(api): State<Arc<Api>>,
    May(scope, _): May<K>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Out<JobOut>, Refusal> {
    query.finish()?;
    let job = found::<K>(&api, &scope, &id)?;
    job.stop.cancel();
    let mut state = job.state.subscribe();
    // Whoever asks again sees how it ended.
    let _ = timeout(
        CANCELLED_WITHIN,
        state.wait_for(|state| state.status != Status::Running),
    )
    .await;
    Ok(Out(job.out()))
}

fn found<K: Kind>(api: &Api, scope: &Scope, id: &str) -> Result<Arc<Job>, Refusal> {
    let job = K::desk(&api.shelves).jobs.find(id);
    job.filter(|job| scope.sees(&job.owner)).ok_or(Refusal::NotFound)
}
