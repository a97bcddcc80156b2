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
async fn a_burst_of_one_id_takes_few_statements_and_no_other_id_waits_behind_it() -> Result<()> {
    // Method: the server counts the statements that claim, and is slow, so that all the rest waits while the first is under way.
    let database = database().await?;
    let claims = in_postgres(&database).await?;
    claim(&claims, 1_000, false).await?;
    database
        .psql(
            "CREATE SEQUENCE hooklane.asked; \
             CREATE FUNCTION hooklane.count_one() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM nextval('hooklane.asked'), pg_sleep(0.02); RETURN NULL; END $$; \
             CREATE TRIGGER count_them BEFORE INSERT ON hooklane.claims EXECUTE FUNCTION hooklane.count_one()",
        )
        .await?;
    let count = 40;
    let all = (0..count).flat_map(|n| [0, n + 1]);
    let verdicts = try_join_all(all.map(|n| claim(&claims, n, false))).await?;
    let asked: u32 = database
        .psql("SELECT last_value FROM hooklane.asked WHERE is_called")
        .await?
        .parse()?;
    println!("{} claims by {asked} statements", 2 * count);
    ensure!(asked <= 4, "{asked}");
    for (at, verdict) in verdicts.into_iter().enumerate() {
        let is_first = at == 0 || at % 2 == 1;
        ensure!((verdict == Verdict::Ours) == is_first, "{at}: {verdict:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_burst_keeps_the_order_of_what_is_wished_of_one_id() -> Result<()> {
    // Goal: what is asked behind a settlement is answered by it; what is given back in front of one is not its claim.
    let database = database().await?;
    let claims = in_postgres(&database).await?;
    let (_, again, (), after, ()) = tokio::join!(
        biased;
        claim(&claims, 1, false),
        claim(&claims, 1, true),
        settle(&claims, 1),
        claim(&claims, 1, true),
        async { release(&claims, 1) }
    );
    ensure!(
        again? == Verdict::Ours,
        "the first has it, and has not settled it"
    );
    ensure!(after? == Verdict::Duplicate, "it is settled");
    let (first, (), second, third) = tokio::join!(
        biased;
        claim(&claims, 2, false),
        async { release(&claims, 2) },
        claim(&claims, 2, false),
        claim(&claims, 2, false)
    );
    let found = [first?, second?, third?];
    ensure!(
        found == [Verdict::Ours, Verdict::Ours, Verdict::Duplicate],
        "{found:?}"
    );
    ensure!(claim(&claims, 1, true).await? == Verdict::Duplicate);
    Ok(())
}

#[tokio::test]
async fn claims_of_one_id_at_once_have_the_answers_that_one_after_the_other_has() -> Result<()> {
    // Goal: also for messages that come again. Method: any four claims, of an id that is new, in another process's work or settled.
    let database = database().await?;
    let [claims, other] = [in_postgres(&database).await?, in_postgres(&database).await?];
    for way in 0..48 {
        let redelivered = [1, 2, 4, 8].map(|bit| way & bit != 0);
        let [at_once, in_turn] = [way, 1_000 + way];
        for id in [at_once, in_turn] {
            if way >= 16 {
                claim(&other, id, false).await?;
            }
            if way >= 32 {
                settle(&other, id).await;
            }
        }
        let found = try_join_all(redelivered.map(|again| claim(&claims, at_once, again))).await?;
        for (found, again) in found.into_iter().zip(redelivered) {
            let expected = claim(&claims, in_turn, again).await?;
            ensure!(found == expected, "{way}, {redelivered:?}: {found:?}");
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
