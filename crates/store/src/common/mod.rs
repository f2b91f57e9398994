//! Operations that are written once for both engines: their SQL is the same but for a word. What an engine does in its own
//! way stands in [`Transaction`].

pub(crate) mod cards;
pub(crate) mod channels;
pub(crate) mod chats;
pub(crate) mod events;
pub(crate) mod links;
pub(crate) mod messages;
pub(crate) mod person;
pub(crate) mod purge;
pub(crate) mod schedule;
pub(crate) mod tenants;

use std::collections::HashMap;

use recado_domain::channel::{ChannelKey, ChannelMove, Held, Recorded};
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, MessageId};
use recado_domain::message::{MessageQuery, Seq};
use recado_domain::queue::{ChannelQueue, Transition};

use self::schedule::Due;
use crate::commits::Change;
use crate::sqlkit::both::{Executor, Unreadable};

/// A transaction of either engine, with what each of them does in its own way.
pub(crate) trait Transaction {
    type Error: From<Unreadable>;
    type Db: Executor<Error = Self::Error>;
    /// How a statement tells other nodes of what it changes.
    const STAMP: Stamp;
    /// Behind what is set of a channel: messages that wait for a gate take their places in the queue again.
    const LOOK_AGAIN: &'static str;

    /// The highest number that any message was given, in a statement; the value of this number is what the engine knows of
    /// it.
    fn last_seq(number: usize) -> String;
    /// What the engine knows of that.
    fn known_last_seq(&self) -> Seq;

    /// What runs statements.
    fn db(&self) -> &Self::Db;
    /// Whoever follows hears of it after the commit.
    fn tell(&mut self, change: Change);
    /// Notes when keys were last used, by this node.
    async fn touch_api_keys(&mut self, used: &[(ApiKeyId, Millis)]) -> Result<(), Self::Error>;
    /// A channel's queue, which nobody else changes until the commit.
    async fn lock(&mut self, channel: ChannelKey) -> Result<Option<ChannelQueue>, Self::Error>;
    /// Locks those of these channels that nobody else has, or waits for them where somebody else has all of them.
    async fn lock_some(&mut self, channels: &[ChannelKey]) -> Result<HashMap<ChannelKey, ChannelQueue>, Self::Error>;
    /// Puts scheduled messages of locked channels into their queues, in this order and behind all others; their events
    /// follow them.
    async fn queue_scheduled(&mut self, due: &[Due], now: Millis) -> Result<(), Self::Error>;
    /// Whether the channel has this session; refused where another node holds it.
    async fn holds(&mut self, held: Held) -> Result<bool, Self::Error>;
    /// Moves a channel from the expected state; `false` when it was in another, or is deleted.
    async fn move_channel(&mut self, channel: ChannelKey, to: &ChannelMove) -> Result<bool, Self::Error>;
    /// Lets a channel open no chats until then, unless a later time stands.
    async fn restrict(
        &mut self,
        channel: ChannelKey,
        until: Millis,
        reason: &str,
        now: Millis,
    ) -> Result<bool, Self::Error>;
    /// Sends nothing on the channel before this time.
    async fn hold(&mut self, channel: ChannelKey, until: Millis) -> Result<(), Self::Error>;
    /// Somebody may be known who was not: messages for them take their places in the queue again.
    async fn look_again(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// Records what happened to a channel.
    async fn record(&mut self, channel: ChannelKey, what: &Recorded, at: Millis) -> Result<(), Self::Error>;
    /// A channel was made, or made anew.
    async fn channel_made(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// A channel was deleted.
    fn channel_deleted(&mut self, channel: ChannelKey);
    /// What is `UNKNOWN` is not sent again.
    async fn leave_unknown(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// What was said to the channel by its former number says nothing of another one.
    async fn forget_former_number(&mut self, channel: ChannelKey, now: Millis) -> Result<(), Self::Error>;
    /// A channel is linked anew: what its network said before holds no more, and other nodes hear of the link.
    async fn let_go(&mut self, channel: ChannelKey) -> Result<(), Self::Error>;
    /// Makes these transitions where their messages are in the expected states.
    async fn apply(&mut self, transitions: &[Transition<'_>]) -> Result<(), Self::Error>;
}

/// How an engine reads what it has in indexes of its own.
pub(crate) trait Walk: Executor {
    /// What selects the latest messages to the recipient `?2` of the channel `?1` that have left the queue; only some, where all
    /// have failed.
    fn latest_of_recipient() -> String;
    /// The latest messages of a query before `?2` and from `?3` on, of the recipient `?4`, in the state `?5`, of the kind `?7` and
    /// with the reference `?8`, at most `?6`.
    /// They lie in two indexes, the waiting ones in one, all others in the other.
    fn page_sql(query: &MessageQuery) -> String;
    /// The row below which a page does not look, counted in the index that each part walks: the higher one of the two.
    async fn floor(&self, query: &MessageQuery, before: Seq) -> Result<Option<(Seq, MessageId)>, Self::Error>;
}

/// The parts of a statement that count up the version of the directory; on SQLite there are no other nodes.
pub(crate) struct Stamp {
    /// A query that stands in front, by the name `changed`.
    pub with: &'static str,
    /// A column of the row that is inserted.
    pub column: &'static str,
    /// Its value.
    pub value: &'static str,
    /// What is set of the row that is updated.
    pub set: &'static str,
}
