//! The suite of the catalog, on every implementation.

#[path = "catalog/suite.rs"]
mod suite;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use hooklane_store::catalog::{Address, Catalog, CatalogError, Document, Draft, Kind};
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::sqlite::catalog::SqliteCatalog;
use hooklane_testkit::postgres::shared;
use hooklane_types::UnixMillis;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use suite::{Follower, address, now};

macro_rules! on_every_implementation {
    ($(
        $name:ident
    )*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> super::Result<()> {
                    let directory = tempfile::tempdir()?;
                    super::suite::$name(&super::SqliteCatalog::open(directory.path())?).await
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> super::Result<()> {
                    let database = super::shared().await?.database().await?;
                    let settings = super::PostgresSettings::parse(database.url())?;
                    super::suite::$name(&super::PostgresCatalog::open(&settings).await?).await
                }
            )*
        }
    };
}

on_every_implementation! {
    a_document_is_found_by_id_and_by_uid_in_its_scope_alone
    no_two_share_an_id_or_a_uid
    an_update_needs_what_was_read
    many_who_update_at_once_lose_no_update
    many_who_insert_one_id_at_once_make_one
    an_endpoint_needs_its_application_and_goes_with_it
    lists_are_cut_into_pages_in_both_directions
    lists_are_in_the_order_of_bytes
    a_follower_hears_of_each_change_once
    who_was_away_too_long_is_told_everything
    followers_are_woken
    thousands_are_told_in_one_piece
}

/// What may happen to a catalog.
#[derive(Clone, Debug)]
enum Step {
    Insert(Draft),
    Update {
        at: Address,
        uid: Option<String>,
    },
    Remove(Address),
    /// A follower catches up.
    Follow,
    /// The process ends, and another opens the file.
    Restart,
}

fn any_address() -> impl Strategy<Value = Address> {
    let application = (0..3u8).prop_map(|n| address(Kind::Application, "org", &format!("app_{n}")));
    let endpoint =
        (0..3u8, 0..3u8).prop_map(|(a, n)| address(Kind::Endpoint, &format!("app_{a}"), &format!("ep_{n}")));
    prop_oneof![application, endpoint]
}

fn any_step() -> impl Strategy<Value = Step> {
    let uid = || proptest::option::of(prop_oneof![Just("u".to_owned()), Just("app_1".to_owned())]);
    prop_oneof![
        5 => (any_address(), uid()).prop_map(|(address, uid)| Step::Insert(Draft {
            address,
            uid,
            content: "{}".to_owned(),
        })),
        3 => (any_address(), uid()).prop_map(|(at, uid)| Step::Update { at, uid }),
        3 => any_address().prop_map(Step::Remove),
        2 => Just(Step::Follow),
        1 => Just(Step::Restart),
    ]
}

/// What a catalog should hold: the rules, spelt out over a map.
#[derive(Default)]
struct Model(BTreeMap<Address, Document>);

impl Model {
    fn is_taken(&self, by: &Address, text: &str) -> bool {
        self.0.iter().any(|(at, document)| {
            at.kind == by.kind
                && at.scope == by.scope
                && at.id != by.id
                && (at.id == text || document.uid.as_deref() == Some(text))
        })
    }

    fn insert(&self, draft: &Draft) -> Result<(), CatalogError> {
        let at = &draft.address;
        let application = |id: &str| self.0.contains_key(&address(Kind::Application, "org", id));
        if at.kind == Kind::Endpoint && !application(&at.scope) {
            return Err(CatalogError::NoScope);
        }
        if self.0.contains_key(at) || self.is_taken(at, &at.id) {
            return Err(CatalogError::IdTaken);
        }
        match draft.uid.as_deref() {
            Some(uid) if self.is_taken(at, uid) => Err(CatalogError::UidTaken),
            _ => Ok(()),
        }
    }
}

async fn play(steps: Vec<Step>, open: impl AsyncFn() -> Result<Box<dyn Catalog>>) -> Result<()> {
    let mut catalog = open().await?;
    let (mut model, mut follower) = (Model::default(), Follower::default());
    for (n, step) in steps.into_iter().enumerate() {
        let at = UnixMillis(now().0 + n as i64);
        match step {
            Step::Insert(draft) => {
                let expected = model.insert(&draft);
                let result = catalog.insert(draft, at).await;
                ensure!(
                    result.clone().map(drop) == expected,
                    "{result:?}, not {expected:?}"
                );
                if let Ok(document) = result {
                    model.0.insert(document.address.clone(), document);
                }
            }
            Step::Update { at: address, uid } => {
                let Some(read) = model.0.get(&address) else {
                    continue;
                };
                let is_taken = uid.as_deref().is_some_and(|uid| model.is_taken(&address, uid));
                match catalog.update(read, uid, format!("{n}"), at).await {
                    Err(CatalogError::UidTaken) => ensure!(is_taken),
                    Err(error) => return Err(error.into()),
                    Ok(document) => {
                        ensure!(!is_taken);
                        model.0.insert(address, document);
                    }
                }
            }
            Step::Remove(address) => {
                let expected = match model.0.remove(&address) {
                    Some(_) => Ok(()),
                    None => Err(CatalogError::NotFound),
                };
                if address.kind == Kind::Application && expected.is_ok() {
                    model.0.retain(|at, _| at.scope != address.id);
                }
                let result = catalog.remove(&address, at).await;
                ensure!(result == expected, "{result:?}, not {expected:?}");
            }
            Step::Follow => {
                follower.follow(&*catalog).await?;
                ensure!(
                    follower.known == model.0,
                    "{:?}, not {:?}",
                    follower.known,
                    model.0
                );
            }
            Step::Restart => {
                drop(catalog);
                catalog = open().await?;
            }
        }
    }
    follower.follow(&*catalog).await?;
    ensure!(
        follower.known == model.0,
        "{:?}, not {:?}",
        follower.known,
        model.0
    );
    Ok(())
}

/// Plays 60 histories.
fn any_history(play: impl AsyncFn(Vec<Step>) -> Result<()>) {
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let played = TestRunner::new(config).run(&proptest::collection::vec(any_step(), 0..40), |steps| {
        runtime()
            .block_on(play(steps))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

#[test]
fn whatever_happens_it_agrees_with_a_map_and_so_do_its_followers() {
    any_history(async |steps| {
        let directory = tempfile::tempdir()?;
        play(steps, async || {
            Ok(Box::new(SqliteCatalog::open(directory.path())?) as Box<dyn Catalog>)
        })
        .await
    });
}

#[test]
fn whatever_happens_on_postgresql_it_agrees_with_a_map_and_so_do_its_followers() -> Result<()> {
    // Each history in a schema of its own.
    let database = runtime().block_on(async { shared().await?.database().await })?;
    let histories = AtomicUsize::new(0);
    any_history(async |steps| {
        let schema = format!("history_{}", histories.fetch_add(1, Ordering::Relaxed));
        let settings = PostgresSettings::parse(database.url())?.with_schema(&schema)?;
        play(steps, async || {
            Ok(Box::new(PostgresCatalog::open(&settings).await?) as Box<dyn Catalog>)
        })
        .await
    });
    Ok(())
}
