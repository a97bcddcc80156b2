use hooklane_broker::{BrokerError, ShelfError};

/// Why a command on the shelves or a status did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The shelf can't be read.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The broker did not take a message, or did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What was found could not be written (standard output was closed).
    #[error("cannot write what was found: {0}")]
    Output(#[from] std::io::Error),
}
