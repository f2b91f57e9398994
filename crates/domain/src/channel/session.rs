//! The stored rows of the session of a linked phone.

#![expect(missing_docs, reason = "fields and variants are named as what they hold")]

use std::collections::BTreeMap;
use std::fmt;

use crate::channel::ChannelKey;

/// The number of a session of a channel. Each linking has a new number, and so has each channel that is created again.
pub type SessionNumber = i64;

/// One session of a channel.
pub type SessionOf = (ChannelKey, SessionNumber);

/// The identity of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    pub channel: ChannelKey,
    pub session: SessionNumber,
    pub kind: u8,
    pub key: Vec<u8>,
}

impl SessionKey {
    /// The first key after all keys with this prefix; `None` if there is no such key.
    pub fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
        let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
        let mut behind = prefix[..=last].to_vec();
        behind[last] += 1;
        Some(behind)
    }
}

/// A row of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub of: SessionKey,
    /// The encrypted value.
    pub sealed: Vec<u8>,
}

impl fmt::Debug for SessionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRow").field("of", &self.of).finish_non_exhaustive()
    }
}

/// A change of a session's rows.
#[derive(Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// Inserts or replaces a row. The stamp is in Unix seconds; a row with stamp 0 never expires.
    Put {
        kind: u8,
        key: Vec<u8>,
        sealed: Vec<u8>,
        stamp: i64,
    },
    Delete {
        kind: u8,
        key: Vec<u8>,
    },
    DeletePrefix {
        kind: u8,
        prefix: Vec<u8>,
    },
    /// Deletes the rows of a kind that have an older stamp.
    DeleteBefore {
        kind: u8,
        stamp: i64,
    },
}

impl SessionChange {
    /// The kind of its rows.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Put { kind, .. }
            | Self::Delete { kind, .. }
            | Self::DeletePrefix { kind, .. }
            | Self::DeleteBefore { kind, .. } => *kind,
        }
    }
}

/// How many rows changes deleted, by their kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletedRows(BTreeMap<u8, u64>);

impl DeletedRows {
    pub fn add(&mut self, kind: u8, rows: u64) {
        *self.0.entry(kind).or_default() += rows;
    }

    pub fn of(&self, kind: u8) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Debug for SessionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Put { .. } => "Put",
            Self::Delete { .. } => "Delete",
            Self::DeletePrefix { .. } => "DeletePrefix",
            Self::DeleteBefore { .. } => "DeleteBefore",
        };
        f.debug_struct(name).field("kind", &self.kind()).finish_non_exhaustive()
    }
}
