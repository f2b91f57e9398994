//! The kinds of messages. The file of a kind defines the kind, except how each network writes it. The networks match on
//! [`Content`], so the compiler names every mapping that a new kind lacks.
//!
//! To add a kind, add a file here with a type that implements [`MessageKind`], and add the type to the macro call
//! `kinds!` below. The routes, the OpenAPI document, the command line and the CSV columns follow from this list.

mod common;
pub mod contact;
mod field;
mod fingerprint;
pub mod location;
mod reader;
#[cfg(test)]
mod reader_tests;
pub mod text;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::address::Address;
use crate::channel::ChannelType;
use crate::clock::Millis;
use crate::field_errors::{FieldErrors, UNKNOWN};
use crate::json::Object;
use crate::phone::{Country, PhoneNumber};

pub use common::{COMMON, CONVERSATION, Common, NOT_OF_THIS_CHAT, reply_schema};
use contact::Card;
pub use field::{FieldSpec, Form};
pub use fingerprint::Parts;
pub use reader::{PhoneTexts, Reader, Rule};

macro_rules! kinds {
    ($($module:ident::$kind:ident,)*) => {
        /// The content of a message. The store keeps it with the name of its kind as a tag.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "lowercase")]
        pub enum Content {
            $(
                #[doc = concat!("The content of a message of the kind `", stringify!($module), "`.")]
                $kind($module::$kind),
            )*
        }

        $(
            impl From<$module::$kind> for Content {
                fn from(content: $module::$kind) -> Self {
                    Self::$kind(content)
                }
            }
        )*

        impl Content {
            /// The kind of the content.
            pub fn kind(&self) -> &'static Kind {
                match self {
                    $(Self::$kind(_) => const { &Kind::of::<$module::$kind>(concat!("messages/", stringify!($module))) },)*
                }
            }

            /// See [`MessageKind::shown`].
            pub fn shown(&self) -> (&'static str, Value) {
                match self {
                    $(Self::$kind(content) => content.shown(),)*
                }
            }

            /// See [`MessageKind::plain_text`].
            pub fn plain_text(&self) -> Option<&str> {
                match self {
                    $(Self::$kind(content) => content.plain_text(),)*
                }
            }

            /// See [`MessageKind::cards`].
            pub fn cards(&self) -> Vec<Card> {
                match self {
                    $(Self::$kind(content) => MessageKind::cards(content),)*
                }
            }

            /// See [`MessageKind::shown_rendition`].
            pub fn shown_rendition(&self, rendition: &str) -> Option<(&'static str, Value)> {
                match self {
                    $(Self::$kind(content) => content.shown_rendition(rendition),)*
                }
            }

            fn fingerprint<'a>(&'a self, parts: &mut Parts<'a>) {
                match self {
                    $(Self::$kind(content) => content.fingerprint(parts),)*
                }
            }
        }

        /// Every kind.
        pub static KINDS: &[Kind] = &[$(Kind::of::<$module::$kind>(concat!("messages/", stringify!($module))),)*];
    };
}

kinds! {
    contact::Contact,
    text::Text,
    location::Location,
}

/// What every kind of message defines.
pub trait MessageKind: Serialize + DeserializeOwned + Into<Content> {
    /// The name of the kind. It is the `type` of a message, and the last segment of the route.
    const NAME: &'static str;
    /// The title of the route of this kind, and the id of the route for generated clients.
    const TITLE: (&'static str, &'static str);
    /// The name of the schema of the request body.
    const BODY: &'static str;
    /// A description of the request body, in one or more sentences.
    const ABOUT: &'static str;
    /// Its fields besides the [common ones](COMMON), in the order in which their errors are reported.
    const FIELDS: &'static [FieldSpec];

    /// Reads the fields. `None`: at least one field is invalid, and the reader has noted the errors.
    ///
    /// # Errors
    ///
    /// The body is not valid JSON, so no other error can be reported.
    fn parse(reader: &mut Reader<'_, '_>) -> Result<Option<Self>, FieldErrors>;

    /// Whether channels of this type offer the feature for this kind.
    fn supports(channel: ChannelType, feature: Feature) -> bool;

    /// Adds the values that decide whether two calls of this kind are the same call.
    fn fingerprint<'a>(&'a self, parts: &mut Parts<'a>);

    /// The name of the field in which a message shows its content, and the value: the content as the caller gave it.
    fn shown(&self) -> (&'static str, Value);

    /// The fields that [`shown`](Self::shown) and [`shown_rendition`](Self::shown_rendition) can return, with their
    /// schemas.
    fn shown_schemas() -> Vec<(&'static str, Value)>;

    /// The text that a person reads, if the kind has one.
    fn plain_text(&self) -> Option<&str> {
        None
    }

    /// The cards. They are [rendered](contact::ContactRendition::stored) once, when the message is accepted, with the
    /// accounts of their numbers, as far as these are known. The store keeps the result, so that every attempt sends the
    /// same. A message without cards has no rendition.
    fn cards(&self) -> Vec<Card> {
        Vec::new()
    }

    /// The name and the value of the field in which a message shows its rendition.
    fn shown_rendition(&self, _rendition: &str) -> Option<(&'static str, Value)> {
        None
    }

    /// The part of the body's JSON schema that says which fields a call must have.
    fn needs() -> Value {
        let required = COMMON.iter().chain(Self::FIELDS).filter(|field| field.required).map(|field| field.name);
        json!({"required": required.collect::<Vec<_>>()})
    }

    /// Examples of request bodies for the documentation, the simplest first.
    fn examples() -> Vec<Value>;
}

/// Something that a call can ask for. A channel need not offer it for every kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The kind itself.
    Kind,
    /// A quote of an earlier message.
    ReplyTo,
    /// A time of sending.
    Schedule,
    /// A time to live or a reference. Recado handles both without the network.
    Own,
    /// A preview of the first address in a text.
    LinkPreview,
    /// Several contacts in one message.
    SeveralContacts,
    /// A picture on a card.
    Photo,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 7] =
        [Self::Kind, Self::ReplyTo, Self::Schedule, Self::Own, Self::LinkPreview, Self::SeveralContacts, Self::Photo];
}

/// A kind, as an entry of [`KINDS`].
#[derive(Debug)]
pub struct Kind {
    /// See [`MessageKind::NAME`].
    pub name: &'static str,
    /// The name of the route in the stored uses of idempotency keys. It stays the same when the path of the route
    /// changes.
    pub route: &'static str,
    /// See [`MessageKind::TITLE`].
    pub title: (&'static str, &'static str),
    /// See [`MessageKind::BODY`].
    pub body: &'static str,
    /// See [`MessageKind::FIELDS`].
    pub fields: &'static [FieldSpec],
    /// See [`MessageKind::supports`].
    pub supports: fn(ChannelType, Feature) -> bool,
    /// See [`MessageKind::examples`].
    pub examples: fn() -> Vec<Value>,
    /// See [`MessageKind::shown_schemas`].
    pub shown_schemas: fn() -> Vec<(&'static str, Value)>,
    about: &'static str,
    needs: fn() -> Value,
    parse: fn(&mut Reader<'_, '_>) -> Result<Option<Content>, FieldErrors>,
}

impl Kind {
    const fn of<K: MessageKind>(route: &'static str) -> Self {
        Self {
            name: K::NAME,
            route,
            title: K::TITLE,
            body: K::BODY,
            fields: K::FIELDS,
            supports: K::supports,
            examples: K::examples,
            shown_schemas: K::shown_schemas,
            about: K::ABOUT,
            needs: K::needs,
            parse: |reader| Ok(K::parse(reader)?.map(Into::into)),
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// All fields of a call of this kind, in the order in which their errors are reported.
    pub fn all_fields(&self) -> impl Iterator<Item = &'static FieldSpec> + use<> {
        COMMON.iter().chain(self.fields)
    }

    /// The schema of the request body.
    pub fn body_schema(&self) -> Value {
        let mut schema = json!({"type": "object", "description": self.about});
        let properties = self.all_fields().map(|field| (field.name.to_owned(), (field.schema)()));
        let parts = (self.needs)();
        for (name, part) in parts.as_object().into_iter().flatten() {
            schema[name] = part.clone();
        }
        // The recipient, or a conversation in its place.
        if let Some(required) = schema["required"].as_array_mut() {
            required.retain(|name| name != TO);
        }
        schema["allOf"] = json!([{"oneOf": [{"required": [TO]}, {"required": [CONVERSATION]}]}]);
        schema["additionalProperties"] = false.into();
        schema["properties"] = Value::Object(properties.collect::<Map<_, _>>());
        schema
    }
}

/// What the reading of a body depends on besides the body.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The default country. A number without a `+` may also have the form that is usual within this country.
    pub country: Option<Country>,
    /// The time.
    pub now: Millis,
    /// Whether unknown fields are listed in [`Call::ignored`]. Otherwise the call is refused.
    pub ignores_unknown: bool,
    /// Whether the call can be a repetition, because it has an idempotency key. The `sendAt` of a repetition may have
    /// passed, so the reader does not check whether it is ahead. The caller checks it by [`Common::is_schedulable`]
    /// when it knows that the call is no repetition.
    pub may_repeat: bool,
}

/// A valid call.
#[derive(Debug)]
pub struct Call {
    /// The fields that every kind has.
    pub common: Common,
    /// The content of the message.
    pub content: Content,
    /// The features that the call asks for, each with the name of the field that asks for it.
    pub features: Vec<(Feature, String)>,
    /// The names of the unknown fields, which were ignored.
    pub ignored: Vec<String>,
}

/// The field that names the kind, on the route for all kinds.
pub const TYPE: &str = "type";
/// The field that names the recipient.
pub const TO: &str = "to";

impl Call {
    /// Reads a call of this kind. `named`: the body names its kind, so the field [`TYPE`] is known.
    ///
    /// # Errors
    ///
    /// All invalid fields in the order of [`Kind::all_fields`], and then the unknown fields in the order of the body.
    pub fn parse(kind: &Kind, object: &Object<'_>, named: bool, context: &Context) -> Result<Self, FieldErrors> {
        let mut reader = Reader::new(object, context);
        let common = Common::parse(&mut reader)?;
        let parsed = (kind.parse)(&mut reader)?;
        reader.refuse_others(|name| (named && name == TYPE) || kind.all_fields().any(|field| field.name == name));
        let (mut errors, unknown, features) = reader.finish();
        let mut ignored = Vec::new();
        if context.ignores_unknown {
            ignored = unknown;
        } else {
            unknown.into_iter().for_each(|name| errors.push(name, UNKNOWN));
        }
        match (common, parsed) {
            (Some(common), Some(parsed)) if errors.is_empty() => {
                Ok(Self { common, content: parsed, features, ignored })
            }
            _ => Err(errors),
        }
    }

    /// The kind that a body names.
    ///
    /// # Errors
    ///
    /// The body names no kind, or a kind that does not exist.
    pub fn kind(object: &Object<'_>) -> Result<&'static Kind, FieldErrors> {
        let names = || KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
        let given = object.text(TYPE)?;
        match given.text(TYPE) {
            Err(message) => Err(FieldErrors::one(TYPE, message)),
            Ok(None) => Err(FieldErrors::one(TYPE, format!("O campo {TYPE} e obrigatorio."))),
            Ok(Some(name)) => Kind::named(name)
                .ok_or_else(|| FieldErrors::one(TYPE, format!("O campo {TYPE} deve ser um destes: {}.", names()))),
        }
    }

    /// The fields that ask for a feature that channels of this type do not offer: first [`TO`], if they do not reach such
    /// an address. If they do not offer the kind, this is [`TYPE`] alone.
    pub fn not_supported(&self, channel: ChannelType) -> Vec<&str> {
        let supports = self.content.kind().supports;
        if !supports(channel, Feature::Kind) {
            return vec![TYPE];
        }
        let to = self.common.to.as_ref();
        let unreachable = to.is_some_and(|to| !channel.descriptor().addresses.contains(&to.address.kind()));
        let missing = self.features.iter().filter(|(feature, _)| !supports(channel, *feature));
        unreachable.then_some(TO).into_iter().chain(missing.map(|(_, field)| &**field)).collect()
    }
}

/// The address of a chat, and how the caller wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAddress {
    /// As the caller wrote it, without white space around it.
    pub given: String,
    /// The address that the text means.
    pub address: Address,
}

/// A number and how the caller wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPhone {
    /// As the caller wrote it, without white space around it.
    pub given: String,
    /// The number that the text means.
    pub number: PhoneNumber,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        for (index, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..index].iter().all(|other| other.name != kind.name), "{} twice", kind.name);
            let names: Vec<_> = kind.all_fields().map(|field| field.name).collect();
            let once: std::collections::HashSet<_> = names.iter().collect();
            assert_eq!(once.len(), names.len(), "{names:?}");
            assert!(kind.all_fields().all(|field| !field.flag.contains(char::is_uppercase)), "{names:?}");
            for (place, example) in (kind.examples)().into_iter().enumerate() {
                let text = example.to_string();
                let context = Context { country: None, now: 0, ignores_unknown: false, may_repeat: true };
                let call = Call::parse(kind, &Object::parse(&text).unwrap(), false, &context);
                let call = call.unwrap_or_else(|errors| panic!("{} {place}: {errors:?}", kind.name));
                assert_eq!(call.content.kind().name, kind.name);
                // Serde writes the kind's name as the tag. It reads back what it wrote.
                let stored = serde_json::to_value(&call.content).unwrap();
                assert_eq!(stored[TYPE], kind.name);
                assert_eq!(serde_json::from_value::<Content>(stored).unwrap(), call.content);
                let (field, _) = call.content.shown();
                assert!((kind.shown_schemas)().iter().any(|(name, _)| *name == field), "{field}");
            }
        }
    }

    #[test]
    fn a_body_names_its_kind_or_is_refused() {
        let kind = |body: &str| {
            let object = Object::parse(body).unwrap();
            let kind = Call::kind(&object).map(|kind| kind.name);
            kind.map_err(|errors| errors.as_slice()[0].message.to_string())
        };
        assert_eq!(kind(r#"{"type":"text"}"#), Ok("text"));
        for (body, message) in [
            ("{}", "O campo type e obrigatorio."),
            (r#"{"type":1}"#, "O campo type deve ser uma string."),
            (r#"{"type":"text","type":"text"}"#, "Campo repetido."),
            (r#"{"type":"Text"}"#, "O campo type deve ser um destes: contact, text, location."),
        ] {
            assert_eq!(kind(body), Err(message.to_owned()), "{body}");
        }
    }

    #[test]
    fn an_unsupported_feature_is_named_by_its_field() {
        let body = r#"{"to":"5511999998888","content":"x","linkPreview":true,"reference":"a"}"#;
        let context = Context { country: None, now: 0, ignores_unknown: false, may_repeat: true };
        let kind = Kind::named("text").unwrap();
        let call = Call::parse(kind, &Object::parse(body).unwrap(), false, &context).unwrap();
        assert_eq!(call.not_supported(ChannelType::Sandbox), ["linkPreview"]);
    }

    #[test]
    fn a_channel_reaches_the_addresses_of_its_network() {
        let context = Context { country: None, now: 0, ignores_unknown: false, may_repeat: true };
        let missing = |to: &str, channel| {
            let body = json!({"to": to, "content": "x"}).to_string();
            let call = Call::parse(Kind::named("text").unwrap(), &Object::parse(&body).unwrap(), false, &context);
            call.unwrap().not_supported(channel).first().map(|field| (*field).to_owned())
        };
        for (to, reached_by) in [
            ("5511999998888", [true, true, true]),
            ("BR.1502576394655843", [true, true, false]),
            ("103899771998284@lid", [true, false, true]),
            ("120363041234567890@g.us", [true, false, true]),
        ] {
            let reached = ChannelType::ALL.map(|channel| missing(to, channel) != Some(TO.to_owned()));
            assert_eq!(reached, reached_by, "{to}");
        }
    }
}
