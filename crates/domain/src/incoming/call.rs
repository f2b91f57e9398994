//! Calls of people.

use serde::{Deserialize, Serialize};

/// A call that rang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The network's id of the call.
    pub id: String,
    /// `None`: the network does not say.
    pub video: Option<bool>,
    /// Whether nobody answered or declined it; `None`: the network does not say.
    pub missed: Option<bool>,
}
