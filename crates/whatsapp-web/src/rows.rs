//! The storage that the driver needs from the gateway's database: rows of bytes for one session.

use async_trait::async_trait;
use recado_domain::channel::DeletedRows;

/// The rows of one session. The gateway encrypts them and stores them with the channel.
///
/// One process owns a session, so the driver does not check whether another process has written between a read and a write.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// The values of `keys`, in the order of `keys`.
    async fn get(&self, kind: Kind, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, RowsError>;

    /// The keys and values of every row whose key begins with `prefix`, in the byte order of the keys.
    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RowsError>;

    /// Applies all changes in their order, or none, and returns the numbers of deleted rows by kind. The changes are durable when
    /// this returns: the protocol's keys advance with each message, and a lost row makes a message unreadable.
    async fn write(&self, changes: Vec<Change>) -> Result<DeletedRows, RowsError>;
}

/// A change to the rows of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Inserts or replaces a row. [`Change::DeleteBefore`] finds the row by `stamp`, in Unix seconds. A row with stamp 0
    /// never expires.
    Put {
        kind: Kind,
        key: Vec<u8>,
        value: Vec<u8>,
        stamp: i64,
    },
    Delete {
        kind: Kind,
        key: Vec<u8>,
    },
    /// Deletes every row of the kind whose key begins with `prefix`. An empty prefix matches every row.
    DeletePrefix {
        kind: Kind,
        prefix: Vec<u8>,
    },
    /// Deletes every row of the kind with `0 < stamp of the row < stamp`.
    DeleteBefore {
        kind: Kind,
        stamp: i64,
    },
}

impl Change {
    /// The kind of its rows.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Put { kind, .. }
            | Self::Delete { kind, .. }
            | Self::DeletePrefix { kind, .. }
            | Self::DeleteBefore { kind, .. } => *kind,
        }
    }
}

/// The reason why rows could not be read or written. The text is logged, so it contains nothing personal and no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowsError(pub String);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// The kind of a row. The numbers are stored: a new kind gets a new number, and no number is reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number of the kind in the database.
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$name => $number,)*
                }
            }
        }
    };
}

kinds! {
    /// The linked device: its keys, its account and the network's certificate. One row.
    Device = 1,
    /// Address → the identity key of the address.
    Identity = 2,
    /// Address → the ratchet shared with it.
    Session = 3,
    /// Number → one of our one-time keys.
    PreKey = 4,
    /// Number → one of our signed keys.
    SignedPreKey = 5,
    /// Group and sender → the group's key.
    SenderKey = 6,
    /// Id → a key that decrypts the account's own settings.
    SyncKey = 7,
    /// The id of the newest sync key. One row.
    LatestSyncKey = 8,
    /// Collection of settings → the stored version.
    SyncVersion = 9,
    /// Collection and index → the checksum of a setting.
    SyncMac = 10,
    /// Group and device → whether the device has the group's key.
    SenderKeyDevice = 11,
    /// Hidden id (LID) → phone number.
    LidMapping = 12,
    /// Phone number → the hidden id last seen for it.
    PhoneMapping = 13,
    /// Address and message → the key with which a retry began.
    BaseKey = 14,
    /// Account → its devices.
    DeviceList = 15,
    /// Group → its metadata.
    GroupMetadata = 16,
    /// Account → the token that proves that it trusts us.
    TrustToken = 17,
    /// Chat and message → what we sent, for a recipient that could not read it. The stamp is the time of sending.
    SentMessage = 18,
    /// Chat, sender and message → what we received and have not acknowledged. The stamp is the time of receipt.
    PendingInbound = 19,
    /// Chat, sender and message → the secret of a message. The stamp is the time when it expires.
    MessageSecret = 20,
    /// Chat, person and message → a message that could not be read, until it is reported.
    Unreadable = 21,
    /// The hash of chat, sender and message → nothing: the message is stored by the gateway. The stamp is the time of that.
    Committed = 22,
    /// The hash of chat, sender and message → the time when its repetition was refused.
    Refused = 23,
    /// The hash of chat, person and message → a message that the store refused, as a former version kept it.
    NotTaken = 24,
}
