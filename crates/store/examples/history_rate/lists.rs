//! Lists, read by a page of 50, the newest first, from anywhere in time.

use std::time::{Duration, Instant};

use anyhow::Result;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{
    AttemptFilter, AttemptsOf, EndpointEventFilter, EventFilter, History, Page, Range, Status, StatusClass,
};
use hooklane_types::EventType;

use crate::made::Made;

const ASKED: usize = 300;

/// What is asked.
#[derive(Clone, Copy)]
enum List {
    Event,
    Events,
    EventsOfType,
    Attempts,
    FailedAttempts,
    AttemptsOfClass,
    AttemptsOfEvent,
    AttemptsOfType,
    EndpointEvents,
    PendingEvents,
    Destinations,
    Statistics,
    StatisticsOfADay,
}

const LISTS: [(&str, List); 13] = [
    ("an event", List::Event),
    ("events", List::Events),
    ("events of a type", List::EventsOfType),
    ("attempts at an endpoint", List::Attempts),
    ("attempts at an endpoint that failed", List::FailedAttempts),
    ("attempts at an endpoint with a 5xx", List::AttemptsOfClass),
    ("attempts at an endpoint of a type", List::AttemptsOfType),
    ("attempts of an event", List::AttemptsOfEvent),
    ("events of an endpoint", List::EndpointEvents),
    ("events of an endpoint that are pending", List::PendingEvents),
    ("endpoints of an event", List::Destinations),
    ("statistics of an endpoint, all", List::Statistics),
    ("statistics of an endpoint, a day", List::StatisticsOfADay),
];

pub async fn measure(history: &dyn History, made: Made) -> Result<()> {
    for (what, list) in LISTS {
        let mut times = Vec::with_capacity(ASKED);
        for asked in 0..ASKED {
            let begun = Instant::now();
            ask(history, made, list, asked).await?;
            times.push(begun.elapsed());
        }
        times.sort();
        let at = |share: f64| ms(times[((times.len() - 1) as f64 * share) as usize]);
        println!(
            "{what}: p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn ask(history: &dyn History, made: Made, list: List, asked: usize) -> Result<()> {
    // Steps of a prime, so that neighbours are not asked for one after the other.
    let n = asked * 7919 % ASKED * made.count / ASKED;
    let before = Some(made.accepted_at(n));
    let range = Range { after: None, before };
    let page = Page {
        behind: None,
        direction: Direction::Descending,
        limit: 50,
    };
    let application = Made::application()?;
    let endpoint = Made::endpoint(asked)?;
    let event = made.event(n)?.event().1.clone();
    let user_made = vec![EventType::parse("user.made")?];
    let events = |event_types| EventFilter {
        range,
        event_types,
        ..EventFilter::default()
    };
    let there = |status| EndpointEventFilter {
        status,
        event: events(Vec::new()),
    };
    let attempts = AttemptFilter {
        range,
        ..AttemptFilter::default()
    };
    let filter = match list {
        List::FailedAttempts => AttemptFilter {
            delivered: Some(false),
            ..attempts
        },
        List::AttemptsOfClass => AttemptFilter {
            status_class: Some(StatusClass::ServerError),
            ..attempts
        },
        List::AttemptsOfType => AttemptFilter {
            event_types: user_made.clone(),
            ..attempts
        },
        List::AttemptsOfEvent => AttemptFilter::default(),
        _ => attempts,
    };
    match list {
        List::Event => drop(history.event(&application, &event).await?),
        List::Events => drop(history.events(&application, &events(Vec::new()), &page).await?),
        List::EventsOfType => drop(history.events(&application, &events(user_made), &page).await?),
        List::Attempts | List::FailedAttempts | List::AttemptsOfClass | List::AttemptsOfType => {
            let of = AttemptsOf::Endpoint(endpoint);
            drop(history.attempts(&application, &of, &filter, &page).await?);
        }
        List::AttemptsOfEvent => {
            let of = AttemptsOf::Event(event, None);
            drop(history.attempts(&application, &of, &filter, &page).await?);
        }
        List::EndpointEvents => {
            let filter = there(None);
            drop(
                history
                    .endpoint_events(&application, &endpoint, &filter, &page)
                    .await?,
            );
        }
        List::PendingEvents => {
            let filter = there(Some(Status::Pending));
            drop(
                history
                    .endpoint_events(&application, &endpoint, &filter, &page)
                    .await?,
            );
        }
        List::Destinations => drop(history.destinations(&application, &event, &page).await?),
        List::Statistics => {
            history.stats(&application, &endpoint, Range::default()).await?;
        }
        List::StatisticsOfADay => {
            let day = Range {
                after: Some(hooklane_types::UnixMillis(
                    made.accepted_at(n).0 - 24 * 3600 * 1000,
                )),
                before,
            };
            history.stats(&application, &endpoint, day).await?;
        }
    }
    Ok(())
}
