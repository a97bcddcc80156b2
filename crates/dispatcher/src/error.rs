//! Why a dispatcher ends by itself.

/// Why [`run`](fn@crate::run) ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    /// One of its tasks died: the process must end, for its work stands still.
    #[error("the task `{task}` of the dispatcher died: {cause}")]
    TaskDied {
        /// Which.
        task: &'static str,
        /// The panic's text, or how else it ended.
        cause: String,
    },
    /// The broker was shut down under it.
    #[error("the broker was shut down while `{queue}` was consumed")]
    BrokerShutDown {
        /// Which queue ended first.
        queue: &'static str,
    },
    /// A setting that cannot be obeyed.
    #[error("{setting} must be at least 1")]
    Zero {
        /// Its name.
        setting: &'static str,
    },
    /// An event limit that no broker takes.
    #[error(
        "event_bytes_max is {bytes}, more than {}",
        crate::settings::EVENT_BYTES_LIMIT
    )]
    EventLimit {
        /// What was set.
        bytes: usize,
    },
}
