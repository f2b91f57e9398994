//! The writing thread's transaction, for operations that are written once for both engines.

use std::collections::HashMap;

use recado_domain::channel::{ChannelKey, ChannelMove, Held, Ordering, Recorded};
use recado_domain::clock::Millis;
use recado_domain::event::{Owner, Recording};
use recado_domain::ids::ApiKeyId;
use recado_domain::message::Seq;
use recado_domain::queue::{ChannelQueue, ScanCursor, Transition};
use rusqlite::{Connection, params};

use super::{CachedChannel, Writing, apply, channels, chats, events, queue, recipients, sessions};
use crate::commits::Change;
use crate::common::chats::forget_all;
use crate::common::schedule::Due;
use crate::common::{Stamp, Transaction};

impl Transaction for Writing {
    type Error = rusqlite::Error;
    type Db = Connection;
    const STAMP: Stamp = Stamp { with: "changed (version) AS (SELECT 0)", column: "", value: "", set: "" };

    const RESET_CURSOR: &'static str = "";

    fn last_seq(number: usize) -> String {
        format!("?{number}")
    }

    fn known_last_seq(&self) -> Seq {
        self.last_seq
    }

    fn db(&self) -> &Connection {
        &self.connection
    }

    fn notify(&mut self, change: Change) {
        self.changes.push(change);
    }

    async fn touch_api_keys(&mut self, used: &[(ApiKeyId, Millis)]) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("UPDATE api_keys SET last_used_at = ?2 WHERE id = ?1")?;
        for (id, at) in used {
            statement.execute(params![id.as_bytes(), at])?;
        }
        Ok(())
    }

    async fn lock(&mut self, channel: ChannelKey) -> rusqlite::Result<Option<ChannelQueue>> {
        Ok(self.queue(channel).copied())
    }

    async fn lock_some(&mut self, channels: &[ChannelKey]) -> rusqlite::Result<HashMap<ChannelKey, ChannelQueue>> {
        let known = channels.iter().filter_map(|channel| Some((*channel, self.queues.get(channel)?.queue)));
        Ok(known.collect())
    }

    async fn queue_scheduled(&mut self, due: &[Due], now: Millis) -> rusqlite::Result<()> {
        for Due { seq, channel, recipient, .. } in due {
            let next = self.last_seq + 1;
            let ordering = self.queues.get(channel).map_or(Ordering::Channel, |known| known.queue.ordering);
            let head = recipients::is_head(&self.connection, ordering, *channel, recipient)?;
            let sql = "UPDATE messages SET seq = ?2, head = ?3, queued_at = ?4 WHERE seq = ?1";
            self.connection.prepare_cached(sql)?.execute(params![seq, next, head, now])?;
            self.last_seq = next;
            self.queue(*channel).into_iter().for_each(|queue| queue.cursor.make_room_for(next));
            let sql = "UPDATE events SET message_seq = ?2 WHERE message_seq = ?1";
            self.connection.prepare_cached(sql)?.execute([*seq, next])?;
        }
        Ok(())
    }

    async fn holds(&mut self, held: Held) -> rusqlite::Result<bool> {
        Ok(self.has(held))
    }

    async fn holds_shared(&mut self, held: Held) -> rusqlite::Result<bool> {
        Ok(sessions::fence(self, held).is_none())
    }

    async fn move_channel(&mut self, channel: ChannelKey, to: &ChannelMove) -> rusqlite::Result<bool> {
        channels::move_to(self, channel, to)
    }

    async fn restrict(
        &mut self,
        channel: ChannelKey,
        until: Millis,
        reason: &str,
        now: Millis,
    ) -> rusqlite::Result<bool> {
        channels::restrict(self, channel, until, reason, now)
    }

    async fn defer(&mut self, channel: ChannelKey, until: Millis) -> rusqlite::Result<()> {
        queue::defer(self, channel, until)
    }

    async fn reset_cursor(&mut self, channel: ChannelKey) -> rusqlite::Result<()> {
        chats::reset_cursor(self, channel);
        Ok(())
    }

    async fn lock_owner(&mut self, (institution, _): Owner) -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM institutions WHERE id = ?1)";
        self.connection.prepare_cached(sql)?.query_row([institution.as_bytes()], |row| row.get(0))
    }

    async fn record_messages(&mut self, owner: Owner, recording: Recording) -> rusqlite::Result<()> {
        channels::record_messages(self, owner, recording)
    }

    async fn record(&mut self, channel: ChannelKey, what: &Recorded, at: Millis) -> rusqlite::Result<()> {
        events::record(&self.connection, channel, what, at)
    }

    async fn channel_made(&mut self, channel: ChannelKey) -> rusqlite::Result<()> {
        channels::cache_channel(self, channel)
    }

    fn channel_deleted(&mut self, channel: ChannelKey) {
        let cancel_before = self.last_seq;
        if let Some(CachedChannel { queue, open }) = self.queues.get_mut(&channel) {
            (queue.deleted, queue.cancel_before, queue.cursor) = (true, cancel_before, ScanCursor::default());
            // The open messages are cancelled, and do not count as backlog if the channel is created again.
            *open = 0;
        }
    }

    async fn leave_unknown(&mut self, channel: ChannelKey) -> rusqlite::Result<()> {
        recipients::leave_unknown(self, channel)
    }

    async fn forget_former_number(&mut self, channel: ChannelKey, now: Millis) -> rusqlite::Result<()> {
        forget_all(&self.connection, channel).await?;
        queue::end_maybe_delivered(self, channel, now)?;
        recipients::leave_unknown(self, channel)
    }

    async fn clear_deferral(&mut self, channel: ChannelKey) -> rusqlite::Result<()> {
        channels::clear_deferral(self, channel)
    }

    async fn apply(&mut self, transitions: &[Transition<'_>]) -> rusqlite::Result<()> {
        transitions.iter().try_for_each(|transition| apply::apply(self, transition).map(drop))
    }
}
