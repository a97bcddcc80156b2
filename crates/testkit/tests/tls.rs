//! Certificates, by handshakes over a pipe in memory.

use anyhow::{Result, ensure};
use hooklane_testkit::tls::{Authority, Identity};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Whether a client of one authority accepts what the server shows for this name.
async fn accepted(
    client: &Authority,
    server: &Authority,
    identity: &Identity,
    name: &'static str,
) -> Result<bool> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connector = TlsConnector::from(client.client_config(None)?);
    let acceptor = TlsAcceptor::from(server.server_config(identity)?);
    let (connected, _) = tokio::join!(connector.connect(name.try_into()?, near), acceptor.accept(far));
    Ok(connected.is_ok())
}

#[tokio::test]
async fn a_certificate_holds_for_its_names_its_authority_and_its_time() -> Result<()> {
    // Goal: each way to be wrong is refused, the right one is not.
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let identity = authority.server(&["hook.test", "127.0.0.1"])?;
    for (name, expected) in [("hook.test", true), ("127.0.0.1", true), ("other.test", false)] {
        ensure!(
            accepted(&authority, &authority, &identity, name).await? == expected,
            "{name}"
        );
    }
    ensure!(
        !accepted(&stranger, &authority, &identity, "hook.test").await?,
        "of another authority"
    );
    let expired = authority.expired_server(&["hook.test"])?;
    ensure!(
        !accepted(&authority, &authority, &expired, "hook.test").await?,
        "expired"
    );
    Ok(())
}

#[test]
fn files_hold_the_pem_and_go_with_the_authority() -> Result<()> {
    // Goal: programs under test get paths; nothing stays.
    let authority = Authority::new()?;
    let identity = authority.client("dispatcher")?;
    ensure!(std::fs::read_to_string(authority.ca_file())? == authority.ca_pem());
    ensure!(std::fs::read_to_string(identity.certificate_file())? == identity.certificate_pem());
    ensure!(std::fs::read_to_string(identity.key_file())? == identity.key_pem());
    drop(authority);
    ensure!(!identity.key_file().exists());
    Ok(())
}
