//! Deleting what is old, a little at a time, so that nobody waits behind it.

use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::queue::PurgeRequest;

use super::events;
use crate::sql::PAST;
use crate::sqlkit::postgres::db::{Db, Done, args};

/// Rows that one call looks at, in each table.
const BATCH: i64 = 2_000;

/// Statement by statement, each with its own commit: no row stays locked for longer than that takes.
pub(super) async fn purge(db: Db<'_>, request: &PurgeRequest) -> Done<Option<Seq>> {
    let keys = "delete from idempotency_keys
                -- Ascending with time: when the first rows are young, all are.
                where n in (select n from idempotency_keys order by n limit $1) and created_at < $2";
    let keys = db.run(keys, args![BATCH, request.used_before]).await?;
    let last = purge_messages(db, request).await?;
    let early = "delete from early_receipts
                 where n in (select n from early_receipts order by n limit $1) and received_at < $2";
    let early = db.run(early, args![BATCH, request.early_receipts_before()]).await?;
    let paces = "delete from recipient_pace where (channel_key, recipient) in
                     (select channel_key, recipient from recipient_pace where used_until < $2 limit $1)
                     -- It may have been used anew since it was looked at.
                     and used_until < $2";
    let paces = db.run(paces, args![BATCH, request.now]).await?;
    let accounts = "delete from accounts where (channel_key, phone) in
                        (select channel_key, phone from accounts where checked_at < $2 order by checked_at limit $1)
                        and checked_at < $2";
    let accounts = db.run(accounts, args![BATCH, request.accounts_before()]).await?;
    let events = events::purge(db, request, BATCH).await?;
    let full = i64::try_from(keys.max(early).max(paces).max(accounts).max(events)).is_ok_and(|most| most == BATCH);
    Ok(request.next(last, full))
}

/// Deletes what is old of the next messages; the last one that was looked at, and when it was queued.
async fn purge_messages(db: Db<'_>, request: &PurgeRequest) -> Done<Option<(Seq, Millis)>> {
    let last = "select seq, queued_at from (select seq, queued_at from messages where seq > $1 order by seq limit $2)
                                      as next
                order by seq desc limit 1";
    let Some(row) = db.row(last, args![request.after, BATCH]).await? else { return Ok(None) };
    let (last, queued_at): (Seq, Millis) = (row.get(0), row.get(1));
    let sql = format!(
        "delete from messages
         where seq > $1 and seq <= $2 and {PAST}
           -- One that is to be sent again is not finished; too old, it is sent no more.
           and (resend_at is null or expires_at <= $4)
           -- Of those that are there.
           and greatest(queued_at, sending_at, sent_at, delivered_at, unknown_at, read_at, failed_at, expired_at,
                        cancelled_at) < $3"
    );
    if db.run(&sql, args![request.after, last, request.finished_before, request.now]).await? > 0 {
        // Behind the deletion: a receipt may have moved a message just before it.
        events::forget_gone(db, (request.after, last)).await?;
    }
    Ok(Some((last, queued_at)))
}
