//! Kinds of messages without a form of their own: their name, and the text that they have.

use recado_domain::incoming::{CONTENT_LIMIT, Content, NewIncoming, UnsupportedReason, truncate};
use wa::message::template_message::Format;
use whatsapp_rust::waproto::whatsapp as wa;

/// A message of this kind with this text.
pub fn other(kind: &str, text: &str) -> NewIncoming {
    let (text, _) = truncate(text, CONTENT_LIMIT);
    let shown = Some(text.clone()).filter(|text| !text.is_empty());
    NewIncoming::new(Content::Other { kind: kind.to_owned(), text: shown }, text)
}

/// The message, if it is of a known kind, or of an unknown one.
pub fn read(message: &wa::Message) -> Option<NewIncoming> {
    if message.placeholder_message.is_set() {
        return Some(NewIncoming::new(Content::Unsupported { reason: UnsupportedReason::Network }, ""));
    }
    if is_ignored(message) {
        return None;
    }
    if let Some((kind, text)) = named(message).or_else(|| offer(message)).or_else(|| payment(message)) {
        return Some(other(kind, &text));
    }
    // Only what a person writes has a secret; a kind that the library does not know has nothing else.
    let context = message.message_context_info.as_option();
    context.and_then(|context| context.message_secret.as_ref()).map(|_| other("unknown", ""))
}

/// Traffic of the network, and what belongs to chats that are not received.
fn is_ignored(message: &wa::Message) -> bool {
    message.album_message.is_set()
        || message.pin_in_chat_message.is_set()
        || message.keep_in_chat_message.is_set()
        || message.enc_event_response_message.is_set()
        || message.poll_result_snapshot_message.is_set()
        || message.message_history_bundle.is_set()
        || message.message_history_notice.is_set()
        || message.sticker_sync_rmr_message.is_set()
        || message.status_mention_message.is_set()
        || message.group_status_mention_message.is_set()
        || message.group_status_message.is_set()
        || message.group_status_message_v2.is_set()
        || message.status_notification_message.is_set()
        || message.limit_sharing_message.is_set()
        || message.scheduled_call_edit_message.is_set()
}

type Named = Option<(&'static str, String)>;

fn text(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

fn named(message: &wa::Message) -> Named {
    if let Some(invite) = message.group_invite_message.as_option() {
        return Some(("groupInvite", text(invite.caption.as_ref().or(invite.group_name.as_ref()))));
    }
    if let Some(event) = message.event_message.as_option() {
        return Some(("event", text(event.name.as_ref())));
    }
    if let Some(pack) = message.sticker_pack_message.as_option() {
        return Some(("stickerPack", text(pack.caption.as_ref().or(pack.name.as_ref()))));
    }
    if let Some(call) = message.scheduled_call_creation_message.as_option() {
        return Some(("call", text(call.title.as_ref())));
    }
    if let Some(comment) = message.comment_message.as_option() {
        let inner = comment.message.as_option().and_then(|inner| inner.conversation.as_ref());
        return Some(("comment", text(inner)));
    }
    let flags = [
        ("call", message.call.is_set() || message.bcall_message.is_set() || message.call_log_messsage.is_set()),
        ("eventInvite", message.event_invite_message.is_set()),
        ("requestPhoneNumber", message.request_phone_number_message.is_set()),
        ("newsletterInvite", message.newsletter_admin_invite_message.is_set()),
        ("newsletterInvite", message.newsletter_follower_invite_message_v2.is_set()),
        ("botResponse", message.rich_response_message.is_set()),
    ];
    flags.into_iter().find(|(_, is_set)| *is_set).map(|(kind, _)| (kind, String::new()))
}

/// Messages with choices, as businesses send them.
fn offer(message: &wa::Message) -> Named {
    if let Some(buttons) = message.buttons_message.as_option() {
        return Some(("buttons", text(buttons.content_text.as_ref())));
    }
    if let Some(list) = message.list_message.as_option() {
        return Some(("list", text(list.description.as_ref().or(list.title.as_ref()))));
    }
    if let Some(template) = message.template_message.as_option() {
        let hydrated = match &template.format {
            Some(Format::HydratedFourRowTemplate(of)) => Some(&**of),
            _ => template.hydrated_template.as_option(),
        };
        let of_rows = hydrated.and_then(|of| of.hydrated_content_text.as_ref());
        let of_cards = match &template.format {
            Some(Format::InteractiveMessageTemplate(of)) => of.body.as_option().and_then(|body| body.text.as_ref()),
            _ => None,
        };
        return Some(("template", text(of_rows.or(of_cards))));
    }
    if let Some(interactive) = message.interactive_message.as_option() {
        return Some(("interactive", text(interactive.body.as_option().and_then(|body| body.text.as_ref()))));
    }
    message.highly_structured_message.is_set().then(|| ("template", String::new()))
}

fn payment(message: &wa::Message) -> Named {
    let note = |note: Option<&wa::Message>| {
        let text_of = |note: &wa::Message| {
            let extended = note.extended_text_message.as_option().and_then(|text| text.text.clone());
            note.conversation.clone().or(extended)
        };
        note.and_then(text_of).unwrap_or_default()
    };
    if let Some(sent) = message.send_payment_message.as_option() {
        return Some(("payment", note(sent.note_message.as_option())));
    }
    if let Some(asked) = message.request_payment_message.as_option() {
        return Some(("payment", note(asked.note_message.as_option())));
    }
    if let Some(invoice) = message.invoice_message.as_option() {
        return Some(("payment", text(invoice.note.as_ref())));
    }
    let is_payment = message.decline_payment_request_message.is_set()
        || message.cancel_payment_request_message.is_set()
        || message.payment_invite_message.is_set()
        || message.payment_reminder_message.is_set()
        || message.split_payment_message.is_set();
    is_payment.then(|| ("payment", String::new()))
}
