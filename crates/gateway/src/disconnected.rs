//! Calls whose clients have left.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Tells a call that its client has disconnected. A call that only waits for something to read ends then.
#[derive(Clone, Default)]
pub struct Disconnected(CancellationToken);

impl Disconnected {
    /// Waits until the client has disconnected.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Says so when the guard is dropped, with the connection or after the answer.
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
