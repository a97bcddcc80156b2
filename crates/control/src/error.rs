use hooklane_broker::embedded::DrainError;
use hooklane_broker::{BrokerError, ShelfError};

/// Why a command on the shelves, a status or a drain did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The shelf can't be read.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The broker did not take a message, or did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The data directory that is drained cannot be read or written. What was not moved is still in it.
    #[error(transparent)]
    Directory(#[from] DrainError),
    /// What was found could not be written (standard output was closed).
    #[error("cannot write what was found: {0}")]
    Output(#[from] std::io::Error),
}
