use anyhow::Result;
use tokio::sync::OnceCell;

use super::access::Access;
use super::database::Database;
use super::server::Server;

/// Statics are not dropped; the watchdog ends the server with this process.
static SHARED: OnceCell<SharedServer> = OnceCell::const_new();

/// The server that all tests of this process share: the one of `HOOKLANE_TEST_POSTGRES` (a URL, with a user who may do all), else one that is
/// started now.
///
/// # Errors
/// When it does not start.
pub async fn shared() -> Result<&'static SharedServer> {
    SHARED.get_or_try_init(SharedServer::find).await
}

/// A server for many tests, each with a database of its own.
pub struct SharedServer {
    access: Access,
    /// Held, so that it lives as long as this process.
    _server: Option<Server>,
}

impl SharedServer {
    async fn find() -> Result<SharedServer> {
        let (url, server) = match std::env::var("HOOKLANE_TEST_POSTGRES") {
            Ok(url) => (url, None),
            Err(_) => {
                let server = Server::start().await?;
                (server.url(), Some(server))
            }
        };
        Ok(SharedServer {
            access: Access::parse(&url)?,
            _server: server,
        })
    }

    /// Makes a fresh database (about 0.1 s).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn database(&self) -> Result<Database> {
        Database::create(&self.access).await
    }
}
