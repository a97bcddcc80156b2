//! The suite of history, on every implementation.

#[path = "history/made.rs"]
mod made;
#[path = "history/model.rs"]
mod model;
#[path = "history/suite/mod.rs"]
mod suite;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use hooklane_store::history::{History, Record};
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::history::PostgresHistory;
use hooklane_store::sqlite::history::SqliteHistory;
use hooklane_testkit::postgres::shared;
use made::{any_records, now};
use model::Model;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

macro_rules! on_every_implementation {
    ($(
        $name:ident
    )*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> super::Result<()> {
                    let directory = tempfile::tempdir()?;
                    super::suite::$name(&super::SqliteHistory::open(directory.path())?).await
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> super::Result<()> {
                    let database = super::shared().await?.database().await?;
                    let settings = super::PostgresSettings::parse(database.url())?;
                    super::suite::$name(&super::PostgresHistory::open(&settings).await?).await
                }
            )*
        }
    };
}

on_every_implementation! {
    an_event_is_found_to_the_byte_in_its_application_alone
    an_attempt_is_found_as_it_was_recorded_and_its_answer_is_cut
    an_outcome_makes_a_stub_that_a_late_content_fills
    of_two_contents_the_one_that_was_accepted_first_stays_whichever_comes_first
    the_first_terminal_outcome_stays_but_delivered_goes_before_dead
    status_and_next_attempt_are_those_of_the_newest_run
    a_bad_row_is_told_and_stops_no_other
    times_ahead_of_the_clock_are_clamped
    what_was_expunged_does_not_come_back
    what_is_old_is_forgotten_in_steps_and_does_not_come_back
    lists_are_cut_into_pages_in_both_directions
    a_page_ends_where_a_filter_leaves_little_or_payloads_are_long
    filters_leave_what_they_name
    statistics_count_each_event_once
}

/// Cuts the records into batches, after doubling some and shuffling all.
fn any_batches(records: Vec<Record>) -> impl Strategy<Value = Vec<Vec<Record>>> {
    let doubled = proptest::collection::vec(any::<bool>(), records.len()).prop_map(move |doubled| {
        let again = records.iter().zip(doubled).filter(|(_, again)| *again);
        let again: Vec<Record> = again.map(|(record, _)| record.clone()).collect();
        [records.clone(), again].concat()
    });
    let cuts = proptest::collection::vec(1..8usize, 64);
    (doubled.prop_shuffle(), cuts).prop_map(|(mut records, cuts)| {
        let mut batches = Vec::new();
        for cut in cuts {
            let rest = records.split_off(records.len().min(cut));
            batches.push(std::mem::replace(&mut records, rest));
        }
        batches.push(records);
        batches
    })
}

async fn play(history: &dyn History, records: &[Record], batches: Vec<Vec<Record>>) -> Result<()> {
    for batch in batches {
        let recorded = history.record(Arc::from(batch), now()).await?;
        ensure!(
            recorded.refused.is_empty() && recorded.forgotten == 0,
            "{recorded:?}"
        );
    }
    Model(records).agrees(history).await
}

/// Plays 64 sets of records.
fn any_order(open: impl AsyncFn() -> Result<Box<dyn History>>) {
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let records_and_batches =
        any_records().prop_flat_map(|records| (Just(records.clone()), any_batches(records)));
    let played = TestRunner::new(config).run(&records_and_batches, |(records, batches)| {
        runtime
            .block_on(async { play(&*open().await?, &records, batches).await })
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

#[test]
fn however_records_are_shuffled_doubled_and_cut_the_answers_are_the_same() {
    // Goal: what is answered follows from the set of records alone, by rules that the model spells out.
    any_order(async || {
        let directory = tempfile::tempdir()?;
        // The file stays open, and is gone with its name when it is closed.
        Ok(Box::new(SqliteHistory::open(directory.path())?) as Box<dyn History>)
    });
}

#[test]
fn on_postgresql_too_the_answers_follow_from_the_set_of_records() -> Result<()> {
    // Each set in a schema of its own.
    let runtime = tokio::runtime::Runtime::new()?;
    let database = runtime.block_on(async { shared().await?.database().await })?;
    let sets = AtomicUsize::new(0);
    any_order(async || {
        let schema = format!("history_{}", sets.fetch_add(1, Ordering::Relaxed));
        let settings = PostgresSettings::parse(database.url())?.with_schema(&schema)?;
        Ok(Box::new(PostgresHistory::open(&settings).await?) as Box<dyn History>)
    });
    Ok(())
}
