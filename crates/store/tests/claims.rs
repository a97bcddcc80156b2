//! The suite of claims, on every implementation.

mod suite;

use std::collections::HashMap;

use anyhow::Result;
use hooklane_store::{Claims, ProcessClaims, Verdict};
use hooklane_testkit::postgres::shared;
use proptest::prelude::*;
use suite::{claim, durable, in_postgres, release, settle};

macro_rules! on_every_implementation {
    (everywhere: $( $name:ident )* ; bounded_by_count: $( $bounded:ident )*) => {
        mod process {
            $(
                #[tokio::test]
                async fn $name() -> super::Result<()> {
                    super::suite::$name(&super::ProcessClaims::new(3)).await
                }
            )*
            $(
                #[tokio::test]
                async fn $bounded() -> super::Result<()> {
                    super::suite::$bounded(&super::ProcessClaims::new(3)).await
                }
            )*
        }

        mod sqlite {
            $(
                #[tokio::test]
                async fn $name() -> super::Result<()> {
                    let directory = tempfile::tempdir()?;
                    super::suite::$name(&super::durable(directory.path(), 3)?).await
                }
            )*
            $(
                #[tokio::test]
                async fn $bounded() -> super::Result<()> {
                    let directory = tempfile::tempdir()?;
                    super::suite::$bounded(&super::durable(directory.path(), 3)?).await
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $name() -> super::Result<()> {
                    let database = super::shared().await?.database().await?;
                    super::suite::$name(&super::in_postgres(&database).await?).await
                }
            )*
        }
    };
}

on_every_implementation! {
    everywhere:
    a_repeat_is_noticed_in_flight_and_after
    a_redelivered_message_is_no_duplicate_of_itself_unless_settled
    a_claim_that_was_given_back_leaves_no_trace
    applications_are_not_mixed_up
    ; bounded_by_count:
    the_window_is_bounded_and_the_oldest_yields
}

/// What happens to one of a few events.
#[derive(Clone, Copy, Debug)]
enum Step {
    Claim { n: u32, redelivered: bool },
    Settle { n: u32 },
    Release { n: u32 },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = 0..6_u32;
    let step = prop_oneof![
        6 => (n.clone(), any::<bool>()).prop_map(|(n, redelivered)| Step::Claim { n, redelivered }),
        4 => n.clone().prop_map(|n| Step::Settle { n }),
        3 => n.prop_map(|n| Step::Release { n }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..40)
}

/// The rule, with all room in the world: whether an event that is known was settled.
#[derive(Default)]
struct Model(HashMap<u32, bool>);

impl Model {
    fn claim(&mut self, n: u32, redelivered: bool) -> Verdict {
        match self.0.get(&n) {
            Some(settled) if *settled || !redelivered => Verdict::Duplicate,
            Some(_) => Verdict::Ours,
            None => {
                self.0.insert(n, false);
                Verdict::Ours
            }
        }
    }
}

/// Any history ends with the verdicts of the model. A restart keeps what was settled, where the claims are durable.
async fn agree(steps: Vec<Step>, is_durable: bool) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let open = || -> Result<Box<dyn Claims>> {
        Ok(match is_durable {
            true => Box::new(durable(directory.path(), 100)?),
            false => Box::new(ProcessClaims::new(100)),
        })
    };
    let mut claims = open()?;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Claim { n, redelivered } => {
                let verdict = claim(&*claims, n, redelivered).await?;
                anyhow::ensure!(verdict == model.claim(n, redelivered), "{step:?}: {verdict:?}");
            }
            Step::Settle { n } => {
                settle(&*claims, n).await;
                model.0.entry(n).and_modify(|settled| *settled = true);
            }
            Step::Release { n } => {
                release(&*claims, n);
                model.0.retain(|found, settled| *found != n || *settled);
            }
            Step::Restart => {
                drop(claims);
                claims = open()?;
                model.0.retain(|_, settled| is_durable && *settled);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_rule(steps in steps(), is_durable: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads");
        runtime.block_on(agree(steps, is_durable)).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
    }
}
