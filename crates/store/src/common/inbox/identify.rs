//! Finds or creates the contact of a person, and maintains its identities.

use recado_domain::clock::Millis;
use recado_domain::contact_book::{Contact, Found, Source, is_another, resolve};
use recado_domain::ids::ContactId;
use recado_domain::incoming::{IdentityKey, IdentityKind, SenderIds};
use serde_json::Map;

use super::book::{self, ScopeOf};
use super::readdress::readdress;
use super::{Receiving, announce, merge, new_contact_id};
use crate::sqlkit::both::{Executor, Row, values};

/// The contact of a person.
pub(super) struct Identified {
    pub contact: Contact,
    pub is_new: bool,
}

impl<E: Executor> Receiving<'_, E> {
    pub fn scope(&self) -> ScopeOf<'_> {
        ScopeOf { channel: self.channel, business: self.batch.business.as_deref() }
    }

    /// The contact that an identity or a row names.
    pub async fn load(&self, id: ContactId) -> Result<Option<Contact>, E::Error> {
        book::one(self.db, self.owner, id).await
    }

    /// The contacts with one of these identities.
    async fn find(&self, keys: &[IdentityKey]) -> Result<Vec<Found>, E::Error> {
        let mut found: Vec<Found> = Vec::new();
        for key in keys {
            let Some(id) = book::owner_of(self.db, self.owner, &self.scope(), key).await? else { continue };
            if found.iter().any(|known| known.id == id) {
                continue;
            }
            let sql = "SELECT created_at FROM contacts WHERE id = ?1";
            let created_at: Option<Millis> =
                self.db.row(sql, values![&id.as_bytes()[..]], |row| row.get("created_at")).await?;
            let keys = self.keys_of(id).await?;
            found.extend(created_at.map(|created_at| Found { id, created_at, keys }));
        }
        Ok(found)
    }

    /// The identities of a contact that are valid on this channel.
    async fn keys_of(&self, id: ContactId) -> Result<Vec<IdentityKey>, E::Error> {
        let sql = "SELECT kind, scope, value FROM identities WHERE contact_id = ?1";
        let read = |row: &Row<'_>| {
            let kind = row.named("kind", IdentityKind::from_name)?;
            Ok((row.get::<String>("scope")?, IdentityKey { kind, value: row.get("value")? }))
        };
        let all = self.db.rows(sql, values![&id.as_bytes()[..]], read).await?;
        let here = all.into_iter().filter(|(scope, key)| *scope == self.scope().text(key.kind));
        Ok(here.map(|(_, key)| key).collect())
    }
}

/// Finds the contact of a person, and updates it with these names. `wrote` is the time of a message of the person. Only
/// a message creates a new contact: without `wrote` the result is `None` for an unknown person.
pub(super) async fn identify<E: Executor>(
    of: &Receiving<'_, E>,
    ids: &SenderIds,
    wrote: Option<Millis>,
) -> Result<Option<Identified>, E::Error> {
    let keys = ids.keys();
    let found = of.find(&keys).await?;
    let resolution = resolve(&keys, &found);
    if keys.is_empty() || (resolution.contact.is_none() && wrote.is_none()) {
        return Ok(None);
    }
    for (loser, key) in &resolution.taken {
        take(of, *loser, key).await?;
    }
    for key in &resolution.replaced {
        book::remove_identity(of.db, of.owner, &of.scope(), key).await?;
    }
    let known = match resolution.contact {
        Some(id) => of.load(id).await?,
        None => None,
    };
    let is_new = known.is_none();
    let mut contact = known.unwrap_or_else(|| new_contact(of, ids));
    let before = contact.clone();
    if !is_new {
        learn(&mut contact, ids);
    }
    contact.last_inbound_at = contact.last_inbound_at.max(wrote);
    if is_new {
        book::insert(of.db, &contact).await?;
    }
    for gone in &resolution.merged {
        merge::merge(of, &mut contact, *gone).await?;
    }
    for key in &resolution.added {
        book::add_identity(of.db, (of.owner, contact.id), &of.scope(), key).await?;
    }
    let changes = contact.changes_since(&before);
    let renamed = !changes.is_empty() || !resolution.merged.is_empty();
    if renamed {
        contact.updated_at = of.now;
    }
    if !is_new {
        book::save(of.db, &contact, renamed).await?;
    }
    contact.identities = book::identities(of.db, contact.id).await?;
    let has_other_names =
        changes.contains(&"phone") || !resolution.replaced.is_empty() || !resolution.merged.is_empty();
    if !is_new && has_other_names {
        readdress(of.db, &contact).await?;
    }
    if is_new {
        announce::contact_created(of, &contact).await?;
    } else {
        announce::contact_updated(of, &contact, &changes, &resolution.merged).await?;
    }
    Ok(Some(Identified { contact, is_new }))
}

fn new_contact<E>(of: &Receiving<'_, E>, ids: &SenderIds) -> Contact {
    Contact {
        id: new_contact_id(of.now),
        owner: of.owner,
        name: ids.display_name(),
        is_named: false,
        phone: ids.phone.clone(),
        email: None,
        tags: Vec::new(),
        metadata: Map::new(),
        account: ids.phone.clone(),
        opt_out_at: None,
        opt_out_source: None,
        source: Source::Inbound,
        identities: Vec::new(),
        last_inbound_at: None,
        last_outbound_at: None,
        created_at: of.now,
        updated_at: of.now,
    }
}

/// Copies new names into the contact. Returns the names of the fields that changed.
fn learn(contact: &mut Contact, ids: &SenderIds) -> Vec<&'static str> {
    let mut changes = Vec::new();
    let before = contact.clone();
    if let Some(phone) = &ids.phone {
        contact.account = Some(phone.clone());
        let same = before.phone.as_deref().is_some_and(|old| IdentityKey::phone(old) == IdentityKey::phone(phone));
        if !same {
            contact.phone = Some(phone.clone());
            changes.push("phone");
        }
    }
    if !contact.is_named {
        // A contact without a name shows its number in the place of the name, until a name is known.
        let nameless = before.name.bytes().all(|byte| byte.is_ascii_digit());
        let name = ids.name.clone().or_else(|| ids.username.clone().filter(|_| nameless));
        let name = name.or_else(|| ids.phone.clone().filter(|_| nameless));
        if let Some(name) = name.filter(|name| *name != before.name) {
            contact.name = name;
            changes.insert(0, "name");
        }
    }
    changes
}

/// Removes an identity from a contact whose person does not have it any more.
async fn take<E: Executor>(of: &Receiving<'_, E>, loser: ContactId, key: &IdentityKey) -> Result<(), E::Error> {
    book::remove_identity(of.db, of.owner, &of.scope(), key).await?;
    let Some(mut contact) = of.load(loser).await? else { return Ok(()) };
    let lost_phone = key.kind == IdentityKind::Phone;
    if lost_phone {
        (contact.phone, contact.account) = (None, None);
    }
    contact.updated_at = of.now;
    book::save(of.db, &contact, lost_phone).await?;
    contact.identities = book::identities(of.db, contact.id).await?;
    readdress(of.db, &contact).await?;
    announce::contact_updated(of, &contact, &[if lost_phone { "phone" } else { "identities" }], &[]).await
}

/// Replaces the old names of a person by the new names. Returns the contact of the person, if there is one.
pub(super) async fn change<E: Executor>(
    of: &Receiving<'_, E>,
    (old, new): (&SenderIds, &SenderIds),
    at: Millis,
) -> Result<Option<Identified>, E::Error> {
    let known = of.find(&old.keys()).await?.into_iter().next();
    let known = match known {
        Some(found) => of.load(found.id).await?,
        None => None,
    };
    let Some(mut contact) = known else { return identify(of, new, None).await };
    for key in new.keys() {
        for gone in old.keys().iter().filter(|old| old.kind == key.kind && **old != key) {
            book::remove_identity(of.db, of.owner, &of.scope(), gone).await?;
        }
        contact = rename(of, contact, &key, at).await?;
    }
    let changes = learn(&mut contact, new);
    if !changes.is_empty() {
        contact.updated_at = of.now;
    }
    book::save(of.db, &contact, true).await?;
    contact.identities = book::identities(of.db, contact.id).await?;
    readdress(of.db, &contact).await?;
    announce::contact_updated(of, &contact, &changes, &[]).await?;
    Ok(Some(Identified { contact, is_new: false }))
}

/// Gives a contact an identity that another contact may have. Returns the contact that has the identity afterwards.
///
/// If the other contact wrote before the time of the change, it is another person, who does not have the identity any
/// more.
async fn rename<E: Executor>(
    of: &Receiving<'_, E>,
    contact: Contact,
    key: &IdentityKey,
    at: Millis,
) -> Result<Contact, E::Error> {
    let found = of.find(std::slice::from_ref(key)).await?;
    let other = match found.first() {
        Some(found) if found.id == contact.id => return Ok(contact),
        Some(found) => of.load(found.id).await?.map(|other| (found, other)),
        None => None,
    };
    if let Some((found, other)) = other {
        let mut own = of.keys_of(contact.id).await?;
        own.retain(|own| own.kind != key.kind);
        own.push(key.clone());
        let gave_it_up = other.last_inbound_at.is_some_and(|wrote| wrote < at);
        if !gave_it_up && !is_another(&own, key, found) {
            let contact_is_older = (contact.created_at, contact.id) < (other.created_at, other.id);
            let (mut stays, gone) = if contact_is_older { (contact, other.id) } else { (other, contact.id) };
            let before = stays.clone();
            merge::merge(of, &mut stays, gone).await?;
            stays.updated_at = of.now;
            book::save(of.db, &stays, true).await?;
            announce::contact_updated(of, &stays, &stays.changes_since(&before), &[gone]).await?;
            return Ok(stays);
        }
        take(of, other.id, key).await?;
    }
    book::add_identity(of.db, (of.owner, contact.id), &of.scope(), key).await?;
    Ok(contact)
}
