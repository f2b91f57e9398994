//! A receiver of webhooks: a server that keeps each request, and answers with the statuses it was given.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::Value;

use crate::harness::PATIENCE;

pub struct Receiver {
    pub url: String,
    requests: mpsc::Receiver<Received>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method and the path.
    pub line: String,
    /// Names in lower case.
    headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Receiver {
    /// Answers in this order: with 200 where the text is empty, else with this status line and body. The last answer repeats.
    pub fn start(answers: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = mpsc::channel();
        let answers: Vec<_> = answers.iter().map(|(status, body)| answer(status, body)).collect();
        std::thread::spawn(move || {
            let last = answers.last().cloned().into_iter().cycle();
            for (answer, stream) in answers.into_iter().chain(last).zip(listener.incoming()) {
                let Some(received) = stream.ok().and_then(|stream| exchange(stream, &answer)) else { continue };
                if sender.send(received).is_err() {
                    return;
                }
            }
        });
        Self { url, requests }
    }

    /// The next request.
    #[track_caller]
    pub fn next(&self) -> Received {
        self.requests.recv_timeout(PATIENCE).expect("a request")
    }

    /// Whether no request is waiting.
    pub fn is_quiet(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

impl Received {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers))
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn answer(status: &str, body: &str) -> String {
    let status = if status.is_empty() { "200 OK" } else { status };
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Reads a request, and answers it. `None` for a connection without a whole request.
fn exchange(mut stream: TcpStream, answer: &str) -> Option<Received> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut lines = reader.by_ref().lines().map_while(Result::ok);
    let line = lines.next()?;
    let header = |line: String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: HashMap<_, _> = lines.take_while(|line| !line.is_empty()).filter_map(header).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    // The caller may have ended meanwhile.
    let _ = stream.write_all(answer.as_bytes());
    let line = line.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Received { line, headers, body })
}
