//! How an operation of the store fails, and whether the store works.

use recado_domain::error::AppError;

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot write or read now; whether a write was kept is not known. It comes back by itself.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Too many calls wait to be written.
    #[error("the store has too much to write")]
    Overloaded,
    /// The channel is another node's now, and nothing was done.
    #[error("the channel is held by another node")]
    Fenced,
    /// This one operation failed; its neighbours did not.
    #[error("the store refused the operation: {0}")]
    Refused(String),
}

/// Whether the store works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Up,
    /// It does not, for this reason; it keeps trying to come back.
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
