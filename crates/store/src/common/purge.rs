//! Deleting what is old, a little at a time, so that nobody waits behind it.

use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::queue::PurgeRequest;

use super::events;
use crate::sql::PAST;
use crate::sqlkit::both::{Executor, Row, values};

/// Statement by statement; where each has its own commit, no row stays locked for longer than that takes.
pub(crate) async fn purge<E: Executor>(db: &E, request: &PurgeRequest) -> Result<Option<Seq>, E::Error> {
    let last = purge_messages(db, request).await?;
    let accounts = format!(
        "delete from accounts where (channel_key, phone) in
             (select channel_key, phone from accounts{} where checked_at < ?2 order by checked_at limit ?1)
             and checked_at < ?2",
        E::index("accounts_by_age")
    );
    // Each with the time before which a row is old.
    let old = [
        // Ascending with time: when the first rows are young, all are.
        (
            "delete from idempotency_keys
             where n in (select n from idempotency_keys order by n limit ?1) and created_at < ?2",
            request.used_before,
        ),
        (
            "delete from early_receipts
             where n in (select n from early_receipts order by n limit ?1) and received_at < ?2",
            request.early_receipts_before(),
        ),
        (
            "delete from recipient_pace where (channel_key, recipient) in
                 (select channel_key, recipient from recipient_pace where used_until < ?2 limit ?1)
                 -- It may have been used anew since it was looked at.
                 and used_until < ?2",
            request.now,
        ),
        (&*accounts, request.accounts_before()),
        (&*events::old("message_seq is null"), request.channel_events_before()),
        (&*events::old("message_seq is not null"), request.message_events_before()),
    ];
    let mut full = false;
    for (sql, before) in old {
        full |= db.run(sql, values![E::PURGED_AT_ONCE, before]).await? == E::PURGED_AT_ONCE.unsigned_abs();
    }
    Ok(request.next(last, full))
}

/// Deletes what is old of the next messages; the last one that was looked at, and when it was queued.
async fn purge_messages<E: Executor>(db: &E, request: &PurgeRequest) -> Result<Option<(Seq, Millis)>, E::Error> {
    let sql = "select seq, queued_at
               from (select seq, queued_at from messages where seq > ?1 order by seq limit ?2) as next
               order by seq desc limit 1";
    let read = |row: &Row<'_>| Ok((row.get("seq")?, row.get("queued_at")?));
    let last = db.row(sql, values![request.after, E::PURGED_AT_ONCE], read).await?;
    let Some((seq, _)) = last else { return Ok(None) };
    let sql = format!(
        "delete from messages
         where seq > ?1 and seq <= ?2 and {PAST}
           -- One that is to be sent again is not finished; too old, it is sent no more.
           and (resend_at is null or expires_at <= ?4)
           and {}(queued_at, coalesce(sending_at, 0), coalesce(sent_at, 0), coalesce(delivered_at, 0),
                  coalesce(unknown_at, 0), coalesce(read_at, 0), coalesce(failed_at, 0), coalesce(expired_at, 0),
                  coalesce(cancelled_at, 0)) < ?3",
        E::GREATEST
    );
    if db.run(&sql, values![request.after, seq, request.finished_before, request.now]).await? > 0 {
        // Behind the deletion: a receipt may have moved a message just before it.
        events::forget_gone(db, (request.after, seq)).await?;
    }
    Ok(last)
}
