//! What a message says of others: the message that it answers, people, the ad that led to it.

use recado_domain::incoming::{NewIncoming, Quoted, clean};
use serde_json::{Map, Value};
use whatsapp_rust::wacore_binary::Jid;
use whatsapp_rust::waproto::whatsapp as wa;

use super::envelope::{Envelope, network_id};
use super::{content, wrappers};

/// The most people whom a message mentions.
const MENTIONS: usize = 256;
/// The most characters of a text of an ad.
const AD_TEXT: usize = 2_048;

/// Calls a macro with the parts of a message that can have a context.
macro_rules! with_parts {
    ($call:ident) => {
        $call!(
            extended_text_message,
            image_message,
            video_message,
            ptv_message,
            audio_message,
            document_message,
            sticker_message,
            location_message,
            live_location_message,
            contact_message,
            contacts_array_message,
            buttons_message,
            buttons_response_message,
            list_message,
            list_response_message,
            template_message,
            template_button_reply_message,
            interactive_message,
            interactive_response_message,
            poll_creation_message,
            poll_creation_message_v2,
            poll_creation_message_v3,
            poll_creation_message_v5,
            poll_creation_message_v6,
            product_message,
            order_message,
            group_invite_message,
            event_message,
            sticker_pack_message
        )
    };
}

/// The context of a message, in whichever part it is.
pub fn of(message: &wa::Message) -> Option<&wa::ContextInfo> {
    macro_rules! first {
        ($($field:ident),+) => {
            None$(.or_else(|| message.$field.as_option().and_then(|part| part.context_info.as_option())))+
        };
    }
    with_parts!(first)
}

/// Whether a message answers one that may be seen once.
pub fn quotes_view_once(message: &wa::Message) -> bool {
    let quoted = of(message).and_then(|context| context.quoted_message.as_option()).map(wrappers::unwrap);
    quoted.is_some_and(|quoted| is_view_once(&quoted))
}

fn is_view_once(quoted: &wrappers::Unwrapped<'_>) -> bool {
    quoted.is_view_once || content::is_view_once(quoted.message)
}

/// Takes the answered message out of a message.
pub fn forget_quoted(message: &mut wa::Message) {
    macro_rules! each {
        ($($field:ident),+) => {
            {
                $(if let Some(part) = message.$field.as_option_mut()
                    && let Some(context) = part.context_info.as_option_mut()
                {
                    drop(context.quoted_message.take());
                })+
            }
        };
    }
    with_parts!(each);
}

/// The accounts that a message names and that may be hidden.
pub fn named(message: &wa::Message) -> Vec<Jid> {
    let message = wrappers::unwrap(message).message;
    let context = of(message);
    let of_context = context.map(|context| {
        context.mentioned_jid.iter().take(MENTIONS).chain(&context.participant).filter_map(|jid| jid.parse().ok())
    });
    let poll = message.poll_update_message.as_option();
    let poll = poll.and_then(|update| update.poll_creation_message_key.as_option());
    let voted = poll.and_then(|key| key.participant.as_ref().or(key.remote_jid.as_ref())?.parse().ok());
    of_context.into_iter().flatten().chain(voted).collect()
}

/// Gives a message what its context says.
pub fn apply(new: &mut NewIncoming, message: &wa::Message, envelope: &Envelope) {
    let context = of(message);
    let expires = context.and_then(|context| context.expiration);
    new.expires_in_seconds = expires.or(envelope.expires_in_seconds).filter(|seconds| *seconds > 0);
    let Some(context) = context else { return };
    new.reply_to = quoted(context, envelope);
    let mentioned = context.mentioned_jid.iter().take(MENTIONS).filter_map(|jid| jid.parse::<Jid>().ok());
    new.mentions = mentioned.filter_map(|jid| envelope.number_of(&jid)).collect();
    new.forwarded = context.is_forwarded.unwrap_or(false) || context.forwarding_score.unwrap_or(0) > 0;
    new.referral = context.external_ad_reply.as_option().and_then(|ad| referral(context, ad));
}

fn quoted(context: &wa::ContextInfo, envelope: &Envelope) -> Option<Quoted> {
    let id = context.stanza_id.as_deref().filter(|id| !id.is_empty())?;
    let author = context.participant.as_deref().and_then(|jid| jid.parse::<Jid>().ok());
    let unwrapped = context.quoted_message.as_option().map(wrappers::unwrap);
    let readable = unwrapped.filter(|quoted| !is_view_once(quoted));
    let inner = readable.and_then(|quoted| content::read(quoted.message, None));
    Some(Quoted {
        from: author.and_then(|author| envelope.number_of(&author)),
        kind: inner.as_ref().map(|inner| inner.content.name().to_owned()),
        content: inner.map(|inner| inner.text),
        ..Quoted::of_id(network_id(id).as_str())
    })
}

/// The ad that a person clicked to write, under the names that Meta's Cloud API gives its parts. A preview of a link is no
/// ad.
fn referral(context: &wa::ContextInfo, ad: &wa::context_info::ExternalAdReplyInfo) -> Option<Value> {
    let is_ad = ad.ctwa_clid.is_some()
        || ad.source_type.as_deref() == Some("ad")
        || context.entry_point_conversion_source.as_deref() == Some("ctwa_ad");
    if !is_ad {
        return None;
    }
    let mut referral = Map::new();
    let fields = [
        ("source_url", &ad.source_url),
        ("source_id", &ad.source_id),
        ("source_type", &ad.source_type),
        ("headline", &ad.title),
        ("body", &ad.body),
        ("media_url", &ad.media_url),
        ("thumbnail_url", &ad.thumbnail_url),
        ("ctwa_clid", &ad.ctwa_clid),
        ("ref", &ad.r#ref),
        ("source_app", &ad.source_app),
    ];
    for (name, text) in fields {
        if let Some(text) = text.as_deref().and_then(|text| clean(text, AD_TEXT)) {
            referral.insert(name.to_owned(), text.into());
        }
    }
    Some(referral.into())
}
