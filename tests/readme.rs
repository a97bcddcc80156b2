//! The README, followed to the letter: every line of its shell blocks under "Three things to try next", with free ports and a vhost of the
//! test's own in place of those it names. One part right behind the other, as whoever pastes them has it: only a service that was started is
//! waited for, until it says that it listens, and what the blocks themselves wait for.

mod stage;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::Port;
use hooklane_testkit::process::{Process, Spawn};
use hooklane_testkit::python::workspace_root;
use hooklane_testkit::rabbitmq::shared;
use stage::SOON;
use tempfile::TempDir;

const RECEIVER_PORT: &str = "8073";
const BROKER: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";
/// For a retry after 5 s, on a busy machine.
const RETRIED: Duration = Duration::from_secs(30);

/// The shell blocks of one section.
fn blocks(readme: &str, section: &str) -> Result<Vec<String>> {
    let at = readme
        .find(&format!("\n### {section}"))
        .with_context(|| format!("no section {section}"))?;
    let text = &readme[at + 5..];
    let text = &text[..text.find("\n##").unwrap_or(text.len())];
    Ok(text
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .map(str::to_owned)
        .collect())
}

/// A shell's session: its directory, variables, jobs, and what each line printed.
struct Session {
    dir: TempDir,
    variables: HashMap<String, String>,
    jobs: Vec<Process>,
    replace: Vec<(String, String)>,
    printed: String,
}

impl Session {
    async fn block(&mut self, block: &str) -> Result<()> {
        for line in block.lines() {
            self.line(line).await.with_context(|| line.to_owned())?;
        }
        Ok(())
    }

    async fn line(&mut self, line: &str) -> Result<()> {
        let mut line = line.split(" # ").next().unwrap_or_default().trim().to_owned();
        for (from, to) in &self.replace {
            line = line.replace(from, to);
        }
        if let Some(jobs) = line.strip_prefix("kill %") {
            let (job, waited) = jobs
                .split_once("; wait %")
                .map_or((jobs, None), |(job, waited)| (job, Some(waited)));
            let process = self.job(job)?;
            process.terminate()?;
            if let Some(waited) = waited {
                let process = self.job(waited)?;
                ensure!(process.wait(SOON).await?.success(), "{}", process.output().tail());
            }
            return Ok(());
        }
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            self.variables.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        if let Some(command) = line.strip_suffix(" &") {
            let job = self.shell(&format!("exec {command}"))?.start()?;
            job.wait_for_line("listening on http", SOON).await?;
            self.jobs.push(job);
            return Ok(());
        }
        self.printed = self.shell(&line)?.run_ok(SOON).await?;
        Ok(())
    }

    fn job(&self, number: &str) -> Result<&Process> {
        let number: usize = number.parse()?;
        self.jobs
            .get(number - 1)
            .with_context(|| format!("no job {number}"))
    }

    fn shell(&self, command: &str) -> Result<Spawn> {
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_hooklane"));
        let directory = binary.parent().context("it lies in a directory")?;
        let path = std::env::var("PATH")?;
        let mut spawn = Spawn::program("bash")
            .args(["-c", command])
            .cwd(self.dir.path())
            .env("PATH", format!("{}:{path}", directory.display()))
            .env("HOOKLANE_INGEST__LISTEN", "127.0.0.1:0")
            .env("HOOKLANE_DISPATCHER__LISTEN", "127.0.0.1:0");
        for (name, value) in &self.variables {
            spawn = spawn.env(name, value);
        }
        Ok(spawn)
    }

    /// Whether a job has printed this by now.
    fn has_printed(&self, job: usize, text: &str) -> Result<bool> {
        Ok(self.job(&job.to_string())?.output().stdout().contains(text))
    }

    /// Waits until a job has printed this.
    async fn wait(&self, job: usize, text: &str) -> Result<()> {
        self.jobs[job - 1].wait_for_line(text, RETRIED).await.map(drop)
    }
}

/// Goal: whoever copies the blocks sees what the text says: a failure and its retry, a dead letter and its replay, the move to RabbitMQ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_three_things_to_try_do_what_the_readme_says() -> Result<()> {
    let readme = std::fs::read_to_string(workspace_root().join("README.md"))?;
    ensure!(
        readme.contains(&format!("export HOOKLANE_BROKER__URL={BROKER}")),
        "another broker is named"
    );
    let port = Port::lease()?;
    let vhost = shared().await?.vhost().await?;
    let mut session = Session {
        dir: tempfile::tempdir()?,
        variables: HashMap::new(),
        jobs: Vec::new(),
        replace: vec![
            (RECEIVER_PORT.to_owned(), port.number().to_string()),
            (BROKER.to_owned(), vhost.url().to_owned()),
        ],
        printed: String::new(),
    };

    let first = blocks(&readme, "1.")?;
    ensure!(first.len() == 2, "{first:?}");
    session.block(&first[0]).await?;
    session.block(&first[1]).await?;
    ensure!(session.printed.contains("first-endpoint"), "{}", session.printed);
    // The one that failed was tried again, within the block's own time.
    for answered in ["signature valid, answered 500", "signature valid, answered 204"] {
        ensure!(
            session.has_printed(1, answered)?,
            "part 1 ends before: {answered}"
        );
    }

    let second = blocks(&readme, "2.")?;
    ensure!(second.len() == 2, "{second:?}");
    let (until_list, receiver) = second[0].split_once("hooklane dead list\n").context("a list")?;
    session.block(until_list).await?;
    session.block("hooklane dead list").await?;
    ensure!(
        session.printed.matches("first-endpoint").count() == 1,
        "one dead letter, that of part 2: {}",
        session.printed
    );
    session.block(receiver).await?;
    session.block(&second[1]).await?;

    let third = blocks(&readme, "3.")?;
    ensure!(third.len() == 2, "{third:?}");
    session.block(&third[0]).await?;
    session.wait(3, "signature valid, answered 204").await?;
    let mark = session.jobs[2].output().mark();
    session.block(&third[1]).await?;
    let receiver = session.jobs[2].output();
    receiver
        .wait_for_after(mark, "signature valid, answered 204", RETRIED)
        .await?;
    Ok(())
}
