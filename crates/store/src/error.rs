//! How an operation of the store fails, and whether the store works.

use recado_domain::error::AppError;

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store cannot read or write now. It is unknown whether a write was stored. The store recovers by itself.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Too many calls wait, to be written or to read.
    #[error("the store has too much to write")]
    Overloaded,
    /// The channel is another node's now, and nothing was done.
    #[error("the channel is held by another node")]
    Fenced,
    /// This operation failed; others did not.
    #[error("the store refused the operation: {0}")]
    Refused(String),
}

/// Whether the store works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Up,
    /// The store does not work, for this reason, and tries to recover.
    Down(String),
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Overloaded | StoreError::Fenced => Self::Unavailable,
            StoreError::Refused(reason) => {
                tracing::error!(error = reason, "store refused an operation");
                Self::Internal
            }
        }
    }
}
