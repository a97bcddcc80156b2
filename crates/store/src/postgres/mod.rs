//! The store on PostgreSQL: for several processes on several machines.
//!
//! Everything stands in a schema of its own. A call has a deadline, on the client's side and on the server's; one that missed it says so, and
//! what was not sent by then is not done. Connections that have broken are replaced by the next call.
//!
//! Not behind a connection pooler that shares sessions between transactions (PgBouncer's transaction mode): what is prepared, and `LISTEN`,
//! belong to a session.

pub mod catalog;
mod claims;
mod error;
pub mod followers;
pub mod history;
mod migrations;
mod pool;
mod published;
mod settings;
mod tls;

pub use claims::PostgresClaims;
pub use error::PostgresError;
pub use migrations::{Formats, formats, migrate};
pub use published::PostgresPublished;
pub use settings::{CALL_MAX_DEFAULT, CONNECT_MAX_DEFAULT, CONNECTIONS_MAX_DEFAULT, PostgresSettings};
