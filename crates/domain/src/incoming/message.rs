//! A received message as it is stored, and its file.

use serde::{Deserialize, Serialize};

use super::{Body, LATE_AFTER};
use crate::channel::ChannelKey;
use crate::clock::Millis;
use crate::event::{ChatKind, Owner};
use crate::ids::{ContactId, ConversationId, MediaId, MessageId};
use crate::message::Seq;

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Another person.
    Inbound,
    /// The channel.
    Outbound,
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "INBOUND",
            Self::Outbound => "OUTBOUND",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|direction| direction.name() == name)
    }
}

/// A message that a network delivered. Its direction is [`Direction::Outbound`] if another device of the channel sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// The order of arrival.
    pub seq: Seq,
    pub id: MessageId,
    pub channel: ChannelKey,
    /// The public id of the channel.
    pub channel_id: String,
    pub conversation: ConversationId,
    /// The author. `None`: the channel itself, a sender without identity, or a deleted contact.
    pub contact: Option<ContactId>,
    pub direction: Direction,
    pub network_id: String,
    pub chat: ChatKind,
    /// The address of the chat, as callers pass it back.
    pub address: String,
    /// The name of the group.
    pub chat_name: Option<String>,
    pub body: Body,
    pub media: Option<Media>,
    /// The last reaction of each person.
    pub reactions: Vec<Reaction>,
    pub edited_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
    pub sent_at: Millis,
    pub received_at: Millis,
    pub read_at: Option<Millis>,
    pub updated_at: Millis,
}

impl Incoming {
    /// Whether it was delivered late: see [`super::LATE_AFTER`].
    pub fn is_late(&self) -> bool {
        self.received_at - self.sent_at > LATE_AFTER
    }
}

/// The reaction of one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    /// The contact of the person. `None`: the channel itself, or a person without identity.
    pub contact: Option<ContactId>,
    #[serde(default)]
    pub is_me: bool,
    /// Digits of the person.
    pub from: Option<String>,
    /// `None`: the reaction was removed. The removal is stored because an older reaction may arrive later.
    pub emoji: Option<String>,
    pub at: Millis,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaState {
    /// At the network.
    Remote,
    /// At the network and in this store.
    Stored,
    /// The network has lost them.
    Gone,
}

impl MediaState {
    pub const ALL: [Self; 3] = [Self::Remote, Self::Stored, Self::Gone];

    /// The name in the API and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Remote => "REMOTE",
            Self::Stored => "STORED",
            Self::Gone => "GONE",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What the network says of a file, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewMedia {
    pub mime_type: String,
    pub size: Option<u64>,
    /// SHA-256 of the bytes, in lower-case hexadecimal digits.
    pub sha256: Option<String>,
    pub file_name: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub duration_seconds: Option<u32>,
    pub ptt: bool,
    pub animated: bool,
    /// The id of the file at the network (Meta), which is no secret. Not shown.
    pub remote_id: Option<String>,
    /// Path and key (WhatsApp Web), sealed by the driver. Not shown.
    #[serde(skip)]
    pub sealed: Option<Vec<u8>>,
}

/// A file of a received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub id: MediaId,
    pub message: MessageId,
    pub channel: ChannelKey,
    pub state: MediaState,
    pub about: NewMedia,
    /// When the bytes were last read. This time decides how long they are kept.
    pub read_at: Option<Millis>,
}

/// A file whose bytes are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    pub id: MediaId,
    pub channel: ChannelKey,
    /// When the bytes were last read.
    pub read_at: Option<Millis>,
}

/// What a look at content that is not kept has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContentsDeleted {
    /// How many messages were looked at. Those whose events are awaited are due again later.
    pub looked: usize,
    /// Files of deleted content, whose bytes can be deleted.
    pub files: Vec<MediaId>,
}

/// What a driver sealed of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedIncoming {
    pub seq: Seq,
    pub channel: ChannelKey,
    pub network_id: String,
    /// The network's own form of the message.
    pub raw: Option<Vec<u8>>,
    /// Where its file is, and the key of the file.
    pub file: Option<(MediaId, Vec<u8>)>,
}

/// A query for the delivered messages of a channel, newest first.
#[derive(Debug, Clone)]
pub struct IncomingQuery {
    pub channel: ChannelKey,
    /// Only those of the person of the channel's owner who has this address.
    pub from: Option<(Owner, String)>,
    /// Behind this place.
    pub before: Option<Seq>,
    pub limit: usize,
}

/// A page of delivered messages.
#[derive(Debug, Clone, PartialEq)]
pub struct IncomingPage {
    pub messages: Vec<Incoming>,
    /// The place behind which the next page begins; `None` if this is the last one.
    pub next: Option<Seq>,
}
