//! What can be wrong.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::catalog::CatalogError;
use crate::history::HistoryError;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The settings are wrong. Texts never quote the URL, which holds a password.
    #[error("{what}: {remedy}")]
    Settings {
        /// What is wrong.
        what: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// Nobody answers, or nobody who can. Later somebody may.
    #[error("PostgreSQL cannot be asked: {0}")]
    Unavailable(String),
    /// The server does not let us: a wrong password, no such database, no right to make tables.
    #[error("PostgreSQL refuses to {doing}: {why}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// In its words.
        why: String,
    },
    /// A newer version has migrated the schema.
    #[error(
        "the schema {schema} has format {found}; this version knows formats up to {known}: use the newer version"
    )]
    Newer {
        /// The schema.
        schema: String,
        /// Its format.
        found: i32,
        /// The newest format that this version knows.
        known: i32,
    },
}

impl PostgresError {
    /// Sorts what went wrong while connecting or preparing the schema.
    pub(super) fn of(doing: &'static str, fault: Fault) -> PostgresError {
        let is_refusal = |code: &SqlState| {
            // A class is two characters. 28: no such user, wrong password. 3D: no such database. 42: no right, or tables that are not ours.
            ["28", "3D", "42"].contains(&code.code().get(..2).unwrap_or_default())
        };
        match fault {
            Fault::Server(error) if error.code().is_some_and(is_refusal) => PostgresError::Refused {
                doing,
                why: describe(&error),
            },
            fault => PostgresError::Unavailable(fault.to_string()),
        }
    }
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It was answered: no.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The server, or the way to it.
    #[error("{}", describe(.0))]
    Server(#[from] Error),
    /// No connection could be had.
    #[error("no connection: {0}")]
    NoConnection(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// What stands in the tables is not what we write.
    #[error("{0}")]
    Foreign(String),
}

impl Fault {
    /// Whether other connections are likely to be of no use either.
    pub(super) fn is_the_servers(&self) -> bool {
        match self {
            Fault::Late(_) => true,
            // Read-only: it was the primary, and another one is now.
            Fault::Server(error) => {
                error.is_closed() || error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
            }
            Fault::Catalog(_) | Fault::NoConnection(_) | Fault::Foreign(_) => false,
        }
    }

    /// Why the server does not take a row, whoever tries: it does not fit a column, an index or a rule. None where it is not the row's fault.
    pub(super) fn of_the_row(&self) -> Option<String> {
        let Fault::Server(error) = self else {
            return None;
        };
        let code = error.code()?;
        // Then every row would be refused: it is not as the server reads it.
        if [
            &SqlState::BAD_COPY_FILE_FORMAT,
            &SqlState::INVALID_BINARY_REPRESENTATION,
        ]
        .contains(&code)
        {
            return None;
        }
        let class = code.code().get(..2)?;
        ["22", "23", "54"].contains(&class).then(|| describe(error))
    }
}

impl From<Fault> for CatalogError {
    fn from(fault: Fault) -> CatalogError {
        match fault {
            Fault::Catalog(error) => error,
            fault => CatalogError::Unavailable(fault.to_string()),
        }
    }
}

impl From<Fault> for HistoryError {
    fn from(fault: Fault) -> HistoryError {
        match fault {
            Fault::Server(error) if error.code() == Some(&SqlState::DISK_FULL) => {
                HistoryError::NoRoom(describe(&error))
            }
            fault => HistoryError::Unavailable(fault.to_string()),
        }
    }
}

/// The error with its causes: the library's own text names none.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
