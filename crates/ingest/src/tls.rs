//! The certificate, and how it is replaced while connections come in.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::settings::TlsSettings;

/// How often the files are looked at. Their contents are compared, not their times: a renewal that keeps the time is seen,
/// and a touch is none.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// Of two protocols that a client offers, the first is taken.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {setting} {path}")]
    Read {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no such thing.
    #[error("{setting} {path} holds no usable PEM: {detail}")]
    Pem {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// They don't fit each other, or are of a kind that isn't served.
    #[error("ingest.tls_certificate and ingest.tls_key cannot be used together")]
    Pair(#[source] rustls::Error),
}

/// The files' contents.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The configuration in force; new connections take the newest.
pub(crate) struct Certificates {
    settings: TlsSettings,
    loaded: Contents,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl Certificates {
    /// Reads the files for the first time.
    pub(crate) async fn load(settings: TlsSettings) -> Result<Certificates, TlsError> {
        let loaded = read(&settings).await?;
        let config = configure(&settings, &loaded)?;
        Ok(Certificates {
            settings,
            loaded,
            current: watch::Sender::new(config),
        })
    }

    pub(crate) fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Follows the files for ever. A bad pair leaves the old one in force and is told once.
    pub(crate) async fn follow(mut self) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reload = self.settings.reload.clone();
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = reload.notified() => {}
            }
            if let Err(error) = self.look().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the new TLS certificate cannot be used; the old one stays in force"
                );
            }
        }
    }

    /// What was refused is remembered as seen, so that it is told once. A file that cannot be read is told at every look:
    /// it is gone, or its rights are wrong.
    async fn look(&mut self) -> Result<(), TlsError> {
        let contents = read(&self.settings).await?;
        if contents == self.loaded {
            return Ok(());
        }
        let config = configure(&self.settings, &contents);
        self.loaded = contents;
        self.current.send_replace(config?);
        tracing::info!(certificate = %self.settings.certificate.display(), "TLS certificate replaced");
        Ok(())
    }
}

async fn read(settings: &TlsSettings) -> Result<Contents, TlsError> {
    let certificate = read_file("ingest.tls_certificate", &settings.certificate).await?;
    let key = read_file("ingest.tls_key", &settings.key).await?;
    Ok(Contents { certificate, key })
}

async fn read_file(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|source| TlsError::Read {
        setting,
        path: path.display().to_string(),
        source,
    })
}

fn configure(settings: &TlsSettings, contents: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |setting, path: &Path, detail: String| TlsError::Pem {
        setting,
        path: path.display().to_string(),
        detail,
    };
    let bad_chain = |detail| pem("ingest.tls_certificate", &settings.certificate, detail);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&contents.certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| bad_chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad_chain("no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|error| pem("ingest.tls_key", &settings.key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use hooklane_testkit::tls::{Authority, Identity};
    use tempfile::TempDir;

    use super::*;

    fn write(dir: &TempDir, certificate: &str, key: &str) -> TlsSettings {
        let settings = TlsSettings {
            certificate: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            reload: Arc::default(),
        };
        std::fs::write(&settings.certificate, certificate).unwrap();
        std::fs::write(&settings.key, key).unwrap();
        settings
    }

    fn identity() -> Identity {
        Authority::new().unwrap().server(&["localhost"]).unwrap()
    }

    #[tokio::test]
    async fn a_new_pair_replaces_the_old_and_a_bad_one_does_not() {
        let dir = TempDir::new().unwrap();
        let (first, second) = (identity(), identity());
        let settings = write(&dir, first.certificate_pem(), first.key_pem());
        let mut certificates = Certificates::load(settings).await.unwrap();
        let mut current = certificates.current();

        certificates.look().await.unwrap();
        assert!(!current.has_changed().unwrap());

        write(&dir, second.certificate_pem(), first.key_pem());
        assert!(matches!(certificates.look().await, Err(TlsError::Pair(_))));
        assert!(!current.has_changed().unwrap());
        assert!(certificates.look().await.is_ok(), "told once");

        write(&dir, second.certificate_pem(), second.key_pem());
        certificates.look().await.unwrap();
        assert!(current.has_changed().unwrap());
        current.mark_unchanged();

        std::fs::remove_file(dir.path().join("key.pem")).unwrap();
        assert!(matches!(
            certificates.look().await,
            Err(TlsError::Read {
                setting: "ingest.tls_key",
                ..
            })
        ));
        assert!(!current.has_changed().unwrap());
    }

    #[tokio::test]
    async fn unusable_files_name_their_setting() {
        let dir = TempDir::new().unwrap();
        let identity = identity();
        for (certificate, key, name) in [
            ("", identity.key_pem(), "ingest.tls_certificate"),
            ("x", identity.key_pem(), "ingest.tls_certificate"),
            (identity.certificate_pem(), "", "ingest.tls_key"),
            (
                identity.certificate_pem(),
                identity.certificate_pem(),
                "ingest.tls_key",
            ),
        ] {
            let error = Certificates::load(write(&dir, certificate, key))
                .await
                .err()
                .unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
