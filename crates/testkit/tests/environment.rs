//! The programs of others, where `tests/run` has made their environment.

use std::time::Duration;

use anyhow::{Result, ensure};
use hooklane_testkit::process::Spawn;
use hooklane_testkit::{javascript, python};

const WAIT: Duration = Duration::from_secs(30);

/// Runs it where there is an environment; where there is none, the error must say what makes it.
async fn prints_or_names_the_remedy(program: Result<Spawn>, printed: &str) -> Result<()> {
    match program {
        Ok(program) => {
            let stdout = program.run_ok(WAIT).await?;
            ensure!(stdout.trim() == printed, "{stdout:?}");
        }
        Err(error) => ensure!(error.to_string().contains("tests/run makes it"), "{error:#}"),
    }
    Ok(())
}

#[tokio::test]
async fn python_runs_or_says_how_to_get_its_packages() -> Result<()> {
    // Goal: the packages can be imported, or the remedy is named.
    let code = "import standardwebhooks, svix, pika, cloudevents, flask; print('imported')";
    prints_or_names_the_remedy(python::code(code), "imported").await
}

#[tokio::test]
async fn javascript_runs_or_says_how_to_get_its_packages() -> Result<()> {
    // Goal: the packages can be required, or the remedy is named.
    let code = "for (const name of ['standardwebhooks', 'svix', 'express', 'amqplib']) require(name); console.log('required')";
    prints_or_names_the_remedy(javascript::code(code), "required").await
}
