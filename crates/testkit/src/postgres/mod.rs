//! Private PostgreSQL servers of the installed binaries: never the system's service, on 127.0.0.1 only, as any user.
//!
//! `HOOKLANE_TEST_POSTGRES_BIN` names another directory of binaries. PostgreSQL refuses to run as root; for root it runs as `postgres`, or
//! else as `nobody`.

mod access;
mod database;
mod installation;
mod kill;
mod options;
mod server;
mod shared;

pub use database::Database;
pub use options::Options;
pub use server::Server;
pub use shared::{SharedServer, shared};

use std::time::Duration;

/// `initdb`, a start, or recovery after a kill, on a busy machine of two cores; a second each when it is calm.
const START_MAX: Duration = Duration::from_secs(120);
/// A fast shutdown with its checkpoint; 0.1 s when calm.
const STOP_MAX: Duration = Duration::from_secs(60);
/// One call of psql; 0.05 s when calm, 0.1 s for a new database.
const PSQL_MAX: Duration = Duration::from_secs(60);
/// After the last process of a server has ended, its output closes at once.
const GONE_MAX: Duration = Duration::from_secs(30);
