//! The ids in a path.

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;

use super::error::ApiError;
use super::query::percent_decoded;

/// The `N` ids in a path. An id that is not text (`%FF`) becomes empty, which is the id of nothing, so it is refused like
/// any unknown id, at the same point of the checks.
pub struct Ids<const N: usize>(pub [String; N]);

impl<const N: usize, S: Sync> FromRequestParts<S> for Ids<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let route = parts.extensions.get::<MatchedPath>().ok_or(ApiError::NotFound)?;
        let segments = route.as_str().split('/').zip(parts.uri.path().split('/'));
        let mut ids = segments.filter(|(name, _)| name.starts_with('{')).map(|(_, given)| given);
        let decoded = |text: &str| String::from_utf8(percent_decoded(text)).unwrap_or_default();
        Ok(Self(std::array::from_fn(|_| ids.next().map(decoded).unwrap_or_default())))
    }
}
