//! A connection that notices when its client sends nothing more, also while a call is answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

use crate::disconnected::Disconnected;

/// Hyper reads nothing while it answers a call, but it flushes whenever its connection is polled.
pub struct Watched<'a> {
    pub stream: Pin<&'a mut TimeoutStream<TcpStream>>,
    pub disconnected: Disconnected,
}

impl Watched<'_> {
    /// Has the task of the connection woken when something can be read, and looks whether that is the end.
    fn look(&self, cx: &mut Context<'_>) {
        if self.disconnected.is_over() {
            return;
        }
        let mut byte = [0];
        let looked = self.stream.get_ref().poll_peek(cx, &mut ReadBuf::new(&mut byte));
        if matches!(looked, Poll::Ready(Ok(0) | Err(_))) {
            self.disconnected.end();
        }
    }
}

impl AsyncRead for Watched<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look(cx);
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}
