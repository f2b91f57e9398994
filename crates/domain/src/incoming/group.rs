//! Changes of groups.

use serde::{Deserialize, Serialize};

/// What changed in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GroupChange {
    /// Members were added.
    Add,
    /// Members left, or were removed.
    Remove,
    /// Members became administrators.
    Promote,
    /// Administrators became usual members.
    Demote,
    /// The name.
    Subject,
    Description,
    /// Who may do what, and how long messages are shown.
    Settings,
}

impl GroupChange {
    pub const ALL: [Self; 7] =
        [Self::Add, Self::Remove, Self::Promote, Self::Demote, Self::Subject, Self::Description, Self::Settings];

    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Remove => "REMOVE",
            Self::Promote => "PROMOTE",
            Self::Demote => "DEMOTE",
            Self::Subject => "SUBJECT",
            Self::Description => "DESCRIPTION",
            Self::Settings => "SETTINGS",
        }
    }
}
