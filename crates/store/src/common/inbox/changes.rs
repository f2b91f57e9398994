//! Changes of messages: reactions, edits, revocations, votes, and what the channel's phone has read.

use recado_domain::clock::Millis;
use recado_domain::contact_book::Contact;
use recado_domain::conversation::Conversation;
use recado_domain::ids::{ContactId, NetworkId};
use recado_domain::incoming::{
    Arrival, CONTENT_LIMIT, Group, Ignored, Incoming, Outcome, Reaction, Received, SenderIds, What, clean, truncate,
};
use recado_domain::message::Message;
use serde::{Deserialize, Serialize};

use super::changed::{self, About, By};
use super::identify::{self, identify};
use super::rows::{self, Found};
use super::{
    Receiving, call, contents, conversations, deliver, group, json, optional_id, reactions, targets, threads, to_json,
    unfinished,
};
use crate::common::PageScan;
use crate::sqlkit::both::{Row, values};

/// A change that is stored until its message arrives.
#[derive(Serialize, Deserialize)]
struct Held {
    person: SenderIds,
    group: Option<String>,
    from_me: bool,
    at: Millis,
    what: Kind,
}

/// What changes.
#[derive(Clone, Serialize, Deserialize)]
enum Kind {
    Reaction(Option<String>),
    Edit(String),
    Revoke { by_admin: bool },
    Vote(Vec<String>),
    Read,
}

/// The most code points of an emoji, and of a name of an option.
const SHORT: usize = 256;
/// The most options of a vote.
const OPTIONS: usize = 32;
/// The most changes that are stored for one message that has not arrived.
const WAITING: i64 = 64;
/// The most people whose reactions are kept with a message.
const REACTIONS: usize = 256;

/// Applies a change, or stores it until its message arrives.
pub(super) async fn receive<E: PageScan>(of: &Receiving<'_, E>, arrival: &Arrival) -> Result<Received, E::Error> {
    let short = |text: &String| clean(text, SHORT);
    match &arrival.what {
        What::Message(_) => Ok(Received::ignored(Ignored::Stale)),
        What::Reaction { target, emoji } => {
            change(of, arrival, target, Kind::Reaction(emoji.as_ref().and_then(short))).await
        }
        What::Edit { target, content } => {
            let content = truncate(content, CONTENT_LIMIT).0;
            change(of, arrival, target, Kind::Edit(content)).await
        }
        What::Revoke { target, by_admin } => change(of, arrival, target, Kind::Revoke { by_admin: *by_admin }).await,
        What::PollVote { target, options } => {
            let options = options.iter().take(OPTIONS).filter_map(short).collect();
            change(of, arrival, target, Kind::Vote(options)).await
        }
        What::ReadSelf { targets } => {
            let mut last = Received::ignored(Ignored::Stale);
            for target in targets {
                last = change(of, arrival, target, Kind::Read).await?;
            }
            Ok(last)
        }
        What::GroupChanged { change, members } => group::changed(of, arrival, (*change, members)).await,
        What::Called(called) => call::received(of, arrival, called).await,
        What::IdentityChanged { .. } | What::OptOut(_) => of_person(of, arrival).await,
    }
}

/// Applies a change of a person once. A repetition changes nothing, because the number may belong to another person by
/// then, or a caller may have changed the opt-out.
async fn of_person<E: PageScan>(of: &Receiving<'_, E>, arrival: &Arrival) -> Result<Received, E::Error> {
    if is_known(of, arrival, NO_TARGET, None).await? {
        return Ok(Received::of(Outcome::Repeated, None, None));
    }
    note(of, arrival, NO_TARGET, (None, None)).await?;
    if let What::IdentityChanged { old } = &arrival.what {
        let known = identify::change(of, (&old.cleaned(), &arrival.person), arrival.sent_at).await?;
        return Ok(person_changed(known.is_some()));
    }
    let stop = matches!(arrival.what, What::OptOut(true));
    let Some(known) = identify(of, &arrival.person, None).await? else { return Ok(person_changed(false)) };
    let mut contact = known.contact;
    if contact.opt_out_at.is_some() == stop {
        return Ok(person_changed(false));
    }
    deliver::set_opt_out(of, &mut contact, stop.then_some("NETWORK")).await?;
    Ok(person_changed(true))
}

/// The target of changes that concern a person, a group or a call, not a message.
pub(super) const NO_TARGET: &str = "";

fn person_changed(changed: bool) -> Received {
    Received::of(if changed { Outcome::Applied } else { Outcome::Ignored(Ignored::Stale) }, None, None)
}

async fn change<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    target: &str,
    what: Kind,
) -> Result<Received, E::Error> {
    let contact = identify(of, &arrival.person, None).await?.map(|known| known.contact);
    let contact_id = contact.as_ref().map(|contact| contact.id);
    if is_known(of, arrival, target, contact_id).await? {
        let message = targets::delivered(of, target, (arrival, contact_id)).await?.map(|found| found.message);
        let ids = message.map(|message| (message.id, message.conversation)).unzip();
        return Ok(Received::of(Outcome::Repeated, ids.0, ids.1));
    }
    let made = apply(of, arrival, (target, &what), contact.as_ref()).await?;
    let held = made.is_none().then(|| {
        to_json(&Held {
            person: arrival.person.clone(),
            group: arrival.group.as_ref().map(|group| group.address.clone()),
            from_me: arrival.from_me,
            at: arrival.sent_at,
            what: what.clone(),
        })
    });
    if held.is_some() && too_many_wait(of, target).await? {
        return Ok(Received::ignored(Ignored::Stale));
    }
    let has_text = held.is_some() && matches!(what, Kind::Edit(_) | Kind::Vote(_));
    let change = note(of, arrival, target, (contact_id, held)).await?;
    if let Some(change) = change.filter(|_| has_text) {
        contents::note_held(of, change).await?;
    }
    Ok(made.unwrap_or_else(|| Received::of(Outcome::Held, None, None)))
}

/// Records that a change arrived, and returns its number. `held` is the change if its message has not arrived.
pub(super) async fn note<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    target: &str,
    (contact, held): (Option<ContactId>, Option<String>),
) -> Result<Option<i64>, E::Error> {
    let sql = "INSERT INTO incoming_changes (channel_key, network_id, target, contact_id, held, at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING n";
    let contact = contact.map(|id| id.as_bytes().to_vec());
    let network_id = arrival.network_id.as_str();
    of.db.row(sql, values![of.channel, network_id, target, contact, held, of.now], |row| row.get("n")).await
}

/// Whether the limit of changes that are stored for one message is reached.
async fn too_many_wait<E: PageScan>(of: &Receiving<'_, E>, target: &str) -> Result<bool, E::Error> {
    let sql = "SELECT count(*) AS waiting FROM (SELECT 1 FROM incoming_changes
                   WHERE channel_key = ?1 AND target = ?2 AND held IS NOT NULL LIMIT ?3) AS counted";
    let waiting = of.db.row(sql, values![of.channel, target, WAITING], |row| row.get::<i64>("waiting")).await?;
    Ok(waiting.is_some_and(|waiting| waiting >= WAITING))
}

/// Whether this change arrived before. Different people in a group can use the same id.
pub(super) async fn is_known<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    target: &str,
    contact: Option<ContactId>,
) -> Result<bool, E::Error> {
    let sql = "SELECT contact_id FROM incoming_changes WHERE channel_key = ?1 AND network_id = ?2 AND target = ?3";
    let read = |row: &Row<'_>| Ok(optional_id(row, "contact_id")?.map(ContactId::from_bytes));
    let known = of.db.rows(sql, values![of.channel, arrival.network_id.as_str(), target], read).await?;
    Ok(known.iter().any(|of| arrival.group.is_none() || *of == contact))
}

/// Applies a change; `None` if its message is not stored.
async fn apply<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    (target, what): (&str, &Kind),
    contact: Option<&Contact>,
) -> Result<Option<Received>, E::Error> {
    let by = By { contact, arrival };
    let id = contact.map(|contact| contact.id);
    if let Some(found) = targets::delivered(of, target, (arrival, id)).await? {
        return on_delivered(of, found, &by, what).await.map(Some);
    }
    match targets::sent(of, target, (arrival, contact)).await? {
        Some(message) => on_sent(of, &message, &by, what).await.map(Some),
        None => Ok(None),
    }
}

/// Applies the changes that arrived before this message.
pub(super) async fn apply_held<E: PageScan>(of: &Receiving<'_, E>, target: &str) -> Result<(), E::Error> {
    let sql = "SELECT n, network_id, held FROM incoming_changes
               WHERE channel_key = ?1 AND target = ?2 AND held IS NOT NULL ORDER BY n LIMIT ?3";
    let read = |row: &Row<'_>| {
        let (n, network_id) = (row.get::<i64>("n")?, row.get::<String>("network_id")?);
        Ok((n, network_id, json::<Held>(row, "held")?))
    };
    let mut waiting = of.db.rows(sql, values![of.channel, target, WAITING], read).await?;
    // The network's times decide the order, because changes can arrive in another order.
    waiting.sort_by_key(|(_, _, held)| held.at);
    for (n, network_id, held) in waiting {
        let contact = identify(of, &held.person, None).await?.map(|known| known.contact);
        let arrival = Arrival {
            network_id: NetworkId::from_stored(network_id),
            group: held.group.map(|address| Group { address, name: None }),
            person: held.person,
            from_me: held.from_me,
            sent_at: held.at,
            what: What::ReadSelf { targets: Vec::new() },
        };
        if apply(of, &arrival, (target, &held.what), contact.as_ref()).await?.is_some() {
            of.db.run("UPDATE incoming_changes SET held = NULL WHERE n = ?1", values![n]).await?;
        }
    }
    Ok(())
}

async fn on_delivered<E: PageScan>(
    of: &Receiving<'_, E>,
    found: Found,
    by: &By<'_>,
    what: &Kind,
) -> Result<Received, E::Error> {
    let mut message = found.message;
    let ids = (message.id, message.conversation);
    let at = by.arrival.sent_at;
    let about = About::of(&message);
    let made = match what {
        Kind::Reaction(emoji) => {
            let made = react(&mut message, by, emoji.as_deref());
            if made {
                save(of, &mut message, false).await?;
                changed::reaction(of, &about, by, emoji.as_deref()).await?;
            }
            made
        }
        Kind::Edit(content) => {
            let made = by.wrote(&message)
                && message.revoked_at.is_none()
                && message.edited_at.is_none_or(|edited| edited <= at)
                && message.body.text != *content;
            if made {
                let previous = std::mem::take(&mut message.body.text);
                message.body.edit(content);
                message.edited_at = Some(at);
                save(of, &mut message, false).await?;
                contents::note(of, message.id).await?;
                changed::edit(of, &about, by, content, Some(&previous)).await?;
            }
            made
        }
        Kind::Revoke { by_admin } => {
            let made =
                (by.wrote(&message) || (*by_admin && by.arrival.group.is_some())) && message.revoked_at.is_none();
            if made {
                let forget = !of.settings.keep_revoked;
                if forget {
                    message.body.empty();
                }
                message.revoked_at = Some(at);
                save(of, &mut message, forget).await?;
                changed::revocation(of, &about, by, *by_admin).await?;
            }
            made
        }
        Kind::Vote(options) => {
            let results = changed::vote(of, by, &about, options, Some(&message)).await?;
            if results.is_some_and(|results| message.body.content.set_results(results)) {
                save(of, &mut message, false).await?;
            }
            contents::note(of, message.id).await?;
            true
        }
        Kind::Read => read_until(of, &message).await?,
    };
    let outcome = if made { Outcome::Applied } else { Outcome::Ignored(Ignored::Stale) };
    Ok(Received::of(outcome, Some(ids.0), Some(ids.1)))
}

/// Marks a message as read on the phone, and all earlier messages of its conversation.
async fn read_until<E: PageScan>(of: &Receiving<'_, E>, message: &Incoming) -> Result<bool, E::Error> {
    let conversation = conversations::one(of.db, of.owner, message.conversation).await?;
    let Some(mut conversation) = conversation else { return Ok(false) };
    let after = unfinished::read_until(of.db, conversation.id).await?;
    threads::mark_read(of.db, &mut conversation, (after, Some(message.seq)), of.now).await
}

/// Stores a reaction; `false` if a later reaction of the person is stored already.
fn react(message: &mut Incoming, by: &By<'_>, emoji: Option<&str>) -> bool {
    let is_me = by.arrival.from_me;
    let (contact, from, at) = (by.contact(), by.phone(), by.arrival.sent_at);
    let new = Reaction { contact, is_me, from: from.clone(), emoji: emoji.map(str::to_owned), at };
    let same = |old: &&mut Reaction| {
        old.is_me == is_me
            && (is_me || (contact.is_some() && old.contact == contact) || (from.is_some() && old.from == from))
    };
    if let Some(old) = message.reactions.iter_mut().find(same) {
        let is_newer = old.at <= at && old.emoji != new.emoji;
        if is_newer {
            *old = new;
        }
        return is_newer;
    }
    // A removed reaction is stored too, because an earlier reaction of the person can arrive later.
    if message.reactions.len() < REACTIONS {
        message.reactions.push(new);
    }
    true
}

/// Writes a message, and updates the preview of its conversation.
async fn save<E: PageScan>(of: &Receiving<'_, E>, message: &mut Incoming, forget: bool) -> Result<(), E::Error> {
    message.updated_at = of.now;
    rows::save(of.db, message, forget).await?;
    let conversation = conversations::one(of.db, of.owner, message.conversation).await?;
    let is_last = |conversation: &Conversation| conversation.last.as_ref().is_some_and(|last| last.id == message.id);
    if let Some(mut conversation) = conversation.filter(is_last) {
        conversation.last = Some(deliver::last_message(message));
        threads::save(of.db, &conversation).await?;
    }
    Ok(())
}

/// Records the event for a change of a message that was sent by a call of the API. The row of the message does not
/// change; reactions are stored beside it.
async fn on_sent<E: PageScan>(
    of: &Receiving<'_, E>,
    message: &Message,
    by: &By<'_>,
    what: &Kind,
) -> Result<Received, E::Error> {
    let key = deliver::chat(by.arrival, by.contact).key();
    let conversation = threads::active(of.db, of.channel, &key).await?.map(|conversation| conversation.id);
    let network_id = message.remote_id.clone().unwrap_or_else(|| message.network_id.clone());
    let about = About { id: message.id, network_id, conversation };
    match what {
        Kind::Reaction(emoji) => {
            if !reactions::keep(of, &about, by, emoji.as_deref()).await? {
                return Ok(Received::of(Outcome::Ignored(Ignored::Stale), Some(message.id), conversation));
            }
            changed::reaction(of, &about, by, emoji.as_deref()).await?;
        }
        Kind::Edit(content) if by.arrival.from_me => changed::edit(of, &about, by, content, None).await?,
        Kind::Revoke { by_admin } if by.arrival.from_me || *by_admin => {
            changed::revocation(of, &about, by, *by_admin).await?;
        }
        Kind::Vote(options) => drop(changed::vote(of, by, &about, options, None).await?),
        Kind::Edit(_) | Kind::Revoke { .. } | Kind::Read => {
            return Ok(Received::of(Outcome::Ignored(Ignored::Stale), Some(message.id), conversation));
        }
    }
    Ok(Received::of(Outcome::Applied, Some(message.id), conversation))
}
