//! A receiver of webhooks on loopback: it keeps what arrived, and answers as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use standardwebhooks::Webhook;

use crate::harness::wait_for;

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub path: String,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Arrival {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id").expect("a webhook-id")
    }

    pub fn event(&self) -> String {
        self.json()["event"].as_str().expect("an event").to_owned()
    }

    /// Whether the reference library accepts the signature with this secret, which is `whsec_…`.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        Webhook::new(secret).expect("a secret").verify(&self.body, &self.headers).is_ok()
    }
}

/// How the receiver answers one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status with further header lines.
    Status(u16, &'static str),
    /// A redirect to this URL.
    Redirect(String),
    /// Nothing, and the connection stays open.
    Hang,
    /// The head of an answer, one byte at a time.
    Trickle,
    /// 200 with a body of ten gigabytes, sent until the other side closes.
    Endless,
    /// 200 after this time.
    Late(Duration),
}

type Answers = dyn Fn(&Arrival, usize) -> Reply + Send + Sync;

pub struct Receiver {
    pub port: u16,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Receiver {
    /// A receiver that answers each request with 204.
    pub fn start() -> Self {
        Self::answering(|_, _| Reply::Status(204, ""))
    }

    /// A receiver that answers by the request and its number, from 0 on.
    pub fn answering(answers: impl Fn(&Arrival, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(true, Arc::new(answers))
    }

    /// A receiver that keeps nothing, for very many requests; it answers each one with 204.
    pub fn telling(tell: impl Fn(&Arrival) + Send + Sync + 'static) -> Self {
        let answer = move |arrival: &Arrival, _| {
            tell(arrival);
            Reply::Status(204, "")
        };
        Self::listen(false, Arc::new(answer))
    }

    fn listen(keep: bool, answers: Arc<Answers>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let kept = keep.then(|| arrivals.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answers) = (kept.clone(), answers.clone());
                std::thread::spawn(move || answer(stream, kept.as_deref(), &*answers));
            }
        });
        Self { port, arrivals }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many requests arrived; gives all.
    #[track_caller]
    pub fn until(&self, count: usize) -> Vec<Arrival> {
        wait_for(&format!("{count} requests at the receiver"), || self.arrivals().len() >= count);
        self.arrivals()
    }
}

fn answer(mut stream: TcpStream, kept: Option<&Mutex<Vec<Arrival>>>, answers: &Answers) {
    let Some(arrival) = read(&stream) else { return };
    let number = kept.map_or(0, |kept| {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(arrival.clone());
        kept.len() - 1
    });
    // The other side may close at any time.
    let _ = match answers(&arrival, number) {
        Reply::Status(status, lines) => {
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{lines}Connection: close\r\n\r\n")
        }
        Reply::Redirect(to) => {
            write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Reply::Hang => {
            let _ = stream.read(&mut [0; 1]);
            Ok(())
        }
        Reply::Trickle => {
            let head = b"HTTP/1.1 200 OK\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x'));
            for byte in head {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                sleep(Duration::from_millis(200));
            }
            Ok(())
        }
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n");
            let chunk = vec![b'x'; 64 << 10];
            while stream.write_all(&chunk).is_ok() {}
            Ok(())
        }
        Reply::Late(time) => {
            sleep(time);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
    };
}

fn read(stream: &TcpStream) -> Option<Arrival> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    assert!(line.starts_with("POST "), "{line}");
    let mut headers = ureq::http::HeaderMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name: ureq::http::HeaderName = name.parse().expect("a header's name");
        headers.append(name, value.parse().expect("a header's value"));
    }
    let length = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Arrival { path, headers, body, at: Instant::now() })
}

/// A port where connections are made and never answered. No task accepts them, so they cost the test nothing.
pub struct Dead(TcpListener);

impl Dead {
    pub fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.0.local_addr().expect("an address").port())
    }
}
