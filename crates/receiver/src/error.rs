use std::net::SocketAddr;
use std::time::Duration;

/// What can go wrong with a receiver, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on: taken, not ours, or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A wait ended at its deadline.
    #[error("waited {deadline:?} for {what}; {seen}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
        /// What had arrived instead.
        seen: String,
    },
}
