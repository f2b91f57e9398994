//! Changes of messages and of people: reactions, edits, revocations, changed numbers and ids, and opt-outs.

use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::incoming::{Arrival, SenderIds, What, clean};
use serde_json::value::RawValue;

use crate::cloud_api::incoming::content;
use crate::cloud_api::incoming::message::hash;
use crate::cloud_api::incoming::people::{CONTACT, FROM, People, names};
use crate::cloud_api::lenient::{Object, seconds};

/// The most characters of an emoji, which may be several joined ones.
const EMOJI_LIMIT: usize = 32;

/// The change that a message reports; `None` if it reports none, or if its form is unknown.
pub(super) fn read(message: &Object<'_>) -> Option<What> {
    match &*message.text("type")? {
        "reaction" => {
            let reaction = message.object("reaction")?;
            let emoji = reaction.text("emoji").and_then(|emoji| clean(&emoji, EMOJI_LIMIT));
            Some(What::Reaction { target: target(&reaction, "message_id")?, emoji })
        }
        "edit" => {
            let edit = message.object("edit")?;
            let new = edit.object("message")?;
            match content::read(new.text("type").as_deref(), &new) {
                content::Read::Known(new) => {
                    Some(What::Edit { target: target(&edit, "original_message_id")?, content: new.text })
                }
                _ => None,
            }
        }
        "revoke" => {
            let revoke = message.object("revoke")?;
            // Meta does not say who revoked a message of a group.
            Some(What::Revoke { target: target(&revoke, "original_message_id")?, by_admin: false })
        }
        "system" => {
            author(message)?;
            Some(What::IdentityChanged { old: before(message) })
        }
        _ => None,
    }
}

fn target(object: &Object<'_>, key: &str) -> Option<NetworkId> {
    object.text(key)?.parse().ok()
}

/// The person after a change of the number or of the id; `None` if the message is no such change.
pub(super) fn author(message: &Object<'_>) -> Option<SenderIds> {
    if message.text("type")? != "system" {
        return None;
    }
    let system = message.object("system")?;
    let is_change = ["user_changed_number", "customer_changed_number", "user_changed_user_id"];
    system.text_if("type", |kind| is_change.contains(&kind))?;
    let mut person = names(&system, &CONTACT);
    // The name of the field before version 12 of the API.
    let former = |key| system.text_if(key, recado_domain::ids::is_account);
    person.phone = person.phone.or_else(|| former("new_wa_id"));
    (!person.is_nobody() && !before(message).is_nobody()).then_some(person)
}

/// The person before the change.
fn before(message: &Object<'_>) -> SenderIds {
    let mut person = names(message, &FROM);
    let Some(system) = message.object("system") else { return person };
    let new = names(&system, &CONTACT);
    let previous = ["previous_user_id", "old_user_id"].into_iter().find_map(|key| system.filled(key));
    let former = |id: &String| new.user_id.as_ref() != Some(id);
    person.user_id = previous.or_else(|| person.user_id.filter(former)).or_else(|| said(&system));
    person.cleaned()
}

/// The former id from the sentence "User A changed from B to C": Meta gives it nowhere else.
fn said(system: &Object<'_>) -> Option<String> {
    let new = names(system, &CONTACT).user_id?;
    let body = system.text("body")?;
    let rest = body.strip_suffix(&*new)?.trim_end().strip_suffix(" to")?;
    let (_, former) = rest.rsplit_once(" changed from ")?;
    // A number is in the message itself.
    (former.contains('.') && former.bytes().all(|byte| byte.is_ascii_graphic())).then(|| former.to_owned())
}

/// An opt-out, or its end: an element of `user_preferences`.
pub(super) fn preference(raw: &RawValue, people: &People, now: Millis) -> Option<Arrival> {
    let preference = Object::read(raw)?;
    preference.text_if("category", |category| category == "marketing_messages")?;
    let stops = match &*preference.text("value")? {
        "stop" => true,
        "resume" => false,
        _ => return None,
    };
    let person = people.named(&preference, &CONTACT);
    (!person.is_nobody()).then(|| Arrival {
        network_id: hash(raw),
        group: None,
        person,
        from_me: false,
        sent_at: seconds(preference.raw("timestamp")).map_or(now, |at| at.min(now)),
        what: What::OptOut(stops),
    })
}
