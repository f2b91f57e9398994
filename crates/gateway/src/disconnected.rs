//! Calls whose clients have left.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Tells the calls of a connection that the client sends nothing more: it has left, or it has closed its own direction and
/// still reads. A call that only waits for something to read answers then.
#[derive(Clone, Default)]
pub struct Disconnected(CancellationToken);

impl Disconnected {
    /// Waits until the client sends nothing more.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    pub fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }

    pub fn end(&self) {
        self.0.cancel();
    }

    /// The same as a token, which is cancelled when the client sends nothing more.
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Ends with the guard.
    pub fn guard(&self) -> DropGuard {
        self.0.clone().drop_guard()
    }
}

impl<G: Sync> FromRequestParts<G> for Disconnected {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &G) -> Result<Self, Infallible> {
        // A call of a command has no connection of its own.
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}
