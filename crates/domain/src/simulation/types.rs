//! The types of acts that can be simulated, with the fields of their content as schemas.

use serde_json::{Map, Value, json};

use super::parse::{self, Parse};
use crate::kinds::contact::Contact;
use crate::kinds::location::Location;
use crate::kinds::{FieldSpec, MessageKind, reply_schema};
use crate::schema;
use crate::transient::Typing;

/// A field of `content`: its name, its schema, and whether it is required. A schema with a pattern walks over all
/// characters, so it is built for the documentation alone, and a call reads the names only.
type Field = (&'static str, fn() -> Value, bool);

/// A type of the call.
pub(super) struct Type {
    pub(super) name: &'static str,
    pub(super) parse: Parse,
    /// The fields of `content`.
    fields: &'static [&'static [Field]],
    /// The fields of the kind of messages that `content` follows.
    of_kind: &'static [FieldSpec],
    /// Whether the act may answer a message.
    pub(super) answers: bool,
    /// Whether `content` may be left out.
    pub(super) is_plain: bool,
    /// Whether nothing stores the act, so that the network neither delays nor repeats it.
    pub(super) is_transient: bool,
}

impl Type {
    const fn message(name: &'static str, parse: Parse, fields: &'static [&'static [Field]]) -> Self {
        Self { name, parse, fields, of_kind: &[], answers: true, is_plain: false, is_transient: false }
    }

    const fn of_kind(name: &'static str, parse: Parse, of_kind: &'static [FieldSpec]) -> Self {
        Self { of_kind, ..Self::message(name, parse, &[]) }
    }

    const fn change(name: &'static str, parse: Parse, fields: &'static [&'static [Field]]) -> Self {
        Self { answers: false, ..Self::message(name, parse, fields) }
    }

    const fn transient(name: &'static str, parse: Parse, fields: &'static [&'static [Field]]) -> Self {
        Self { is_transient: true, ..Self::change(name, parse, fields) }
    }

    fn fields(&self) -> impl Iterator<Item = Field> {
        let of_kind = self.of_kind.iter().map(|field| (field.name, field.schema, field.required));
        self.fields.iter().copied().flatten().copied().chain(of_kind)
    }

    /// Whether the body can have the field beside `type` and `content`.
    pub(super) fn is_beside(&self, field: &str) -> bool {
        let is_known = FIELDS.contains(&field) && !(self.is_transient && OF_STORED.contains(&field));
        is_known || (self.answers && field == REPLY_TO)
    }

    /// Whether `content` can have the field.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields().any(|(name, ..)| name == field)
    }
}

/// Every type, those of messages first.
pub(super) static TYPES: &[Type] = &[
    Type::message("text", parse::text, &[TEXT]),
    Type::message("image", parse::file, &[FILE]),
    Type::message("video", parse::file, &[FILE]),
    Type::message("audio", parse::file, &[FILE, AUDIO]),
    Type::message("document", parse::file, &[FILE]),
    Type::message("sticker", parse::file, &[FILE, STICKER]),
    Type::of_kind("location", parse::location, Location::FIELDS),
    Type::of_kind("contact", parse::contact, Contact::FIELDS),
    Type::message("button", parse::button, &[BUTTON]),
    Type::message("poll", parse::poll, &[POLL]),
    Type { is_plain: true, ..Type::message("unsupported", parse::unsupported, &[UNSUPPORTED]) },
    Type::change("reaction", parse::reaction, &[TARGET, REACTION]),
    Type::change("edit", parse::edit, &[TARGET, TEXT]),
    Type::change("revoke", parse::revoke, &[TARGET]),
    Type::change("poll_vote", parse::vote, &[TARGET, VOTE]),
    Type::message("echo", parse::echo, &[TEXT]),
    Type::change("number_change", parse::number_change, &[NUMBER_CHANGE]),
    Type::transient("typing", parse::typing, &[TYPING]),
];

const TEXT: &[Field] = &[("text", || schema::lines(parse::TEXT_LIMIT, true), true)];
const FILE: &[Field] = &[
    ("url", || json!({"type": "string", "pattern": parse::URL, "maxLength": parse::URL_LIMIT}), false),
    (
        "mediaId",
        || json!({"type": "string", "format": "uuid", "description": "In place of `url`: a received file."}),
        false,
    ),
    ("caption", || schema::lines(parse::CAPTION_LIMIT, false), false),
    ("fileName", || schema::name(parse::FILE_NAME_LIMIT, false), false),
    ("mimeType", || schema::optional(parse::MIME_TYPE, "The type of the file; else a usual one."), false),
    ("expires", flag, false),
];
const AUDIO: &[Field] = &[("ptt", flag, false)];
const STICKER: &[Field] = &[("animated", flag, false)];
const BUTTON: &[Field] = &[
    ("title", || schema::name(parse::TITLE_LIMIT, true), true),
    ("id", || schema::name(parse::TITLE_LIMIT, false), false),
    ("description", || schema::name(parse::TITLE_LIMIT, false), false),
    ("kind", || one_of(parse::CHOICES.map(|(name, _)| name)), false),
];
const POLL: &[Field] = &[
    ("question", || schema::name(parse::QUESTION_LIMIT, true), true),
    ("options", || list(*parse::OPTIONS.start(), *parse::OPTIONS.end(), "array"), true),
    ("maxSelections", || json!({"type": ["integer", "null"], "minimum": 0, "maximum": parse::OPTIONS.end()}), false),
];
const UNSUPPORTED: &[Field] = &[("reason", || one_of(parse::REASONS.map(|(name, _)| name)), false)];
const TARGET: &[Field] = &[("messageId", target, true)];
const REACTION: &[Field] = &[("emoji", emoji, false)];
const VOTE: &[Field] = &[("options", || list(0, *parse::OPTIONS.end(), "array"), false)];
const NUMBER_CHANGE: &[Field] = &[("phone", || schema::phone("The new number."), true)];

const TYPING: &[Field] = &[("state", || json!({"enum": Typing::ALL.map(Typing::name)}), true)];

/// The type of this name.
pub(super) fn named(name: &str) -> Option<&'static Type> {
    TYPES.iter().find(|one| one.name == name)
}

/// The names of all types.
pub fn names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|one| one.name)
}

fn flag() -> Value {
    json!({"type": ["boolean", "null"], "default": false})
}

fn emoji() -> Value {
    json!({
        "type": ["string", "null"], "maxLength": parse::EMOJI_LIMIT,
        "description": "One emoji. Left out, empty or `null`: the reaction is removed.",
    })
}

fn one_of(names: [&str; 3]) -> Value {
    let mut all = json!(names);
    all.as_array_mut().into_iter().for_each(|all| all.extend([json!(""), Value::Null]));
    json!({"enum": all})
}

fn list(least: usize, most: usize, kind: &str) -> Value {
    json!({
        "type": if least == 0 { json!([kind, "null"]) } else { json!(kind) }, "minItems": least, "maxItems": most,
        "items": schema::name(parse::OPTION_LIMIT, true),
    })
}

fn target() -> Value {
    json!({"type": "string", "pattern": "^[!-~]{1,255}$", "description": "The id of a message, or its network id."})
}

/// The schema of the content of a type.
fn content(one: &Type) -> Value {
    let required: Vec<_> = one.fields().filter(|(.., required)| *required).map(|(name, ..)| name).collect();
    let mut schema = json!({"type": "object", "additionalProperties": false, "required": required});
    if one.name == "contact" {
        // One of two forms.
        let mut needs = Contact::needs();
        schema["oneOf"] = needs["oneOf"].take();
        schema["required"] = json!([]);
    }
    if one.has("mediaId") {
        schema["oneOf"] = json!([{"required": ["url"]}, {"required": ["mediaId"]}]);
    }
    let properties: Map<_, _> = one.fields().map(|(name, schema, _)| (name.to_owned(), schema())).collect();
    schema["properties"] = properties.into();
    if one.is_plain {
        schema["type"] = json!(["object", "null"]);
    }
    schema
}

/// The fields beside `type` and `content`.
const FIELDS: [&str; 10] =
    ["from", "userId", "lid", "channelId", "name", "group", "sentAt", "repeat", "outOfOrder", "windowed"];
/// Those of them that say how the network delivers what is stored.
const OF_STORED: [&str; 4] = ["sentAt", "repeat", "outOfOrder", "windowed"];
/// The message that is answered.
pub(super) const REPLY_TO: &str = "replyTo";

/// The schema of the body.
pub fn body_schema() -> Value {
    let variants: Vec<_> = TYPES.iter().map(variant).collect();
    json!({"type": "object", "description": ABOUT, "oneOf": variants})
}

const ABOUT: &str = "What a person does: who (`from`, or `userId` or `lid` for a person without a number), `type`, and the \
                     `content` of the type.";

fn variant(one: &Type) -> Value {
    let or_empty = |schema: Value| json!({"anyOf": [schema, {"const": ""}, {"type": "null"}]});
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let (from, user_id, lid) = (schema::phone("The person's number."), text(crate::address::USER_ID), text(parse::LID));
    let switch = || json!({"type": ["boolean", "null"]});
    let mut properties = json!({
        "from": or_empty(from.clone()),
        "userId": or_empty(user_id.clone()),
        "lid": or_empty(lid.clone()),
        "type": {"const": one.name},
        "content": content(one),
        "channelId": or_empty(text("^[A-Za-z0-9_-]{1,64}$")),
        "name": schema::name(parse::NAME_LIMIT, false),
        "group": schema::name(parse::GROUP_LIMIT, false),
        "sentAt": or_empty(json!({"type": "string", "format": "date-time"})),
        "repeat": {"type": ["integer", "null"], "minimum": parse::REPEAT.start(), "maximum": parse::REPEAT.end()},
        "outOfOrder": switch(),
        "windowed": switch(),
    });
    if one.answers {
        properties[REPLY_TO] = reply_schema();
    }
    if let Some(properties) = properties.as_object_mut() {
        properties.retain(|name, _| ["type", "content"].contains(&&**name) || one.is_beside(name));
    }
    let mut required = vec!["type"];
    if !one.is_plain {
        required.push("content");
    }
    let named = |name: &str, schema: Value| json!({"required": [name], "properties": {name: schema}});
    json!({
        "title": one.name, "type": "object", "additionalProperties": false, "required": required,
        "anyOf": [named("from", from), named("userId", user_id), named("lid", lid)],
        "properties": properties,
    })
}

/// The simplest call.
pub const EXAMPLE: &str = r#"{"from":"5511977776666","type":"text","content":{"text":"Qual o prazo?"},"name":"Ana"}"#;
