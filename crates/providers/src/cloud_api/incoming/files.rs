//! Images, videos, recordings, documents and stickers. Their bytes stay at Meta until a caller asks for them.

use base64ct::{Base64, Encoding};
use recado_domain::incoming::{CONTENT_LIMIT, Captioned, Content, NewIncoming, NewMedia, clean, truncate};

use crate::cloud_api::lenient::Object;

/// The most characters of the name of a file.
const FILE_NAME_LIMIT: usize = 255;
/// The most characters of a media id and of a MIME type.
const ID_LIMIT: usize = 128;
/// The type of a file of which Meta names none.
const UNKNOWN_TYPE: &str = "application/octet-stream";

/// A file of this type.
pub(super) fn read(kind: &str, message: &Object<'_>) -> Option<NewIncoming> {
    let file = message.object(kind)?;
    // The id becomes a part of an address.
    let is_id = |id: &str| {
        (1..=ID_LIMIT).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let remote_id = file.text_if("id", is_id)?;
    let is_type =
        |kind: &str| (1..=ID_LIMIT).contains(&kind.len()) && kind.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let (caption, truncated) = match file.filled("caption") {
        Some(caption) => truncate(&caption, CONTENT_LIMIT),
        None => (String::new(), false),
    };
    let captioned = Captioned {
        caption: Some(caption.clone()).filter(|caption| !caption.is_empty()),
        file_name: file.text("filename").and_then(|name| clean(&name, FILE_NAME_LIMIT)),
        ptt: kind == "audio" && file.is("voice"),
        animated: kind == "sticker" && file.is("animated"),
        truncated,
        ..Captioned::default()
    };
    let media = NewMedia {
        mime_type: file.text_if("mime_type", is_type).unwrap_or_else(|| UNKNOWN_TYPE.to_owned()),
        sha256: file.text("sha256").and_then(|hash| digest(&hash)),
        size: file.value("file_size"),
        file_name: captioned.file_name.clone(),
        ptt: captioned.ptt,
        animated: captioned.animated,
        remote_id: Some(remote_id),
        ..NewMedia::default()
    };
    let content = match kind {
        "image" => Content::Image(captioned),
        "video" => Content::Video(captioned),
        "audio" => Content::Audio(captioned),
        "document" => Content::Document(captioned),
        _ => Content::Sticker(captioned),
    };
    Some(NewIncoming { media: Some(media), ..NewIncoming::new(content, caption) })
}

/// The hash in hexadecimal digits: Meta writes it in Base64.
pub(crate) fn digest(text: &str) -> Option<String> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex {
        return Some(text.to_ascii_lowercase());
    }
    let bytes = Base64::decode_vec(text).ok().filter(|bytes| bytes.len() == 32)?;
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}
