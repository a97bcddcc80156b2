//! What holds for every implementation of [`Claims`].

#![allow(dead_code, reason = "every test file uses another part of it")]

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use hooklane_sqlite::Stamp;
use hooklane_store::postgres::{PostgresClaims, PostgresSettings, migrate};
use hooklane_store::sqlite::{DurableClaims, FoundClaims};
use hooklane_store::{ClaimWindow, Claims, Verdict};
use hooklane_telemetry::Metrics;
use hooklane_testkit::postgres::Database;
use hooklane_types::{ApplicationId, EventId, ProducerId};

/// The ids of an event, by a number.
pub fn ids(n: u32) -> (ApplicationId, EventId) {
    let application = ApplicationId::parse("app_a").expect("an id");
    let producer_id = ProducerId::parse(&n.to_string()).expect("an id");
    let event = EventId::derived(&application, None, &producer_id);
    (application, event)
}

/// The claims of a directory, whatever queue they belong to.
pub fn durable(directory: &Path, entries_max: usize) -> Result<DurableClaims> {
    opened(directory, entries_max, Arc::new(Metrics::new()))
}

pub fn opened(directory: &Path, entries_max: usize, metrics: Arc<Metrics>) -> Result<DurableClaims> {
    let found = FoundClaims::look(directory)?;
    Ok(found.open(&Stamp::fresh()?, entries_max, metrics)?)
}

/// The claims of a database, as a process of its own has them.
pub async fn in_postgres(database: &Database) -> Result<PostgresClaims> {
    let settings = PostgresSettings::parse(database.url())?;
    migrate(&settings).await?;
    Ok(PostgresClaims::new(&settings)?)
}

/// Claims event `n` at the time `n`, in milliseconds.
pub async fn claim(claims: &dyn Claims, n: u32, redelivered: bool) -> Result<Verdict> {
    let (application, event) = ids(n);
    Ok(claims
        .claim(&application, &event, redelivered, u64::from(n))
        .await?)
}

pub async fn settle(claims: &dyn Claims, n: u32) {
    let (application, event) = ids(n);
    claims.settle(&application, &event).await;
}

pub fn release(claims: &dyn Claims, n: u32) {
    let (application, event) = ids(n);
    claims.release(&application, &event);
}

pub async fn a_repeat_is_noticed_in_flight_and_after(claims: &dyn Claims) -> Result<()> {
    // Goal: a second message with the id of one in work, or settled, is a duplicate.
    ensure!(claim(claims, 1, false).await? == Verdict::Ours);
    ensure!(claim(claims, 1, false).await? == Verdict::Duplicate);
    settle(claims, 1).await;
    ensure!(claim(claims, 1, false).await? == Verdict::Duplicate);
    ensure!(claim(claims, 2, false).await? == Verdict::Ours);
    Ok(())
}

pub async fn a_redelivered_message_is_no_duplicate_of_itself_unless_settled(
    claims: &dyn Claims,
) -> Result<()> {
    // Goal: what the broker gives again after a lost channel is processed; after its settlement it is not.
    claim(claims, 1, false).await?;
    ensure!(claim(claims, 1, true).await? == Verdict::Ours);
    settle(claims, 1).await;
    ensure!(claim(claims, 1, true).await? == Verdict::Duplicate);
    Ok(())
}

pub async fn a_claim_that_was_given_back_leaves_no_trace(claims: &dyn Claims) -> Result<()> {
    // Goal: a released claim is gone; a settled one stays, also when another holder of it releases it later.
    claim(claims, 1, false).await?;
    release(claims, 1);
    ensure!(claim(claims, 1, false).await? == Verdict::Ours);
    settle(claims, 1).await;
    release(claims, 1);
    ensure!(claim(claims, 1, false).await? == Verdict::Duplicate);
    Ok(())
}

pub async fn applications_are_not_mixed_up(claims: &dyn Claims) -> Result<()> {
    // Goal: the same event id of another application is another event.
    let (application, event) = ids(1);
    let other = ApplicationId::parse("app_b")?;
    ensure!(claims.claim(&application, &event, false, 0).await? == Verdict::Ours);
    ensure!(claims.claim(&other, &event, false, 0).await? == Verdict::Ours);
    claims.settle(&other, &event).await;
    claims.release(&application, &event);
    ensure!(claims.claim(&application, &event, false, 0).await? == Verdict::Ours);
    ensure!(claims.claim(&other, &event, false, 0).await? == Verdict::Duplicate);
    Ok(())
}

/// For claims with room for 3.
pub async fn the_window_is_bounded_and_the_oldest_yields(claims: &dyn Claims) -> Result<()> {
    // Goal: with room for 3, the fourth id pushes out the first; the length is the age of the oldest left.
    for n in 1..=4 {
        claim(claims, n, false).await?;
        settle(claims, n).await;
    }
    let expected = ClaimWindow {
        entries: 3,
        seconds: 0.01,
    };
    let found = claims.window(12);
    ensure!(found == expected, "{found:?}");
    ensure!(claim(claims, 4, false).await? == Verdict::Duplicate);
    ensure!(claim(claims, 1, false).await? == Verdict::Ours);
    Ok(())
}
