//! The rows of contacts: read, written, and found by parts of their names.

use std::collections::BTreeSet;

use recado_domain::address::{GROUP, LID};
use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::contact_book::{Contact, Identity, Scope, Source, search_key, tag_key};
use recado_domain::event::Owner;
use recado_domain::ids::{ContactId, InstitutionId};
use recado_domain::incoming::{IdentityKey, IdentityKind};

use super::readdress::is_number;
use super::{json, to_json};
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, run_each, value, values};

/// The columns of a contact `k`.
pub(super) const CONTACT: &str =
    "SELECT k.id, k.institution_id, k.environment, k.name, k.sort_name, k.is_named, k.phone,
            k.email, k.tags, k.metadata, k.account, k.opt_out_at, k.opt_out_source, k.source, k.last_inbound_at,
            k.last_outbound_at, k.created_at, k.updated_at
     FROM contacts k";

/// A contact, without its identities.
pub(super) fn contact(row: &Row<'_>) -> Read<Contact> {
    let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
    Ok(Contact {
        id: ContactId::from_bytes(row.bytes("id")?),
        owner: (institution, row.named("environment", Environment::from_name)?),
        name: row.get("name")?,
        is_named: row.get("is_named")?,
        phone: row.get("phone")?,
        email: row.get("email")?,
        tags: json(row, "tags")?,
        metadata: json(row, "metadata")?,
        account: row.get("account")?,
        opt_out_at: row.get("opt_out_at")?,
        opt_out_source: row.get("opt_out_source")?,
        source: row.named("source", Source::from_name)?,
        identities: Vec::new(),
        last_inbound_at: row.get("last_inbound_at")?,
        last_outbound_at: row.get("last_outbound_at")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// A contact of this owner, with its identities.
pub(crate) async fn one<E: Executor>(db: &E, owner: Owner, id: ContactId) -> Result<Option<Contact>, E::Error> {
    let found = db.row(&format!("{CONTACT} WHERE k.id = ?1"), values![&id.as_bytes()[..]], contact).await?;
    let Some(mut contact) = found.filter(|contact| contact.owner == owner) else { return Ok(None) };
    contact.identities = identities(db, id).await?;
    Ok(Some(contact))
}

/// The identities of a contact.
pub(super) async fn identities<E: Executor>(db: &E, id: ContactId) -> Result<Vec<Identity>, E::Error> {
    let sql = "SELECT i.kind, i.scope, i.value, i.channel_key, c.id AS channel_id
               FROM identities i LEFT JOIN channels c ON c.key = i.channel_key
               WHERE i.contact_id = ?1 ORDER BY i.kind, i.scope, i.value";
    let identity = |row: &Row<'_>| {
        let (kind, scope) = (row.named("kind", IdentityKind::from_name)?, row.get::<String>("scope")?);
        let value = row.get("value")?;
        let channel = (row.get::<Option<i64>>("channel_key")?).zip(row.get::<Option<String>>("channel_id")?);
        let scope = match (scope.strip_prefix(BUSINESS), channel) {
            (Some(business), _) => Scope::Business(business.to_owned()),
            (None, Some((key, id))) => Scope::Channel(key, id),
            (None, None) => Scope::Owner,
        };
        Ok(Identity { kind, value, scope })
    };
    db.rows(sql, values![&id.as_bytes()[..]], identity).await
}

/// The prefix of the id of a business in a scope.
pub(super) const BUSINESS: &str = "b:";

/// Adds a contact, without its identities.
pub(super) async fn insert<E: Executor>(db: &E, contact: &Contact) -> Result<(), E::Error> {
    let sql = "INSERT INTO contacts (id, institution_id, environment, name, sort_name, is_named, phone, account, email, tags,
                   tag_keys, metadata, opt_out_at, opt_out_source, source, last_inbound_at, last_outbound_at, created_at,
                   updated_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";
    write(db, sql, contact).await?;
    add_grams(db, contact).await
}

/// Writes all columns of a contact. `renamed`: its name or number changed, so the grams of the search are written
/// again.
pub(super) async fn save<E: Executor>(db: &E, contact: &Contact, renamed: bool) -> Result<(), E::Error> {
    let sql = "UPDATE contacts SET name = ?4, sort_name = ?5, is_named = ?6, phone = ?7, account = ?8, email = ?9, tags = ?10,
                   tag_keys = ?11, metadata = ?12, opt_out_at = ?13, opt_out_source = ?14, source = ?15,
                   last_inbound_at = ?16, last_outbound_at = ?17, created_at = ?18, updated_at = ?19
               WHERE id = ?1 AND institution_id = ?2 AND environment = ?3";
    write(db, sql, contact).await?;
    if renamed {
        remove_grams(db, contact.id).await?;
        add_grams(db, contact).await?;
    }
    Ok(())
}

async fn write<E: Executor>(db: &E, sql: &str, contact: &Contact) -> Result<(), E::Error> {
    let (institution, environment) = (&contact.owner.0.as_bytes()[..], contact.owner.1.name());
    let sort_name = search_key(&contact.name);
    let tag_keys: Vec<_> = contact.tags.iter().map(|tag| tag_key(tag)).collect();
    let (tags, tag_keys, metadata) = (to_json(&contact.tags), to_json(&tag_keys), to_json(&contact.metadata));
    db.run(
        sql,
        values![
            &contact.id.as_bytes()[..],
            institution,
            environment,
            contact.name,
            sort_name,
            contact.is_named,
            contact.phone,
            contact.account,
            contact.email,
            tags,
            tag_keys,
            metadata,
            contact.opt_out_at,
            contact.opt_out_source,
            contact.source.name(),
            contact.last_inbound_at,
            contact.last_outbound_at,
            contact.created_at,
            contact.updated_at,
        ],
    )
    .await
    .map(drop)
}

/// Deletes a contact with its identities.
pub(super) async fn delete<E: Executor>(db: &E, id: ContactId) -> Result<(), E::Error> {
    remove_grams(db, id).await?;
    for sql in ["DELETE FROM identities WHERE contact_id = ?1", "DELETE FROM contacts WHERE id = ?1"] {
        db.run(sql, values![&id.as_bytes()[..]]).await?;
    }
    Ok(())
}

async fn remove_grams<E: Executor>(db: &E, id: ContactId) -> Result<(), E::Error> {
    db.run("DELETE FROM contact_grams WHERE contact_id = ?1", values![&id.as_bytes()[..]]).await.map(drop)
}

async fn add_grams<E: Executor>(db: &E, contact: &Contact) -> Result<(), E::Error> {
    let (institution, environment) = (&contact.owner.0.as_bytes()[..], contact.owner.1.name());
    let sql = "INSERT INTO contact_grams (institution_id, environment, gram, contact_id) VALUES (?1, ?2, ?3, ?4)";
    let (grams, id) = (grams_of(contact), &contact.id.as_bytes()[..]);
    let rows: Vec<_> =
        grams.iter().map(|gram| [value(&institution), value(&environment), value(gram), value(&id)]).collect();
    run_each(db, sql, &rows).await
}

/// The most characters of a name by which it is searched.
const SEARCHED: usize = 200;

/// The grams by which a search finds a contact.
fn grams_of(contact: &Contact) -> BTreeSet<String> {
    let mut grams = BTreeSet::new();
    let texts = [Some(search_key(&contact.name)), contact.phone.clone(), contact.account.clone()];
    for text in texts.into_iter().flatten() {
        let text: String = text.chars().take(SEARCHED).collect();
        grams.extend(trigrams(&text));
        for word in text.split(|sign: char| !sign.is_alphanumeric()).filter(|word| !word.is_empty()) {
            grams.extend((1..=2).map(|length| beginning(&word.chars().take(length).collect::<String>())));
        }
    }
    grams
}

/// The gram of the beginning of a word.
pub(super) fn beginning(word: &str) -> String {
    format!("^{word}")
}

/// All groups of three characters.
pub(super) fn trigrams(text: &str) -> Vec<String> {
    let signs: Vec<char> = text.chars().collect();
    signs.windows(3).map(|three| three.iter().collect()).collect()
}

/// The stored form of the scope in which an identity is valid.
pub(super) struct ScopeOf<'a> {
    pub channel: i64,
    pub business: Option<&'a str>,
}

impl ScopeOf<'_> {
    pub fn text(&self, kind: IdentityKind) -> String {
        match (kind, self.business) {
            (IdentityKind::Phone, _) => String::new(),
            (IdentityKind::UserId, Some(business)) => format!("{BUSINESS}{business}"),
            (IdentityKind::Lid | IdentityKind::UserId, _) => self.channel.to_string(),
        }
    }

    /// The channel of an identity that is valid on one channel only.
    fn channel(&self, kind: IdentityKind) -> Option<i64> {
        let of_channel = kind == IdentityKind::Lid || (kind == IdentityKind::UserId && self.business.is_none());
        of_channel.then_some(self.channel)
    }
}

/// The contact with this identity.
pub(super) async fn owner_of<E: Executor>(
    db: &E,
    owner: Owner,
    scope: &ScopeOf<'_>,
    key: &IdentityKey,
) -> Result<Option<ContactId>, E::Error> {
    let sql = "SELECT contact_id FROM identities
               WHERE institution_id = ?1 AND environment = ?2 AND kind = ?3 AND scope = ?4 AND value = ?5";
    let (institution, environment, kind) = (&owner.0.as_bytes()[..], owner.1.name(), key.kind.name());
    db.row(sql, values![institution, environment, kind, scope.text(key.kind), key.value], |row| {
        Ok(ContactId::from_bytes(row.bytes("contact_id")?))
    })
    .await
}

/// The contact that an address of a call leads to on this channel.
pub(super) async fn contact_of<E: Executor>(
    db: &E,
    owner: Owner,
    (channel, address): (ChannelKey, &str),
) -> Result<Option<ContactId>, E::Error> {
    let scope = ScopeOf { channel, business: None };
    if let Some(lid) = address.strip_suffix(LID) {
        return owner_of(db, owner, &scope, &IdentityKey::lid(lid)).await;
    }
    if is_number(address) {
        return owner_of(db, owner, &scope, &IdentityKey::phone(address)).await;
    }
    if address.ends_with(GROUP) {
        return Ok(None);
    }
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    let read = |row: &Row<'_>| Ok(ContactId::from_bytes(row.bytes("contact_id")?));
    db.row(&by_user_id::<E>(), values![address, IdentityKind::UserId.name(), institution, environment], read).await
}

/// Finds a contact by a user id. No two businesses have the same one.
pub(crate) fn by_user_id<E: Executor>() -> String {
    format!(
        "SELECT contact_id FROM identities{}
         WHERE value = ?1 AND kind = ?2 AND institution_id = ?3 AND environment = ?4 LIMIT 1",
        E::index("identities_by_value")
    )
}

pub(super) async fn add_identity<E: Executor>(
    db: &E,
    contact: (Owner, ContactId),
    scope: &ScopeOf<'_>,
    key: &IdentityKey,
) -> Result<(), E::Error> {
    let sql = "INSERT INTO identities (institution_id, environment, kind, scope, value, contact_id, channel_key)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let ((institution, environment), id) = contact;
    let (kind, scope_text, channel) = (key.kind.name(), scope.text(key.kind), scope.channel(key.kind));
    let (institution, environment, id) = (&institution.as_bytes()[..], environment.name(), &id.as_bytes()[..]);
    if db.run(sql, values![institution, environment, kind, scope_text, key.value, id, channel]).await? == 1 {
        return Ok(());
    }
    Err(Unreadable::Unknown("identity").into())
}

pub(super) async fn remove_identity<E: Executor>(
    db: &E,
    owner: Owner,
    scope: &ScopeOf<'_>,
    key: &IdentityKey,
) -> Result<(), E::Error> {
    let sql = "DELETE FROM identities
               WHERE institution_id = ?1 AND environment = ?2 AND kind = ?3 AND scope = ?4 AND value = ?5";
    let (institution, environment, kind) = (&owner.0.as_bytes()[..], owner.1.name(), key.kind.name());
    db.run(sql, values![institution, environment, kind, scope.text(key.kind), key.value]).await.map(drop)
}
