//! Failures of statements, and their class: a failure of the operation, of the connection, or a lost race.

use tokio_postgres::error::SqlState;

use crate::StoreError;

/// Why a statement or a transaction failed.
#[derive(Debug)]
pub enum Failure {
    Postgres(tokio_postgres::Error),
    /// Another node owns the channel.
    Fenced,
    /// The operation is not possible.
    Refused(&'static str),
}

/// The result of a statement.
pub type Done<T> = std::result::Result<T, Failure>;

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

/// A value in the database that this version does not understand.
pub fn not_understood(what: &'static str) -> Failure {
    Failure::Refused(what)
}

/// What a failure means for the connection and the caller.
pub enum FailureClass {
    /// The transaction lost against another and was rolled back.
    Retry,
    /// The operation failed.
    Operation(StoreError),
    /// The connection is lost. Other connections may work.
    ConnectionLost(String),
}

impl Failure {
    pub fn classify(self) -> FailureClass {
        let error = match self {
            Self::Postgres(error) => error,
            Self::Fenced => return FailureClass::Operation(StoreError::Fenced),
            Self::Refused(why) => return FailureClass::Operation(StoreError::Refused(why.to_owned())),
        };
        let Some(database) = error.as_db_error() else {
            let local = error.is_closed()
                || std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
            let text = recado_domain::error_chain::causes(&error);
            return if local {
                FailureClass::ConnectionLost(text)
            } else {
                FailureClass::Operation(StoreError::Refused(text))
            };
        };
        // Only the message: the detail names values, which may be personal.
        let text = format!("{} ({})", database.message(), database.code().code());
        match database.code() {
            code if *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE => {
                FailureClass::Retry
            }
            // Another transaction holds a lock for long, or the server has a shorter limit.
            code if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED => {
                FailureClass::Operation(StoreError::Overloaded)
            }
            // The server is no primary any more.
            code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => FailureClass::ConnectionLost(text),
            // The server closed the connection, because this node was idle in a transaction.
            code if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => FailureClass::ConnectionLost(text),
            // Connection failures; ended by a person, a shutdown or a crash.
            code if ["08", "57P"].iter().any(|class| code.code().starts_with(class)) => {
                FailureClass::ConnectionLost(text)
            }
            // Out of disk or memory for now, an error of the disk, or a damaged table or index: no fault of the operation, which
            // must not be dropped.
            code if ["53", "57", "58", "XX001", "XX002"].iter().any(|class| code.code().starts_with(class)) => {
                FailureClass::Operation(StoreError::Unavailable(text))
            }
            _ => FailureClass::Operation(StoreError::Refused(text)),
        }
    }
}

/// With its causes: the text of the error is only "db error".
#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
pub fn describe(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!(recado_domain::error_chain::causes(&error))
}
