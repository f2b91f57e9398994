//! The bytes of files that people sent: fetched through the session of the channel, or without one from the network's usual
//! hosts.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use hyper::body::Bytes;
use recado_domain::address::LID;
use recado_domain::channel::ChannelRef;
use recado_domain::event::ChatKind;
use recado_domain::incoming::{Direction, Incoming, Media};
use recado_store::sealed::{Place, ReceivedPart};
use recado_whatsapp_web::{DownloadError, OfMessage, Options, RemoteFile, Session, download_without_session};
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::media::{Download, MediaError};
use crate::whatsapp_web::WhatsAppWeb;

/// Pieces that wait to be stored.
const WAITING: usize = 8;

impl From<DownloadError> for MediaError {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Expired | DownloadError::Gone => Self::Gone,
            DownloadError::Incomplete => Self::Unavailable("the message does not say where the file is"),
            DownloadError::Down => Self::NotConnected,
            DownloadError::Failed => Self::Unavailable("download failed"),
        }
    }
}

/// Who downloads a file.
#[derive(Clone)]
enum Source {
    Session(Arc<Session>),
    /// The channel is not connected on this node.
    Hosts(Options),
}

impl Source {
    async fn download(self, file: RemoteFile, to: mpsc::Sender<Vec<u8>>) -> Result<(), DownloadError> {
        match self {
            Self::Session(session) => session.download(&file, to).await,
            Self::Hosts(options) => download_without_session(&options, &file, to).await,
        }
    }
}

impl WhatsAppWeb {
    /// Begins the download of a file. If the network has lost it, the phone is asked once to upload it again.
    pub(super) async fn fetch(&self, via: &ChannelRef, media: &Media) -> Result<Download, MediaError> {
        let found = self.shared.store.incoming(via.key, media.message).await;
        let message = found.map_err(|_| MediaError::Unavailable("store"))?.ok_or(MediaError::Gone)?;
        let file = self.open_file(&message, media)?;
        let session = self.existing_connection(via.key).and_then(|connection| connection.session());
        let Some(session) = session else {
            let options = self.shared.options.clone();
            // A phone could still upload the file again.
            return begin(Source::Hosts(options), file, media).await.map_err(|error| match error {
                MediaError::Gone => MediaError::NotConnected,
                error => error,
            });
        };
        match begin(Source::Session(session.clone()), file.clone(), media).await {
            Err(MediaError::Gone) => {
                tracing::info!(media.id = %media.id, channel.id = %via.id, "media expired; phone asked to upload it again");
                let file = session.upload_again(&file, of_message(&message)).await?;
                begin(Source::Session(session), file, media).await
            }
            begun => begun,
        }
    }

    /// Decrypts where a file is, and its key.
    fn open_file(&self, message: &Incoming, media: &Media) -> Result<RemoteFile, MediaError> {
        let sealed = media.about.sealed.as_deref().ok_or(MediaError::Gone)?;
        let place =
            Place::Received { channel: message.channel, network_id: &message.network_id, part: ReceivedPart::File };
        let opened = self.shared.secrets.open(place, sealed).map_err(|error| {
            tracing::warn!(media.id = %media.id, %error, "key of media not readable");
            MediaError::Unavailable("key not readable")
        })?;
        RemoteFile::from_bytes(opened.expose_secret()).ok_or(MediaError::Unavailable("key not readable"))
    }
}

/// The message as the phone knows it.
fn of_message(message: &Incoming) -> OfMessage {
    let sender = &message.body.sender;
    let lid = sender.lid.as_ref().map(|lid| format!("{lid}{LID}"));
    OfMessage {
        network_id: message.network_id.clone(),
        chat: message.address.clone(),
        author: sender.phone.clone().or(lid).filter(|_| message.chat == ChatKind::Group),
        is_from_me: message.direction == Direction::Outbound,
    }
}

/// Begins a download, and waits for its first piece.
async fn begin(source: Source, file: RemoteFile, media: &Media) -> Result<Download, MediaError> {
    let sha256 = media.about.sha256.clone();
    let (to, mut pieces) = mpsc::channel(WAITING);
    let running = tokio::spawn(source.download(file, to));
    let Some(first) = pieces.recv().await else {
        ended(running).await?;
        return Ok(Download { size: None, sha256, bytes: stream::empty().boxed() });
    };
    // The pieces end when the download does, and only its result says whether they are right.
    let rest = stream::unfold(Some((pieces, running)), |state| async move {
        let (mut pieces, running): (mpsc::Receiver<Vec<u8>>, _) = state?;
        match pieces.recv().await {
            Some(piece) => Some((Ok(Bytes::from(piece)), Some((pieces, running)))),
            None => ended(running).await.err().map(|error| (Err(error), None)),
        }
    });
    let bytes = stream::once(async { Ok(Bytes::from(first)) }).chain(rest).boxed();
    Ok(Download { size: None, sha256, bytes })
}

async fn ended(running: JoinHandle<Result<(), DownloadError>>) -> Result<(), MediaError> {
    running.await.unwrap_or(Err(DownloadError::Failed)).map_err(MediaError::from)
}
