//! Conversations as callers read and change them.

use std::collections::BTreeSet;

use recado_domain::address::LID;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::conversation::{
    Change, Changed, ClosedBy, Conversation, ConversationMessages, ConversationPage, ConversationPlace,
    ConversationQuery, InboxPage, MARKED_AT_ONCE, MarkedRead, Order, ReadMark, Status, Transition, WINDOW,
};
use recado_domain::event::Owner;
use recado_domain::ids::ConversationId;
use recado_domain::incoming::{Direction, IdentityKind, Incoming, clean};
use recado_domain::message::{Message, Seq};
use recado_domain::phone::forms;
use recado_domain::status::MessageStatus;

use super::announce::{self, Place};
use super::latest::OF_CHAT;
use super::rows::{INCOMING, incoming};
use super::signals;
use super::threads::{self, ALL, conversation, group_chat, select};
use super::{GROUP_LIMIT, book, lock, moves, one_more, owner_of, unfinished};
use crate::commits::Change as Noted;
use crate::common::Transaction;
use crate::common::messages::{columns, message};
use crate::sql::{PAST, reached_column};
use crate::sqlkit::both::{Executor, Row, values};

/// The most conversations that are read for one page of a list with a filter. If few match, the page is short.
const SCANNED: i64 = 5_000;

/// One conversation of this owner.
pub(crate) async fn one<E: Executor>(
    db: &E,
    owner: Owner,
    id: ConversationId,
) -> Result<Option<Conversation>, E::Error> {
    let sql = format!("{} WHERE v.id = ?1", select(ALL));
    let found = db.row(&sql, values![&id.as_bytes()[..]], conversation).await?;
    Ok(found.filter(|conversation| conversation.owner == owner))
}

/// The conversations of a channel. They are in two indexes: those that go on, and the closed ones.
const OF_CHANNEL: &str = "channel_key = ?5";

/// Chooses the index by which the fewest conversations have to be read for a query.
fn indexed(query: &ConversationQuery) -> &'static str {
    if query.contact.is_some() {
        "contact_id = ?3"
    } else if query.assigned_to.is_some() {
        "institution_id = ?1 AND environment = ?2 AND assigned_to = ?4"
    } else if query.channel.is_some() {
        OF_CHANNEL
    } else if query.unread {
        "institution_id = ?1 AND environment = ?2 AND unread > 0"
    } else {
        "institution_id = ?1 AND environment = ?2"
    }
}

/// Whether a query has filters beside the condition of the index.
fn has_filter(query: &ConversationQuery) -> bool {
    let conditions = [query.contact.is_some(), query.assigned_to.is_some(), query.channel.is_some(), query.unread];
    let indexed = usize::from(conditions.contains(&true));
    let asked = conditions.into_iter().filter(|asked| *asked).count();
    asked > indexed || query.status.is_some() || query.department.is_some() || query.window_open
}

/// Selects the conversations that a page reads, from the newest one on.
fn scanned_sql(query: &ConversationQuery) -> String {
    let newest = "ORDER BY active_at DESC, id DESC LIMIT ?8";
    let indexed = indexed(query);
    let behind = |which: &str| {
        format!("SELECT * FROM conversations WHERE {indexed}{which} AND (active_at, id) < (?6, ?7) {newest}")
    };
    if indexed != OF_CHANNEL {
        return behind("");
    }
    let (open, closed) = (behind(" AND closed_at IS NULL"), behind(" AND closed_at IS NOT NULL"));
    format!(
        "SELECT * FROM (SELECT * FROM ({open}) AS a UNION ALL SELECT * FROM ({closed}) AS b) AS of_channel {newest}"
    )
}

/// The SQL of a page, of the conversations that `scanned` selects.
fn page_sql(scanned: &str) -> String {
    format!(
        "WITH scanned AS ({scanned}),
         matching AS (SELECT * FROM scanned
             WHERE institution_id = ?1 AND environment = ?2
               AND (?3 IS NULL OR contact_id = ?3) AND (?4 IS NULL OR assigned_to = ?4)
               AND (?5 IS NULL OR channel_key = ?5) AND (?9 IS NULL OR status = ?9)
               AND (?10 IS NULL OR department_id = ?10) AND (?11 = 0 OR unread > 0)
               AND (?12 IS NULL OR (windowed AND wrote_at > ?12))
             ORDER BY active_at DESC, id DESC LIMIT ?13)
         {} ORDER BY v.active_at DESC, v.id DESC",
        select("matching v")
    )
}

pub(crate) async fn page<E: Executor>(db: &E, query: &ConversationQuery) -> Result<ConversationPage, E::Error> {
    let (institution, environment) = (&query.owner.0.as_bytes()[..], query.owner.1.name());
    let contact = query.contact.map(|id| id.as_bytes().to_vec());
    let (before, before_id) = match query.after {
        Some(place) => (place.active_at, place.id.as_bytes().to_vec()),
        None => (Millis::MAX, Vec::new()),
    };
    let limit = one_more(query.limit);
    let scanned = if has_filter(query) { SCANNED } else { limit };
    let scanning = scanned_sql(query);
    let status = query.status.map(Status::name);
    let open_since = query.window_open.then(|| query.now - WINDOW);
    let unread = i64::from(query.unread);
    let asked = values![
        institution,
        environment,
        contact,
        query.assigned_to,
        query.channel,
        before,
        before_id,
        scanned,
        status,
        query.department,
        unread,
        open_since,
        limit,
    ];
    let mut conversations = db.rows(&page_sql(&scanning), asked, conversation).await?;
    let more = conversations.len() > query.limit;
    conversations.truncate(query.limit);
    if more || scanned < SCANNED {
        let last = conversations.last().filter(|_| more);
        let next = last.map(|last| ConversationPlace { active_at: last.active_at, id: last.id });
        return Ok(ConversationPage { conversations, next });
    }
    // The page has everything that was read. If the list goes on, the next page begins where the reading ended.
    let sql = format!(
        "SELECT id, active_at FROM ({scanning}) AS scanned ORDER BY active_at DESC, id DESC LIMIT 1 OFFSET ?8 - 1"
    );
    let place = |row: &Row<'_>| {
        Ok(ConversationPlace { active_at: row.get("active_at")?, id: ConversationId::from_bytes(row.bytes("id")?) })
    };
    let next = db.row(&sql, &asked[..8], place).await?;
    Ok(ConversationPage { conversations, next })
}

/// The statements of pages, one for each index.
#[cfg(test)]
pub(crate) fn page_statements(query: &ConversationQuery) -> Vec<String> {
    let of = |change: &dyn Fn(&mut ConversationQuery)| {
        let mut query = query.clone();
        change(&mut query);
        page_sql(&scanned_sql(&query))
    };
    vec![
        of(&|_| ()),
        of(&|query| query.unread = true),
        of(&|query| query.channel = Some(1)),
        of(&|query| query.assigned_to = Some(String::new())),
        of(&|query| query.contact = Some(recado_domain::ids::ContactId::from_bytes([0; 16]))),
    ]
}

/// The most messages of a page.
const MESSAGES: usize = 500;

pub(crate) async fn messages<E: Executor>(db: &E, query: ConversationMessages) -> Result<Option<InboxPage>, E::Error> {
    let found = one(db, query.owner, query.conversation).await?;
    let Some(conversation) = found.filter(|found| found.channel == query.channel) else { return Ok(None) };
    let query = ConversationMessages { limit: query.limit.min(MESSAGES), ..query };
    let asked = |direction| query.direction.is_none_or(|only| only == direction);
    let delivered = if asked(Direction::Inbound) { delivered(db, &query).await? } else { Vec::new() };
    let sent = if asked(Direction::Outbound) { sent(db, &conversation, &query).await? } else { Vec::new() };
    Ok(Some(InboxPage::merged(delivered, sent, &query)))
}

/// Which rows follow a place, and their order.
fn behind(query: &ConversationMessages) -> (&'static str, &'static str, Seq) {
    match query.order {
        Order::NewestFirst => ("<", "DESC", Seq::MAX),
        Order::OldestFirst => (">", "ASC", Seq::MIN),
    }
}

/// The delivered messages of a conversation after a place: one more than the page has.
async fn delivered<E: Executor>(db: &E, query: &ConversationMessages) -> Result<Vec<Incoming>, E::Error> {
    let (is_behind, order, start) = behind(query);
    let place = query.after.map_or(start, |place| place.incoming);
    let sql =
        format!("{INCOMING} WHERE m.conversation_id = ?1 AND m.seq {is_behind} ?2 ORDER BY m.seq {order} LIMIT ?3");
    db.rows(&sql, values![&query.conversation.as_bytes()[..], place, one_more(query.limit)], incoming).await
}

/// The messages that calls sent in a conversation, behind a place, one more than the page has. Messages of earlier versions
/// have no conversation: they were sent while it went on. They are found by their recipients, because no index knows the
/// conversations of messages.
async fn sent<E: Executor>(
    db: &E,
    conversation: &Conversation,
    query: &ConversationMessages,
) -> Result<Vec<Message>, E::Error> {
    let (is_behind, order, start) = behind(query);
    let place = query.after.map_or(start, |place| place.sent);
    let (begin, end) = (conversation.created_at, conversation.closed_at.unwrap_or(Millis::MAX));
    let sending = reached_column(MessageStatus::Sending);
    let sql = format!(
        "SELECT {} FROM messages{} WHERE channel_key = ?1 AND recipient = ?2 AND {PAST} AND seq {is_behind} ?3
           AND (conversation_id = ?7 OR ?8 = 1 AND conversation_id IS NULL AND {sending} >= ?4 AND {sending} < ?5)
         ORDER BY seq {order} LIMIT ?6",
        columns(),
        E::index("messages_past_by_recipient")
    );
    let (limit, id) = (one_more(query.limit), &conversation.id.as_bytes()[..]);
    let mut sent = Vec::new();
    let present = present(db, conversation).await?;
    let former = former(db, conversation).await?;
    // A former number may be another person's, so the time alone does not decide.
    let former = former.iter().filter(|name| !present.contains(*name)).map(|name| (name, 0_i64));
    for (name, is_present) in present.iter().map(|name| (name, 1_i64)).chain(former) {
        let asked = values![conversation.channel, *name, place, begin, end, limit, id, is_present];
        sent.extend(db.rows(&sql, asked, message).await?);
    }
    sent.sort_by_key(|message| message.seq);
    if query.order == Order::NewestFirst {
        sent.reverse();
    }
    Ok(sent)
}

/// Under which addresses messages of a conversation were sent.
pub(super) async fn recipients<E: Executor>(db: &E, conversation: &Conversation) -> Result<BTreeSet<String>, E::Error> {
    let mut names = present(db, conversation).await?;
    names.extend(former(db, conversation).await?);
    Ok(names)
}

/// The addresses that the person of a conversation had before.
async fn former<E: Executor>(db: &E, conversation: &Conversation) -> Result<BTreeSet<String>, E::Error> {
    let sql = "SELECT former_addresses FROM conversations WHERE id = ?1";
    let id = &conversation.id.as_bytes()[..];
    let former: Option<String> = db.row(sql, values![id], |row| row.get("former_addresses")).await?.flatten();
    Ok(former.iter().flat_map(|former| former.split(' ')).flat_map(forms).collect())
}

/// The addresses that the person or the group of a conversation has now.
async fn present<E: Executor>(db: &E, conversation: &Conversation) -> Result<BTreeSet<String>, E::Error> {
    let phone = conversation.contact.as_ref().and_then(|who| who.phone.as_deref());
    let mut names: BTreeSet<String> =
        [Some(conversation.address.as_str()), phone].into_iter().flatten().flat_map(forms).collect();
    let identities = match &conversation.contact {
        Some(who) => book::identities(db, who.id).await?,
        None => Vec::new(),
    };
    for identity in identities {
        match identity.kind {
            IdentityKind::Lid => drop(names.insert(format!("{}{LID}", identity.value))),
            IdentityKind::UserId => drop(names.insert(identity.value)),
            IdentityKind::Phone => names.extend(forms(&identity.value)),
        }
    }
    Ok(names)
}

/// Applies a caller's change to a conversation.
pub(crate) async fn change<E: Executor>(
    db: &E,
    (owner, id): (Owner, ConversationId),
    change: &Change,
    now: Millis,
) -> Result<Changed, E::Error> {
    lock(db, owner).await?;
    let Some(before) = one(db, owner, id).await? else { return Ok(Changed::NotFound) };
    let name = match change {
        Change::Assign { attendant, name: None, .. } | Change::Transfer { attendant: Some(attendant), .. } => {
            name_of(db, owner, attendant).await?
        }
        _ => None,
    };
    // One that moves into another stays closed, or the move would take its new messages along.
    let other_is_active =
        matches!(change, Change::Reopen) && (another_goes_on(db, id).await? || moves::is_moving(db, id).await?);
    let after = match change.on(&before, |_| name.clone(), other_is_active) {
        Ok(Some(after)) => after,
        Ok(None) => return Ok(Changed::Done(Box::new(before))),
        Err(refused) => return Ok(Changed::Refused(refused)),
    };
    let note = match change {
        Change::Transfer { note, .. } => note.as_deref(),
        _ => None,
    };
    let conversation = write(db, &before, after, now).await?;
    let place = Place { db, owner, now };
    if let Change::Close { reason } = change {
        announce::closed(&place, &conversation, ClosedBy::Api, reason.as_deref()).await?;
    } else {
        let previous = (before.assigned_to.as_ref(), before.department.as_deref());
        announce::assigned(&place, &conversation, previous, note).await?;
    }
    Ok(Changed::Done(Box::new(conversation)))
}

/// Stores a conversation after a change.
pub(super) async fn write<E: Executor>(
    db: &E,
    before: &Conversation,
    after: Transition,
    now: Millis,
) -> Result<Conversation, E::Error> {
    let closed_at = (after.status == Status::Closed).then_some(now);
    let conversation = Conversation {
        status: after.status,
        assigned_to: after.assigned_to,
        department: after.department,
        note: after.note,
        updated_at: now,
        closed_at,
        close_reason: after.reason,
        ..before.clone()
    };
    threads::save(db, &conversation).await?;
    Ok(conversation)
}

/// The name that was last given for an attendant.
async fn name_of<E: Executor>(db: &E, owner: Owner, attendant: &str) -> Result<Option<String>, E::Error> {
    let sql = "SELECT assigned_name FROM conversations
               WHERE institution_id = ?1 AND environment = ?2 AND assigned_to = ?3 ORDER BY active_at DESC, id DESC LIMIT 1";
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    let name = |row: &Row<'_>| row.get::<Option<String>>("assigned_name");
    Ok(db.row(sql, values![institution, environment, attendant], name).await?.flatten())
}

/// Whether another conversation of the same chat is active.
async fn another_goes_on<E: Executor>(db: &E, id: ConversationId) -> Result<bool, E::Error> {
    let sql = "SELECT 1 AS found FROM conversations v JOIN conversations o ON o.channel_key = v.channel_key AND o.chat = v.chat
               WHERE v.id = ?1 AND o.id <> v.id AND o.closed_at IS NULL";
    Ok(db.row(sql, values![&id.as_bytes()[..]], |_| Ok(())).await?.is_some())
}

/// Marks the received messages of a conversation as read, and stores the read signal for the network.
pub(crate) async fn read<T: Transaction>(
    tx: &mut T,
    of: (Owner, ConversationId),
    now: Millis,
) -> Result<Option<MarkedRead>, T::Error> {
    let marked = mark_read(tx.db(), of, now).await?;
    if marked.as_ref().is_some_and(|marked| !marked.messages.is_empty()) {
        tx.notify(Noted::Read);
    }
    Ok(marked)
}

/// The same, where the caller reports the change after the commit.
pub(crate) async fn mark_read<E: Executor>(
    db: &E,
    (owner, id): (Owner, ConversationId),
    now: Millis,
) -> Result<Option<MarkedRead>, E::Error> {
    lock(db, owner).await?;
    let Some(mut conversation) = one(db, owner, id).await? else { return Ok(None) };
    let messages = mark_all(db, &mut conversation, now).await?;
    Ok(Some(MarkedRead { conversation, messages }))
}

/// Marks all received messages of a conversation as read, and notes the signal for the network. The inbox is locked.
pub(super) async fn mark_all<E: Executor>(
    db: &E,
    conversation: &mut Conversation,
    now: Millis,
) -> Result<Vec<ReadMark>, E::Error> {
    // Those up to this number are read already, although they are not all marked.
    let after = unfinished::read_until(db, conversation.id).await?;
    let sql = format!(
        "{INCOMING} WHERE m.conversation_id = ?1 AND m.seq > ?2 AND m.read_at IS NULL AND m.direction = 'INBOUND'
         ORDER BY m.seq DESC LIMIT ?3"
    );
    let limit = i64::try_from(MARKED_AT_ONCE).unwrap_or(i64::MAX);
    let unread = db.rows(&sql, values![&conversation.id.as_bytes()[..], after, limit], incoming).await?;
    signals::note(db, (conversation.id, conversation.channel), &unread, now).await?;
    threads::mark_read(db, conversation, (after, None), now).await?;
    Ok(unread.iter().map(signals::mark).collect())
}

/// Sets the name of the group with this address in its conversations.
pub(crate) async fn name_group<E: Executor>(
    db: &E,
    channel: ChannelKey,
    (address, name): (&str, &str),
) -> Result<(), E::Error> {
    let (Some(owner), Some(name)) = (owner_of(db, channel).await?, clean(name, GROUP_LIMIT)) else { return Ok(()) };
    lock(db, owner).await?;
    let sql = format!(
        "UPDATE conversations SET chat_name = ?3 WHERE id IN ({OF_CHAT}) AND (chat_name IS NULL OR chat_name <> ?3)"
    );
    db.run(&sql, values![channel, group_chat(address), name]).await.map(drop)
}
