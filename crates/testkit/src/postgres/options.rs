use std::sync::Arc;

use crate::tls::Authority;

/// How a server is set up.
#[derive(Clone, Default)]
pub struct Options {
    pub(crate) conf: String,
    pub(crate) tls: Option<Arc<Authority>>,
}

impl Options {
    /// Adds a line to `postgresql.conf`: `fsync = off` for what needs no durability.
    pub fn conf(mut self, line: &str) -> Options {
        self.conf.push_str(line);
        self.conf.push('\n');
        self
    }

    /// Takes connections with TLS only, with a certificate of this authority for `localhost` and not for `127.0.0.1`: so whether a client
    /// looks at the name can be told.
    pub fn tls(mut self, authority: &Arc<Authority>) -> Options {
        self.tls = Some(authority.clone());
        self
    }
}
