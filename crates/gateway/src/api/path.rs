//! The ids in a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The ids that a path holds. One that is no text at all (`%FF`) becomes empty, which is nobody's id: it is then
/// refused as any unknown one, at the same point of the checks.
pub struct Ids<T>(pub T);

impl<T: DeserializeOwned + Default + Send, S: Send + Sync> FromRequestParts<S> for Ids<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        Ok(Self(path.map_or_else(|_| T::default(), |Path(ids)| ids)))
    }
}
