//! Images, videos, recordings, documents and stickers. Their bytes stay at the network until a caller asks for them.

use base64ct::{Base64, Encoding};
use recado_domain::hex::hex;
use recado_domain::incoming::{CONTENT_LIMIT, Captioned, Content, NewIncoming, NewMedia, clean, truncate};
use serde::{Deserialize, Serialize};
use whatsapp_rust::waproto::whatsapp as wa;

/// The most characters of the name of a file.
const FILE_NAME_LIMIT: usize = 255;
/// The most characters of a MIME type.
const TYPE_LIMIT: usize = 128;
/// The type of a file of which the network names none.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// The most characters of an address at the network.
const ADDRESS_LIMIT: usize = 2_048;

/// Where a file is, and the key that decrypts it. It is secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteFile {
    /// `image`, `video`, `audio`, `document` or `sticker`: keys are derived by kind.
    pub kind: String,
    /// The path on the network's media hosts.
    pub path: Option<String>,
    pub url: Option<String>,
    /// In Base64, as the hashes.
    pub key: String,
    /// The hash of the encrypted bytes.
    pub enc_sha256: Option<String>,
    pub sha256: Option<String>,
    pub size: Option<u64>,
}

/// The key must not reach a log.
impl std::fmt::Debug for RemoteFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RemoteFile")
    }
}

impl RemoteFile {
    /// As it is stored, in `sealed` of the file of a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// What the forms of a file have in common.
#[derive(Default)]
struct File<'a> {
    kind: &'static str,
    mime_type: Option<&'a str>,
    caption: Option<&'a str>,
    name: Option<&'a str>,
    sha256: Option<&'a Vec<u8>>,
    enc_sha256: Option<&'a Vec<u8>>,
    key: Option<&'a Vec<u8>>,
    path: Option<&'a str>,
    url: Option<&'a str>,
    size: Option<u64>,
    width: Option<u32>,
    height: Option<u32>,
    seconds: Option<u32>,
    ptt: bool,
    video_note: bool,
    animated: bool,
}

/// The fields that every form of a file has.
macro_rules! common {
    ($kind:literal, $file:ident) => {
        File {
            kind: $kind,
            mime_type: $file.mimetype.as_deref(),
            sha256: $file.file_sha256.as_ref(),
            enc_sha256: $file.file_enc_sha256.as_ref(),
            key: $file.media_key.as_ref(),
            path: $file.direct_path.as_deref(),
            url: $file.url.as_deref(),
            size: $file.file_length,
            ..File::default()
        }
    };
}

/// The file of a message.
pub fn read(message: &wa::Message, album: Option<&str>) -> Option<NewIncoming> {
    let file = picture(message).or_else(|| recording(message))?;
    let (caption, truncated) = truncate(file.caption.unwrap_or_default(), CONTENT_LIMIT);
    let captioned = Captioned {
        caption: Some(caption.clone()).filter(|caption| !caption.is_empty()),
        file_name: file.name.and_then(|name| clean(name, FILE_NAME_LIMIT)),
        ptt: file.ptt,
        video_note: file.video_note,
        animated: file.animated,
        album_id: album.map(|album| truncate(album, TYPE_LIMIT).0),
        truncated,
    };
    let media = media(&file, captioned.file_name.clone());
    let content = match file.kind {
        "image" => Content::Image(captioned),
        "video" => Content::Video(captioned),
        "audio" => Content::Audio(captioned),
        "document" => Content::Document(captioned),
        _ => Content::Sticker(captioned),
    };
    Some(NewIncoming { media: Some(media), ..NewIncoming::new(content, caption) })
}

fn picture(message: &wa::Message) -> Option<File<'_>> {
    if let Some(file) = message.image_message.as_option() {
        let (width, height) = (file.width, file.height);
        return Some(File { caption: file.caption.as_deref(), width, height, ..common!("image", file) });
    }
    let video_note = message.ptv_message.is_set();
    if let Some(file) = message.video_message.as_option().or_else(|| message.ptv_message.as_option()) {
        let (width, height, seconds) = (file.width, file.height, file.seconds);
        let animated = file.gif_playback.unwrap_or(false);
        let sized = File { width, height, seconds, video_note, animated, ..common!("video", file) };
        return Some(File { caption: file.caption.as_deref(), ..sized });
    }
    let file = message.sticker_message.as_option()?;
    let animated = file.is_animated.unwrap_or(false) || file.is_lottie.unwrap_or(false);
    Some(File { width: file.width, height: file.height, animated, ..common!("sticker", file) })
}

fn recording(message: &wa::Message) -> Option<File<'_>> {
    if let Some(file) = message.audio_message.as_option() {
        return Some(File { seconds: file.seconds, ptt: file.ptt.unwrap_or(false), ..common!("audio", file) });
    }
    let file = message.document_message.as_option()?;
    let name = file.file_name.as_deref().or(file.title.as_deref());
    Some(File { caption: file.caption.as_deref(), name, ..common!("document", file) })
}

fn media(file: &File<'_>, file_name: Option<String>) -> NewMedia {
    let is_type =
        |kind: &&str| (1..=TYPE_LIMIT).contains(&kind.len()) && kind.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    NewMedia {
        mime_type: file.mime_type.filter(is_type).unwrap_or(UNKNOWN_TYPE).to_owned(),
        size: file.size,
        sha256: file.sha256.filter(|hash| hash.len() == 32).map(|hash| hex(hash)),
        file_name,
        width: file.width.filter(|width| *width > 0),
        height: file.height.filter(|height| *height > 0),
        duration_seconds: file.seconds,
        ptt: file.ptt,
        animated: file.animated,
        remote_id: None,
        sealed: remote(file).map(|remote| remote.to_bytes()),
    }
}

/// Where the file is; `None` if the network does not say, or says something of an odd form.
fn remote(file: &File<'_>) -> Option<RemoteFile> {
    let encoded = |bytes: &Vec<u8>| (bytes.len() == 32).then(|| Base64::encode_string(bytes));
    let address = |text: &&str| (1..=ADDRESS_LIMIT).contains(&text.len());
    Some(RemoteFile {
        kind: file.kind.to_owned(),
        path: file.path.filter(address).map(str::to_owned),
        url: file.url.filter(address).map(str::to_owned),
        key: encoded(file.key?)?,
        enc_sha256: file.enc_sha256.and_then(encoded),
        sha256: file.sha256.and_then(encoded),
        size: file.size,
    })
}
