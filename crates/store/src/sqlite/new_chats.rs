//! Channels whose network limits how many chats they open. A message for a new recipient may have to wait, and so may a
//! message for a recipient that is deferred; neither blocks the messages after it. `docs/adr/0009-new-recipients.md`
//! gives the reasons.

use recado_domain::clock::Millis;
use recado_domain::queue::{ChannelQueue, ClaimPlan, ClaimRequest, FINISH_AT_ONCE, ScanCursor};
use rusqlite::{OptionalExtension, params};

use super::queue::{OPEN_ROWS, open_row};
use super::{Writing, recipients};
use crate::common::chats::is_known;
use crate::sqlkit::both::at_once;

/// Scans the queue past messages that wait for their recipient, until a message blocks all messages after it. Returns
/// where the next scan begins.
pub(super) fn plan(
    writing: &Writing,
    queue: ChannelQueue,
    request: &ClaimRequest,
) -> rusqlite::Result<(ClaimPlan, ScanCursor)> {
    let (mut plan, mut cursor) = (ClaimPlan::default(), queue.cursor.at(request));
    if cursor.before > 0 {
        finish_old(writing, (queue, cursor), request, &mut plan)?;
    }
    let now = request.now;
    let sends = queue.dispatches() && request.limit > 0 && queue.next_send_at <= now;
    let mut limit = NewChatLimit { writing, queue, request, sends, blocked_until: None };
    let mut statement = writing.connection.prepare_cached(&OPEN_ROWS)?;
    let mut rows = statement.query(params![request.channel, cursor.before])?;
    while let Some(row) = rows.next()? {
        let (row, recipient) = (open_row(row)?, row.get_ref(6)?.as_str()?);
        plan.scanned += 1;
        if let Some(goes_on) = plan.in_flight(&row, request) {
            if goes_on {
                continue;
            }
            break;
        }
        let waits_until = if row.expires_at > now && !queue.cancels(row.seq) { limit.waits(recipient)? } else { None };
        match waits_until {
            Some(_) if plan.scanned > FINISH_AT_ONCE => {
                plan.wakeup.schedule(now);
                break;
            }
            Some(until) => {
                plan.wakeup.schedule(row.expires_at);
                cursor.pass(&row, until);
            }
            None if plan.queued(&row, &queue, request) => {}
            None => break,
        }
    }
    cursor.until.into_iter().for_each(|until| plan.wakeup.schedule(until));
    Ok((plan, cursor))
}

/// Ends expired messages before the cursor.
fn finish_old(
    writing: &Writing,
    (queue, cursor): (ChannelQueue, ScanCursor),
    request: &ClaimRequest,
    plan: &mut ClaimPlan,
) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(&OPEN_ROWS)?;
    let mut rows = statement.query(params![request.channel, 0])?;
    while let Some(row) = rows.next()? {
        if !plan.before_cursor(&open_row(row)?, cursor, &queue, request) {
            break;
        }
    }
    Ok(())
}

struct NewChatLimit<'a> {
    writing: &'a Writing,
    queue: ChannelQueue,
    request: &'a ClaimRequest,
    /// Whether the channel may send now.
    sends: bool,
    /// Until when no chat may be opened. Read once, at the first message for a new recipient.
    #[expect(clippy::option_option, reason = "not asked for yet, or until when, if no chat may be opened")]
    blocked_until: Option<Option<Millis>>,
}

impl NewChatLimit<'_> {
    /// Until when a message for this recipient waits; `None` when it need not.
    fn waits(&mut self, recipient: &str) -> rusqlite::Result<Option<Millis>> {
        let who = (self.request.channel, recipient);
        let held_until = recipients::held_until(&self.writing.connection, who, self.request.now)?;
        if held_until.is_some() || !self.sends {
            return Ok(held_until);
        }
        let blocked_until = match self.blocked_until {
            Some(asked) => asked,
            None => *self.blocked_until.insert(self.blocked_until()?),
        };
        if blocked_until.is_none() || at_once(is_known(&self.writing.connection, who))? {
            return Ok(None);
        }
        Ok(blocked_until)
    }

    /// Until when no chat may be opened.
    fn blocked_until(&self) -> rusqlite::Result<Option<Millis>> {
        let mut counted = None;
        if let Some(chat) = self.request.counted_chat() {
            let mut statement = self.writing.connection.prepare_cached(
                "SELECT opened_at FROM chats INDEXED BY chats_opened
                 WHERE channel_key = ?1 AND opened_at IS NOT NULL AND opened_at > ?2
                 ORDER BY opened_at DESC LIMIT 1 OFFSET ?3",
            )?;
            let values = params![self.request.channel, chat.after, chat.later];
            counted = statement.query_row(values, |row| row.get(0)).optional()?;
        }
        Ok(self.queue.new_chats_blocked_until(self.request.now, counted))
    }
}
