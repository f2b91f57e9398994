//! Kinds of messages of the contract that this version does not send. Their routes have the form of a message's own path, so
//! without this a caller would read that the method is wrong.

use axum::http::Method;

use crate::api::error::ApiError;
use crate::api::path::Ids;

/// The last segments of the routes.
const KINDS: [&str; 11] =
    ["image", "video", "audio", "document", "react", "template", "buttons", "list", "cta", "poll", "sticker"];

/// The answer to a method that the path of a message does not have.
pub async fn refuse(method: Method, Ids([_, last]): Ids<2>) -> ApiError {
    let is_kind = method == Method::POST && KINDS.contains(&&*last);
    if is_kind { ApiError::NotImplemented } else { ApiError::MethodNotAllowed }
}

#[cfg(test)]
mod tests {
    use recado_domain::kinds::Kind;

    use super::*;

    #[test]
    fn a_kind_that_is_sent_is_not_planned() {
        assert!(KINDS.iter().all(|name| Kind::named(name).is_none()));
    }
}
