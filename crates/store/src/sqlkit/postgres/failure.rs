//! What went wrong, and whose fault it is: the work's own, the connection's, or the database's as a whole.

use tokio_postgres::error::SqlState;

use crate::StoreError;

/// Why a statement or a transaction came to nothing.
#[derive(Debug)]
pub enum Failure {
    Postgres(tokio_postgres::Error),
    /// The channel is another node's now.
    Fenced,
    /// This operation cannot be done.
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

/// What a failure means for the connection, and for whoever asked.
pub enum Verdict {
    /// The transaction lost against another, and nothing of it was kept.
    Again,
    /// The fault is the operation's own.
    Own(StoreError),
    /// The connection is of no use any more; the others may be.
    Lost(String),
}

impl Failure {
    pub fn verdict(self) -> Verdict {
        let error = match self {
            Self::Postgres(error) => error,
            Self::Fenced => return Verdict::Own(StoreError::Fenced),
            Self::Refused(why) => return Verdict::Own(StoreError::Refused(why.to_owned())),
        };
        let Some(database) = error.as_db_error() else {
            let local = error.is_closed()
                || std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
            let text = recado_domain::error_chain::causes(&error);
            return if local { Verdict::Lost(text) } else { Verdict::Own(StoreError::Refused(text)) };
        };
        // Its message alone: its detail names values, which may be somebody's number.
        let text = format!("{} ({})", database.message(), database.code().code());
        match database.code() {
            code if *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE => {
                Verdict::Again
            }
            // Somebody holds a lock for long, or the server's own limit is shorter.
            code if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED => {
                Verdict::Own(StoreError::Overloaded)
            }
            // A server that was a primary and is none any more.
            code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Verdict::Lost(text),
            // The server gave the connection up: this node stood still in a transaction.
            code if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Verdict::Lost(text),
            // Connection failures; ended by a person, a shutdown or a crash.
            code if ["08", "57P"].iter().any(|class| code.code().starts_with(class)) => Verdict::Lost(text),
            // Out of disk or memory: for now. What else is asked may well succeed.
            code if ["53", "57"].iter().any(|class| code.code().starts_with(class)) => {
                Verdict::Own(StoreError::Unavailable(text))
            }
            _ => Verdict::Own(StoreError::Refused(text)),
        }
    }
}

/// Its own text says "db error" alone.
#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is mapped")]
pub fn in_words(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!(recado_domain::error_chain::causes(&error))
}
