//! Deleting what is old, a little at a time, so that nobody waits behind it.

use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::queue::PurgeRequest;
use rusqlite::{OptionalExtension, params};

use super::{Writing, events};
use crate::sql::PAST;

/// Rows that one call looks at.
const BATCH: i64 = 500;

pub(super) fn purge(writing: &mut Writing, request: &PurgeRequest) -> rusqlite::Result<Option<Seq>> {
    let keys = writing
        .connection
        .prepare_cached(
            // Ascending with time: when the first rows are young, all are.
            "delete from idempotency_keys
             where n in (select n from idempotency_keys order by n limit ?1) and created_at < ?2",
        )?
        .execute(params![BATCH, request.used_before])?;
    let last: Option<(Seq, Millis)> = writing
        .connection
        .prepare_cached(
            "select seq, queued_at from (select seq, queued_at from messages where seq > ?1 order by seq limit ?2)
             order by seq desc limit 1",
        )?
        .query_row(params![request.after, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((last, _)) = last {
        let gone = writing
            .connection
            .prepare_cached(&format!(
                "delete from messages
                 where seq > ?1 and seq <= ?2 and {PAST}
                   -- One that is to be sent again is not finished; too old, it is sent no more.
                   and (resend_at is null or expires_at <= ?4)
                   and max(queued_at, coalesce(sending_at, 0), coalesce(sent_at, 0), coalesce(delivered_at, 0),
                           coalesce(unknown_at, 0), coalesce(read_at, 0), coalesce(failed_at, 0),
                           coalesce(expired_at, 0), coalesce(cancelled_at, 0)) < ?3"
            ))?
            .execute(params![request.after, last, request.finished_before, request.now])?;
        if gone > 0 {
            events::forget_gone(&writing.connection, (request.after, last))?;
        }
    }
    let early = writing
        .connection
        .prepare_cached(
            "delete from early_receipts
             where n in (select n from early_receipts order by n limit ?1) and received_at < ?2",
        )?
        .execute(params![BATCH, request.early_receipts_before()])?;
    let paces = writing
        .connection
        .prepare_cached(
            "delete from recipient_pace where (channel_key, recipient) in
                 (select channel_key, recipient from recipient_pace where used_until < ?2 limit ?1)",
        )?
        .execute(params![BATCH, request.now])?;
    let accounts = writing
        .connection
        .prepare_cached(
            "delete from accounts where (channel_key, phone) in
                 (select channel_key, phone from accounts indexed by accounts_by_age where checked_at < ?2 limit ?1)",
        )?
        .execute(params![BATCH, request.accounts_before()])?;
    let events = events::purge(&writing.connection, request, BATCH)?;
    let full = i64::try_from(keys.max(early).max(paces).max(accounts).max(events)).is_ok_and(|most| most == BATCH);
    Ok(request.next(last, full))
}
