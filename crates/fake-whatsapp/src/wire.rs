//! Frames: after a fixed header, each frame has a length of three bytes. WebSocket messages may divide frames anywhere.

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{SplitSink, SplitStream};
use tokio::net::TcpStream;
use tokio_websockets::{Message, WebSocketStream};
use wacore::handshake::NoiseCipher;
use wacore_binary::consts::WA_CONN_HEADER;

pub type Sink = SplitSink<WebSocketStream<TcpStream>, Message>;

/// A frame around these bytes.
pub fn frame(body: &[u8]) -> Bytes {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], body].concat().into()
}

/// The reading side of a connection.
pub struct Wire {
    stream: SplitStream<WebSocketStream<TcpStream>>,
    read: BytesMut,
    greeted: bool,
    opened: u32,
}

impl Wire {
    pub fn new(stream: SplitStream<WebSocketStream<TcpStream>>) -> Self {
        Self { stream, read: BytesMut::new(), greeted: false, opened: 0 }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Result<BytesMut> {
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(frame);
            }
            match self.stream.next().await {
                Some(Ok(message)) if message.is_binary() => self.read.extend_from_slice(&message.into_payload()),
                Some(Ok(message)) if message.is_close() => bail!("closed by the client"),
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e.into()),
                None => bail!("the stream ended"),
            }
        }
    }

    fn whole_frame(&mut self) -> Result<Option<BytesMut>> {
        if !self.greeted && self.read.len() >= WA_CONN_HEADER.len() {
            if !self.read.starts_with(&WA_CONN_HEADER) {
                bail!("no connection header (an edge-routing preamble is not understood)");
            }
            let _ = self.read.split_to(WA_CONN_HEADER.len());
            self.greeted = true;
        }
        if !self.greeted || self.read.len() < 3 {
            return Ok(None);
        }
        let length = self.read[..3].iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        if self.read.len() < 3 + length {
            return Ok(None);
        }
        let _ = self.read.split_to(3);
        Ok(Some(self.read.split_to(length)))
    }

    /// The next stanza, decrypted and unpacked.
    pub async fn stanza(&mut self, key: &NoiseCipher) -> Result<Bytes> {
        let mut frame = self.frame().await?;
        key.decrypt_in_place_with_counter(self.opened, &mut frame)?;
        self.opened += 1;
        Ok(wacore_binary::util::unpack_bytes(frame)?)
    }

    /// Reads until the client closes the connection. Closing a connection with unread data would reset it, and lose the last
    /// stanzas.
    pub async fn drain(&mut self) {
        while self.frame().await.is_ok() {}
    }
}
