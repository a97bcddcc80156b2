//! Answers of requests with an idempotency key, on every implementation.

use anyhow::{Result, ensure};
use hooklane_store::postgres::PostgresSettings;
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::responses::{Answer, IN_WORK_MS, KEPT_MS, RequestKey, Responses, Taken};
use hooklane_store::sqlite::catalog::SqliteCatalog;
use hooklane_testkit::postgres::shared;
use hooklane_types::UnixMillis;

const KEY: RequestKey = [7; 32];

fn at(ms: i64) -> UnixMillis {
    UnixMillis(1_700_000_000_000 + ms)
}

fn answer() -> Answer {
    Answer {
        request: [9; 32],
        status: 202,
        body: vec![0, 255, b'{'],
    }
}

async fn a_key_is_taken_once_and_its_answer_is_kept_for_twelve_hours(
    responses: &dyn Responses,
) -> Result<()> {
    ensure!(responses.take(&KEY, at(0)).await? == Taken::Ours);
    ensure!(responses.take(&KEY, at(1)).await? == Taken::InWork);
    ensure!(
        responses.take(&[8; 32], at(1)).await? == Taken::Ours,
        "another key"
    );
    responses.keep(&KEY, answer(), at(2)).await?;
    ensure!(responses.take(&KEY, at(1 + KEPT_MS)).await? == Taken::Kept(answer()));
    ensure!(responses.take(&KEY, at(2 + KEPT_MS)).await? == Taken::Ours);
    ensure!(responses.take(&KEY, at(3 + KEPT_MS)).await? == Taken::InWork);
    Ok(())
}

async fn a_key_that_was_given_back_is_free_and_an_answer_stays(responses: &dyn Responses) -> Result<()> {
    ensure!(responses.take(&KEY, at(0)).await? == Taken::Ours);
    responses.give_back(&KEY).await?;
    ensure!(responses.take(&KEY, at(1)).await? == Taken::Ours);
    responses.keep(&KEY, answer(), at(2)).await?;
    responses.give_back(&KEY).await?;
    ensure!(responses.take(&KEY, at(3)).await? == Taken::Kept(answer()));
    Ok(())
}

async fn a_request_whose_process_died_frees_its_key_after_a_minute(responses: &dyn Responses) -> Result<()> {
    ensure!(responses.take(&KEY, at(0)).await? == Taken::Ours);
    ensure!(responses.take(&KEY, at(IN_WORK_MS - 1)).await? == Taken::InWork);
    ensure!(responses.take(&KEY, at(IN_WORK_MS)).await? == Taken::Ours);
    Ok(())
}

async fn of_many_that_come_at_once_one_is_carried_out(responses: &dyn Responses) -> Result<()> {
    let takes = (0..16).map(|_| responses.take(&KEY, at(0)));
    let taken = futures_util::future::try_join_all(takes).await?;
    let ours = taken.iter().filter(|taken| **taken == Taken::Ours).count();
    ensure!(ours == 1, "{taken:?}");
    Ok(())
}

macro_rules! on_every_implementation {
    ($($name:ident)*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> super::Result<()> {
                    let directory = tempfile::tempdir()?;
                    super::$name(&super::SqliteCatalog::open(directory.path())?).await
                }
            )*
        }

        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() -> super::Result<()> {
                    let database = super::shared().await?.database().await?;
                    let settings = super::PostgresSettings::parse(database.url())?;
                    super::$name(&super::PostgresCatalog::open(&settings).await?).await
                }
            )*
        }
    };
}

on_every_implementation! {
    a_key_is_taken_once_and_its_answer_is_kept_for_twelve_hours
    a_key_that_was_given_back_is_free_and_an_answer_stays
    a_request_whose_process_died_frees_its_key_after_a_minute
    of_many_that_come_at_once_one_is_carried_out
}
