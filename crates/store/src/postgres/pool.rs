//! Connections, shared by the calls of a process.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{
    Client, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolConfig, PoolError, RecyclingMethod,
    Runtime,
};
use tokio::time::timeout;

use super::error::{Fault, PostgresError};
use super::settings::PostgresSettings;
use super::tls;

/// How long a connection is used. The server keeps a plan of each statement for it, and there are new ones every day.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Connections to one server. Clones share them.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    connect_max: Duration,
    call_max: Duration,
}

impl Connections {
    /// Connects to nothing yet.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Connections, PostgresError> {
        Connections::with(settings, "")
    }

    /// With more options of each session. Connects to nothing yet.
    pub(super) fn with(settings: &PostgresSettings, session: &str) -> Result<Connections, PostgresError> {
        // A connection is not tried out before each use: that it broke is noticed at once, but for a network that is silent, where the deadlines
        // are.
        let manager_config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let connector = tls::connector(&settings.tls)?;
        let manager = Manager::from_config(settings.complete_with(session), connector, manager_config);
        let pool = Pool::builder(manager)
            .config(PoolConfig::new(settings.connections_max.max(1)))
            .runtime(Runtime::Tokio1)
            .pre_recycle(Hook::sync_fn(|_, metrics| match metrics.age() < AGE_MAX {
                true => Ok(()),
                false => Err(HookError::message("it is old")),
            }))
            .build()
            .map_err(|error| PostgresError::Unavailable(error.to_string()))?;
        Ok(Connections {
            pool,
            connect_max: settings.connect_max,
            call_max: settings.call_max,
        })
    }

    /// A connection for one call.
    pub(super) async fn get(&self) -> Result<Client, Fault> {
        match timeout(self.connect_max, self.pool.get()).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(PoolError::Backend(error))) => Err(Fault::Server(error)),
            Ok(Err(error)) => Err(Fault::NoConnection(error.to_string())),
            Err(_) => Err(Fault::NoConnection(format!(
                "none was free and none could be made within {:?}",
                self.connect_max
            ))),
        }
    }

    /// Bounds what is done with a connection.
    pub(super) async fn limit<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match timeout(self.call_max, work).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Late(self.call_max)),
        }
    }

    /// Gives a connection back, unless it is of no use any more.
    pub(super) fn put_back<T, E: From<Fault>>(&self, client: Client, done: Result<T, Fault>) -> Result<T, E> {
        done.map_err(|fault| {
            if fault.is_the_servers() {
                // This one waits for an answer that nobody wants. Those at rest go to the same server by the same way: a call each would have to
                // find that out.
                drop(Object::take(client));
                self.pool.retain(|_, _| false);
            }
            fault.into()
        })
    }
}
