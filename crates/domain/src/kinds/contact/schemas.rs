//! The JSON schemas of the contact call.

use serde_json::{Map, Value, json};

use super::parse::{ENTRY, URL_LIMIT};
use super::{NAME_LIMIT, PART_LIMIT, Place};
use crate::kinds::{FieldSpec, Form};
use crate::schema;

pub(super) const ABOUT: &str = "A contact card and its recipient. Values are trimmed; an optional field that is empty is \
                                omitted. `contacts` replaces all other fields of a card.";

const PHOTO: fn() -> Value = || schema::optional("^[!-~]{1,255}$", "A picture; not offered by any channel yet.");

pub(super) const FIELDS: &[FieldSpec] = &[
    FieldSpec::text("name", "NAME", "The name on the card", || schema::name(NAME_LIMIT, true)).required(),
    FieldSpec::text("phone", "NUMBER", "The number on the card", || {
        schema::phone("The number on the card, in the same form.")
    })
    .required(),
    FieldSpec::text(
        "email",
        "EMAIL",
        "The email address on the card",
        || json!({"anyOf": [email(), {"const": ""}, {"type": "null"}]}),
    ),
    FieldSpec::text("organization", "ORGANIZATION", "The organization on the card", || schema::name(NAME_LIMIT, false)),
    FieldSpec::text(
        "firstName",
        "NAME",
        "The first name on the card; without it and a last name, the whole name is the first one",
        || schema::name(PART_LIMIT, false),
    )
    .flag("first-name"),
    FieldSpec::text("lastName", "NAME", "The last name on the card", || schema::name(PART_LIMIT, false))
        .flag("last-name"),
    FieldSpec::text("title", "TITLE", "The job title on the card", || schema::name(NAME_LIMIT, false)),
    FieldSpec::text("department", "NAME", "The department on the card", || schema::name(NAME_LIMIT, false)),
    FieldSpec::text(
        "url",
        "URL",
        "The web address on the card",
        || json!({"anyOf": [url(), {"const": ""}, {"type": "null"}]}),
    )
    // `--url` names a server.
    .flag("website"),
    FieldSpec::text("birthday", "DATE", "The birthday on the card, YYYY-MM-DD", birthday),
    FieldSpec::text("photoMediaId", "ID", "A picture on the card; no channel offers that yet", PHOTO)
        .flag("photo-media-id"),
    FieldSpec::text(
        "contacts",
        "JSON",
        "One to ten cards, as JSON, in the place of all other fields of a card",
        contacts,
    )
    .of(Form::Json),
];

fn email() -> Value {
    let mut email = json!({"type": "string", "format": "idn-email", "maxLength": 254});
    email["description"] = "The domain has a dot; no display name, no domain literal.".into();
    email
}

fn url() -> Value {
    // The signs of a URI, behind a host that has a letter or a digit.
    let (host, rest) = ("[-!$%&'()*+,.:;=@_~\\[\\]]*[A-Za-z0-9]", "[-!#-;=?-Z_a-z~\\[\\]]*");
    json!({"type": "string", "pattern": format!("^[Hh][Tt][Tt][Pp][Ss]?://{host}{rest}$"), "maxLength": URL_LIMIT})
}

fn birthday() -> Value {
    schema::optional(
        "^(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-9]|3[01])$",
        "A date from 1900-01-01 to today.",
    )
}

fn contacts() -> Value {
    let place = || {
        let mut names = json!(Place::ALL.map(Place::name));
        names.as_array_mut().into_iter().for_each(|names| names.extend([json!(""), Value::Null]));
        json!({"enum": names})
    };
    let list = |most: u8, name: &str, value: Value| {
        json!({"type": ["array", "null"], "maxItems": most, "items": {
            "type": "object", "required": [name], "additionalProperties": false, "properties": {name: value, "type": place()},
        }})
    };
    let address = ["street", "city", "state", "zip", "country", "countryCode"];
    let mut parts: Map<_, _> = address.map(|name| (name.to_owned(), schema::name(100, false))).into_iter().collect();
    parts.insert("type".to_owned(), place());
    // A country code alone is no address.
    let some: Vec<_> = address[..5]
        .iter()
        .map(|name| json!({"required": [name], "properties": {*name: schema::name(100, true)}}))
        .collect();
    let mut phones = list(5, "phone", schema::phone("A number on the card."));
    phones["type"] = "array".into();
    phones["minItems"] = 1.into();
    let field = |name: &str| match name {
        "name" => schema::name(NAME_LIMIT, true),
        "firstName" | "lastName" => schema::name(PART_LIMIT, false),
        "phones" => phones.clone(),
        "emails" => list(5, "email", email()),
        "urls" => list(3, "url", url()),
        "birthday" => birthday(),
        "addresses" => json!({"type": ["array", "null"], "maxItems": 2, "items": {
            "type": "object", "additionalProperties": false, "properties": parts, "anyOf": some,
        }}),
        "photoMediaId" => PHOTO(),
        _ => schema::name(NAME_LIMIT, false),
    };
    let fields: Map<_, _> = ENTRY.map(|name| (name.to_owned(), field(name))).into_iter().collect();
    json!({"type": ["array", "null"], "minItems": 1, "maxItems": 10, "items": {
        "type": "object", "required": ["name", "phones"], "additionalProperties": false, "properties": fields,
    }})
}

/// The required fields of either form.
pub(super) fn needs() -> Value {
    let other = |field: &FieldSpec| {
        let kind = if field.form == Form::Json { "array" } else { "null" };
        (field.name.to_owned(), json!({"type": kind}))
    };
    let long: Map<_, _> = FIELDS.iter().map(other).collect();
    json!({
        "required": ["to"],
        "oneOf": [
            {"required": ["name", "phone"], "properties": {"contacts": {"type": "null"}}},
            {"required": ["contacts"], "properties": long},
        ],
    })
}

/// The fields that a message shows.
pub(super) fn shown() -> Vec<(&'static str, Value)> {
    let text = || json!({"type": "string", "description": "There when it was given."});
    let or_null = || json!({"type": ["string", "null"]});
    let always = [
        ("name", json!({"type": "string"})),
        ("phone", json!({"type": "string"})),
        ("email", or_null()),
        ("organization", or_null()),
    ];
    let later = ["firstName", "lastName", "title", "department", "url", "birthday"].map(|name| (name, text()));
    let fields: Map<_, _> = always.into_iter().chain(later).map(|(name, schema)| (name.to_owned(), schema)).collect();
    let short = json!({
        "type": "object", "description": "A card's fields as the caller wrote them.",
        "required": ["name", "phone", "email", "organization"], "properties": fields,
    });
    let list = |name: &str| {
        json!({"type": "array", "items": {
            "type": "object", "required": [name],
            "properties": {name: {"type": "string"}, "type": schema::one_of(Place::ALL.map(Place::name))},
        }})
    };
    let field = |name: &str| match name {
        "phones" => list("phone"),
        "emails" => list("email"),
        "urls" => list("url"),
        "addresses" => {
            json!({"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}})
        }
        _ => text(),
    };
    let fields = ENTRY.into_iter().filter(|name| *name != "photoMediaId").map(|name| (name.to_owned(), field(name)));
    let long = json!({
        "type": "array", "description": "The cards' fields as the caller wrote them. A field is there when it was given.",
        "items": {"type": "object", "required": ["name", "phones"], "properties": fields.collect::<Map<_, _>>()},
    });
    let account = || {
        let (digits, source) =
            (json!({"type": "string", "pattern": "^[0-9]{4,15}$"}), schema::one_of(["NETWORK", "TYPED"]));
        json!({
            "type": "object", "description": "The account in a `waid`, and whether the network named it.",
            "required": ["waid", "source"], "properties": {"waid": digits, "source": source},
        })
    };
    let cards = json!({
        "type": "array", "description": "The accounts on each card of `contacts`, in the order of its numbers.",
        "items": {
            "type": "object", "required": ["accounts"],
            "properties": {"accounts": {"type": "array", "items": account()}},
        },
    });
    vec![("contact", short), ("card", account()), ("contacts", long), ("cards", cards)]
}

/// The simplest body, one with every field of the short form, and one in the long form.
pub(super) fn examples() -> Vec<Value> {
    let phones = json!([{"phone": "5511988887777", "type": "CELL"}, {"phone": "551140000000", "type": "WORK"}]);
    let address = json!({
        "street": "Rua A, 1", "city": "Sao Paulo", "state": "SP", "zip": "01000-000", "country": "Brasil",
        "countryCode": "BR", "type": "WORK",
    });
    vec![
        json!({"to": "5511999998888", "name": "Maria Silva - Suporte", "phone": "5511988887777"}),
        json!({
            "to": "5511999998888", "name": "Maria Silva", "phone": "5511988887777", "email": "maria@exemplo.com.br",
            "organization": "Exemplo Ltda", "firstName": "Maria", "lastName": "Silva", "title": "Gerente",
            "department": "Suporte", "url": "https://exemplo.com.br", "birthday": "1969-08-18",
        }),
        json!({"to": "5511999998888", "contacts": [{
            "name": "Maria Silva", "organization": "Exemplo Ltda", "department": "Suporte", "title": "Gerente",
            "phones": phones, "emails": [{"email": "maria@exemplo.com.br", "type": "WORK"}],
            "urls": [{"url": "https://exemplo.com.br", "type": "WORK"}], "birthday": "1969-08-18",
            "addresses": [address], "photoMediaId": null,
        }]}),
    ]
}
