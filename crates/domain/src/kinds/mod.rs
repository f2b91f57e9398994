//! The kinds of messages. One file holds all that there is to know of a kind, except how each network writes it: the
//! networks match on [`Content`], so that the compiler names every mapping that a new kind lacks.
//!
//! A new kind is a file here with a type that implements [`MessageKind`], and its line in the table below. Routes, the
//! OpenAPI document, the command line and CSV columns follow from the table.

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

use crate::channel::ChannelType;
use crate::clock::Millis;
use crate::field_errors::{FieldErrors, UNKNOWN};
use crate::json::Object;
use crate::phone::{Country, PhoneNumber};

pub use common::{COMMON, Common, NOT_OF_THIS_CHAT};
pub use field::{FieldSpec, Form};
pub use fingerprint::Parts;
pub use reader::{Reader, Rule};

macro_rules! kinds {
    ($($module:ident::$kind:ident,)*) => {
        /// What a message carries, by its kind; tagged with the kind's name where it is stored.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "lowercase")]
        pub enum Content {
            $(
                #[doc = concat!("Of the kind `", stringify!($module), "`.")]
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

            /// See [`MessageKind::numbers`].
            pub fn numbers(&self) -> Vec<Vec<PhoneNumber>> {
                match self {
                    $(Self::$kind(content) => content.numbers(),)*
                }
            }

            /// See [`MessageKind::render`].
            pub fn render(&self, named: &[Vec<Option<String>>]) -> Option<String> {
                match self {
                    $(Self::$kind(content) => MessageKind::render(content, named),)*
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

/// What a kind of message says of itself.
pub trait MessageKind: Serialize + DeserializeOwned + Into<Content> {
    /// The kind's name: `type` of a message, and the end of its route.
    const NAME: &'static str;
    /// The title of its route, and the route's id for generated clients.
    const TITLE: (&'static str, &'static str);
    /// The name of its body's schema.
    const BODY: &'static str;
    /// What the body is, in a sentence or some.
    const ABOUT: &'static str;
    /// Its fields besides the [common ones](COMMON), in the order in which their errors are reported.
    const FIELDS: &'static [FieldSpec];

    /// Reads the fields. `None`: some are faulty, and noted.
    ///
    /// # Errors
    ///
    /// The body is no JSON, so that nothing else can be said of it.
    fn parse(reader: &mut Reader<'_, '_>) -> Result<Option<Self>, FieldErrors>;

    /// Whether channels of this type offer the feature for this kind.
    fn supports(channel: ChannelType, feature: Feature) -> bool;

    /// What makes two messages of this kind the same.
    fn fingerprint<'a>(&'a self, parts: &mut Parts<'a>);

    /// The field of a message that shows the content, and the content as it was given.
    fn shown(&self) -> (&'static str, Value);

    /// The fields that [`shown`](Self::shown) may name, with their schemas.
    fn shown_schemas() -> Vec<(&'static str, Value)>;

    /// The text that a person reads, where the kind has one.
    fn plain_text(&self) -> Option<&str> {
        None
    }

    /// The numbers whose accounts stand in what is sent, card by card.
    fn numbers(&self) -> Vec<Vec<PhoneNumber>> {
        Vec::new()
    }

    /// What is rendered once and stored, so that every attempt sends the same; `named` are the accounts that the network
    /// named for the [`numbers`](Self::numbers). `None`: the content is enough.
    fn render(&self, _named: &[Vec<Option<String>>]) -> Option<String> {
        None
    }

    /// What a message shows of its rendition: a field that [`shown_schemas`](Self::shown_schemas) names.
    fn shown_rendition(&self, _rendition: &str) -> Option<(&'static str, Value)> {
        None
    }

    /// Which fields must be there, as a schema says it.
    fn needs() -> Value {
        let required = COMMON.iter().chain(Self::FIELDS).filter(|field| field.required).map(|field| field.name);
        json!({"required": required.collect::<Vec<_>>()})
    }

    /// Bodies for the documentation, the simplest first.
    fn examples() -> Vec<Value>;
}

/// What a call can ask for that not every channel offers for every kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The kind itself.
    Kind,
    /// A quote of an earlier message.
    ReplyTo,
    /// A time of sending.
    Schedule,
    /// A time to live, a reference: the network is not involved.
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

/// A kind, as the table holds it.
#[derive(Debug)]
pub struct Kind {
    /// See [`MessageKind::NAME`].
    pub name: &'static str,
    /// The name of its route where uses of idempotency keys are kept; it outlives changes of the path.
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

    /// All fields of its call, in the order in which their errors are reported.
    pub fn all_fields(&self) -> impl Iterator<Item = &'static FieldSpec> + use<> {
        COMMON.iter().chain(self.fields)
    }

    /// The schema of its body.
    pub fn body_schema(&self) -> Value {
        let mut schema = json!({"type": "object", "description": self.about});
        let properties = self.all_fields().map(|field| (field.name.to_owned(), (field.schema)()));
        let parts = (self.needs)();
        for (name, part) in parts.as_object().into_iter().flatten() {
            schema[name] = part.clone();
        }
        schema["additionalProperties"] = false.into();
        schema["properties"] = Value::Object(properties.collect::<Map<_, _>>());
        schema
    }
}

/// What a body is read with.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Numbers without a `+` are read as they are written within this country, too.
    pub country: Option<Country>,
    /// The time.
    pub now: Millis,
    /// Fields that the call does not know are named instead of refused.
    pub ignores_unknown: bool,
    /// The call can be a repetition, so that its `sendAt` may have passed: that is asked of
    /// [`Common::is_schedulable`] once it is known to be none.
    pub may_repeat: bool,
}

/// A valid call.
#[derive(Debug)]
pub struct Call {
    /// What every kind has.
    pub common: Common,
    /// What is sent.
    pub content: Content,
    /// What it asks of a channel, with the fields that ask for it.
    pub features: Vec<(Feature, String)>,
    /// Fields that were left out because the call does not know them.
    pub ignored: Vec<String>,
}

/// The field that names the kind where the route does not.
pub const TYPE: &str = "type";

impl Call {
    /// Reads a call of this kind. `named`: the body names its kind.
    ///
    /// # Errors
    ///
    /// Every faulty field, in the order of the fields; then the unknown ones.
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
    /// It names none, or one that does not exist.
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

    /// What a channel of this type does not offer of what the call asks for: the fields that ask for it.
    pub fn not_supported(&self, channel: ChannelType) -> Vec<&str> {
        let supports = self.content.kind().supports;
        if !supports(channel, Feature::Kind) {
            return vec![TYPE];
        }
        let missing = self.features.iter().filter(|(feature, _)| !supports(channel, *feature));
        missing.map(|(_, field)| &**field).collect()
    }
}

/// A number and how the caller wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPhone {
    /// As the caller wrote it, without white space around it.
    pub given: String,
    /// What it means.
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
                // The tag that serde writes is the kind's name, and what is stored is read again.
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
    fn what_a_channel_does_not_offer_is_named_by_its_field() {
        let body = r#"{"to":"5511999998888","content":"x","linkPreview":true,"reference":"a"}"#;
        let context = Context { country: None, now: 0, ignores_unknown: false, may_repeat: true };
        let kind = Kind::named("text").unwrap();
        let call = Call::parse(kind, &Object::parse(body).unwrap(), false, &context).unwrap();
        assert_eq!(call.not_supported(ChannelType::Sandbox), ["linkPreview"]);
    }
}
