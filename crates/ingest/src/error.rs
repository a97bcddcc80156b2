//! Why the ingest does not run.

use crate::settings::SettingsError;
use crate::tls::TlsError;

/// Why the ingest does not run. All are for an operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The settings break a rule.
    #[error("the settings of the ingest cannot be used: {0}")]
    Settings(#[from] SettingsError),
    /// Certificate or key can't be used.
    #[error("the TLS settings of the ingest cannot be used: {0}")]
    Tls(#[from] TlsError),
    /// The listener is no TCP socket that can be asked for its address.
    #[error("the listener has no address")]
    Listener(#[source] std::io::Error),
}
