//! How the server of the store is reached with TLS, against one that takes nothing else.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hooklane_store::catalog::{Catalog, Kind};
use hooklane_store::postgres::catalog::PostgresCatalog;
use hooklane_store::postgres::{PostgresError, PostgresSettings};
use hooklane_testkit::postgres::{Options, Server};
use hooklane_testkit::tls::Authority;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sslmode_looks_at_what_it_says() -> Result<()> {
    // Goal: the server's certificate is for `localhost` and of an authority of ours; every mode by name, by address, and with another authority (of the
    // same name, so that its signature tells).
    let (authority, stranger) = (Arc::new(Authority::new()?), Authority::new()?);
    let server = Server::start_with(Options::default().tls(&authority)).await?;
    let database = server.database().await?;
    let by_name = database.url().replace("127.0.0.1", "localhost");
    let (ours, theirs) = (
        format!("&sslrootcert={}", authority.ca_file().display()),
        format!("&sslrootcert={}", stranger.ca_file().display()),
    );
    for (mode, root, is_by_name, expected) in [
        ("disable", "", true, Err("no encryption")),
        ("prefer", "", false, Ok(())),
        ("require", "", false, Ok(())),
        ("require", ours.as_str(), false, Ok(())),
        ("require", theirs.as_str(), true, Err("BadSignature")),
        ("verify-ca", ours.as_str(), false, Ok(())),
        ("verify-ca", theirs.as_str(), false, Err("BadSignature")),
        ("verify-full", ours.as_str(), true, Ok(())),
        ("verify-full", ours.as_str(), false, Err("not valid for name")),
        ("verify-full", theirs.as_str(), true, Err("BadSignature")),
        // The system's authorities did not sign it.
        ("verify-full", "", true, Err("UnknownIssuer")),
    ] {
        let address = if is_by_name { &by_name } else { database.url() };
        let settings = PostgresSettings::parse(&format!("{address}?sslmode={mode}{root}"))?;
        let opened = PostgresCatalog::open(&settings).await;
        let case = format!("{mode}{root} by name {is_by_name}");
        match (opened, expected) {
            (Ok(catalog), Ok(())) => {
                catalog
                    .get(Kind::Application, "org_a", "app_1")
                    .await
                    .context(case)?;
            }
            (Err(error), Err(expected)) => ensure!(error.to_string().contains(expected), "{case}: {error}"),
            (opened, _) => anyhow::bail!("{case}: {:?}", opened.err()),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_root_certificate_that_is_none_is_named() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ca.pem");
    for content in [
        None,
        Some(""),
        Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content)?;
        }
        let url = format!(
            "postgres://u:p@127.0.0.1:1/d?sslmode=verify-full&sslrootcert={}",
            file.display()
        );
        let error = PostgresCatalog::open(&PostgresSettings::parse(&url)?).await.err();
        let text = format!("{error:?}");
        ensure!(
            matches!(error, Some(PostgresError::Settings { .. })),
            "{content:?}: {text}"
        );
    }
    Ok(())
}
