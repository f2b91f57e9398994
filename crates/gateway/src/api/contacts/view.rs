//! A contact as the API shows it.

use std::borrow::Cow;

use recado_domain::contact_book::{Contact, OPT_OUT_SOURCES, Source};
use recado_domain::incoming::IdentityKind;
use recado_store::views;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::openapi::schemas::{self, object, one_of, uuid};

/// A contact. Events show it in the same form.
#[derive(Serialize)]
#[serde(transparent)]
pub struct ContactView(Value);

impl ContactView {
    /// The contact.
    pub fn new(contact: &Contact) -> Self {
        Self(serde_json::to_value(views::contact(contact)).unwrap_or_default())
    }
}

impl JsonSchema for ContactView {
    fn schema_name() -> Cow<'static, str> {
        "ContactOfPerson".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json!({"type": ["string", "null"]});
        let time = json!({"type": "string", "format": "date-time"});
        let maybe = json!({"type": ["string", "null"], "format": "date-time"});
        let digits = json!({"type": ["string", "null"], "pattern": "^[0-9]{1,32}$"});
        let kinds = IdentityKind::ALL.map(IdentityKind::name);
        let mut identity = object(json!({"kind": one_of(kinds), "value": {"type": "string"}}));
        // A number is valid everywhere, an id on one channel or within one business.
        identity["properties"]["channelId"] = json!({"type": "string"});
        identity["properties"]["businessId"] = json!({"type": "string"});
        let value = json!({"type": ["string", "number", "boolean"]});
        let contact = object(json!({
            "id": uuid(),
            "name": {"type": "string"},
            "phone": digits,
            "email": text,
            "tags": {"type": "array", "items": {"type": "string"}},
            "createdAt": time,
            "updatedAt": time,
            "metadata": {"type": "object", "additionalProperties": value},
            "account": digits,
            "optOut": {"type": "boolean", "description": "Whether the person is left out of every bulk."},
            "optOutAt": maybe,
            "optOutSource": {"enum": OPT_OUT_SOURCES.map(Value::from).into_iter().chain([Value::Null]).collect::<Vec<_>>()},
            "source": one_of(Source::ALL.map(Source::name)),
            "blockedOn": {"type": "array", "items": {"type": "string"}},
            "identities": {"type": "array", "items": identity},
            "lastInboundAt": maybe,
            "lastOutboundAt": maybe,
        }));
        schemas::described(contact, "A person. `phone` is `null` where no number is known.")
    }
}

/// The id of the example contact.
pub const EXAMPLE_ID: &str = "01a2085f-0d33-7f1a-8c55-3b7a6f0e2d91";

/// An example of a contact for the OpenAPI document.
pub fn example() -> Value {
    json!({
        "id": EXAMPLE_ID,
        "name": "Ana",
        "phone": "5511977776666",
        "email": null,
        "tags": ["vip"],
        "createdAt": "2026-11-23T12:26:15.403Z",
        "updatedAt": "2026-11-23T12:26:15.403Z",
        "metadata": {"crm": "4711"},
        "account": "551177776666",
        "optOut": false,
        "optOutAt": null,
        "optOutSource": null,
        "source": "INBOUND",
        "blockedOn": [],
        "identities": [{"channelId": "vendas", "kind": "LID", "value": "103899771998284"}],
        "lastInboundAt": "2026-11-23T12:26:15.403Z",
        "lastOutboundAt": null,
    })
}
