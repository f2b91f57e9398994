//! Contacts as callers read and change them.

use recado_domain::clock::{Millis, random};
use recado_domain::contact_book::{
    Contact, ContactChange, ContactChanged, ContactFrom, ContactPage, ContactPlace, ContactPut, ContactQuery,
    NewContact, Source, as_first_written, search_key, search_text, tag_key,
};
use recado_domain::event::Owner;
use recado_domain::ids::ContactId;
use recado_domain::incoming::IdentityKey;
use recado_domain::phone::forms;

use super::announce::{Place, of_contact};
use super::book::{self, CONTACT, ScopeOf, beginning, contact, trigrams};
use super::readdress::readdress;
use super::{lock, threads};
use crate::clock::SystemEntropy;
use crate::sqlkit::both::{Executor, Row, values};

/// The most contacts that are read for one page with a filter, and the most that are counted.
const SCANNED: i64 = 10_000;
/// The scope of numbers, which are valid on every channel.
const OF_NUMBERS: ScopeOf<'static> = ScopeOf { channel: 0, business: None };

/// The contact with this number.
pub(crate) async fn of_phone<E: Executor>(db: &E, owner: Owner, phone: &str) -> Result<Option<Contact>, E::Error> {
    match book::owner_of(db, owner, &OF_NUMBERS, &IdentityKey::phone(phone)).await? {
        Some(id) => book::one(db, owner, id).await,
        None => Ok(None),
    }
}

/// What a search reads.
struct Search {
    /// A part of the folded name, or of the number.
    text: Option<String>,
    /// The rarest gram of the text, if it is rare enough to begin the search with it.
    gram: Option<String>,
}

/// The grams that each match must have.
fn grams(text: &str) -> Vec<String> {
    if text.chars().count() < 3 { vec![beginning(text)] } else { trigrams(text) }
}

/// The most grams of a text that are compared.
const GRAMS: usize = 8;

/// Finds the gram of a search that the fewest contacts have; `None` if many contacts have each gram. Then the list is
/// read in its order, because a page fills after few contacts.
async fn search<E: Executor>(db: &E, query: &ContactQuery) -> Result<Search, E::Error> {
    let text = query.search.as_deref().map(search_text).filter(|text| !text.is_empty());
    let Some(text) = text else { return Ok(Search { text: None, gram: None }) };
    let (institution, environment) = (&query.owner.0.as_bytes()[..], query.owner.1.name());
    let sql = "SELECT count(*) AS found FROM (SELECT 1 FROM contact_grams
                   WHERE institution_id = ?1 AND environment = ?2 AND gram = ?3 LIMIT ?4) AS counted";
    let (mut rarest, mut fewest) = (None, SCANNED);
    for gram in grams(&text).into_iter().take(GRAMS) {
        let found = db.row(sql, values![institution, environment, gram, fewest], |row| row.get::<i64>("found")).await?;
        if found.is_some_and(|found| found < fewest) {
            fewest = found.unwrap_or(fewest);
            rarest = Some(gram);
        }
    }
    Ok(Search { text: Some(text), gram: rarest })
}

/// The values that every statement of a list has, from `?1` on.
struct Asked {
    tags: Option<String>,
    tags_all: Option<String>,
    /// `LIKE` patterns: anywhere in the name or in the number.
    pattern: Option<String>,
    start: Option<String>,
}

/// A `LIKE` pattern for this text, in which `!` escapes.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

impl Asked {
    fn new(query: &ContactQuery, search: &Search) -> Self {
        let keys = |tags: &[String]| -> Option<String> {
            let keys: Vec<_> = tags.iter().map(|tag| tag_key(tag)).collect();
            (!keys.is_empty()).then(|| super::to_json(&keys))
        };
        let text = search.text.as_deref();
        let short = text.is_some_and(|text| text.chars().count() < 3);
        let pattern =
            text.map(|text| if short { format!("{}%", escaped(text)) } else { format!("%{}%", escaped(text)) });
        // A short text is the beginning of any word.
        let start = text.filter(|_| short).map(|text| format!("% {}%", escaped(text)));
        Self { tags: keys(&query.tags), tags_all: keys(&query.tags_all), pattern, start }
    }
}

/// The conditions of a list without its cursor, on contacts `k`. `?1` and `?2` are the owner.
fn conditions<E: Executor>() -> String {
    let has = |list: &str| E::shares("k.tag_keys", list);
    format!(
        "(?5 IS NULL OR k.sort_name LIKE ?5 ESCAPE '!' OR k.phone LIKE ?5 ESCAPE '!' OR k.account LIKE ?5 ESCAPE '!'
          OR k.sort_name LIKE ?6 ESCAPE '!')
         AND (?7 IS NULL OR {} > 0) AND (?8 IS NULL OR {} = ?9)
         AND (?10 IS NULL OR (k.opt_out_at IS NOT NULL) = (?10 = 1)) AND (?11 IS NULL OR k.source = ?11)
         AND (?12 IS NULL OR k.updated_at >= ?12) AND (?13 IS NULL OR k.id = ?13)",
        has("?7"),
        has("?8")
    )
}

/// The contacts that a page reads, in their order.
fn scan(has_gram: bool, is_one: bool) -> String {
    let from = match (has_gram, is_one) {
        (_, true) => "k.id = ?13",
        (true, false) => {
            "k.id IN (SELECT contact_id FROM contact_grams WHERE institution_id = ?1 AND environment = ?2 AND gram = ?14)"
        }
        (false, false) => "?14 IS NULL",
    };
    format!(
        "SELECT * FROM contacts k WHERE k.institution_id = ?1 AND k.environment = ?2 AND {from}
           AND (k.sort_name, k.id) > (?3, ?4) ORDER BY k.sort_name, k.id LIMIT ?15"
    )
}

/// After which place a page begins, and how many contacts it skips.
fn begin(from: &ContactFrom) -> (String, Vec<u8>, usize) {
    match from {
        ContactFrom::Start => (String::new(), Vec::new(), 0),
        ContactFrom::After(place) => (place.name.clone(), place.id.as_bytes().to_vec(), 0),
        ContactFrom::Offset(offset) => (String::new(), Vec::new(), *offset),
    }
}

/// The contacts of a query, by the SQL of their table.
fn from(table: &str) -> String {
    CONTACT.replace("FROM contacts k", &format!("FROM ({table}) AS k"))
}

pub(crate) async fn page<E: Executor>(db: &E, query: &ContactQuery) -> Result<ContactPage, E::Error> {
    let none = || Ok(ContactPage { contacts: Vec::new(), next: None, total: None });
    let only = match &query.phone {
        Some(key) => match book::owner_of(db, query.owner, &OF_NUMBERS, key).await? {
            Some(id) => Some(id.as_bytes().to_vec()),
            None => return none(),
        },
        None => None,
    };
    let search = search(db, query).await?;
    let asked = Asked::new(query, &search);
    let (name, id, offset) = begin(&query.from);
    let counted = matches!(query.from, ContactFrom::Offset(_));
    let plain = search.text.is_none() && only.is_none() && !has_filter(query);
    let wanted = offset.saturating_add(query.limit).saturating_add(1);
    let scanned = if plain && !counted { i64::try_from(wanted).unwrap_or(SCANNED) } else { SCANNED };
    let scan = scan(search.gram.is_some(), only.is_some());
    let (institution, environment) = (&query.owner.0.as_bytes()[..], query.owner.1.name());
    let all_tags = i64::try_from(distinct(&query.tags_all)).unwrap_or(i64::MAX);
    let (offset, rows) = (i64::try_from(offset).unwrap_or(SCANNED), super::one_more(query.limit));
    let (source, opt_out) = (query.source.map(Source::name), query.opt_out.map(i64::from));
    let asked = values![
        institution,
        environment,
        name,
        id,
        asked.pattern,
        asked.start,
        asked.tags,
        asked.tags_all,
        all_tags,
        opt_out,
        source,
        query.updated_since,
        only,
        search.gram,
        scanned,
        rows,
        offset,
    ];
    let matching = format!("SELECT k.* FROM ({scan}) AS k WHERE {}", conditions::<E>());
    let sql = format!("{} ORDER BY k.sort_name, k.id LIMIT ?16 OFFSET ?17", from(&matching));
    let mut contacts = db.rows(&sql, asked, contact).await?;
    let more = contacts.len() > query.limit;
    contacts.truncate(query.limit);
    let mut next = contacts.last().map(place).filter(|_| more);
    // The statements below have no limit of their own.
    let scanning = &asked[..15];
    if !more && !counted && scanned == SCANNED {
        let sql = format!("{} ORDER BY k.sort_name, k.id LIMIT 1 OFFSET {}", from(&scan), SCANNED - 1);
        next = db.row(&sql, scanning, |row| Ok(place(&contact(row)?))).await?;
    }
    let total = if counted { Some(total(db, &matching, scanning).await?) } else { None };
    for contact in &mut contacts {
        contact.identities = book::identities(db, contact.id).await?;
    }
    Ok(ContactPage { contacts, next, total })
}

/// How many contacts a query has, and whether there may be more.
async fn total<E: Executor>(
    db: &E,
    matching: &str,
    asked: &[crate::sqlkit::both::Value<'_>],
) -> Result<(usize, bool), E::Error> {
    let sql = format!("SELECT count(*) AS found FROM ({matching}) AS counted");
    let found = db.row(&sql, asked, |row: &Row<'_>| row.get::<i64>("found")).await?.unwrap_or(0);
    Ok((usize::try_from(found).unwrap_or(0), found >= SCANNED))
}

fn has_filter(query: &ContactQuery) -> bool {
    let tags = !query.tags.is_empty() || !query.tags_all.is_empty();
    tags || query.opt_out.is_some() || query.source.is_some() || query.updated_since.is_some()
}

fn distinct(tags: &[String]) -> usize {
    tags.iter().map(|tag| tag_key(tag)).collect::<std::collections::BTreeSet<_>>().len()
}

fn place(contact: &Contact) -> ContactPlace {
    ContactPlace { name: search_key(&contact.name), id: contact.id }
}

/// Adds a contact that a caller names.
pub(crate) async fn create<E: Executor>(db: &E, new: &NewContact, now: Millis) -> Result<ContactChanged, E::Error> {
    lock(db, new.owner).await?;
    let key = IdentityKey::phone(&new.phone);
    if let Some(id) = book::owner_of(db, new.owner, &OF_NUMBERS, &key).await? {
        return Ok(ContactChanged::Exists(id));
    }
    let mut contact = Contact {
        id: ContactId::new(now, random(&SystemEntropy)),
        owner: new.owner,
        name: new.name.clone(),
        is_named: true,
        phone: Some(new.phone.clone()),
        email: new.email.clone(),
        tags: as_first_written(&new.tags, &[]),
        metadata: new.metadata.clone(),
        account: None,
        opt_out_at: new.opt_out.then_some(now),
        opt_out_source: new.opt_out.then(|| "API".to_owned()),
        source: Source::Api,
        identities: Vec::new(),
        last_inbound_at: None,
        last_outbound_at: None,
        created_at: now,
        updated_at: now,
    };
    adopt(db, &mut contact).await?;
    book::insert(db, &contact).await?;
    book::add_identity(db, (new.owner, contact.id), &OF_NUMBERS, &key).await?;
    let place = Place { db, owner: new.owner, now };
    finish(&place, contact, "contact.created", &[]).await
}

/// The statements of [`adopt`].
pub(crate) const ADOPT: [&str; 2] =
    [include_str!("contacts/adopt_open.sql"), include_str!("contacts/adopt_closed.sql")];

/// Gives a new contact the conversations that calls began with its number. One to which somebody has written is that of this
/// person, who need not be the contact.
async fn adopt<E: Executor>(db: &E, contact: &mut Contact) -> Result<(), E::Error> {
    let ((institution, environment), id) = (contact.owner, contact.id);
    let (institution, environment, chat) = (&institution.as_bytes()[..], environment.name(), threads::chat_of(id));
    let mut adopted = 0;
    for form in contact.phone.iter().flat_map(|phone| forms(phone)) {
        for sql in ADOPT {
            adopted += db.run(sql, values![chat, &id.as_bytes()[..], form, institution, environment]).await?;
        }
    }
    if adopted == 0 {
        return Ok(());
    }
    let sql = "SELECT max(last_at) AS sent FROM conversations WHERE contact_id = ?1 AND last_direction = 'OUTBOUND'";
    let sent = db.row(sql, values![&id.as_bytes()[..]], |row| row.get::<Option<Millis>>("sent")).await?.flatten();
    contact.last_outbound_at = contact.last_outbound_at.max(sent);
    Ok(())
}

/// Gives back the conversations that came to a contact with its number, before the number changes: the former number may have
/// been that of somebody else, who must not lose them.
async fn release<E: Executor>(db: &E, contact: &Contact) -> Result<(), E::Error> {
    let (id, chat) = (&contact.id.as_bytes()[..], threads::chat_of(contact.id));
    for form in contact.phone.iter().flat_map(|phone| forms(phone)) {
        db.run(include_str!("contacts/release.sql"), values![id, chat, form, contact.created_at]).await?;
    }
    Ok(())
}

/// Changes a contact as a caller asks.
pub(crate) async fn change<E: Executor>(
    db: &E,
    (owner, id): (Owner, ContactId),
    change: &ContactChange,
    now: Millis,
) -> Result<ContactChanged, E::Error> {
    lock(db, owner).await?;
    let Some(mut contact) = book::one(db, owner, id).await? else { return Ok(ContactChanged::NotFound) };
    if let Some(phone) = &change.phone {
        let key = IdentityKey::phone(phone);
        match book::owner_of(db, owner, &OF_NUMBERS, &key).await? {
            Some(other) if other != id => return Ok(ContactChanged::Exists(other)),
            Some(_) => {}
            None => {
                release(db, &contact).await?;
                let sql = "DELETE FROM identities WHERE contact_id = ?1 AND kind = ?2";
                db.run(sql, values![&id.as_bytes()[..], key.kind.name()]).await?;
                book::add_identity(db, (owner, id), &OF_NUMBERS, &key).await?;
                // The stored account belongs to the former number.
                contact.account = None;
            }
        }
    }
    let mut changes = change.apply(&mut contact);
    if let Some(opt_out) = change.opt_out.filter(|opt_out| *opt_out != contact.opt_out_at.is_some()) {
        contact.opt_out_at = opt_out.then_some(now);
        contact.opt_out_source = opt_out.then(|| "API".to_owned());
        changes.push("optOut");
    }
    // If a caller gives the name that the network reported, the name is the caller's from now on.
    contact.is_named |= change.name.is_some();
    if !changes.is_empty() {
        contact.updated_at = now;
    }
    book::save(db, &contact, changes.contains(&"name") || changes.contains(&"phone")).await?;
    if changes.contains(&"phone") {
        contact.identities = book::identities(db, id).await?;
        readdress(db, &contact).await?;
    }
    finish(&Place { db, owner, now }, contact, "contact.updated", &changes).await
}

/// Changes the contact with this number, or adds it.
pub(crate) async fn put<E: Executor>(
    db: &E,
    (owner, phone): (Owner, &str),
    change: &ContactChange,
    now: Millis,
) -> Result<ContactPut, E::Error> {
    lock(db, owner).await?;
    if let Some(id) = book::owner_of(db, owner, &OF_NUMBERS, &IdentityKey::phone(phone)).await? {
        return self::change(db, (owner, id), change, now).await.map(ContactPut::Changed);
    }
    let phone = change.phone.clone().unwrap_or_else(|| phone.to_owned());
    let Some(new) = change.clone().into_new(owner, phone) else { return Ok(ContactPut::Unnamed) };
    Ok(match create(db, &new, now).await? {
        ContactChanged::Done(contact) => ContactPut::Created(contact),
        other => ContactPut::Changed(other),
    })
}

/// Removes a contact. Its conversations go on without it: the next message of the person gives them a new one.
pub(crate) async fn delete<E: Executor>(db: &E, (owner, id): (Owner, ContactId)) -> Result<bool, E::Error> {
    lock(db, owner).await?;
    if book::one(db, owner, id).await?.is_none() {
        return Ok(false);
    }
    let id_bytes = &id.as_bytes()[..];
    // As if they had begun before the person had a contact. Another one of the address that goes on stays the one.
    let sql = "UPDATE conversations SET chat = address
               WHERE contact_id = ?1 AND chat = ?2
                 AND (closed_at IS NOT NULL OR NOT EXISTS (
                     SELECT 1 FROM conversations o
                     WHERE o.channel_key = conversations.channel_key AND o.chat = conversations.address
                       AND o.closed_at IS NULL))";
    db.run(sql, values![id_bytes, threads::chat_of(id)]).await?;
    db.run("UPDATE conversations SET contact_id = NULL WHERE contact_id = ?1", values![id_bytes]).await?;
    book::delete(db, id).await?;
    Ok(true)
}

async fn finish<E: Executor>(
    at: &Place<'_, E>,
    mut contact: Contact,
    name: &'static str,
    changes: &[&'static str],
) -> Result<ContactChanged, E::Error> {
    contact.identities = book::identities(at.db, contact.id).await?;
    if name == "contact.created" || !changes.is_empty() {
        of_contact(at, name, &contact, (changes, None)).await?;
    }
    Ok(ContactChanged::Done(Box::new(contact)))
}
