//! Messages in messages.

use wa::message_association::AssociationType;
use whatsapp_rust::waproto::whatsapp as wa;

/// The most wrappers that are opened.
const DEPTH: usize = 12;

/// The innermost message, and what its wrappers say of it.
pub struct Unwrapped<'a> {
    pub message: &'a wa::Message,
    pub is_view_once: bool,
    /// The id of the album to which it belongs.
    pub album: Option<&'a str>,
    /// Whether it is another rendition of a file that came before, such as the same picture in a higher resolution.
    pub is_repeated: bool,
}

pub fn unwrap(message: &wa::Message) -> Unwrapped<'_> {
    let mut unwrapped = Unwrapped { message, is_view_once: false, album: None, is_repeated: false };
    for _ in 0..=DEPTH {
        unwrapped.note_association();
        let Some((inner, is_view_once)) = inner(unwrapped.message) else { break };
        unwrapped.message = inner;
        unwrapped.is_view_once |= is_view_once;
    }
    unwrapped
}

impl Unwrapped<'_> {
    fn note_association(&mut self) {
        let context = self.message.message_context_info.as_option();
        let Some(association) = context.and_then(|context| context.message_association.as_option()) else { return };
        match association.association_type {
            Some(AssociationType::MEDIA_ALBUM) => {
                let parent = association.parent_message_key.as_option();
                self.album = parent.and_then(|key| key.id.as_deref()).or(self.album);
            }
            Some(
                AssociationType::HD_VIDEO_DUAL_UPLOAD
                | AssociationType::HD_IMAGE_DUAL_UPLOAD
                | AssociationType::HEVC_VIDEO_DUAL_UPLOAD
                | AssociationType::MOTION_PHOTO,
            ) => self.is_repeated = true,
            _ => {}
        }
    }
}

/// The message in a wrapper, and whether it may be seen once only.
fn inner(message: &wa::Message) -> Option<(&wa::Message, bool)> {
    if let Some(sent) = message.device_sent_message.as_option() {
        return Some((sent.message.as_option()?, false));
    }
    let once = [&message.view_once_message, &message.view_once_message_v2, &message.view_once_message_v2_extension];
    let plain = [
        &message.ephemeral_message,
        &message.document_with_caption_message,
        &message.edited_message,
        &message.lottie_sticker_message,
        &message.associated_child_message,
        &message.group_mentioned_message,
        &message.bot_invoke_message,
        &message.bot_forwarded_message,
        &message.question_message,
        &message.question_reply_message,
        &message.spoiler_message,
        &message.event_cover_image,
        &message.poll_creation_option_image_message,
        &message.poll_creation_message_v4,
    ];
    let all = once.into_iter().map(|field| (field, true)).chain(plain.into_iter().map(|field| (field, false)));
    let mut found = all.filter_map(|(field, is_once)| Some((field.as_option()?.message.as_option()?, is_once)));
    found.next()
}
