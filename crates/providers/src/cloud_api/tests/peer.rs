//! A server that answers every call with the same bytes, and then closes the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Peer {
    pub(crate) url: String,
    /// Each call, head and body.
    asked: watch::Sender<Vec<String>>,
    /// Whether answers leave.
    answers: watch::Sender<bool>,
    /// The bytes of answers that were written.
    written: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn answering(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, answers, written) = (watch::Sender::default(), watch::Sender::new(true), Arc::default());
        let task = tokio::spawn(serve(listener, answer, asked.clone(), answers.clone(), Arc::clone(&written)));
        Self { url, asked, answers, written, task }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    pub(crate) async fn until_asked(&self, times: usize) {
        self.asked.subscribe().wait_for(|asked| asked.len() >= times).await.expect("the sender is ours");
    }

    pub(crate) fn hold(&self) {
        self.answers.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.answers.send_replace(true);
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    answer: Vec<u8>,
    asked: watch::Sender<Vec<String>>,
    answers: watch::Sender<bool>,
    written: Arc<AtomicU64>,
) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let request = read(&mut stream).await;
        asked.send_modify(|asked| asked.push(request));
        answers.subscribe().wait_for(|answers| *answers).await.expect("the sender is ours");
        for part in answer.chunks(4_096) {
            // The client may close the connection.
            if stream.write_all(part).await.is_err() {
                break;
            }
            written.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer).await.expect("readable");
        request.push_str(std::str::from_utf8(&buffer[..read]).expect("the test's texts are ASCII"));
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if read == 0 || length.is_none_or(|length| body.len() >= length.parse().expect("a length")) {
            return request;
        }
    }
}

/// A JSON answer.
pub(crate) fn json(status: u16, body: &str) -> Vec<u8> {
    answer(status, "application/json; charset=UTF-8", body)
}

pub(crate) fn answer(status: u16, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n");
    format!("{head}\r\n{body}").into_bytes()
}
