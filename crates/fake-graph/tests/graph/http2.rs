//! Over TLS, with HTTP/2 and with HTTP/1.1.

use std::sync::Arc;

use fake_graph::{Answer, Behaviour, FakeGraph, Number};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{NUMBER, TO, message, messages, wait_for};

fn graph() -> FakeGraph {
    let graph = FakeGraph::start_with_tls();
    graph.add_number(Number::example(NUMBER));
    graph
}

/// Connects with these protocols and trusted certificates.
async fn connect(graph: &FakeGraph, protocols: &[&[u8]], trusted: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("PEM")).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(graph.url().trim_start_matches("https://")).await?;
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn http2(graph: &FakeGraph) -> http2::SendRequest<Full<Bytes>> {
    let stream = connect(graph, &[b"h2"], graph.ca_pem().expect("TLS")).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn request(graph: &FakeGraph) -> Request<Full<Bytes>> {
    Request::post(format!("{}{}", graph.url(), messages(NUMBER)))
        .header("Authorization", format!("Bearer {}", Number::example(NUMBER).access_token))
        .header("Content-Type", "application/json")
        .body(Full::from(message(TO).to_string()))
        .expect("a valid request")
}

async fn read(answer: Response<Incoming>) -> (StatusCode, Bytes) {
    let status = answer.status();
    (status, answer.into_body().collect().await.expect("a whole body").to_bytes())
}

#[tokio::test]
async fn calls_share_a_connection() {
    let graph = graph();
    let sender = http2(&graph).await;
    let (mut one, mut other) = (sender.clone(), sender);
    let (one, other) = tokio::join!(one.send_request(request(&graph)), other.send_request(request(&graph)));
    for answer in [one, other] {
        let (status, body) = read(answer.expect("an answer")).await;
        assert_eq!(status, 200, "{body:?}");
    }
    let attempts = graph.attempts();
    assert!(attempts.iter().all(|attempt| attempt.http2 && attempt.connection == attempts[0].connection));
    assert_eq!(graph.accepted(), 2);
}

#[tokio::test]
async fn a_lost_answer_is_a_stream_reset_and_the_connection_stays() {
    let graph = graph();
    let mut sender = http2(&graph).await;
    graph.behave(|_| Behaviour::accept().answering(Answer::Lost));
    let lost = sender.send_request(request(&graph)).await.expect_err("no answer");
    assert!(format!("{lost:?}").contains("Reset(StreamId"), "{lost:?}");
    assert_eq!(graph.accepted(), 1);
    graph.behave(|_| Behaviour::accept());
    let answer = sender.send_request(request(&graph)).await.expect("the connection stays");
    assert_eq!(read(answer).await.0, 200);
    assert_eq!(graph.attempts()[0].connection, graph.attempts()[1].connection);
}

/// In other threads, because the test's thread blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reset_ends_the_connection_with_every_call_on_it() {
    let graph = graph();
    let mut sender = http2(&graph).await;
    graph.behave(|_| Behaviour::accept().after(std::time::Duration::from_mins(1)));
    let waiting = tokio::spawn(sender.send_request(request(&graph)));
    wait_for("the first call", || graph.accepted() == 1);
    graph.behave(|_| Behaviour::refuse(Answer::Reset));
    let reset = sender.send_request(request(&graph)).await.expect_err("no answer");
    assert!(format!("{reset:?}").contains("ConnectionReset"), "{reset:?}");
    waiting.await.expect("no panic").expect_err("no answer either");
    assert_eq!(graph.accepted(), 1);
}

#[tokio::test]
async fn a_client_may_choose_http_1() {
    let graph = graph();
    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let stream = connect(&graph, protocols, graph.ca_pem().expect("TLS")).await.expect("TLS");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        assert_eq!(read(sender.send_request(request(&graph)).await.expect("an answer")).await.0, 200);
    }
    assert!(graph.attempts().iter().all(|attempt| !attempt.http2));
}

#[tokio::test]
async fn a_client_that_does_not_trust_its_authority_does_not_connect() {
    let (graph, stranger) = (graph(), graph());
    let refused = connect(&graph, &[], stranger.ca_pem().expect("TLS")).await.expect_err("another authority");
    assert!(refused.to_string().contains("certificate"), "{refused}");
}
