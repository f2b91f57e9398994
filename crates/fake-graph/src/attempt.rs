//! A call of a gateway, and its outcome.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

/// A call of `POST /{version}/{phone number id}/messages`, including refused ones.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The id of the sending number, as the path has it.
    pub number_id: String,
    /// The recipient, as the body has it: `to`, or the user id in `recipient`; empty when it has none.
    pub to: String,
    /// `biz_opaque_callback_data`.
    pub opaque_id: Option<String>,
    /// The body; a body that is not JSON is a string.
    pub body: Arc<Value>,
    /// The errors of the body; usually none.
    pub faults: Vec<String>,
    /// The id of the message, when it was accepted.
    pub wamid: Option<String>,
    /// The status of the answer. `None`: no answer yet, or the client has gone, or the answer was lost.
    pub answered: Option<u16>,
    /// When the body was complete.
    pub at: Instant,
    pub http2: bool,
    /// The number of the connection: calls with the same number shared one.
    pub connection: u64,
}

impl Attempt {
    /// Whether the recipient is a user id. Meta then names no number, neither in its answer nor in callbacks.
    pub fn is_to_user_id(&self) -> bool {
        self.to.contains('.')
    }
}

/// The WhatsApp account of a number, which is the `wa_id` of the answer. For Brazilian numbers of 13 digits with an area
/// code above 28 it is the number without its ninth digit.
pub fn account(digits: &str) -> String {
    let short = digits.len() == 13
        && digits.starts_with("55")
        && digits.get(2..4).and_then(|area| area.parse().ok()).is_some_and(|area: u8| area > 28);
    if short { format!("{}{}", &digits[..4], &digits[5..]) } else { digits.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::account;

    #[test]
    fn an_account_can_lack_the_ninth_digit() {
        assert_eq!(account("5511999998888"), "5511999998888");
        assert_eq!(account("5528999998888"), "5528999998888");
        assert_eq!(account("5531999998888"), "553199998888");
        assert_eq!(account("553199998888"), "553199998888");
        assert_eq!(account("4915112345678"), "4915112345678");
    }
}
