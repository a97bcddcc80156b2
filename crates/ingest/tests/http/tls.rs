//! TLS, and certificates that change.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hooklane_ingest::{IngestError, IngestSettings, TlsSettings};
use hooklane_testkit::eventually;
use hooklane_testkit::tls::{Authority, Identity};
use rustls::ClientConfig;
use tempfile::TempDir;

use crate::fixture::{BODY, PATH, Running, client};

fn install(dir: &Path, identity: &Identity) -> TlsSettings {
    let settings = TlsSettings {
        certificate: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        reload: Arc::default(),
    };
    std::fs::write(&settings.certificate, identity.certificate_pem()).unwrap();
    std::fs::write(&settings.key, identity.key_pem()).unwrap();
    settings
}

/// A client that trusts one authority and offers these protocols; it opens a connection for each request.
fn trusting(authority: &Authority, protocols: &[&str]) -> reqwest::Client {
    let mut config = ClientConfig::clone(&authority.client_config(None).unwrap());
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    client(
        reqwest::Client::builder()
            .use_preconfigured_tls(config)
            .pool_max_idle_per_host(0),
    )
}

async fn publish(ingest: &Running, client: &reqwest::Client) -> reqwest::Result<(u16, reqwest::Version)> {
    let url = format!("https://localhost:{}{PATH}", ingest.address.port());
    let answer = client.post(url).body(BODY).send().await?;
    Ok((answer.status().as_u16(), answer.version()))
}

#[tokio::test]
async fn serves_both_protocols_over_tls() {
    // Goal: ALPN decides between HTTP/2 and HTTP/1.1; plain HTTP gets nothing.
    let dir = TempDir::new().unwrap();
    let authority = Authority::new().unwrap();
    let tls = install(dir.path(), &authority.server(&["localhost"]).unwrap());
    let (ingest, broker) = Running::scripted(IngestSettings {
        tls: Some(tls),
        ..IngestSettings::default()
    })
    .await;
    let both = publish(&ingest, &trusting(&authority, &["h2", "http/1.1"]))
        .await
        .unwrap();
    assert_eq!(both, (202, reqwest::Version::HTTP_2));
    let old = publish(&ingest, &trusting(&authority, &["http/1.1"]))
        .await
        .unwrap();
    assert_eq!(old, (202, reqwest::Version::HTTP_11));
    assert_eq!(broker.published().len(), 2);

    let mut plain = ingest.connect().await;
    plain.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    plain.is_ended().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    // Goal: a renewal takes effect without a restart, on a signal and by the files' change; a bad pair changes nothing.
    let dir = TempDir::new().unwrap();
    let (old, new, newest) = (
        Authority::new().unwrap(),
        Authority::new().unwrap(),
        Authority::new().unwrap(),
    );
    let tls = install(dir.path(), &old.server(&["localhost"]).unwrap());
    let settings = IngestSettings {
        tls: Some(tls.clone()),
        ..IngestSettings::default()
    };
    let (ingest, _broker) = Running::scripted(settings).await;
    let served = async |authority: &Authority| {
        let client = trusting(authority, &["http/1.1"]);
        eventually(
            "a certificate of this authority",
            Duration::from_secs(20),
            || async { Ok(publish(&ingest, &client).await?) },
        )
        .await
        .unwrap();
    };
    served(&old).await;

    std::fs::write(&tls.key, "no key").unwrap();
    tls.reload.notify_one();
    served(&old).await;

    install(dir.path(), &new.server(&["localhost"]).unwrap());
    tls.reload.notify_one();
    served(&new).await;
    assert!(publish(&ingest, &trusting(&old, &["http/1.1"])).await.is_err());

    install(dir.path(), &newest.server(&["localhost"]).unwrap());
    served(&newest).await;
}

#[tokio::test]
async fn it_does_not_start_with_a_certificate_that_cannot_be_used() {
    // Goal: a wrong pair at the start ends the process with an error, not every connection.
    let dir = TempDir::new().unwrap();
    let authority = Authority::new().unwrap();
    let tls = install(dir.path(), &authority.server(&["localhost"]).unwrap());
    std::fs::write(&tls.key, authority.server(&["localhost"]).unwrap().key_pem()).unwrap();
    let (ingest, _broker) = Running::scripted(IngestSettings {
        tls: Some(tls),
        ..IngestSettings::default()
    })
    .await;
    let ended = ingest.task.await.unwrap();
    assert!(matches!(ended, Err(IngestError::Tls(_))), "{ended:?}");
}
