//! Pages, and where they end.

use anyhow::{Result, ensure};
use bytes::Bytes;
use hooklane_store::catalog::Direction;
use hooklane_store::history::{
    AttemptFilter, AttemptsOf, Decision, EndpointEventFilter, EventFilter, FoundEvent, History,
    PAGE_BYTES_MAX, Page, Record, SCAN_ROWS_MAX,
};
use hooklane_types::Event;

use super::super::made::{application, attempt, channel, delivery, endpoint, event, event_id};
use super::super::model::walk;
use super::{first, record};

pub async fn lists_are_cut_into_pages_in_both_directions(history: &dyn History) -> Result<()> {
    // Goal: no row twice, none left out, many at the same time among them; what is added meanwhile moves no page.
    let (app, ep) = (application("app"), endpoint("ep"));
    let mut records = Vec::new();
    for n in 0..23 {
        // Some ids carry no time.
        let id = format!("msg_{}{n:02}", if n % 3 == 0 { "h" } else { "" });
        let ms = n / 4;
        let mut key = delivery(&id, ms, 0);
        records.push(Record::Event(event(&id, ms)));
        records.push(Record::Attempt(attempt(
            &format!("atmpt_{n:02}"),
            key.clone(),
            ms,
            Decision::Delivered,
        )));
        key.event.id = event_id("msg_h00");
        key.endpoint = endpoint(&format!("ep_{n:02}"));
        records.push(Record::Attempt(attempt(
            &format!("atmpt_{n:02}x"),
            key,
            ms,
            Decision::Delivered,
        )));
    }
    record(history, records).await?;
    let filter = EventFilter::default();
    let list = async |page: &Page| history.events(&app, &filter, page).await.map_err(Into::into);
    ensure!(walk(list, FoundEvent::position).await?.len() == 23);
    let filter = EndpointEventFilter::default();
    let list = async |page: &Page| {
        history
            .endpoint_events(&app, &ep, &filter, page)
            .await
            .map_err(Into::into)
    };
    ensure!(walk(list, |found| found.event.position()).await?.len() == 23);
    let event = event_id("msg_h00");
    let list = async |page: &Page| history.destinations(&app, &event, page).await.map_err(Into::into);
    ensure!(walk(list, |found| found.position()).await?.len() == 24);
    for (of, count) in [
        (AttemptsOf::Endpoint(ep.clone()), 23),
        (AttemptsOf::Event(event.clone(), None), 24),
    ] {
        let filter = AttemptFilter::default();
        let list = async |page: &Page| {
            history
                .attempts(&app, &of, &filter, page)
                .await
                .map_err(Into::into)
        };
        ensure!(walk(list, |found| found.position()).await?.len() == count);
    }
    // From the middle of the newest page back to where it came from.
    let mut page = Page {
        behind: None,
        direction: Direction::Descending,
        limit: 5,
    };
    let newest = history.events(&app, &EventFilter::default(), &page).await?;
    page.behind = newest.rows.last().map(FoundEvent::position);
    page.direction = Direction::Ascending;
    let mut back = history.events(&app, &EventFilter::default(), &page).await?;
    back.rows.reverse();
    ensure!(back.rows == newest.rows[..4] && back.more.is_none(), "{back:?}");
    Ok(())
}

pub async fn a_page_ends_where_a_filter_leaves_little_or_payloads_are_long(
    history: &dyn History,
) -> Result<()> {
    let app = application("app");
    let mut records: Vec<Record> = (0..SCAN_ROWS_MAX + 1)
        .map(|n| Record::Event(event(&format!("msg_{n:06}"), n as i64)))
        .collect();
    let rare = Event {
        channels: vec![channel("rare")],
        ..event("msg_z", 100_000)
    };
    records.push(Record::Event(rare));
    record(history, records).await?;
    let filter = EventFilter {
        channel: Some(channel("rare")),
        ..EventFilter::default()
    };
    let none = history.events(&app, &filter, &first(1)).await?;
    ensure!(none.rows.is_empty(), "{none:?}");
    let page = Page {
        behind: none.more,
        ..first(1)
    };
    ensure!(page.behind.is_some(), "there is more");
    let rest = history.events(&app, &filter, &page).await?;
    ensure!(rest.rows.len() == 1 && rest.more.is_none(), "{rest:?}");
    let long = Bytes::from(vec![b' '; PAGE_BYTES_MAX / 2]);
    let long = (0..3).map(|n| Event {
        payload: long.clone(),
        application: application("long"),
        ..event(&format!("msg_{n}"), n)
    });
    record(history, long.map(Record::Event).collect()).await?;
    for (with_payload, count) in [(true, 2), (false, 3)] {
        let filter = EventFilter {
            with_payload,
            ..EventFilter::default()
        };
        let page = history.events(&application("long"), &filter, &first(10)).await?;
        ensure!(page.rows.len() == count && page.more.is_some() == with_payload);
    }
    Ok(())
}
