//! Private PostgreSQL servers, against the real one.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hooklane_testkit::postgres::{Options, Server};
use hooklane_testkit::process::Spawn;
use hooklane_testkit::tls::Authority;

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_server_keeps_committed_rows_over_kill_9_and_over_a_stop() -> Result<()> {
    // Goal: kill9, stop and restart act on the same server with the same data. Method: one row each; a connection that is busy while it is killed.
    let server = Server::start().await?;
    ensure!(server.psql("SELECT 6 * 7").await? == "42");
    let database = server.database().await?;
    database.psql("CREATE TABLE kept (n int)").await?;
    database.psql("INSERT INTO kept VALUES (1)").await?;
    let busy = database.psql("SELECT count(*) FROM generate_series(1, 100000000000)");
    let killed = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill9().await
    };
    let (busy, killed) = tokio::join!(busy, killed);
    killed?;
    ensure!(busy.is_err(), "a killed server answers");
    ensure!(!server.is_running());
    ensure!(
        TcpStream::connect(("127.0.0.1", server.port())).is_err(),
        "a killed server still listens"
    );
    server.restart().await?;
    ensure!(
        server.output()?.contains("automatic recovery"),
        "{}",
        server.output()?
    );
    ensure!(database.psql("SELECT n FROM kept").await? == "1");
    database.psql("INSERT INTO kept VALUES (2)").await?;
    server.stop().await?;
    ensure!(server.psql("SELECT 1").await.is_err(), "a stopped server answers");
    server.restart().await?;
    ensure!(!server.output()?.contains("automatic recovery"));
    ensure!(database.psql("SELECT n FROM kept ORDER BY n").await? == "1\n2");
    Ok(())
}

#[tokio::test]
async fn a_server_wants_its_password_and_commits_to_the_disk() -> Result<()> {
    // Goal: what is tested here is what stands elsewhere: a password, fsync, an order of texts that is not that of their bytes.
    let server = Server::start().await?;
    let error = as_another(&server.url().replace("hooklane:hooklane", "hooklane:wrong")).await?;
    ensure!(error.contains("password authentication failed"), "{error}");
    ensure!(server.psql("SHOW fsync").await? == "on");
    ensure!(server.psql("SHOW synchronous_commit").await? == "on");
    ensure!(
        server
            .psql("SELECT x FROM (VALUES ('b'), ('a'), ('B')) AS t (x) ORDER BY x")
            .await?
            == "a\nb\nB"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_with_tls_takes_nothing_else() -> Result<()> {
    // Goal: Options::tls, by its own clients: without TLS refused, with the authority's certificate by name, not by address.
    let authority = Arc::new(Authority::new()?);
    let server = Server::start_with(Options::default().tls(&authority)).await?;
    let url = server.url();
    let root = format!("sslrootcert={}", authority.ca_file().display());
    let error = as_another(&format!("{url}?sslmode=disable")).await?;
    ensure!(error.contains("no encryption"), "{error}");
    let error = as_another(&format!("{url}?sslmode=verify-full&{root}")).await?;
    ensure!(error.contains("does not match host name"), "{error}");
    let by_name = url.replace("127.0.0.1", "localhost");
    let error = as_another(&format!("{by_name}?sslmode=verify-full&{root}")).await?;
    ensure!(error.is_empty(), "{error}");
    Ok(())
}

/// What psql says when it cannot connect to a URL; nothing when it can.
async fn as_another(url: &str) -> Result<String> {
    let ended = Spawn::program("psql")
        .args(["-X", "-d", url, "-c", "SELECT 1"])
        .run(WAIT)
        .await
        .context("psql")?;
    Ok(ended.stderr)
}
