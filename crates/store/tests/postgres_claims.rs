//! Claims in PostgreSQL, in ways that others do not know: several processes, time, a server that is away.

mod suite;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use hooklane_store::Verdict;
use hooklane_store::postgres::PostgresClaims;
use hooklane_testkit::eventually;
use hooklane_testkit::postgres::{Database, Server, shared};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use suite::{claim, in_postgres, release, settle};

const WAIT: Duration = Duration::from_secs(60);

async fn database() -> Result<Database> {
    shared().await?.database().await
}

async fn is_repeat(claims: &PostgresClaims, n: u32) -> Result<bool> {
    Ok(claim(claims, n, false).await? == Verdict::Duplicate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_that_claim_the_same_at_once_one_has_each() -> Result<()> {
    // Goal: batches that hold the same keys in another order neither share one nor wait for each other.
    let database = database().await?;
    let claims = [in_postgres(&database).await?, in_postgres(&database).await?];
    let count = 2_000;
    let all = |claims: &'static PostgresClaims, order: Vec<u32>| async move {
        try_join_all(order.into_iter().map(|n| async move {
            let verdict = claim(claims, n, false).await?;
            anyhow::Ok((n, verdict))
        }))
        .await
    };
    let claims: &'static [PostgresClaims; 2] = Box::leak(Box::new(claims));
    let (one, two) = tokio::try_join!(
        tokio::spawn(all(&claims[0], (0..count).collect())),
        tokio::spawn(all(&claims[1], (0..count).rev().collect()))
    )?;
    let mut ours = HashMap::new();
    let mut from_each = [0, 0];
    for (at, verdicts) in [one?, two?].into_iter().enumerate() {
        for (n, verdict) in verdicts {
            let found = usize::from(verdict == Verdict::Ours);
            *ours.entry(n).or_insert(0) += found;
            from_each[at] += found;
        }
    }
    ensure!(ours.len() == count as usize && ours.values().all(|found| *found == 1));
    println!("2,000 keys: {} and {}", from_each[0], from_each[1]);
    // What one has settled is settled for the other.
    for n in 0..count {
        settle(&claims[0], n).await;
        if n % 200 == 0 {
            ensure!(claim(&claims[1], n, true).await? == Verdict::Duplicate, "{n}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn claims_are_given_up_with_time_and_removed() -> Result<()> {
    // Method: the rows are made older than they are.
    let database = database().await?;
    let claims = in_postgres(&database).await?;
    for n in 1..=4 {
        claim(&claims, n, false).await?;
    }
    settle(&claims, 1).await;
    settle(&claims, 2).await;
    database
        .psql("UPDATE hooklane.claims SET at = at - interval '31 minutes'")
        .await?;
    // In work for so long: nobody's. Settled: a repeat.
    ensure!(is_repeat(&claims, 1).await?);
    ensure!(!is_repeat(&claims, 3).await?, "its holder is gone");
    ensure!(is_repeat(&claims, 3).await?, "it has a holder again");
    database
        .psql("UPDATE hooklane.claims SET at = at - interval '24 hours'")
        .await?;
    ensure!(!is_repeat(&claims, 1).await?, "a day is over");
    ensure!(is_repeat(&claims, 1).await?);
    claims.shut_down().await;
    let claims = in_postgres(&database).await?;
    eventually("the old ones to go", WAIT, || async {
        let left = database.psql("SELECT count(*) FROM hooklane.claims").await?;
        ensure!(left == "1", "{left}");
        Ok(())
    })
    .await?;
    ensure!(is_repeat(&claims, 1).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_claims_fail_and_the_rest_is_told_afterwards() -> Result<()> {
    let server = Server::start().await?;
    let database = server.database().await?;
    let claims = in_postgres(&database).await?;
    for n in 1..=3 {
        claim(&claims, n, false).await?;
    }
    server.kill9().await?;
    ensure!(claim(&claims, 9, false).await.is_err());
    // Neither is waited for.
    tokio::time::timeout(WAIT, settle(&claims, 1)).await?;
    release(&claims, 2);
    tokio::time::timeout(WAIT, settle(&claims, 4)).await?;
    server.restart().await?;
    eventually("claims", WAIT, || async {
        claim(&claims, 5, false).await.map(drop)
    })
    .await?;
    let verdict = claim(&claims, 1, true).await?;
    ensure!(
        verdict == Verdict::Duplicate,
        "1 was settled meanwhile: {verdict:?}"
    );
    ensure!(!is_repeat(&claims, 2).await?, "2 was given back meanwhile");
    ensure!(claim(&claims, 3, true).await? == Verdict::Ours);
    ensure!(
        claim(&claims, 4, true).await? == Verdict::Duplicate,
        "4 went out unclaimed"
    );
    Ok(())
}

/// What happens to one of a few events.
#[derive(Clone, Copy, Debug)]
enum Step {
    Claim { n: u32, redelivered: bool },
    Settle { n: u32 },
    Release { n: u32 },
    Restart,
}

#[tokio::test]
async fn any_history_agrees_with_the_rule_over_restarts() -> Result<()> {
    // Goal: what is claimed and what is settled outlives the process; also what is settled without a claim.
    let n = 0..6_u32;
    let step = prop_oneof![
        6 => (n.clone(), any::<bool>()).prop_map(|(n, redelivered)| Step::Claim { n, redelivered }),
        4 => n.clone().prop_map(|n| Step::Settle { n }),
        3 => n.prop_map(|n| Step::Release { n }),
        1 => Just(Step::Restart),
    ];
    let steps = prop::collection::vec(step, 0..40);
    let database = database().await?;
    let mut claims = in_postgres(&database).await?;
    let mut runner = TestRunner::default();
    for _ in 0..32 {
        let steps = steps
            .new_tree(&mut runner)
            .map_err(|why| anyhow::anyhow!("{why}"))?
            .current();
        database.psql("TRUNCATE hooklane.claims").await?;
        let mut model: HashMap<u32, bool> = HashMap::new();
        for step in &steps {
            match *step {
                Step::Claim { n, redelivered } => {
                    let expected = match model.get(&n) {
                        Some(settled) if *settled || !redelivered => Verdict::Duplicate,
                        _ => Verdict::Ours,
                    };
                    model.entry(n).or_insert(false);
                    let verdict = claim(&claims, n, redelivered)
                        .await
                        .with_context(|| format!("{steps:?}"))?;
                    ensure!(verdict == expected, "{step:?} in {steps:?}: {verdict:?}");
                }
                Step::Settle { n } => {
                    settle(&claims, n).await;
                    model.insert(n, true);
                }
                Step::Release { n } => {
                    release(&claims, n);
                    model.retain(|found, settled| *found != n || *settled);
                }
                Step::Restart => {
                    claims.shut_down().await;
                    claims = in_postgres(&database).await?;
                }
            }
        }
        // What waits still would come into the next history.
        claims.shut_down().await;
        claims = in_postgres(&database).await?;
    }
    Ok(())
}
