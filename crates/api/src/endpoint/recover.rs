//! `…/recover`: whatever an endpoint did not get is delivered again, in the background.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json as Out;
use axum::extract::State;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use hooklane_store::catalog::Direction;
use hooklane_store::history::{EndpointEventFilter, EventFilter, FoundEvent, Page, Range, Status};
use hooklane_types::{ApplicationId, EndpointId};
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::answer::Refusal;
use crate::attempt::resend::{content, next_run};
use crate::auth::Caller;
use crate::body::Json;
use crate::history::{application_id, endpoint_id};
use crate::operation::Operation;
use crate::outbox;
use crate::path::Path;
use crate::query::Query;
use crate::state::Api;
use crate::text::{Time, time};

/// Recoveries that wait for their turn.
const WAITING_MAX: usize = 64;
/// Recoveries that are carried out at once.
const AT_ONCE: usize = 4;
/// Messages that are read at once, and those of them that are published at once.
const PAGE_ROWS: usize = 200;
const IN_FLIGHT_MAX: usize = 16;
/// While the history or the broker is away.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const TRIES_MAX: usize = 60;

/// `RecoverIn`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct RecoverIn {
    /// Accepted later.
    since: Time,
    /// Accepted earlier.
    #[serde(default)]
    until: Option<Time>,
}

/// `RecoverOut`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecoverOut {
    id: String,
    status: &'static str,
    task: &'static str,
    updated_at: String,
}

/// Whose messages.
type Whose = (ApplicationId, EndpointId);
type Running = Arc<Mutex<HashSet<Whose>>>;

/// Takes recoveries.
pub struct Recoveries {
    jobs: mpsc::Sender<Job>,
    running: Running,
}

/// Carries recoveries out.
pub struct RecoveryWorker {
    jobs: mpsc::Receiver<Job>,
}

struct Job {
    whose: Whose,
    range: Range,
    running: Running,
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.whose);
    }
}

/// How far a recovery came.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    recovered: usize,
    without_payload: usize,
}

impl Recoveries {
    /// What takes them, and what carries them out.
    pub fn new() -> (Recoveries, RecoveryWorker) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let recoveries = Recoveries {
            jobs: sender,
            running: Running::default(),
        };
        (recoveries, RecoveryWorker { jobs: receiver })
    }

    fn begin(&self, whose: Whose, range: Range) -> Result<(), Refusal> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !running.insert(whose.clone()) {
            return Err(Refusal::Conflict(
                "this endpoint is being recovered; ask again when that is over",
            ));
        }
        drop(running);
        let running = self.running.clone();
        let sent = self.jobs.try_send(Job {
            whose,
            range,
            running,
        });
        sent.map_err(|_| Refusal::NotTaken("as many recoveries wait as may".to_owned()))
    }
}

impl RecoveryWorker {
    /// Carries them out, until nobody can ask for one any more. What it is at when it is dropped ends there; asked for again, it goes on with what is
    /// left.
    pub async fn run(self, api: Arc<Api>) {
        let jobs = stream::unfold(self.jobs, async |mut jobs| Some((jobs.recv().await?, jobs)));
        jobs.for_each_concurrent(AT_ONCE, |job| {
            let api = api.clone();
            async move { job.carry_out(&api).await }
        })
        .await;
    }
}

impl Job {
    async fn carry_out(&self, api: &Api) {
        let (application, endpoint) = &self.whose;
        let mut done = Done::default();
        let mut page = Page {
            behind: None,
            direction: Direction::Ascending,
            limit: PAGE_ROWS,
        };
        loop {
            match self.step_with_patience(api, &page, &mut done).await {
                Ok(None) => break,
                Ok(more) => page.behind = more,
                Err(why) => {
                    tracing::error!(%application, endpoint.id = %endpoint, recovered = done.recovered, "a recovery ended before its end, ask for it again: {why}");
                    return;
                }
            }
        }
        let Done {
            recovered,
            without_payload,
        } = done;
        tracing::info!(%application, endpoint.id = %endpoint, recovered, without_payload, "an endpoint was recovered");
    }

    async fn step_with_patience(
        &self,
        api: &Api,
        page: &Page,
        done: &mut Done,
    ) -> Result<Option<hooklane_store::history::Position>, String> {
        let mut why = String::new();
        for _ in 0..TRIES_MAX {
            match self.step(api, page).await {
                Ok((step, more)) => {
                    done.recovered += step.recovered;
                    done.without_payload += step.without_payload;
                    return Ok(more);
                }
                Err(Refusal::Unavailable(words) | Refusal::NotTaken(words)) => why = words,
                Err(other) => return Err(format!("{other:?}")),
            }
            sleep(AGAIN_AFTER).await;
        }
        Err(why)
    }

    /// One page. What was begun of it and is begun again has the same run, so that it counts as the same delivery.
    async fn step(
        &self,
        api: &Api,
        page: &Page,
    ) -> Result<(Done, Option<hooklane_store::history::Position>), Refusal> {
        let (application, endpoint) = &self.whose;
        let filter = EndpointEventFilter {
            status: Some(Status::Dead),
            event: EventFilter {
                range: self.range,
                with_payload: true,
                ..EventFilter::default()
            },
        };
        let history = api.history()?;
        let found = history
            .endpoint_events(application, endpoint, &filter, page)
            .await?;
        let is_sent: Vec<bool> = stream::iter(found.rows)
            .map(|row| self.again(api, row.event))
            .buffer_unordered(IN_FLIGHT_MAX)
            .try_collect()
            .await?;
        let recovered = is_sent.iter().filter(|is_sent| **is_sent).count();
        let done = Done {
            recovered,
            without_payload: is_sent.len() - recovered,
        };
        Ok((done, found.more))
    }

    /// Whether it could be delivered again.
    async fn again(&self, api: &Api, found: FoundEvent) -> Result<bool, Refusal> {
        let (application, endpoint) = &self.whose;
        let Some(event) = content(found) else {
            return Ok(false);
        };
        let run = next_run(api, application, &event.id, endpoint).await?;
        api.outbox
            .deliver(outbox::run(event, endpoint.clone(), run))
            .await?;
        Ok(true)
    }
}

pub(super) fn operations() -> Vec<Operation> {
    const PATH: &str = "/app/{app_id}/endpoint/{endpoint_id}/recover";
    vec![
        Operation::new(
            Method::POST,
            PATH,
            "v1.endpoint.recover",
            "Deliver again what was given up at an endpoint",
            recover,
        )
        .takes::<RecoverIn>()
        .answers::<RecoverOut>(202),
    ]
}

async fn recover(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((application, endpoint)): Path<(String, String)>,
    query: Query,
    Json(body): Json<RecoverIn>,
) -> Result<(StatusCode, Out<RecoverOut>), Refusal> {
    let application = caller.application(&api, &application).await?;
    query.finish()?;
    let endpoint = endpoint_id(&api.endpoint(&application, &endpoint).await?.document)?;
    let (since, until) = (body.since.0, body.until.map(|until| until.0));
    if until.is_some_and(|until| until <= since) {
        return Err(Refusal::field(
            ["body", "until"],
            "this must be later than `since`",
            "value_error",
        ));
    }
    api.history()?;
    let range = Range {
        after: Some(since),
        before: until,
    };
    api.recoveries
        .begin((application_id(&application)?, endpoint), range)?;
    let out = RecoverOut {
        id: format!("qtask_{}", hex::encode(rand::random::<[u8; 13]>())),
        status: "running",
        task: "endpoint.recover",
        updated_at: time(api.now()),
    };
    Ok((StatusCode::ACCEPTED, Out(out)))
}
