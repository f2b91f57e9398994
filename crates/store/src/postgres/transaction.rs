//! A transaction of this engine, for operations that are written once for both.

use std::collections::{BTreeMap, HashMap};

use recado_domain::channel::{ChannelKey, ChannelMove, Held, Ordering, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{Owner, Recording};
use recado_domain::ids::ApiKeyId;
use recado_domain::message::Seq;
use recado_domain::queue::{ChannelQueue, Transition};

use super::{apply, channels, events, lock, queue, recipients, sessions};
use crate::commits::Change;
use crate::common::chats::forget_all;
use crate::common::schedule::Due;
use crate::common::{Stamp, Transaction};
use crate::sqlkit::postgres::db::{Db, Done, Failure, args, column};

/// A transaction, and the changes to report after its commit.
pub(crate) struct Tx<'a> {
    db: Db<'a>,
    pub changes: Vec<Change>,
}

impl<'a> Tx<'a> {
    pub fn new(db: Db<'a>) -> Self {
        Self { db, changes: Vec::new() }
    }
}

impl<'a> Transaction for Tx<'a> {
    type Error = Failure;
    type Db = Db<'a>;
    const STAMP: Stamp = Stamp {
        with: "changed AS (UPDATE directory SET version = version + 1 RETURNING version)",
        column: ", version",
        value: ", (SELECT version FROM changed)",
        set: ", version = (SELECT version FROM changed)",
    };

    const RESET_CURSOR: &'static str = ", front_before = 0, front_until = NULL, front_latest = 0, front_per_day = NULL";

    fn last_seq(_: usize) -> String {
        channels::LAST_SEQ.to_owned()
    }

    fn known_last_seq(&self) -> Seq {
        0
    }

    fn db(&self) -> &Db<'a> {
        &self.db
    }

    fn notify(&mut self, change: Change) {
        self.changes.push(change);
    }

    async fn touch_api_keys(&mut self, used: &[(ApiKeyId, Millis)]) -> Done<()> {
        // Each key once and in order, because another node may write the same keys.
        let used: BTreeMap<&[u8], Millis> = used.iter().map(|(id, at)| (&id.as_bytes()[..], *at)).collect();
        let (ids, times): (Vec<&[u8]>, Vec<Millis>) = used.into_iter().unzip();
        let sql = "WITH used AS (SELECT k.id, u.at FROM unnest($1, $2) AS u (id, at) JOIN api_keys k ON k.id = u.id
                                 ORDER BY k.id FOR NO KEY UPDATE OF k)
                   -- By another node it may have been used later.
                   UPDATE api_keys k SET last_used_at = greatest(last_used_at, used.at) FROM used WHERE k.id = used.id";
        self.db.run(sql, args![ids, times]).await.map(drop)
    }

    async fn lock(&mut self, channel: ChannelKey) -> Done<Option<ChannelQueue>> {
        Ok(lock::lock(self.db, channel).await?.map(|locked| locked.queue))
    }

    async fn lock_some(&mut self, channels: &[ChannelKey]) -> Done<HashMap<ChannelKey, ChannelQueue>> {
        let mut locked = lock::lock_free(self.db, channels).await?;
        // Waits for one channel only: while it waits, no other channel is locked.
        if let (true, Some(first)) = (locked.is_empty(), channels.first()) {
            locked = lock::lock_known(self.db, &[*first]).await?;
        }
        Ok(locked.into_iter().map(|(channel, locked)| (channel, locked.queue)).collect())
    }

    async fn queue_scheduled(&mut self, due: &[Due], now: Millis) -> Done<()> {
        // Where each recipient has a queue, the next claim finds the places.
        let sql = include_str!("transaction/queue_scheduled.sql");
        let channels = column(due, |due| due.channel);
        let queues = lock::Queues::of(lock::lock_all(self.db, &channels).await?.values());
        let by_recipient = column(due, |due| queues.ordering(due.channel) == Ordering::Recipient);
        self.db.run(sql, args![column(due, |due| due.seq), by_recipient, now]).await.map(drop)
    }

    async fn holds(&mut self, held: Held) -> Done<bool> {
        lock::lock(self.db, held.channel).await?.map_or(Ok(false), |locked| locked.has(held))
    }

    async fn holds_shared(&mut self, held: Held) -> Done<bool> {
        Ok(sessions::fence(self.db, held).await?.is_none())
    }

    async fn move_channel(&mut self, channel: ChannelKey, to: &ChannelMove) -> Done<bool> {
        self.notify(Change::Work(channel));
        channels::move_to(self.db, channel, to).await
    }

    async fn restrict(&mut self, channel: ChannelKey, until: Millis, reason: &str, now: Millis) -> Done<bool> {
        match lock::lock(self.db, channel).await? {
            Some(mut locked) => channels::restrict(self.db, &mut locked, until, reason, now).await,
            None => Ok(false),
        }
    }

    async fn defer(&mut self, channel: ChannelKey, until: Millis) -> Done<()> {
        queue::defer(self.db, channel, until).await
    }

    async fn reset_cursor(&mut self, channel: ChannelKey) -> Done<()> {
        match lock::lock(self.db, channel).await? {
            Some(mut locked) => locked.reset_cursor(self.db).await,
            None => Ok(()),
        }
    }

    async fn lock_owner(&mut self, owner: Owner) -> Done<bool> {
        channels::lock_owner(self.db, owner).await
    }

    async fn record_messages(&mut self, owner: Owner, recording: Recording) -> Done<()> {
        channels::record_messages(self.db, owner, recording).await
    }

    async fn record(&mut self, channel: ChannelKey, what: &Recorded, at: Millis) -> Done<()> {
        events::record(self.db, channel, what, at).await
    }

    async fn channel_made(&mut self, _: ChannelKey) -> Done<()> {
        Ok(())
    }

    fn channel_deleted(&mut self, _: ChannelKey) {}

    async fn leave_unknown(&mut self, channel: ChannelKey) -> Done<()> {
        recipients::leave_unknown(self.db, channel).await
    }

    async fn forget_former_number(&mut self, channel: ChannelKey, now: Millis) -> Done<()> {
        forget_all(&self.db, channel).await?;
        queue::end_maybe_delivered(self.db, channel, now).await?;
        recipients::leave_unknown(self.db, channel).await
    }

    async fn clear_deferral(&mut self, channel: ChannelKey) -> Done<()> {
        channels::clear_deferral(self.db, channel).await?;
        channels::stamp(self.db, channel).await
    }

    async fn apply(&mut self, transitions: &[Transition<'_>]) -> Done<()> {
        if transitions.is_empty() {
            return Ok(());
        }
        let channels: Vec<_> = transitions.iter().map(Transition::channel).collect();
        let locked = lock::lock_all(self.db, &channels).await?;
        apply::apply_all(self.db, &lock::Queues::of(locked.values()), transitions).await.map(drop)
    }
}
