//! Graph's errors: the body of a refused call, and the reason of a `failed` status.

use serde_json::{Value, json};

/// An error of Graph.
#[derive(Debug, Clone)]
pub struct GraphError {
    pub(crate) status: u16,
    pub(crate) code: i64,
    pub(crate) subcode: Option<i64>,
    pub(crate) message: String,
    pub(crate) details: Option<String>,
    pub(crate) transient: Option<bool>,
}

impl GraphError {
    /// An error with its HTTP status (meaningless in a callback), Meta's code and its text.
    pub fn new(status: u16, code: i64, message: impl Into<String>) -> Self {
        Self { status, code, subcode: None, message: message.into(), details: None, transient: None }
    }

    /// `error_subcode`.
    #[must_use]
    pub fn subcode(mut self, subcode: i64) -> Self {
        self.subcode = Some(subcode);
        self
    }

    /// `error_data.details`, the text for people.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// `is_transient`; absent unless set.
    #[must_use]
    pub fn transient(mut self, transient: bool) -> Self {
        self.transient = Some(transient);
        self
    }

    /// The token is missing or unknown.
    pub(crate) fn token() -> Self {
        Self::new(401, 190, "Invalid OAuth access token - Cannot parse access token")
    }

    /// The id is unknown, or invisible for this token, or it has no such method.
    pub(crate) fn no_such_object(method: &str, id: &str) -> Self {
        let message = format!(
            "Unsupported {} request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, \
             or does not support this operation",
            method.to_lowercase()
        );
        Self::new(400, 100, message).subcode(33)
    }

    /// The path is unknown.
    pub(crate) fn unknown_path(path: &str) -> Self {
        Self::new(400, 2500, format!("Unknown path components: {path}"))
    }

    /// The body of an answer. `trace` is the id of the call for Meta's support.
    pub(crate) fn envelope(&self, trace: &str) -> Value {
        let mut error = json!({ "message": self.message, "type": "OAuthException", "code": self.code });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = subcode.into();
        }
        if let Some(transient) = self.transient {
            error["is_transient"] = transient.into();
        }
        if let Some(details) = &self.details {
            error["error_data"] = json!({ "messaging_product": "whatsapp", "details": details });
        }
        error["fbtrace_id"] = trace.into();
        json!({ "error": error })
    }

    /// An entry of `errors` in a `failed` status.
    pub(crate) fn in_status(&self) -> Value {
        let mut error = json!({
            "code": self.code,
            "title": self.message,
            "message": self.message,
            "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
        });
        if let Some(details) = &self.details {
            error["error_data"] = json!({ "details": details });
        }
        error
    }
}
