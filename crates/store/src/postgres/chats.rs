//! Who may be written to freely: chats that messages open, and that a refusal ends.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::message::Seq;
use recado_domain::party::Party;
use recado_domain::phone::forms;

use super::lock::Locked;
use crate::common::chats::known_account;
use crate::sqlkit::postgres::db::{Db, Done, args};

async fn note_names(db: Db<'_>, channel: ChannelKey, names: Vec<String>) -> Done<bool> {
    let sql = "insert into chats (channel_key, account) select $1, unnest($2) on conflict do nothing";
    Ok(db.run(sql, args![channel, names]).await? > 0)
}

/// Whether a recipient of channel `$1`, whose digits stand in `{who}`, is no new one: by the typed digits, or by what the
/// network named for them. A chat is on record under both forms of a number, so that none of them is looked for here.
macro_rules! is_known_sql {
    ($who:literal) => {
        concat!(
            "(exists (select 1 from chats c where c.channel_key = $1 and c.account = ",
            $who,
            ") or exists (select 1 from accounts a
                          join chats c on c.channel_key = a.channel_key and c.account in (a.account, a.lid || '@lid')
                          where a.channel_key = $1 and a.phone = ",
            $who,
            "))"
        )
    };
}
pub(super) use is_known_sql;

/// Notes that a message was taken for its recipient: under both forms of the typed digits and of the account, as one chat.
pub(super) async fn open(db: Db<'_>, locked: &mut Locked, seq: Seq, account: Option<&str>, now: Millis) -> Done<()> {
    // The chats of a channel that was deleted since are none of the one in its place.
    if locked.queue.cancels(seq) {
        return Ok(());
    }
    let sql = concat!(
        "with who as (
             -- A message that was erased meanwhile is nobody's.
             select digits, n
             from messages m, unnest(array_remove(array[$3, m.recipient], null)) with ordinality as who(digits, n)
             where m.seq = $2
         ), known as (
             select 1 from who where ",
        is_known_sql!("digits"),
        "
         )
         insert into chats (channel_key, account, opened_at)
         -- Counted once, and not at all where either is known.
         select $1, digits, case when n = 1 and not exists (select 1 from known) then $4 end from who
         on conflict do nothing
         returning account"
    );
    let noted = db.rows(sql, args![locked.key, seq, account, now]).await?;
    if noted.is_empty() {
        return Ok(());
    }
    let names = noted.iter().flat_map(|row| forms(row.get("account"))).collect();
    note_names(db, locked.key, names).await?;
    locked.look_again(db).await
}

/// Makes a message's recipient a new one, whatever the name under which they were known.
pub(super) async fn forget(db: Db<'_>, channel: ChannelKey, seq: Seq) -> Done<()> {
    let Some(row) = db.row("select recipient from messages where seq = $1", args![seq]).await? else { return Ok(()) };
    let recipient: &str = row.get("recipient");
    let known = known_account(&db, (channel, recipient)).await?;
    let account = known.and_then(|known| Party::new(known.account, known.lid));
    let names: Vec<_> = account.iter().flat_map(Party::names).chain(forms(recipient)).collect();
    db.run("delete from chats where channel_key = $1 and account = any($2)", args![channel, names]).await.map(drop)
}
