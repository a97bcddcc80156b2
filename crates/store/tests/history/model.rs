//! What should be answered: the rules, spelt out over the whole set of records for each question.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use hooklane_store::catalog::Direction;
use hooklane_store::history::{
    Attempt, AttemptFilter, AttemptsOf, Decision, Destination, EndpointEventFilter, EventFilter,
    FoundAttempt, FoundEvent, History, Page, Payload, Position, Range, Record, Slice, Stats, Status,
    StatusClass,
};
use hooklane_types::{
    ApplicationId, AttemptId, AttemptOutcome, DeadReason, EndpointId, Event, EventId, UnixMillis,
};

use super::made::{
    APPLICATIONS, CHANNELS, ENDPOINTS, EVENTS, TYPES, application, at, channel, endpoint, event_id,
    event_type,
};

/// Which event.
type Key<'a> = (&'a ApplicationId, &'a EventId);
/// How a delivery ended: when, by which attempt, why it was given up.
type Ended = (UnixMillis, Option<AttemptId>, Option<DeadReason>);

pub struct Model<'a>(pub &'a [Record]);

impl Model<'_> {
    fn of(&self, key: Key<'_>) -> impl Iterator<Item = &Record> {
        let (application, id) = (key.0.clone(), key.1.clone());
        self.0.iter().filter(move |record| {
            let (of, event, _) = record.event();
            (of, event) == (&application, &id)
        })
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.0.iter().filter_map(|record| match record {
            Record::Attempt(attempt) => Some(attempt),
            _ => None,
        })
    }

    /// The earliest that anybody knows; none when nobody knows the event.
    fn accepted_at(&self, key: Key<'_>) -> Option<UnixMillis> {
        self.of(key).map(|record| record.event().2).min()
    }

    /// The contents that were accepted first; which of several stays does not matter, so long as it is always the same.
    fn contents(&self, key: Key<'_>) -> Vec<Event> {
        let contents = || {
            self.of(key).filter_map(|record| match record {
                Record::Event(event) => Some(event.clone()),
                _ => None,
            })
        };
        let first = contents().map(|event| event.accepted_at).min();
        contents()
            .filter(|event| Some(event.accepted_at) == first)
            .collect()
    }

    /// Attempts and outcomes of the event's newest run at an endpoint decide.
    fn status(&self, key: Key<'_>, to: &EndpointId) -> Option<(Status, Option<UnixMillis>)> {
        let delivery = |record: &Record| match record {
            Record::Event(_) => None,
            Record::Attempt(attempt) => Some(attempt.delivery.clone()),
            Record::Settled(settled) => Some(settled.delivery.clone()),
        };
        let keys = || {
            self.of(key)
                .filter_map(delivery)
                .filter(|delivery| delivery.endpoint == *to)
        };
        let run = keys().map(|delivery| delivery.run).max()?;
        let targets: BTreeSet<u16> = keys()
            .filter(|delivery| delivery.run == run)
            .map(|d| d.target)
            .collect();
        let mut all = BTreeSet::new();
        let mut next = None;
        for target in targets {
            match self.ended(key, to, run, target) {
                Some((_, _, None)) => all.insert(Status::Delivered),
                Some((_, _, Some(_))) => all.insert(Status::Dead),
                None => {
                    let last = self
                        .attempts_of(key, to, run, target)
                        .max_by_key(|a| (a.at, a.id.clone()));
                    if let Some(Decision::Again(at)) = last.map(|last| last.decision) {
                        next = Some(next.map_or(at, |next: UnixMillis| next.min(at)));
                    }
                    all.insert(Status::Pending)
                }
            };
        }
        let status = [Status::Pending, Status::Dead, Status::Delivered];
        let status = status.into_iter().find(|status| all.contains(status))?;
        Some((status, next))
    }

    fn attempts_of(
        &self,
        key: Key<'_>,
        to: &EndpointId,
        run: u32,
        target: u16,
    ) -> impl Iterator<Item = &Attempt> {
        let is_of = (key.0.clone(), key.1.clone(), to.clone(), run, target);
        self.attempts().filter(move |attempt| {
            let of = &attempt.delivery;
            let event = &of.event;
            is_of
                == (
                    event.application.clone(),
                    event.id.clone(),
                    of.endpoint.clone(),
                    of.run,
                    of.target,
                )
        })
    }

    /// Delivered by the earliest attempt that delivered; else dead by what came first.
    fn ended(&self, key: Key<'_>, to: &EndpointId, run: u32, target: u16) -> Option<Ended> {
        let attempts = || self.attempts_of(key, to, run, target);
        let delivered = attempts().filter(|attempt| attempt.decision == Decision::Delivered);
        if let Some(first) = delivered.min_by_key(|attempt| (attempt.at, attempt.id.clone())) {
            return Some((first.at, Some(first.id.clone()), None));
        }
        let by_attempt = attempts().filter_map(|attempt| match attempt.decision {
            Decision::Dead(reason) => Some((attempt.at, Some(attempt.id.clone()), Some(reason))),
            _ => None,
        });
        let without = self.of(key).filter_map(|record| match record {
            Record::Settled(settled) => {
                let of = &settled.delivery;
                let is_of = (&of.endpoint, of.run, of.target) == (to, run, target);
                is_of.then_some((settled.at, None, Some(settled.reason)))
            }
            _ => None,
        });
        let order = |(at, id, reason): &Ended| (*at, id.clone(), reason.map(DeadReason::name));
        by_attempt.chain(without).min_by_key(order)
    }

    fn keys(&self) -> Vec<(ApplicationId, EventId)> {
        let all = APPLICATIONS
            .into_iter()
            .flat_map(|a| EVENTS.map(|e| (application(a), event_id(e))));
        all.collect()
    }

    /// Every answer is the one that the rules give.
    pub async fn agrees(&self, history: &dyn History) -> Result<()> {
        let mut found = Vec::new();
        for (application, id) in &self.keys() {
            let event = history.event(application, id).await?;
            self.is_right((application, id), event.as_ref())?;
            found.extend(event);
            self.deliveries_agree(history, (application, id)).await?;
        }
        for name in APPLICATIONS {
            let application = application(name);
            self.lists_agree(history, &application, &found).await?;
        }
        Ok(())
    }

    fn is_right(&self, key: Key<'_>, found: Option<&FoundEvent>) -> Result<()> {
        let expected = self.accepted_at(key);
        ensure!(
            found.map(|found| found.accepted_at) == expected,
            "{found:?}, not {expected:?}"
        );
        let contents = self.contents(key);
        let Some(content) = found.and_then(|found| found.content.as_ref()) else {
            ensure!(contents.is_empty(), "{key:?} is a stub");
            return Ok(());
        };
        let Payload::Kept(payload) = &content.payload else {
            anyhow::bail!("{content:?} has no payload");
        };
        let is_it = |event: &Event| {
            let event = event.clone();
            let accepted_at = content.event.accepted_at;
            event.payload == payload
                && Event {
                    payload: Default::default(),
                    accepted_at,
                    ..event
                } == content.event
        };
        ensure!(contents.iter().any(is_it), "{content:?} is none of {contents:?}");
        Ok(())
    }

    async fn deliveries_agree(&self, history: &dyn History, key: Key<'_>) -> Result<()> {
        let mut destinations = Vec::new();
        for name in ENDPOINTS {
            let to = endpoint(name);
            if let Some((status, next_attempt)) = self.status(key, &to) {
                let endpoint = to.clone();
                destinations.push(Destination {
                    endpoint,
                    status,
                    next_attempt,
                });
            }
            for outcome in history.outcomes(key.0, key.1, &to).await? {
                let expected = self.ended(key, &to, outcome.run, outcome.target);
                let found = outcome
                    .terminal()
                    .map(|ended| (ended.at, ended.attempt.clone(), ended.dead));
                ensure!(found == expected, "{found:?}, not {expected:?}");
            }
        }
        let list = async |page: &Page| history.destinations(key.0, key.1, page).await.map_err(Into::into);
        same(
            &walk(list, Destination::position).await?,
            destinations.into_iter(),
        )
    }

    async fn lists_agree(
        &self,
        history: &dyn History,
        application: &ApplicationId,
        found: &[FoundEvent],
    ) -> Result<()> {
        let mut events: Vec<FoundEvent> = found
            .iter()
            .filter(|event| event.application == *application)
            .cloned()
            .collect();
        events.sort_by_key(FoundEvent::position);
        let mut attempts: Vec<FoundAttempt> = self
            .attempts()
            .filter(|attempt| attempt.delivery.event.application == *application)
            .map(|attempt| {
                let mut attempt = attempt.clone();
                let event = &attempt.delivery.event;
                attempt.delivery.event.accepted_at = self
                    .accepted_at((application, &event.id))
                    .context("the event is known")?;
                Ok(FoundAttempt {
                    attempt,
                    is_answer_expunged: false,
                })
            })
            .collect::<Result<_>>()?;
        attempts.sort_by_key(FoundAttempt::position);
        attempts.dedup();
        let is_of = |event: &FoundEvent, filter: &EventFilter| {
            let content = event.content.as_ref().map(|content| &content.event);
            let has_type = content.is_some_and(|content| filter.event_types.contains(&content.event_type));
            let has_channel = |channel| content.is_some_and(|content| content.channels.contains(channel));
            is_in(event.accepted_at, filter.range)
                && (filter.event_types.is_empty() || has_type)
                && filter.channel.as_ref().is_none_or(has_channel)
        };
        for filter in event_filters() {
            let list = async |page: &Page| {
                history
                    .events(application, &filter, page)
                    .await
                    .map_err(Into::into)
            };
            let all = walk(list, FoundEvent::position).await?;
            let expected = events
                .iter()
                .filter(|event| event.content.is_some() && is_of(event, &filter));
            same(&all, expected.cloned())?;
        }
        for name in ENDPOINTS {
            let to = endpoint(name);
            let mut stats = Stats::default();
            for event in &events {
                if let Some((status, _)) = self.status((application, &event.id), &to) {
                    *stats.of(status) += 1;
                }
            }
            let found = history.stats(application, &to, Range::default()).await?;
            ensure!(found == stats, "{found:?}, not {stats:?}");
            for event in event_filters() {
                for status in [
                    None,
                    Some(Status::Delivered),
                    Some(Status::Pending),
                    Some(Status::Dead),
                ] {
                    let filter = EndpointEventFilter {
                        status,
                        event: event.clone(),
                    };
                    let list = async |page: &Page| {
                        history
                            .endpoint_events(application, &to, &filter, page)
                            .await
                            .map_err(Into::into)
                    };
                    let all = walk(list, |found| found.event.position()).await?;
                    let all: Vec<_> = all
                        .into_iter()
                        .map(|found| (found.event, found.status, found.next_attempt))
                        .collect();
                    let expected = events
                        .iter()
                        .filter(|found| is_of(found, &event))
                        .filter_map(|event| {
                            let (is, next) = self.status((application, &event.id), &to)?;
                            (status.is_none() || status == Some(is)).then(|| (event.clone(), is, next))
                        });
                    same(&all, expected)?;
                }
            }
        }
        let of_endpoints = ENDPOINTS.map(|name| AttemptsOf::Endpoint(endpoint(name)));
        let of_events = EVENTS.map(|id| AttemptsOf::Event(event_id(id), None));
        let of_both = EVENTS.map(|id| AttemptsOf::Event(event_id(id), Some(endpoint("ep"))));
        for of in of_endpoints.iter().chain(&of_events).chain(&of_both) {
            for filter in attempt_filters() {
                let list = async |page: &Page| {
                    history
                        .attempts(application, of, &filter, page)
                        .await
                        .map_err(Into::into)
                };
                let all = walk(list, FoundAttempt::position).await?;
                let event = EventFilter {
                    event_types: filter.event_types.clone(),
                    channel: filter.channel.clone(),
                    ..EventFilter::default()
                };
                let expected = attempts.iter().filter(|found| {
                    let attempt = &found.attempt;
                    let delivery = &attempt.delivery;
                    let is_theirs = match of {
                        AttemptsOf::Endpoint(endpoint) => delivery.endpoint == *endpoint,
                        AttemptsOf::Event(event, endpoint) => {
                            delivery.event.id == *event
                                && endpoint.as_ref().is_none_or(|to| delivery.endpoint == *to)
                        }
                    };
                    let code = match attempt.outcome {
                        AttemptOutcome::Status { code, .. } => Some(code),
                        AttemptOutcome::Failed(_) => None,
                    };
                    let delivered = attempt.decision == Decision::Delivered;
                    is_theirs
                        && is_in(attempt.at, filter.range)
                        && filter.delivered.is_none_or(|wanted| wanted == delivered)
                        && filter
                            .status_class
                            .is_none_or(|class| StatusClass::of_code(code) == Some(class))
                        && events
                            .iter()
                            .any(|found| found.id == delivery.event.id && is_of(found, &event))
                });
                same(&all, expected.cloned())?;
            }
        }
        Ok(())
    }
}

fn is_in(time: UnixMillis, range: Range) -> bool {
    range.after.is_none_or(|after| time > after) && range.before.is_none_or(|before| time < before)
}

fn ranges() -> [Range; 3] {
    let range = |after, before| Range { after, before };
    [
        range(None, None),
        range(Some(at(1)), None),
        range(Some(at(0)), Some(at(4))),
    ]
}

fn event_filters() -> Vec<EventFilter> {
    let mut filters = Vec::new();
    for range in ranges() {
        for types in [&TYPES[..0], &TYPES[..1], &TYPES[1..]] {
            for name in [None, Some(CHANNELS[0])] {
                filters.push(EventFilter {
                    range,
                    event_types: types.iter().map(|name| event_type(name)).collect(),
                    channel: name.map(channel),
                    with_payload: true,
                });
            }
        }
    }
    filters
}

fn attempt_filters() -> Vec<AttemptFilter> {
    let mut filters = Vec::new();
    for (n, event) in event_filters().into_iter().enumerate() {
        // Not all with all: there would be hundreds.
        let delivered = [None, Some(true), Some(false)][n % 3];
        let class = [
            None,
            Some(StatusClass::None),
            Some(StatusClass::Success),
            Some(StatusClass::ServerError),
        ][n / 3 % 4];
        filters.push(AttemptFilter {
            range: event.range,
            delivered,
            status_class: class,
            event_types: event.event_types,
            channel: event.channel,
            with_answer: true,
        });
    }
    filters
}

/// The whole list, which is the same in pages of two, from its end, and behind any of its rows.
pub async fn walk<T: Clone + PartialEq + std::fmt::Debug>(
    list: impl AsyncFn(&Page) -> Result<Slice<T>>,
    position: impl Fn(&T) -> Position,
) -> Result<Vec<T>> {
    let whole = |direction| Page {
        behind: None,
        direction,
        limit: 1_000,
    };
    let all = list(&whole(Direction::Ascending)).await?;
    ensure!(all.more.is_none());
    let mut reversed = list(&whole(Direction::Descending)).await?.rows;
    reversed.reverse();
    ensure!(reversed == all.rows, "{reversed:?}, not {:?}", all.rows);
    if all.rows.len() > 2 {
        let behind = Some(position(&all.rows[0]));
        let rest = list(&Page {
            behind,
            ..whole(Direction::Ascending)
        })
        .await?;
        ensure!(rest.rows == all.rows[1..], "{rest:?}, not behind {:?}", all.rows);
        for direction in [Direction::Ascending, Direction::Descending] {
            let mut page = Page {
                behind: None,
                direction,
                limit: 2,
            };
            let mut paged = Vec::new();
            loop {
                let Slice { rows, more } = list(&page).await?;
                paged.extend(rows);
                match more {
                    Some(place) => page.behind = Position::parse(&place.to_text()),
                    None => break,
                }
            }
            if direction == Direction::Descending {
                paged.reverse();
            }
            ensure!(paged == all.rows, "{paged:?}, not {:?}", all.rows);
        }
    }
    Ok(all.rows)
}

fn same<T: PartialEq + std::fmt::Debug>(found: &[T], expected: impl Iterator<Item = T>) -> Result<()> {
    let expected: Vec<T> = expected.collect();
    ensure!(found == expected, "{found:#?}, not {expected:#?}");
    Ok(())
}
