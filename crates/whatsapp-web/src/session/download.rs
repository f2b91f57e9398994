//! Downloads files that people sent. The network has them encrypted; the library decrypts the bytes as they come, and verifies
//! all of them at the end.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use tokio::sync::mpsc;
use whatsapp_rust::anyhow;
use whatsapp_rust::download::{DownloadParams, DownloadWriter, MediaDownloader, MediaType};
use whatsapp_rust::error::ErrorChainExt;
use whatsapp_rust::features::{MediaRetryResult, MediaReuploadError, MediaReuploadRequest};
use whatsapp_rust::wacore_binary::Jid;

use super::bounded::within;
use super::{Session, network, tasks};
use crate::{Options, RemoteFile};

/// The time limit for a whole download.
const DOWNLOAD: Duration = Duration::from_mins(11);
/// The time limit for asking the phone. The library waits 30 seconds for its answer.
const REUPLOAD: Duration = Duration::from_secs(40);
/// The bytes of one piece.
const PIECE: usize = 16 << 10;

/// Why a file does not come. The texts contain nothing of a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The network has no file at the path any more.
    #[error("the network has no file at the path")]
    Expired,
    /// The phone was asked, and did not upload the file again.
    #[error("the phone did not upload the file again")]
    Gone,
    /// What is known of the file is not enough to download it.
    #[error("the file has no path or no key")]
    Incomplete,
    #[error("the session is disconnected")]
    Down,
    #[error("the download failed")]
    Failed,
}

/// The message of a file, for asking the phone.
#[derive(Clone, Debug)]
pub struct OfMessage {
    pub network_id: String,
    /// The address of the chat: digits, `N@lid` or `N@g.us`.
    pub chat: String,
    /// The address of the author, in a group.
    pub author: Option<String>,
    pub is_from_me: bool,
}

impl Session {
    /// Downloads a file, and passes the bytes on in pieces. They are right only if this returns `Ok`.
    pub async fn download(&self, file: &RemoteFile, to: mpsc::Sender<Vec<u8>>) -> Result<(), DownloadError> {
        if !self.is_up() {
            return Err(DownloadError::Down);
        }
        let (client, file) = (Arc::clone(&self.client), params(file)?);
        let done = within(DOWNLOAD, async move { client.download_to_writer(&file, Pipe::new(to)).await }).await;
        done.map_err(|_| DownloadError::Failed)?.map(drop).map_err(|error| failure(&error))
    }

    /// Asks the phone to upload a file again. Returns where it is then.
    pub async fn upload_again(&self, file: &RemoteFile, of: OfMessage) -> Result<RemoteFile, DownloadError> {
        if !self.is_up() {
            return Err(DownloadError::Down);
        }
        let key = Base64::decode_vec(&file.key).map_err(|_| DownloadError::Incomplete)?;
        let chat = jid(&of.chat).ok_or(DownloadError::Incomplete)?;
        let author = of.author.as_deref().and_then(jid);
        let client = Arc::clone(&self.client);
        let asked = within(REUPLOAD, async move {
            let request = MediaReuploadRequest {
                msg_id: &of.network_id,
                chat_jid: &chat,
                media_key: &key,
                is_from_me: of.is_from_me,
                participant: author.as_ref(),
            };
            client.media_reupload().request(&request).await
        });
        match asked.await {
            Ok(Ok(MediaRetryResult::Success { direct_path })) => {
                Ok(RemoteFile { path: Some(direct_path), ..file.clone() })
            }
            Ok(Err(MediaReuploadError::Client(_) | MediaReuploadError::NotLoggedIn)) => Err(DownloadError::Down),
            Ok(_) => Err(DownloadError::Gone),
            Err(_) => Err(DownloadError::Failed),
        }
    }
}

/// Downloads a file without a session, from the network's usual hosts.
pub async fn download_without_session(
    options: &Options,
    file: &RemoteFile,
    to: mpsc::Sender<Vec<u8>>,
) -> Result<(), DownloadError> {
    let endpoint = options.endpoint().map_err(|_| DownloadError::Down)?.map(str::to_owned);
    let (file, tasks) = (params(file)?, Arc::new(tasks::Tasks::new()));
    let _ending = tasks.end_when_dropped();
    let http = Arc::new(network::Files::new(endpoint.as_deref()));
    let done = within(DOWNLOAD, async move {
        let downloader = MediaDownloader::with_default_hosts(http, Arc::new(tasks::Spawner(tasks)));
        downloader.download_to_writer(&file, Pipe::new(to)).await
    });
    done.await.map_err(|_| DownloadError::Failed)?.map(drop).map_err(|error| match error {
        whatsapp_rust::download::MediaDownloadError::ReferenceRejected(_) => DownloadError::Expired,
        _ => DownloadError::Failed,
    })
}

/// A file as the library downloads it. Only the path is used, and not the URL: a person could name any host in it.
fn params(file: &RemoteFile) -> Result<DownloadParams, DownloadError> {
    let media_type = match &*file.kind {
        "image" => MediaType::Image,
        "video" => MediaType::Video,
        "audio" => MediaType::Audio,
        "document" => MediaType::Document,
        "sticker" => MediaType::Sticker,
        _ => return Err(DownloadError::Incomplete),
    };
    let bytes = |text: &Option<String>| text.as_deref().and_then(|text| Base64::decode_vec(text).ok());
    let key = Base64::decode_vec(&file.key).ok().filter(|key| key.len() == 32).ok_or(DownloadError::Incomplete)?;
    // Behind a slash nothing can become a part of the host.
    let path = file.path.as_deref().filter(|path| is_path(path)).ok_or(DownloadError::Incomplete)?;
    let (sha256, enc) = (bytes(&file.sha256).unwrap_or_default(), bytes(&file.enc_sha256).unwrap_or_default());
    Ok(DownloadParams::encrypted(path, &key, &sha256, &enc, file.size.unwrap_or_default(), media_type))
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.starts_with("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

/// An address as the network names it.
fn jid(address: &str) -> Option<Jid> {
    match address.split_once('@') {
        None => address.bytes().all(|byte| byte.is_ascii_digit()).then(|| Jid::pn(address)),
        Some(_) => address.parse().ok(),
    }
}

fn failure(error: &anyhow::Error) -> DownloadError {
    let error: &(dyn std::error::Error + Send + Sync + 'static) = error.as_ref();
    match error.http_status() {
        Some(404 | 410) => DownloadError::Expired,
        _ => DownloadError::Failed,
    }
}

/// Passes bytes on to a task. Bytes that were passed on cannot be taken back, so a download that has to begin again fails.
struct Pipe {
    to: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    passed_on: bool,
}

impl Pipe {
    fn new(to: mpsc::Sender<Vec<u8>>) -> Self {
        Self { to, piece: Vec::with_capacity(PIECE), passed_on: false }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.passed_on = true;
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        // Called on a thread that may wait.
        self.to.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..fits]);
        if self.piece.len() == PIECE {
            self.pass_on()?;
        }
        Ok(fits)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Pipe {
    /// The library rewinds before it writes, and when all is written and verified.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if to != SeekFrom::Start(0) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.pass_on().map(|()| 0)
    }
}

impl DownloadWriter for Pipe {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if length != 0 || self.passed_on {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.piece.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: Option<&str>, key: &str) -> RemoteFile {
        let hash = Some(Base64::encode_string(&[1; 32]));
        RemoteFile {
            kind: "image".to_owned(),
            path: path.map(str::to_owned),
            url: Some("https://evil.example/x".to_owned()),
            key: key.to_owned(),
            enc_sha256: hash.clone(),
            sha256: hash,
            size: Some(3),
        }
    }

    #[test]
    fn a_person_cannot_name_the_host_of_a_file() {
        let key = Base64::encode_string(&[7; 32]);
        assert!(params(&file(Some("/v/t62.7118-24/1_n.enc?ccb=11-4&oh=a"), &key)).is_ok());
        for path in
            ["", "v/1", "@evil.example/1", "//evil.example/1", "/\\evil.example", "/a b", "/a\r\nHost: b", ".evil/"]
        {
            assert!(matches!(params(&file(Some(path), &key)), Err(DownloadError::Incomplete)), "{path}");
        }
        assert!(params(&file(None, &key)).is_err(), "the URL alone is not used");
        assert!(params(&file(Some("/v/1"), "AAAA")).is_err(), "no key");
    }

    #[tokio::test]
    async fn bytes_are_passed_on_once_and_the_last_ones_when_they_are_verified() {
        let (to, mut pieces) = mpsc::channel(8);
        let written = tokio::task::spawn_blocking(move || {
            let mut pipe = Pipe::new(to);
            pipe.truncate(0).and_then(|()| pipe.rewind()).expect("an empty pipe can begin");
            pipe.write_all(&[1; 10]).expect("written");
            pipe.truncate(0).expect("nothing was passed on yet");
            pipe.write_all(&vec![2; PIECE + 5]).expect("written");
            assert!(pipe.truncate(0).is_err(), "a piece was passed on");
            pipe
        });
        let mut pipe = written.await.expect("written");
        assert_eq!(pieces.recv().await.map(|piece| (piece.len(), piece[0])), Some((PIECE, 2)));
        assert!(pieces.try_recv().is_err(), "the rest waits for the end");
        tokio::task::spawn_blocking(move || pipe.rewind()).await.expect("a thread").expect("the end");
        assert_eq!(pieces.recv().await.map(|piece| piece.len()), Some(5));
        assert_eq!(pieces.recv().await, None);
    }
}
