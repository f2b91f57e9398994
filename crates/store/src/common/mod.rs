//! Operations that are written once for both engines, because their SQL differs by a word at most. [`Transaction`]
//! contains the parts in which the engines differ.

pub(crate) mod age;
pub(crate) mod cards;
pub(crate) mod channels;
pub(crate) mod chats;
pub(crate) mod events;
pub(crate) mod inbox;
pub(crate) mod links;
pub(crate) mod messages;
pub(crate) mod person;
pub(crate) mod purge;
pub(crate) mod schedule;
pub(crate) mod sessions;
pub(crate) mod tenants;
pub(crate) mod webhooks;

use std::collections::HashMap;

use recado_domain::channel::{ChannelKey, ChannelMove, Held, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{Owner, Recording};
use recado_domain::ids::{ApiKeyId, MessageId};
use recado_domain::message::{MessageQuery, Seq};
use recado_domain::queue::{ChannelQueue, Transition};

use self::schedule::Due;
use crate::commits::Change;
use crate::sqlkit::both::{Executor, Unreadable};

/// A transaction of either engine.
pub(crate) trait Transaction {
    type Error: From<Unreadable>;
    type Db: Executor<Error = Self::Error>;
    /// How a statement marks a change for the other nodes.
    const STAMP: Stamp;
    /// Appended to what a statement sets in a channel: resets the scan cursor.
    const RESET_CURSOR: &'static str;

    /// An SQL expression for the highest number that any message was given. The parameter with this number is
    /// [`Self::known_last_seq`].
    fn last_seq(number: usize) -> String;
    /// The highest number that the engine knows in memory.
    fn known_last_seq(&self) -> Seq;

    /// The connection that runs statements.
    fn db(&self) -> &Self::Db;
    /// Reports a change to the follower after the commit.
    fn notify(&mut self, change: Change);
    /// Stores when keys were last used on this node.
    async fn touch_api_keys(&mut self, used: &[(ApiKeyId, Millis)]) -> Result<(), Self::Error>;
    /// Locks a channel's queue until the commit.
    async fn lock(&mut self, channel: ChannelKey) -> Result<Option<ChannelQueue>, Self::Error>;
    /// Locks those of these channels that are free; if all are locked, waits for one of them.
    async fn lock_some(&mut self, channels: &[ChannelKey]) -> Result<HashMap<ChannelKey, ChannelQueue>, Self::Error>;
    /// Moves scheduled messages of locked channels to the end of their queues, in this order. Their events keep
    /// pointing at them.
    async fn queue_scheduled(&mut self, due: &[Due], now: Millis) -> Result<(), Self::Error>;
    /// Whether the channel has this session. Refused if another node holds the lease.
    async fn holds(&mut self, held: Held) -> Result<bool, Self::Error>;
    /// The same with a shared lock, for work that leaves the queue as it is. A deleted channel has no session.
    async fn holds_shared(&mut self, held: Held) -> Result<bool, Self::Error>;
    /// Moves a channel from the expected state. `false` if it was in another state, or is deleted.
    async fn move_channel(&mut self, channel: ChannelKey, to: &ChannelMove) -> Result<bool, Self::Error>;
    /// Restricts a channel until this time: it opens no chats. A later end that is already stored stays.
    async fn restrict(
        &mut self,
        channel: ChannelKey,
        until: Millis,
        reason: &str,
        now: Millis,
    ) -> Result<bool, Self::Error>;
    /// Sends nothing on the channel before this time.
    async fn defer(&mut self, channel: ChannelKey, until: Millis) -> Result<(), Self::Error>;
    /// Resets the scan cursor, because a recipient may have become known.
    async fn reset_cursor(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// Locks the channels of an owner, and then the institution, so that no channel and no reader of events is added;
    /// `false` when there is no such institution.
    async fn lock_owner(&mut self, owner: Owner) -> Result<bool, Self::Error>;
    /// Which events of messages are recorded, also on channels that are made later. The owner is locked.
    async fn record_messages(&mut self, owner: Owner, recording: Recording) -> Result<(), Self::Error>;
    /// Records what happened to a channel.
    async fn record(&mut self, channel: ChannelKey, what: &Recorded, at: Millis) -> Result<(), Self::Error>;
    /// Called when a channel was created or restored.
    async fn channel_made(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// Called when a channel was deleted.
    fn channel_deleted(&mut self, channel: ChannelKey);
    /// Keeps `UNKNOWN` messages from being sent again.
    async fn leave_unknown(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// Drops what belongs to the former phone number of the channel: messages that may have arrived from it become
    /// `UNKNOWN`.
    async fn forget_former_number(&mut self, channel: ChannelKey, now: Millis) -> Result<(), Self::Error>;
    /// Clears the time before which the channel sends nothing, because the channel has a new link, and marks the link
    /// as changed for the other nodes.
    async fn clear_deferral(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// Applies these transitions to the messages that are in the expected states.
    async fn apply(&mut self, transitions: &[Transition<'_>]) -> Result<(), Self::Error>;
}

/// How an engine reads pages by its own indexes.
pub(crate) trait PageScan: Executor {
    /// Selects the latest messages to the recipient `?2` of the channel `?1` that have left the queue; a limited
    /// number, since all may have failed.
    fn latest_of_recipient() -> String;
    /// The latest messages of a query before `?2` and from `?3` on, of the recipient `?4`, in the state `?5`, of the
    /// kind `?7` and with the reference `?8`, at most `?6`. Queued messages are in one index, all others in a second
    /// one.
    fn page_sql(query: &MessageQuery) -> String;
    /// The lowest row that a page reads. Rows are counted in each of the two indexes, and the higher result counts.
    async fn floor(&self, query: &MessageQuery, before: Seq) -> Result<Option<(Seq, MessageId)>, Self::Error>;
}

/// The parts of a statement that increment the version of the directory. On SQLite there are no other nodes.
pub(crate) struct Stamp {
    /// A query at the beginning, with the name `changed`.
    pub with: &'static str,
    /// A column of an inserted row.
    pub column: &'static str,
    /// Its value.
    pub value: &'static str,
    /// An assignment of an updated row.
    pub set: &'static str,
}
