//! The address of a conversation follows its person. After a change of the number, the former number may reach another person.

use recado_domain::address::LID;
use recado_domain::channel::ChannelKey;
use recado_domain::contact_book::{Contact, Scope};
use recado_domain::incoming::IdentityKind;
use recado_domain::phone::forms;

use crate::sqlkit::both::{Executor, Row, values};

/// The most characters of the former addresses of a conversation. Later ones are not kept.
const FORMER: i64 = 400;

/// Whether an address is a number.
pub(super) fn is_number(address: &str) -> bool {
    !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the service window of the former address is that of the present one. A window belongs to a number, so another
/// number begins without one. A number that becomes known for a hidden id or a user id is no other one.
pub(super) fn keeps_window(former: &str, present: &str) -> bool {
    !is_number(former) || forms(former).any(|form| form == present)
}

/// The present address of a contact on a channel. Without a number the former address stays if it is still the contact's.
fn present(contact: &Contact, channel: ChannelKey, former: &str) -> String {
    if let Some(number) = contact.account.as_ref().or(contact.phone.as_ref()) {
        return number.clone();
    }
    let here = contact.identities.iter().filter_map(|identity| match (&identity.scope, identity.kind) {
        (Scope::Channel(of, _), IdentityKind::Lid) if *of == channel => Some(format!("{}{LID}", identity.value)),
        (Scope::Channel(of, _), _) if *of != channel => None,
        (_, IdentityKind::UserId) => Some(identity.value.clone()),
        _ => None,
    });
    let here: Vec<_> = here.collect();
    here.iter().find(|address| *address == former).or(here.first()).cloned().unwrap_or_default()
}

/// Writes the present address of a contact into all its conversations. A closed one too, because a call can answer to it.
pub(super) async fn readdress<E: Executor>(db: &E, contact: &Contact) -> Result<(), E::Error> {
    let id = &contact.id.as_bytes()[..];
    let sql = "SELECT DISTINCT channel_key, address FROM conversations WHERE contact_id = ?1";
    let read = |row: &Row<'_>| Ok((row.get::<ChannelKey>("channel_key")?, row.get::<String>("address")?));
    for (channel, former) in db.rows(sql, values![id], read).await? {
        let present = present(contact, channel, &former);
        if present == former {
            continue;
        }
        // The messages that were sent to the former address stay in the list of their conversation.
        let sql = "UPDATE conversations SET address = ?4, wrote_at = CASE WHEN ?5 = 1 THEN wrote_at END,
                       former_addresses = CASE WHEN length(coalesce(former_addresses, '')) > ?6 THEN former_addresses
                                               ELSE coalesce(former_addresses || ' ', '') || address END
                   WHERE contact_id = ?1 AND channel_key = ?2 AND address = ?3";
        let keeps = i64::from(keeps_window(&former, &present));
        db.run(sql, values![id, channel, former, present, keeps, FORMER]).await?;
    }
    Ok(())
}
