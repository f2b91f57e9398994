//! The ports of institutions and channels, and of what belongs to a channel.

use async_trait::async_trait;
use recado_domain::account::KnownAccount;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEvent, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings,
    ChannelState, DeletedRows, Held, Link, LoginLimits, NewChannel, SessionChange, SessionKey, SessionOf, SessionRow,
};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::{ApiKey, Institution};
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;

use crate::Result;

/// Institutions and their API keys.
#[async_trait]
pub trait Tenants: Send + Sync + 'static {
    /// All institutions, oldest first.
    async fn institutions(&self) -> Result<Vec<Institution>>;
    /// Adds an institution.
    async fn create_institution(&self, institution: Institution) -> Result<()>;
    /// Sets the default country of an institution. `false` if there is no such institution.
    async fn set_default_country(&self, id: InstitutionId, country: DefaultCountry) -> Result<bool>;
    /// All keys, oldest first, including revoked keys.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// Adds a key.
    async fn create_api_key(&self, key: ApiKey) -> Result<()>;
    /// Revokes a key. If the key is already revoked, the time of its first revocation stays.
    async fn revoke_api_key(&self, id: ApiKeyId, now: Millis) -> Result<()>;
    /// Records when keys were last used.
    async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Millis)>) -> Result<()>;
}

/// Channels, their states, and their history.
#[async_trait]
pub trait Channels: Send + Sync + 'static {
    /// All channels, oldest first, including deleted channels.
    async fn channels(&self) -> Result<Vec<Channel>>;
    /// A page of the channels of an institution, oldest first, without deleted channels. The page begins behind the
    /// channel `after`.
    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>>;
    /// One channel.
    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>>;
    /// Creates a channel, or restores a deleted channel of the same id and type with an empty queue. `None` if the id
    /// is in use.
    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>>;
    /// Moves a channel from the state `from` of `to` to another state, and records the move in the history. `false` if
    /// the channel was not in the state `from`, or is deleted.
    ///
    /// A restriction has an end time. This time is kept while the channel is `Restricted` or `Paused`, and while its
    /// connection is lost. Every other state clears it. So until that time a driver that reconnects must move the
    /// channel to `Restricted`.
    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool>;
    /// Does the same as [`Self::move_channel`] for a state that a driver reports. Refused if the channel has another
    /// epoch than `held`. Also `false` if the channel has another session than `held`.
    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool>;
    /// Changes a channel's name and settings. `false` if the channel is deleted.
    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool>;
    /// Restricts a channel. The channel opens no chats until this time. If a later end time is already stored, that
    /// time stays. A connected channel becomes `Restricted` with this reason. A paused or disconnected channel keeps
    /// its state. `false` if the channel is in a state that cannot be restricted, or is deleted.
    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool>;
    /// Sets the time before which the channel sends nothing. If a later time is already stored, that time stays.
    async fn defer_channel(&self, channel: ChannelKey, until: Millis) -> Result<()>;
    /// Marks a channel as deleted. From then on the channel accepts and dispatches nothing. Queued messages are never
    /// sent, even if the channel is created again. The link, the session and the known accounts of the channel are
    /// deleted.
    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()>;
    /// For each channel that is not deleted, the event with which its present state began.
    async fn state_events(&self) -> Result<Vec<(ChannelKey, ChannelEvent)>>;
    /// A page of the history of a channel, newest first.
    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage>;
}

/// How channels are linked to their networks.
#[async_trait]
pub trait Links: Send + Sync + 'static {
    /// The links of all channels that are not deleted, oldest channel first.
    async fn links(&self) -> Result<Vec<Link>>;
    /// The link of a channel.
    async fn link(&self, channel: ChannelKey) -> Result<Option<Link>>;
    /// Writes or replaces a channel's link, and moves the channel from the expected state to `Connected`. `false` if
    /// the channel was in another state, or is deleted; then nothing is written.
    ///
    /// The link can lead to another phone number than before. Then messages that may have arrived from the former
    /// number become `UNKNOWN`, and no `UNKNOWN` message is sent again.
    async fn link_channel(&self, link: Link, expected: ChannelState, by: Actor, now: Millis) -> Result<bool>;
    /// Does the same as [`Self::link_channel`] for a link that a driver reports. Refused if the channel has another
    /// epoch than `held`. A `Paused` channel stays paused. Also `false` if the channel has another session than `held`.
    async fn link_held_channel(&self, link: Link, held: Held, expected: ChannelState, now: Millis) -> Result<bool>;
    /// Replaces the sealed bytes of a link. `false` if the stored bytes differ from `old`, or if there is no link.
    async fn reseal_link(&self, channel: ChannelKey, old: Vec<u8>, new: Vec<u8>) -> Result<bool>;
    /// Forbids the channel's session to log in before this time. A later time that is already stored stays. A new link
    /// removes the ban.
    async fn ban_link(&self, channel: ChannelKey, until: Millis) -> Result<()>;
    /// Records that the channel's session has logged in.
    async fn note_login(&self, channel: ChannelKey, at: Millis) -> Result<()>;
    /// When the channel's session may log in again.
    async fn login_limits(&self, channel: ChannelKey) -> Result<LoginLimits>;
}

/// The stored sessions of linked devices. Each row is sealed separately.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// The sealed values of a session for these keys of one kind, in the order of `keys`. `None` for a key without a
    /// row.
    async fn session_values(&self, of: SessionOf, kind: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Vec<u8>>>>;
    /// Keys and sealed values of a kind whose keys begin with `prefix`, in the order of the keys.
    async fn session_list(&self, of: SessionOf, kind: u8, prefix: Vec<u8>) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Makes all of these changes or none, and returns how many rows of each kind were deleted. Refused if the channel is deleted,
    /// if it has another session now, or if the epoch is old.
    async fn write_session(&self, held: Held, changes: Vec<SessionChange>) -> Result<DeletedRows>;
    /// Deletes all rows of a channel's session, and increments the session number of the channel. Does nothing if the
    /// channel has another session now. Refused if the epoch is old.
    async fn end_session(&self, held: Held) -> Result<()>;
    /// A page of the rows of all sessions. The page begins behind the row `after`.
    async fn session_rows(&self, after: Option<SessionKey>, limit: usize) -> Result<Vec<SessionRow>>;
    /// Replaces the sealed bytes of a row. `false` if the stored row differs from `old`, or if there is no row.
    async fn reseal_session_row(&self, old: SessionRow, new: Vec<u8>) -> Result<bool>;
}

/// What the network reported about phone numbers, and which recipients of a channel are known. A person becomes a known
/// recipient by a first message in either direction.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// What the network last reported about a phone number.
    async fn known_account(&self, channel: ChannelKey, phone: String) -> Result<Option<KnownAccount>>;
    /// Stores what the network reported about a phone number. `account` is `None` if the number is not on WhatsApp. If
    /// the account belongs to a known recipient, messages to the number no longer wait for the new-chat limiter. The
    /// commit then wakes the dispatcher.
    async fn note_account(&self, channel: ChannelKey, phone: String, account: Option<Party>, now: Millis)
    -> Result<()>;
    /// Stores that a person wrote to the channel, under every name by which a message can address the person. From then
    /// on the person is a known recipient. Returns whether the person was new. If so, messages to the person no longer
    /// wait for the new-chat limiter, and the commit wakes the dispatcher.
    async fn note_chat(&self, channel: ChannelKey, who: Party) -> Result<bool>;
    /// The recipients of queued messages about whom the network was never asked. Each recipient is listed once, in
    /// queue order, and at most `limit` are listed. The list is empty if the network has already named the account with
    /// this LID. Only the first 1,000 messages of the queue are scanned.
    async fn unasked_recipients(&self, channel: ChannelKey, lid: String, limit: u32) -> Result<Vec<String>>;
    /// The account of a recipient, as the network named it for the last message to this recipient.
    async fn account(&self, channel: ChannelKey, recipient: String) -> Result<Option<String>>;
}
