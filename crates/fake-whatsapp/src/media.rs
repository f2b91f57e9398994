//! The media host: encrypted files, which clients upload and download over HTTP. It has the address of the network itself,
//! so that a client on loopback finds it under every name. Paths and answers as in `wacore::download`, and in Baileys.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use rand::Rng as _;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use wacore::crypto::hkdf_sha256_into;
use wacore::download::MediaType;
use wacore::libsignal::crypto::aes_256_gcm_encrypt;
use wacore::upload::encrypt_media;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};
use waproto::buffa::Message as _;
use waproto::whatsapp::media_retry_notification::ResultType;
use waproto::whatsapp::{self as wa, MediaRetryNotification};

use crate::clock::unix_seconds;
use crate::faults::Reupload;
use crate::network::{Network, Slot, State, rng};
use crate::stanza::attr;

/// The token of every client.
const TOKEN: &str = "recado-test";
/// As in `WAWebCryptoMediaRetry`.
const RETRY_KEY: &[u8] = b"WhatsApp Media Retry Notification";

/// The files of the media host.
#[derive(Default)]
pub struct Files {
    /// By path, without the query.
    kept: HashMap<String, Bytes>,
    /// What was lost, for phones that upload it again.
    lost: HashMap<String, Bytes>,
    /// The count of answered downloads by path.
    pub downloads: BTreeMap<String, u64>,
    last: u64,
}

/// A file of a phone on the media host: what a message says of it.
#[derive(Clone, Debug)]
pub struct Uploaded {
    pub url: String,
    pub direct_path: String,
    pub media_key: Vec<u8>,
    pub file_sha256: Vec<u8>,
    pub file_enc_sha256: Vec<u8>,
    pub file_length: u64,
}

fn path(direct_path: &str) -> &str {
    direct_path.split('?').next().unwrap_or_default()
}

impl Files {
    /// Keeps a file, and returns its path.
    pub fn add(&mut self, encrypted: Bytes) -> String {
        self.last += 1;
        let path = format!("/v/t62.7118-24/{}_n.enc", self.last);
        self.kept.insert(path.clone(), encrypted);
        format!("{path}?ccb=11-4&oh=01_Q5Aa{}&oe=69E0A1B2&_nc_sid=5e03e0", self.last)
    }

    /// Keeps a file of a phone.
    pub fn upload(&mut self, plain: &[u8], kind: MediaType) -> Result<Uploaded> {
        let media = encrypt_media(plain, kind)?;
        let direct_path = self.add(media.data_to_upload.into());
        Ok(Uploaded {
            url: format!("https://mmg.whatsapp.net{direct_path}"),
            direct_path,
            media_key: media.media_key.to_vec(),
            file_sha256: media.file_sha256.to_vec(),
            file_enc_sha256: media.file_enc_sha256.to_vec(),
            file_length: plain.len() as u64,
        })
    }

    /// Loses every file; a phone can upload it again.
    pub fn lose_all(&mut self) {
        self.lost.extend(self.kept.drain());
    }

    fn find_again(&mut self, direct_path: &str) -> Option<String> {
        let path = path(direct_path);
        let file = self.kept.get(path).or_else(|| self.lost.get(path)).cloned()?;
        Some(self.add(file))
    }
}

/// The connections of clients that speak HTTP.
pub struct Callers(pub UnboundedReceiver<(TcpStream, SocketAddr)>, pub SocketAddr);

impl Listener for Callers {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        match self.0.recv().await {
            Some(caller) => caller,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.1)
    }
}

/// Serves the files of a network.
pub async fn serve(network: Arc<Network>, callers: Callers) {
    let router = Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(network);
    if let Err(error) = axum::serve(callers, router).await {
        tracing::warn!(%error, "the media host ended");
    }
}

async fn answer(Shared(network): Shared<Arc<Network>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let (delay, status) = {
        let faults = &network.lock().faults;
        (faults.media_delay, faults.media_status)
    };
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    if let Some(status) = status {
        return StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR).into_response();
    }
    let files = &mut network.lock().files;
    if method == Method::POST {
        let direct_path = files.add(body);
        let answer = json!({ "url": format!("https://mmg.whatsapp.net{direct_path}"), "direct_path": direct_path });
        return ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response();
    }
    let path = uri.path();
    *files.downloads.entry(path.to_owned()).or_default() += 1;
    match (files.kept.get(path), files.lost.contains_key(path)) {
        (Some(file), _) => file.clone().into_response(),
        (None, true) => StatusCode::GONE.into_response(),
        (None, false) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Where clients upload and download: `media_conn`.
pub fn hosts(address: &str) -> Node {
    let host = NodeBuilder::new("host").attr("hostname", address).attr("type", "primary").build();
    let all = NodeBuilder::new("media_conn").attr("auth", TOKEN).attr("ttl", "3600").attr("auth_ttl", "3600");
    all.attr("max_buckets", "12").children([host]).build()
}

/// A device asks its account's phone to upload the file of a message again.
pub fn ask(state: &mut State, node: &NodeRef<'_>, slot: &Slot) {
    let id = attr(node, "id");
    let rmr = node.get_optional_child("rmr").map(NodeRef::to_owned);
    let notification = NodeBuilder::new("notification")
        .attr("from", Jid::pn(slot.phone.as_str()))
        .attr("type", "mediaretry")
        .attr("id", id.as_str())
        .attr("t", unix_seconds().to_string());
    let answer = match state.faults.reupload {
        Reupload::Silence => return,
        Reupload::Gone => Err(anyhow!("the phone has no such file")),
        Reupload::Done => state.upload_again(&id, slot),
    };
    let inside = answer.unwrap_or_else(|error| {
        tracing::debug!(error = format!("{error:#}"), "a file is not uploaded again");
        NodeBuilder::new("error").attr("code", "2").build()
    });
    state.send(slot, notification.children([inside].into_iter().chain(rmr)).build());
}

impl State {
    /// The phone's answer, which only a device that has the message can read.
    fn upload_again(&mut self, id: &str, slot: &Slot) -> Result<Node> {
        let spoken = self.spoken.get(id).map(|spoken| &spoken.said.message);
        let read = || self.inbox.iter().find(|read| read.id == id && read.to == slot.phone).map(|read| &read.message);
        let (media_key, direct_path) = spoken.or_else(read).and_then(file_of).context("no message with a file")?;
        let direct_path = self.files.find_again(&direct_path).context("an unknown file")?;
        let notification = MediaRetryNotification {
            stanza_id: Some(id.to_owned()),
            direct_path: Some(direct_path),
            result: Some(ResultType::SUCCESS),
            ..Default::default()
        };
        let (mut key, mut iv, mut cipher) = ([0; 32], [0; 12], Vec::new());
        hkdf_sha256_into(&media_key, None, RETRY_KEY, &mut key).map_err(|e| anyhow!("{e:?}"))?;
        rng().fill_bytes(&mut iv);
        let plain = notification.encode_to_vec();
        aes_256_gcm_encrypt(&key, &iv, id.as_bytes(), &plain, &mut cipher).map_err(|e| anyhow!("{e:?}"))?;
        let parts =
            [NodeBuilder::new("enc_p").bytes(cipher).build(), NodeBuilder::new("enc_iv").bytes(iv.to_vec()).build()];
        Ok(NodeBuilder::new("encrypt").children(parts).build())
    }
}

/// The key and the path of the file of a message.
fn file_of(message: &wa::Message) -> Option<(Vec<u8>, String)> {
    macro_rules! file {
        ($($field:ident),*) => {
            [$(message.$field.as_option().map(|file| (file.media_key.clone(), file.direct_path.clone()))),*]
        };
    }
    let wrapped = [
        &message.document_with_caption_message,
        &message.ephemeral_message,
        &message.view_once_message,
        &message.view_once_message_v2,
        &message.lottie_sticker_message,
    ];
    let inside = wrapped.into_iter().find_map(|wrapped| wrapped.as_option()?.message.as_option());
    if let Some(inside) = inside {
        return file_of(inside);
    }
    let files = file![image_message, video_message, ptv_message, audio_message, document_message, sticker_message];
    let (key, path) = files.into_iter().flatten().next()?;
    Some((key?, path?))
}
