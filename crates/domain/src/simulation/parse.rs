//! Parses the body of a call: it reports every invalid field, or returns an act that cannot be invalid.

use std::ops::RangeInclusive;

use super::emoji::is_emoji;
use super::types::{REPLY_TO, Type, named, names};
use super::{Act, EXPIRED, NO_MEDIA, OF_MEDIA, Simulation, Target};
use crate::address::is_user_id;
use crate::clock::Millis;
use crate::field_errors::{FieldErrors, UNKNOWN};
use crate::ids::MediaId;
use crate::incoming::{Captioned, ChoiceKind, Content, NewMedia, Place, SenderIds, UnsupportedReason};
use crate::json::Object;
use crate::kinds::contact::{Card, Contact, render};
use crate::kinds::location::Location;
use crate::kinds::{Context, MessageKind, PhoneTexts, Reader, Rule};
use crate::time::parse_rfc3339;
use crate::transient::Typing;
use serde_json::{Map, Value};

/// Reads the content of a type; `None` if it added an error.
pub(super) type Parse = fn(&mut Reader<'_, '_>, &'static str) -> Result<Option<Read>, FieldErrors>;

/// An act, and the message that it is about.
pub(super) type Read = (Act, Option<Target>);

pub(super) const TEXT_LIMIT: usize = crate::kinds::text::LIMIT;
pub(super) const CAPTION_LIMIT: usize = 1_024;
pub(super) const FILE_NAME_LIMIT: usize = 255;
pub(super) const TITLE_LIMIT: usize = 256;
pub(super) const QUESTION_LIMIT: usize = 255;
pub(super) const OPTION_LIMIT: usize = 100;
pub(super) const EMOJI_LIMIT: usize = 32;
pub(super) const NAME_LIMIT: usize = 200;
pub(super) const GROUP_LIMIT: usize = 100;
pub(super) const OPTIONS: RangeInclusive<usize> = 2..=12;
pub(super) const REPEAT: RangeInclusive<u32> = 1..=5;
pub(super) const URL_LIMIT: usize = 2_048;
pub(super) const URL: &str = "^https?://[!-~]+$";
pub(super) const MIME_TYPE: &str = "^[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,60}$";
/// Meta's user ids: a country, a dot, letters and digits.
pub(super) const LID: &str = "^[0-9]{1,32}$";
/// What a button belongs to.
pub(super) const CHOICES: [(&str, ChoiceKind); 3] =
    [("BUTTON", ChoiceKind::Button), ("LIST", ChoiceKind::List), ("TEMPLATE", ChoiceKind::Template)];
/// Why a message has no content.
pub(super) const REASONS: [(&str, UnsupportedReason); 3] = [
    ("NETWORK", UnsupportedReason::Network),
    ("VIEW_ONCE", UnsupportedReason::ViewOnce),
    ("UNDECRYPTABLE", UnsupportedReason::Undecryptable),
];

const FROM: PhoneTexts = PhoneTexts {
    missing: "O campo from e obrigatorio.",
    malformed: "O numero do remetente deve estar no formato DDI+DDD+NUM.",
};
const PHONE: PhoneTexts = PhoneTexts {
    missing: "O campo content.phone e obrigatorio.",
    malformed: "O novo numero deve estar no formato DDI+DDD+NUM.",
};
const TEXT: Rule = Rule::lines(TEXT_LIMIT);
const SENT_AT: &str = "O campo sentAt deve ser uma data em RFC 3339.";
/// The earliest time of a message: there was no WhatsApp before it.
const FIRST: Millis = 1_230_768_000_000;

type Parsed<T> = Result<Option<T>, FieldErrors>;

impl Simulation {
    /// Parses a body.
    ///
    /// # Errors
    ///
    /// Every invalid field.
    pub fn parse(object: &Object<'_>, context: &Context) -> Result<Self, FieldErrors> {
        let kind = kind(object)?;
        let mut reader = Reader::new(object, context);
        let person = person(&mut reader)?;
        let act = content(&mut reader, kind)?;
        let channel = reader.of_form(
            "channelId",
            |text| text.parse::<crate::ids::ChannelId>().is_ok(),
            |path| format!("O campo {path} deve ser o id de um canal.").into(),
        )?;
        let group = reader.optional("group", &Rule::line(GROUP_LIMIT))?;
        let reply_to = if kind.answers { reply_to(&mut reader)? } else { Some(None) };
        let sent_at = sent_at(&mut reader, context.now)?;
        let repeat = reader.whole("repeat", REPEAT);
        let out_of_order = reader.flag("outOfOrder");
        let windowed = reader.object().flag("windowed");
        let windowed = reader.collect("windowed", windowed);
        reader.refuse_others(|name| ["type", "content"].contains(&name) || kind.is_beside(name));
        let (mut errors, unknown, _) = reader.finish();
        if !context.ignores_unknown {
            unknown.into_iter().for_each(|name| errors.push(name, UNKNOWN));
        }
        match (person, act, channel, group, reply_to, sent_at, repeat, out_of_order, windowed) {
            (
                Some(person),
                Some((act, target)),
                Some(channel),
                Some(group),
                Some(reply_to),
                Some(sent_at),
                Some(repeat),
                Some(out_of_order),
                Some(windowed),
            ) if errors.is_empty() => Ok(Self {
                person,
                act,
                target: target.or(reply_to),
                channel: channel.and_then(|id| id.parse().ok()),
                group,
                sent_at,
                repeat: repeat.unwrap_or(1),
                out_of_order,
                windowed,
            }),
            _ => Err(errors),
        }
    }
}

/// The type that a body names.
fn kind(object: &Object<'_>) -> Result<&'static Type, FieldErrors> {
    let known = || names().collect::<Vec<_>>().join(", ");
    let given = object.text("type")?;
    match given.text("type") {
        Err(message) => Err(FieldErrors::one("type", message)),
        Ok(None) => Err(FieldErrors::one("type", "O campo type e obrigatorio.")),
        Ok(Some(name)) => named(name)
            .ok_or_else(|| FieldErrors::one("type", format!("O campo type deve ser um destes: {}.", known()))),
    }
}

/// The names of the person. At least one of them must be an identity.
fn person(reader: &mut Reader<'_, '_>) -> Parsed<SenderIds> {
    let of_form = |path: &str| format!("O campo {path} tem um formato invalido.").into();
    let user_id = reader.of_form("userId", is_user_id, of_form)?;
    let lid = reader.of_form("lid", crate::ids::is_account, of_form)?;
    let is_named = [&user_id, &lid].into_iter().any(|name| name.as_ref().is_none_or(Option::is_some));
    let phone = if is_named && reader.given("from")? == Some(None) {
        Some(None)
    } else {
        reader.phone("from", &FROM)?.map(|phone| Some(phone.number.digits().to_owned()))
    };
    let name = reader.optional("name", &Rule::line(NAME_LIMIT))?;
    let (Some(phone), Some(lid), Some(user_id), Some(name)) = (phone, lid, user_id, name) else { return Ok(None) };
    Ok(Some(SenderIds { phone, lid, user_id, username: None, name }))
}

fn content(reader: &mut Reader<'_, '_>, kind: &'static Type) -> Parsed<Read> {
    let read = reader.child("content", |content| {
        let read = (kind.parse)(content, kind.name)?;
        content.refuse_others(|name| kind.has(name));
        Ok(read)
    })?;
    match read {
        Some(Some(read)) => Ok(Some(read)),
        Some(None) if kind.is_plain => Ok(Some((unsupported_for(UnsupportedReason::Network), None))),
        Some(None) => {
            reader.missing("content", None);
            Ok(None)
        }
        None => Ok(None),
    }
}

fn is_id(text: &str) -> bool {
    text.parse::<crate::ids::NetworkId>().is_ok()
}

fn reply_to(reader: &mut Reader<'_, '_>) -> Parsed<Option<Target>> {
    let wrong = |path: &str| format!("O campo {path} contem caracteres invalidos.").into();
    let name = reader.of_form(REPLY_TO, is_id, wrong)?;
    Ok(name.map(|name| name.map(|name| Target { name, field: REPLY_TO })))
}

fn target(reader: &mut Reader<'_, '_>) -> Parsed<Target> {
    let wrong = |path: &str| format!("O campo {path} contem caracteres invalidos.").into();
    match reader.of_form("messageId", is_id, wrong)? {
        Some(Some(name)) => Ok(Some(Target { name, field: "content.messageId" })),
        Some(None) => {
            reader.missing("messageId", None);
            Ok(None)
        }
        None => Ok(None),
    }
}

/// The time of the act. A time in the future becomes the current time.
fn sent_at(reader: &mut Reader<'_, '_>, now: Millis) -> Parsed<Option<Millis>> {
    let given = reader.given("sentAt")?;
    let time = given.map(|text| text.map(|text| parse_rfc3339(&text).ok_or(SENT_AT)).transpose());
    Ok(time.and_then(|time| reader.collect("sentAt", time)).map(|time| time.map(|at| at.clamp(FIRST.min(now), now))))
}

fn say(content: Content, text: impl Into<String>) -> Act {
    Act::Say { content, text: text.into(), media: None, choice: None, echo: false }
}

pub(super) fn text(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    Ok(reader.required("text", &TEXT)?.map(|text| (say(Content::text(), text), None)))
}

pub(super) fn echo(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let text = reader.required("text", &TEXT)?;
    let act = |text| Act::Say { content: Content::text(), text, media: None, choice: None, echo: true };
    Ok(text.map(|text| (act(text), None)))
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http").and_then(|rest| rest.strip_prefix('s').unwrap_or(rest).strip_prefix("://"));
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    text.len() <= URL_LIMIT && rest.is_some_and(plain)
}

fn is_mime_type(text: &str) -> bool {
    let part = |part: &str| {
        (1..=60).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".+-".contains(&byte))
    };
    text.split_once('/').is_some_and(|(kind, of)| part(kind) && part(of))
}

/// Where the bytes of a file are: at a URL, or where those of a received file are.
fn place_of_bytes(reader: &mut Reader<'_, '_>) -> Parsed<String> {
    let not_public = |path: &str| format!("O campo {path} deve ser uma URL publica http ou https.").into();
    let url = reader.of_form("url", is_url, not_public)?;
    let media = reader.of_form("mediaId", |id| id.parse::<MediaId>().is_ok(), |_| NO_MEDIA.into())?;
    Ok(match (url, media) {
        (Some(Some(_)), Some(Some(_))) => {
            reader.only_one_of("mediaId", &["content.url", "content.mediaId"]);
            None
        }
        (Some(None), Some(None)) => {
            reader.missing("url", None);
            None
        }
        (Some(url), Some(media)) => url.or_else(|| media.map(|id| format!("{OF_MEDIA}{id}"))),
        _ => None,
    })
}

pub(super) fn file(reader: &mut Reader<'_, '_>, kind: &'static str) -> Parsed<Read> {
    let of_form = |path: &str| format!("O campo {path} tem um formato invalido.").into();
    let place = place_of_bytes(reader)?;
    let caption = reader.optional("caption", &Rule::lines(CAPTION_LIMIT))?;
    let file_name = reader.optional("fileName", &Rule::line(FILE_NAME_LIMIT))?;
    let mime_type = reader.of_form("mimeType", is_mime_type, of_form)?;
    let ptt = if kind == "audio" { reader.flag("ptt") } else { Some(false) };
    let animated = if kind == "sticker" { reader.flag("animated") } else { Some(false) };
    let expires = reader.flag("expires");
    let (Some(place), Some(caption), Some(file_name), Some(mime_type)) = (place, caption, file_name, mime_type) else {
        return Ok(None);
    };
    let (Some(ptt), Some(animated), Some(expires)) = (ptt, animated, expires) else { return Ok(None) };
    let usual = match kind {
        // The type of the received file.
        _ if place.starts_with(OF_MEDIA) => "",
        "image" => "image/jpeg",
        "video" => "video/mp4",
        "audio" => "audio/ogg",
        "sticker" => "image/webp",
        _ => "application/octet-stream",
    };
    let media = NewMedia {
        mime_type: mime_type.unwrap_or_else(|| usual.to_owned()),
        file_name: file_name.clone(),
        ptt,
        animated,
        remote_id: Some(if expires { format!("{EXPIRED}{place}") } else { place }),
        ..NewMedia::default()
    };
    let text = caption.clone().unwrap_or_default();
    let captioned = Captioned { caption, file_name, ptt, animated, ..Captioned::default() };
    let content = match kind {
        "image" => Content::Image(captioned),
        "video" => Content::Video(captioned),
        "audio" => Content::Audio(captioned),
        "document" => Content::Document(captioned),
        _ => Content::Sticker(captioned),
    };
    Ok(Some((Act::Say { content, text, media: Some(Box::new(media)), choice: None, echo: false }, None)))
}

pub(super) fn location(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let place = Location::parse(reader)?.map(|location| location.location);
    Ok(place.map(|place| {
        let (latitude, longitude) = (place.latitude, place.longitude);
        let (name, address) = (place.name, place.address);
        let content = Content::Location(Place { latitude, longitude, name, address, url: None, live: false });
        (say(content, ""), None)
    }))
}

pub(super) fn contact(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let cards = Contact::parse(reader)?.and_then(|contact| contact.cards().ok());
    Ok(cards.map(|cards| {
        let text = cards.first().map(|card| card.name.clone()).unwrap_or_default();
        let contacts = cards.iter().map(shown).collect();
        let vcards = cards.iter().map(|card| render(card, &[])).collect();
        (say(Content::Contact { contacts, vcards }, text), None)
    }))
}

/// A card as the API shows it.
fn shown(card: &Card) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| value.map(|value| fields.insert(name.to_owned(), value));
    let text = |text: &Option<String>| text.clone().map(Value::String);
    let typed = |name: &str, value: &str, place: &str| serde_json::json!({name: value, "type": place});
    put("name", Some(card.name.clone().into()));
    put("firstName", text(&card.first_name));
    put("lastName", text(&card.last_name));
    put("organization", text(&card.organization));
    put("department", text(&card.department));
    put("title", text(&card.title));
    let list =
        |list: Vec<Value>| Some(Value::Array(list)).filter(|list| list.as_array().is_some_and(|list| !list.is_empty()));
    put("phones", list(card.phones.iter().map(|one| typed("phone", one.number.digits(), one.place.name())).collect()));
    let email =
        |one: &crate::kinds::contact::Email| typed("email", &one.email, one.place.map_or("WORK", |place| place.name()));
    put("emails", list(card.emails.iter().map(email).collect()));
    put("urls", list(card.urls.iter().map(|(url, place)| typed("url", url, place.name())).collect()));
    put("birthday", text(&card.birthday));
    put("addresses", list(card.addresses.iter().filter_map(|address| serde_json::to_value(address).ok()).collect()));
    fields.into()
}

pub(super) fn button(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let title = reader.required("title", &Rule::line(TITLE_LIMIT))?;
    let id = reader.optional("id", &Rule::line(TITLE_LIMIT))?;
    let description = reader.optional("description", &Rule::line(TITLE_LIMIT))?;
    let kind = one_of(reader, "kind", &CHOICES)?;
    let (Some(title), Some(id), Some(description), Some(kind)) = (title, id, description, kind) else {
        return Ok(None);
    };
    let content = Content::Button { id, title: Some(title.clone()), description, data: None };
    let choice = Some(kind.unwrap_or(ChoiceKind::Button));
    Ok(Some((Act::Say { content, text: title, media: None, choice, echo: false }, None)))
}

fn one_of<T: Copy>(reader: &mut Reader<'_, '_>, name: &str, known: &[(&str, T)]) -> Parsed<Option<T>> {
    let find = |text: &str| known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
    let wrong = |path: &str| format!("O campo {path} deve ser um destes: {}.", names.join(", ")).into();
    let given = reader.of_form(name, |text| find(text).is_some(), wrong)?;
    Ok(given.map(|given| given.as_deref().and_then(find)))
}

pub(super) fn poll(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let question = reader.required("question", &Rule::line(QUESTION_LIMIT))?;
    let options = reader.texts("options", OPTIONS, &Rule::line(OPTION_LIMIT));
    let most = u32::try_from(*OPTIONS.end()).unwrap_or(u32::MAX);
    let max_selections = reader.whole("maxSelections", 0..=most);
    let (Some(question), Some(options), Some(max_selections)) = (question, options, max_selections) else {
        return Ok(None);
    };
    let text = question.clone();
    let max_selections = max_selections.or(Some(1));
    Ok(Some((say(Content::Poll { question, options, max_selections, results: Vec::new() }, text), None)))
}

pub(super) fn unsupported(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let reason = one_of(reader, "reason", &REASONS)?;
    Ok(reason.map(|reason| (unsupported_for(reason.unwrap_or(UnsupportedReason::Network)), None)))
}

fn unsupported_for(reason: UnsupportedReason) -> Act {
    say(Content::Unsupported { reason }, "")
}

pub(super) fn reaction(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let target = target(reader)?;
    let wrong = |path: &str| format!("O campo {path} deve ser um unico emoji.").into();
    let emoji = reader.of_form("emoji", |text| is_emoji(text) && text.chars().count() <= EMOJI_LIMIT, wrong)?;
    Ok(target.zip(emoji).map(|(target, emoji)| (Act::React { emoji }, Some(target))))
}

pub(super) fn edit(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let target = target(reader)?;
    let text = reader.required("text", &TEXT)?;
    Ok(target.zip(text).map(|(target, text)| (Act::Edit { text }, Some(target))))
}

pub(super) fn revoke(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    Ok(target(reader)?.map(|target| (Act::Revoke, Some(target))))
}

pub(super) fn vote(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let target = target(reader)?;
    let options = reader.texts("options", 0..=*OPTIONS.end(), &Rule::line(OPTION_LIMIT));
    Ok(target.zip(options).map(|(target, options)| (Act::Vote { options }, Some(target))))
}

pub(super) fn number_change(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let phone = reader.phone("phone", &PHONE)?;
    Ok(phone.map(|phone| (Act::Change { new: SenderIds::of_phone(phone.number.digits()) }, None)))
}

pub(super) fn typing(reader: &mut Reader<'_, '_>, _: &'static str) -> Parsed<Read> {
    let known = Typing::ALL.map(|state| (state.name(), state));
    let state = match one_of(reader, "state", &known)? {
        Some(None) => {
            reader.missing("state", None);
            None
        }
        given => given.flatten(),
    };
    Ok(state.map(|state| (Act::Typing { state }, None)))
}
