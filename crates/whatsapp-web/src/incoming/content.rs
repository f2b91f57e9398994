//! The content of a message: the contract's table.

use recado_domain::incoming::{Content, NewIncoming, Place, clean};
use whatsapp_rust::buffa::MessageField;
use whatsapp_rust::waproto::whatsapp as wa;

use super::{answers, cards, files, others};

/// The most options of a poll. WhatsApp's limit is 12.
const OPTIONS: usize = 100;
/// The most characters of the name or the address of a place.
const LINE: usize = 1_000;
/// The most characters of an address on the web.
const URL: usize = 2_048;

/// The content of an unwrapped message; `None` if there is nothing that a person wrote.
pub fn read(message: &wa::Message, album: Option<&str>) -> Option<NewIncoming> {
    text(message)
        .or_else(|| files::read(message, album))
        .or_else(|| location(message))
        .or_else(|| cards::read(message))
        .or_else(|| answers::read(message))
        .or_else(|| poll(message))
        .or_else(|| others::read(message))
}

/// Whether the message says of itself that it may be seen once only.
pub fn is_view_once(message: &wa::Message) -> bool {
    let flags = [
        message.image_message.as_option().and_then(|file| file.view_once),
        message.video_message.as_option().and_then(|file| file.view_once),
        message.ptv_message.as_option().and_then(|file| file.view_once),
        message.audio_message.as_option().and_then(|file| file.view_once),
        message.extended_text_message.as_option().and_then(|text| text.view_once),
    ];
    flags.into_iter().flatten().any(|flag| flag)
}

/// A message that may be seen once, without its content.
pub fn empty_view_once() -> wa::Message {
    let text = wa::message::ExtendedTextMessage { view_once: Some(true), ..Default::default() };
    wa::Message { extended_text_message: MessageField::some(text), ..wa::Message::default() }
}

fn text(message: &wa::Message) -> Option<NewIncoming> {
    let extended = || message.extended_text_message.as_option().map(|text| text.text.clone().unwrap_or_default());
    let text = message.conversation.clone().or_else(extended)?;
    Some(NewIncoming::new(Content::text(), text))
}

fn location(message: &wa::Message) -> Option<NewIncoming> {
    let line = |text: Option<&String>, limit| text.and_then(|text| clean(text, limit));
    let fits = |latitude: f64, longitude: f64| latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
    if let Some(place) = message.location_message.as_option() {
        let (latitude, longitude) = (place.degrees_latitude?, place.degrees_longitude?);
        if !fits(latitude, longitude) {
            return Some(others::other("location", ""));
        }
        let content = Place {
            latitude,
            longitude,
            name: line(place.name.as_ref(), LINE),
            address: line(place.address.as_ref(), LINE),
            url: line(place.url.as_ref(), URL),
            live: place.is_live.unwrap_or(false),
        };
        let text = place.comment.clone().unwrap_or_default();
        return Some(NewIncoming::new(Content::Location(content), text));
    }
    let place = message.live_location_message.as_option()?;
    // Later points come under other numbers: they are updates of the first one.
    let (latitude, longitude) = (place.degrees_latitude?, place.degrees_longitude?);
    if !fits(latitude, longitude) {
        return Some(others::other("location", ""));
    }
    let content = Place { latitude, longitude, live: true, ..Place::default() };
    Some(NewIncoming::new(Content::Location(content), place.caption.clone().unwrap_or_default()))
}

/// The poll of a message, in any of its versions.
pub fn poll_of(message: &wa::Message) -> Option<&wa::message::PollCreationMessage> {
    let versions = [
        &message.poll_creation_message,
        &message.poll_creation_message_v2,
        &message.poll_creation_message_v3,
        &message.poll_creation_message_v5,
        &message.poll_creation_message_v6,
    ];
    versions.into_iter().find_map(|version| version.as_option())
}

/// The names of the options of a poll, in their order.
pub fn options(poll: &wa::message::PollCreationMessage) -> impl Iterator<Item = &str> {
    poll.options.iter().filter_map(|option| option.option_name.as_deref()).take(OPTIONS)
}

fn poll(message: &wa::Message) -> Option<NewIncoming> {
    let poll = poll_of(message)?;
    let shown = |text: &str| clean(text, LINE).unwrap_or_default();
    let question = shown(poll.name.as_deref().unwrap_or_default());
    // 0: as many as there are.
    let max_selections = poll.selectable_options_count.filter(|count| *count > 0);
    let content = Content::Poll {
        question: question.clone(),
        options: options(poll).map(shown).collect(),
        max_selections,
        results: Vec::new(),
    };
    Some(NewIncoming::new(content, question))
}
