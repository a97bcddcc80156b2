//! rustls configurations from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{fs, io};

use hooklane_types::TlsFiles;
use hooklane_types::endpoint::ClientCertificate;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::sessions::ProfileSessions;

/// Why a TLS profile cannot be made. Texts name files, never what is in them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", path.display())]
    Empty { path: PathBuf },
    #[error("{} holds a certificate that cannot be trusted: {source}", path.display())]
    Untrusted { path: PathBuf, source: rustls::Error },
    #[error("{} and {} do not serve as client certificate: {source}", certificate.display(), key.display())]
    Client {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// The system's certificate authorities.
pub(crate) fn system_roots() -> Arc<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate authority of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!("the system has no certificate authorities: https endpoints need a ca_file each");
    }
    Arc::new(roots)
}

/// The configuration of a profile: its own CA instead of the system's, its own client certificate.
pub(crate) fn client_config(
    files: &TlsFiles,
    system_roots: &Arc<RootCertStore>,
    sessions: ProfileSessions,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &files.ca {
        Some(path) => Arc::new(roots_from(path)?),
        None => system_roots.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let mut config = match &files.client {
        None => builder.with_no_client_auth(),
        Some(ClientCertificate { certificate, key }) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|source| unreadable(key, source))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|source| TlsError::Client {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?
        }
    };
    config.resumption = Resumption::store(Arc::new(sessions));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|source| TlsError::Untrusted {
            path: path.to_owned(),
            source,
        })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| unreadable(path, source))?;
    if found.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn unreadable(path: &Path, source: pem::Error) -> TlsError {
    TlsError::Unreadable {
        path: path.to_owned(),
        source,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What tells that files have changed: time of change and length of each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(Option<SystemTime>, u64)>);

/// The stamp of a profile's files, read from the disk (through symbolic links: Kubernetes swaps those).
pub(crate) fn stamp(files: &TlsFiles) -> Stamp {
    let client = files
        .client
        .iter()
        .flat_map(|client| [&client.certificate, &client.key]);
    let look = |path: &PathBuf| -> io::Result<(Option<SystemTime>, u64)> {
        let metadata = fs::metadata(path)?;
        Ok((metadata.modified().ok(), metadata.len()))
    };
    // A file that is gone has a stamp of its own, so that its return is a change.
    Stamp(
        files
            .ca
            .iter()
            .chain(client)
            .map(|path| look(path).unwrap_or((None, u64::MAX)))
            .collect(),
    )
}
