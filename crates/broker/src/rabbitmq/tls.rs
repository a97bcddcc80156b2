//! What TLS to the broker trusts and shows. Read from files at every connect, so that renewed certificates are taken up.

use std::path::Path;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::connection::ConnectError;
use super::settings::RabbitMqSettings;

pub(crate) async fn connector(settings: &RabbitMqSettings) -> Result<RustlsConnector, ConnectError> {
    let roots = match &settings.ca_file {
        Some(file) => {
            let mut roots = RustlsConnectorConfig::default();
            roots.add_parsable_certificates(certificates(file).await?);
            roots
        }
        None => RustlsConnectorConfig::new_with_platform_verifier(),
    };
    let connector = match (&settings.client_certificate, &settings.client_key) {
        (Some(chain), Some(key)) => {
            roots.connector_with_single_cert(certificates(chain).await?, private_key(key).await?)
        }
        _ => roots.connector_with_no_client_auth(),
    };
    connector.map_err(|error| ConnectError::Tls(format!("TLS to the broker can't be set up: {error}")))
}

async fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let pem = read(file).await?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(ConnectError::Tls(format!(
            "{} holds no certificate (PEM)",
            file.display()
        ))),
        Err(error) => Err(ConnectError::Tls(format!(
            "{} is no PEM: {error}",
            file.display()
        ))),
    }
}

async fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, ConnectError> {
    let pem = read(file).await?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| ConnectError::Tls(format!("{} holds no private key (PEM): {error}", file.display())))
}

async fn read(file: &Path) -> Result<Vec<u8>, ConnectError> {
    let read = tokio::fs::read(file).await;
    read.map_err(|error| ConnectError::Tls(format!("cannot read {}: {error}", file.display())))
}
