//! A contact.

use recado_domain::contact_book::{Contact, Identity, Scope};
use recado_domain::incoming::{IdentityKey, IdentityKind};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock::rfc3339;

/// A contact, as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContactView<'a> {
    id: String,
    name: &'a str,
    phone: Option<&'a str>,
    email: Option<&'a str>,
    tags: &'a [String],
    created_at: String,
    updated_at: String,
    metadata: &'a Map<String, Value>,
    account: Option<&'a str>,
    opt_out: bool,
    opt_out_at: Option<String>,
    opt_out_source: Option<&'a str>,
    source: &'static str,
    /// Channels on which the contact is blocked; this version blocks no contact.
    blocked_on: [&'static str; 0],
    identities: Vec<IdentityView<'a>>,
    last_inbound_at: Option<String>,
    last_outbound_at: Option<String>,
}

/// An identity: of a channel, of a business, or a number, which is valid everywhere.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    business_id: Option<&'a str>,
    kind: &'static str,
    value: &'a str,
}

fn identity<'a>(contact: &'a Contact, identity: &'a Identity) -> IdentityView<'a> {
    let (channel_id, business_id) = match &identity.scope {
        Scope::Owner => (None, None),
        Scope::Channel(_, id) => (Some(id.as_str()), None),
        Scope::Business(id) => (None, Some(id.as_str())),
    };
    // The stored form of a Brazilian number has no ninth digit. The number is shown as the network named it, or as it was typed.
    let numbers = [&contact.account, &contact.phone].into_iter().flatten();
    let mut numbers = numbers.filter(|_| identity.kind == IdentityKind::Phone);
    let known = numbers.find(|number| IdentityKey::phone(number).value == identity.value);
    let value = known.unwrap_or(&identity.value);
    IdentityView { channel_id, business_id, kind: identity.kind.name(), value }
}

impl<'a> ContactView<'a> {
    pub(super) fn new(contact: &'a Contact) -> Self {
        Self {
            id: contact.id.to_string(),
            name: &contact.name,
            phone: contact.phone.as_deref(),
            email: contact.email.as_deref(),
            tags: &contact.tags,
            created_at: rfc3339(contact.created_at),
            updated_at: rfc3339(contact.updated_at),
            metadata: &contact.metadata,
            account: contact.account.as_deref(),
            opt_out: contact.opt_out_at.is_some(),
            opt_out_at: contact.opt_out_at.map(rfc3339),
            opt_out_source: contact.opt_out_source.as_deref(),
            source: contact.source.name(),
            blocked_on: [],
            identities: contact.identities.iter().map(|of| identity(contact, of)).collect(),
            last_inbound_at: contact.last_inbound_at.map(rfc3339),
            last_outbound_at: contact.last_outbound_at.map(rfc3339),
        }
    }
}
