//! Merges two contacts that are one person. The older contact stays, and everything of the other contact moves to it.

use recado_domain::contact_book::{Contact, as_first_written};
use recado_domain::conversation::{ClosedBy, Conversation, Status};
use recado_domain::ids::ContactId;

use super::threads::{self, chat_of};
use super::{Receiving, announce, book, moves, to_json};
use crate::sqlkit::both::{Executor, values};

/// Moves everything of the contact `gone` to the contact `stays`, and deletes `gone`. The caller saves and announces
/// `stays`.
pub(super) async fn merge<E: Executor>(
    of: &Receiving<'_, E>,
    stays: &mut Contact,
    gone: ContactId,
) -> Result<(), E::Error> {
    let Some(other) = of.load(gone).await? else { return Ok(()) };
    join_conversations(of, stays.id, gone).await?;
    moves::contact(of.db, of.owner, (gone, stays.id)).await?;
    let (to, from) = (&stays.id.as_bytes()[..], &gone.as_bytes()[..]);
    of.db.run("UPDATE identities SET contact_id = ?1 WHERE contact_id = ?2", values![to, from]).await?;
    of.db
        .run(
            "UPDATE conversations SET contact_id = ?1, chat = ?3 WHERE contact_id = ?2 AND chat = ?4",
            values![to, from, chat_of(stays.id), chat_of(gone)],
        )
        .await?;
    book::delete(of.db, gone).await?;
    take_over(stays, other);
    Ok(())
}

/// Merges the active conversations of both contacts on each channel: the messages move, and one conversation is closed.
async fn join_conversations<E: Executor>(
    of: &Receiving<'_, E>,
    stays: ContactId,
    gone: ContactId,
) -> Result<(), E::Error> {
    for mut from in threads::active_of_contact(of.db, gone).await? {
        let Some(mut to) = threads::active(of.db, from.channel, &chat_of(stays)).await? else { continue };
        moves::conversation(of.db, &from, to.id).await?;
        let before = to.clone();
        go_on_for(&mut to, &from);
        to.unread += from.unread;
        to.windowed |= from.windowed;
        to.person_wrote_at = to.person_wrote_at.max(from.person_wrote_at);
        if from.active_at > to.active_at {
            (to.active_at, to.last) = (from.active_at, from.last.take());
        }
        to.updated_at = of.now;
        threads::save(of.db, &to).await?;
        (from.status, from.closed_at, from.updated_at) = (Status::Closed, Some(of.now), of.now);
        (from.unread, from.last) = (0, None);
        threads::save(of.db, &from).await?;
        announce::conversation_closed(of, &from, ClosedBy::Merge).await?;
        if (&to.assigned_to, &to.department, to.status) != (&before.assigned_to, &before.department, before.status) {
            announce::conversation_assigned(of, &to, &before).await?;
        }
    }
    Ok(())
}

/// Gives the conversation that goes on the attendant and the department of the closed one, if it has none itself.
fn go_on_for(to: &mut Conversation, closed: &Conversation) {
    let takes_attendant = to.assigned_to.is_none() && closed.assigned_to.is_some();
    // With a department and without an attendant it waits for somebody of the department.
    if closed.status == Status::Open && (takes_attendant || to.department.is_none()) {
        to.status = Status::Open;
    }
    if takes_attendant {
        to.assigned_to.clone_from(&closed.assigned_to);
    }
    if to.department.is_none() {
        to.department.clone_from(&closed.department);
    }
    if to.note.is_none() {
        to.note.clone_from(&closed.note);
    }
}

/// The limits of a contact (tags, keys and bytes of the metadata), because two contacts together can exceed them.
const TAGS: usize = 50;
const KEYS: usize = 50;
const METADATA: usize = 16 << 10;

/// Copies the fields that the contact `stays` does not have.
fn take_over(stays: &mut Contact, other: Contact) {
    if !stays.is_named && (other.is_named || stays.name.bytes().all(|byte| byte.is_ascii_digit())) {
        (stays.name, stays.is_named) = (other.name, other.is_named);
    }
    stays.phone = stays.phone.take().or(other.phone);
    stays.account = stays.account.take().or(other.account);
    stays.email = stays.email.take().or(other.email);
    let tags: Vec<_> = stays.tags.iter().chain(&other.tags).cloned().collect();
    stays.tags = as_first_written(&tags, &stays.tags);
    stays.tags.truncate(TAGS);
    for (key, value) in other.metadata {
        if stays.metadata.len() < KEYS && to_json(&stays.metadata).len() + to_json(&value).len() < METADATA {
            stays.metadata.entry(key).or_insert(value);
        }
    }
    // An opt-out of either contact is an opt-out of the person.
    if stays.opt_out_at.is_none() {
        (stays.opt_out_at, stays.opt_out_source) = (other.opt_out_at, other.opt_out_source);
    }
    stays.last_inbound_at = stays.last_inbound_at.max(other.last_inbound_at);
    stays.last_outbound_at = stays.last_outbound_at.max(other.last_outbound_at);
}
