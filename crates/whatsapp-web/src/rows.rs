//! What the driver asks of the gateway's database: rows of bytes, kept for one session.

use async_trait::async_trait;

/// The rows of one session. The gateway seals them and keeps them beside the channel.
///
/// One process owns a session: the driver reads, changes and writes without asking whether another has written since.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// The values of `keys`, in their order.
    async fn get(&self, kind: Kind, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>, RowsError>;

    /// Keys and values of every row whose key begins with `prefix`, in the order of the keys' bytes.
    async fn list(&self, kind: Kind, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, RowsError>;

    /// Applies the changes in their order, all or none, and says how many rows were deleted. What it returned from
    /// outlives a crash: the protocol's keys move on with each message, and a lost row is a message nobody can read.
    async fn write(&self, changes: Vec<Change>) -> Result<u64, RowsError>;
}

/// A change to the rows of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Inserts or replaces. `stamp`: Unix seconds by which [`Change::DeleteBefore`] finds the row; 0: it never ages.
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
    /// Every row of the kind whose key begins with `prefix`; an empty prefix takes all.
    DeletePrefix {
        kind: Kind,
        prefix: Vec<u8>,
    },
    /// Every row of the kind with `0 < row's stamp < stamp`.
    DeleteBefore {
        kind: Kind,
        stamp: i64,
    },
}

/// Why the rows could not be read or written. The text goes to the log: nothing personal, no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RowsError(pub String);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a row is about. The numbers are stored: a new kind takes a new number, a number is never given twice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number that stands for the kind in the database.
            pub fn number(self) -> u8 {
                match self {
                    $(Self::$name => $number,)*
                }
            }
        }
    };
}

kinds! {
    /// The linked device: its keys, its account, the network's certificate. One row.
    Device = 1,
    /// Address → the identity key it showed.
    Identity = 2,
    /// Address → the ratchet shared with it.
    Session = 3,
    /// Number → a one-time key of ours.
    PreKey = 4,
    /// Number → a signed key of ours.
    SignedPreKey = 5,
    /// Group and sender → the key of a group.
    SenderKey = 6,
    /// Id → a key that opens the account's own settings.
    SyncKey = 7,
    /// The id of the newest of them. One row.
    LatestSyncKey = 8,
    /// Collection of settings → the version we have.
    SyncVersion = 9,
    /// Collection and index → the check sum of a setting.
    SyncMac = 10,
    /// Group and device → whether the device has the group's key.
    SenderKeyDevice = 11,
    /// Hidden id (LID) → phone number.
    LidMapping = 12,
    /// Phone number → the hidden id last seen for it.
    PhoneMapping = 13,
    /// Address and message → the key a retry began with.
    BaseKey = 14,
    /// Account → its devices.
    DeviceList = 15,
    /// Group → what is known of it.
    GroupMetadata = 16,
    /// Account → the token that proves it let us write.
    TrustToken = 17,
    /// Chat and message → what we sent, for a recipient that could not read it. Stamped when sent.
    SentMessage = 18,
    /// Chat, sender and message → what we received and have not confirmed. Stamped when received.
    PendingInbound = 19,
    /// Chat, sender and message → the secret of a message. Stamped with its end.
    MessageSecret = 20,
}
