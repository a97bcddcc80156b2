//! Certificates: an authority, and what it signs, as PEM files and as rustls configurations.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

use crate::leash;

/// A certificate authority that nobody else trusts. Its files go when it is dropped.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    dir: TempDir,
    file: PathBuf,
}

/// A certificate with its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    certificate_pem: String,
    key_pem: String,
    certificate_file: PathBuf,
    key_file: PathBuf,
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn new() -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Hooklane test authority");
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let dir = tempfile::Builder::new().prefix("hooklane-tls-").tempdir()?;
        leash::remove_at_end(dir.path())?;
        let file = dir.path().join("ca.pem");
        let pem = certificate.pem();
        fs::write(&file, &pem)?;
        Ok(Authority {
            issuer: Issuer::new(params, key),
            certificate: certificate.der().clone(),
            pem,
            dir,
            file,
        })
    }

    /// A server certificate for names and IP addresses.
    ///
    /// # Errors
    /// When a name is none, or files cannot be written.
    pub fn server(&self, names: &[&str]) -> Result<Identity> {
        self.sign(server_params(names)?)
    }

    /// A server certificate that ended in 2021.
    ///
    /// # Errors
    /// As [`Authority::server`].
    pub fn expired_server(&self, names: &[&str]) -> Result<Identity> {
        let mut params = server_params(names)?;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    /// A client certificate with this common name.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn client(&self, name: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Identity> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let (certificate_pem, key_pem) = (certificate.pem(), key.serialize_pem());
        let dir = tempfile::Builder::new()
            .prefix("identity-")
            .tempdir_in(self.dir.path())?
            .keep();
        let (certificate_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&certificate_file, &certificate_pem)?;
        fs::write(&key_file, &key_pem)?;
        let certificate = certificate.der().clone();
        Ok(Identity {
            certificate,
            key,
            certificate_pem,
            key_pem,
            certificate_file,
            key_file,
        })
    }

    /// The authority's certificate as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The file with the authority's certificate.
    pub fn ca_file(&self) -> &Path {
        &self.file
    }

    /// A server that shows this identity.
    ///
    /// # Errors
    /// When rustls refuses the certificate.
    pub fn server_config(&self, identity: &Identity) -> Result<Arc<ServerConfig>> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = builder
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key_der()?)?;
        Ok(Arc::new(config))
    }

    /// A server that shows this identity and wants a client certificate of this authority.
    ///
    /// # Errors
    /// When rustls refuses the certificate.
    pub fn mutual_server_config(&self, identity: &Identity) -> Result<Arc<ServerConfig>> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider()).build()?;
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let config = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain(), identity.key_der()?)?;
        Ok(Arc::new(config))
    }

    /// A client that trusts this authority alone, and shows the identity if there is one.
    ///
    /// # Errors
    /// When rustls refuses the certificate.
    pub fn client_config(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(self.roots()?);
        let config = match identity {
            Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.key_der()?)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(roots)
    }
}

impl Identity {
    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key as PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The file with the certificate.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate_file
    }

    /// The file with the private key.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    fn key_der(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::try_from(self.key.serialize_der())
            .ok()
            .context("the key is none that rustls knows")
    }
}

fn server_params(names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
