//! Bounds the memory of answers that clients have not read yet.
//!
//! A large answer is in memory until its client has read it, or has read nothing for half a minute. Its bytes count until
//! the connection drops them.

use axum::body::{Body, Bytes, HttpBody};
use axum::response::{IntoResponse, Response};
use recado_domain::ids::InstitutionId;

use super::error::ApiError;
use crate::intake::{Intake, Room};

/// Answers up to this size do not count: the number of connections bounds them.
const SMALL: usize = 64 << 10;

/// The bytes of an answer that is whole in memory, as an extension of the response.
#[derive(Clone)]
pub struct Whole(pub Bytes);

/// Bytes that count as long as they are in memory.
struct Counted {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Counts the bytes of an answer to a call of this institution. Refuses the answer if the institution, or all together, have
/// too many that are not read.
pub fn count(intake: &Intake, institution: InstitutionId, mut response: Response) -> Response {
    let Some(Whole(bytes)) = response.extensions_mut().remove() else { return response };
    // The answer to `HEAD` has no body.
    if bytes.len() <= SMALL || response.body().size_hint().exact() != Some(bytes.len() as u64) {
        return response;
    }
    let mut room = intake.answer(institution);
    if !room.grow(bytes.len()) {
        return ApiError::Unavailable.into_response();
    }
    *response.body_mut() = Body::from(Bytes::from_owner(Counted { bytes, _room: room }));
    response
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;
    use crate::api::json;

    #[tokio::test]
    async fn answers_that_are_not_read_have_a_share() {
        let intake = Intake::default();
        let answer = |institution: u8, bytes: usize| {
            let answer = json::answer(StatusCode::OK, &"a".repeat(bytes));
            count(&intake, InstitutionId::from_bytes([institution; 16]), answer)
        };
        let statuses = |institution, bytes| answer(institution, bytes).status().as_u16();
        let mut held: Vec<_> = (0..7).map(|_| answer(1, 4 << 20)).collect();
        assert!(held.iter().all(|answer| answer.status() == StatusCode::OK));
        assert_eq!(statuses(1, 4 << 20), 503, "the quotes do not fit");
        assert_eq!((statuses(1, SMALL - 2), statuses(2, 4 << 20)), (200, 200));
        // Bytes count until they are dropped, also without the body.
        let taken = held.remove(0).into_body().collect().await.expect("a body").to_bytes();
        assert_eq!((taken.len(), statuses(1, 4 << 20)), ((4 << 20) + 2, 503));
        drop(taken);
        assert_eq!(statuses(1, 4 << 20), 200);
    }
}
