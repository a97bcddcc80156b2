//! The PostgreSQL server that tests share.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::postgres::{Server, shared};
use hooklane_testkit::{eventually, process};

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn databases_of_the_shared_server_see_nothing_of_each_other() -> Result<()> {
    let server = shared().await?;
    let (first, second) = (server.database().await?, server.database().await?);
    ensure!(first.name() != second.name() && first.url() != second.url());
    first.psql("CREATE TABLE mine (n int)").await?;
    first.psql("SELECT * FROM mine").await?;
    ensure!(second.psql("SELECT * FROM mine").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_dropped_database_is_deleted_whoever_is_connected() -> Result<()> {
    // Goal: hundreds of tests fill no disk. Method: a connection that would stay for an hour; pg_database.
    let server = shared().await?;
    let (database, other) = (server.database().await?, server.database().await?);
    let name = database.name().to_owned();
    let sleeper = process::Spawn::program("psql")
        .args(["-X", "-d", database.url(), "-c", "SELECT pg_sleep(3600)"])
        .start()?;
    let connected =
        format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND query LIKE '%pg_sleep%'");
    eventually("the connection", WAIT, || async {
        ensure!(other.psql(&connected).await? == "1");
        Ok(())
    })
    .await?;
    drop(database);
    sleeper.wait(WAIT).await?;
    eventually("the database to go", WAIT, || async {
        let left = other
            .psql(&format!(
                "SELECT count(*) FROM pg_database WHERE datname = '{name}'"
            ))
            .await?;
        ensure!(left == "0");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn connections_are_ended_by_what_they_last_said() -> Result<()> {
    // Goal: of two connections the one that is meant, and none of another database.
    let server = shared().await?;
    let (database, other) = (server.database().await?, server.database().await?);
    let start = |url: &str, statement: &str| {
        let psql = process::Spawn::program("psql").args(["-X", "-d", url, "-c", statement]);
        psql.start()
    };
    let meant = start(database.url(), "SELECT pg_sleep(3600), 'it''s'")?;
    let spared = [
        start(database.url(), "SELECT  pg_sleep(3600)")?,
        start(other.url(), "SELECT pg_sleep(3600)")?,
    ];
    eventually("three connections", WAIT, || async {
        let sleeping =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT%pg_sleep(%' AND pid <> pg_backend_pid() \
             AND datname IN ";
        let sleeping = format!("{sleeping} ('{}', '{}')", database.name(), other.name());
        ensure!(other.psql(&sleeping).await? == "3");
        Ok(())
    })
    .await?;
    ensure!(database.end_connections("SELECT pg_sleep(3600), 'it's'").await? == 0);
    ensure!(database.end_connections("SELECT pg_sleep(3600), 'it''s'").await? == 1);
    ensure!(!meant.wait(WAIT).await?.success());
    ensure!(spared.iter().all(|psql| psql.exited().is_none()));
    Ok(())
}

#[tokio::test]
async fn a_killed_test_process_leaves_no_server_behind() -> Result<()> {
    // Goal: the watchdog. Method: this test executable runs the helper below and is killed with SIGKILL; then its server, with a connection that
    // is busy, its data and its shared memory must go.
    let helper = process::Spawn::program(std::env::current_exe()?)
        .args(["--exact", "helper_starts_a_server_and_waits", "--nocapture"])
        .env("TESTKIT_HELPER", "1");
    let helper = helper.start()?;
    let line = helper.wait_for_line("server runs ", WAIT).await?;
    let (_, details) = line.text.split_once("server runs ").context("no details")?;
    let mut words = details.split(' ');
    let mut word = || words.next().context("a word is missing");
    let (port, data, segment) = (word()?.parse::<u16>()?, word()?, word()?);
    ensure!(Path::new(data).exists() && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    ensure!(segments()?.contains(segment), "{segment} is no segment");
    helper.kill9().await?;
    eventually("server, data and shared memory to go", WAIT, || async {
        ensure!(
            std::net::TcpStream::connect(("127.0.0.1", port)).is_err(),
            "the server lives"
        );
        ensure!(!Path::new(data).exists(), "{data} is still there");
        ensure!(!segments()?.contains(segment), "segment {segment} is still there");
        let running = working_in(data)?;
        ensure!(running.is_empty(), "still running: {running:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn test_binaries_can_share_the_server_of_with_postgres() -> Result<()> {
    // Goal: the variable suffices, and the command's failure is passed on. Method: tests of this executable run under it.
    let alone = process::Spawn::program(env!("CARGO_BIN_EXE_with-postgres"))
        .arg(std::env::current_exe()?)
        .args([
            "--exact",
            "databases_of_the_shared_server_see_nothing_of_each_other",
            "a_dropped_database_is_deleted_whoever_is_connected",
        ])
        .run(WAIT)
        .await?;
    ensure!(
        alone.status.success() && alone.stdout.contains("2 passed"),
        "{alone:?}"
    );
    let script = "test \"$(psql -XAt -d \"$HOOKLANE_TEST_POSTGRES\" -c 'SELECT 42')\" = 42 && exit 7";
    let failing = process::Spawn::program(env!("CARGO_BIN_EXE_with-postgres"))
        .args(["/bin/sh", "-c", script])
        .run(WAIT)
        .await?;
    ensure!(failing.status.code() == Some(7), "{failing:?}");
    Ok(())
}

/// The shared memory of the system: a line per segment, its id in it.
fn segments() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sysvipc/shm")?)
}

/// Processes whose working directory this is, or was.
fn working_in(data: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_there = std::fs::read_link(path.join("cwd"))
            .is_ok_and(|directory| directory.to_string_lossy().starts_with(data));
        if is_there {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[tokio::test]
async fn helper_starts_a_server_and_waits() -> Result<()> {
    // Goal: none of its own; the other half of the test above, and nothing unless started by it.
    if std::env::var_os("TESTKIT_HELPER").is_none() {
        return Ok(());
    }
    let server = Server::start().await?;
    let data = server.psql("SHOW data_directory").await?;
    let file = std::fs::read_to_string(Path::new(&data).join("postmaster.pid"))?;
    let line = file.lines().nth(6).context("no line of shared memory")?;
    let segment = line.split_whitespace().nth(1).context("no segment")?;
    let busy = server.database().await?;
    let busy = busy.psql("SELECT count(*) FROM generate_series(1, 100000000000)");
    println!("server runs {} {data} {segment} .", server.port());
    busy.await.map(drop)
}
