use recado_domain::queue::Claimed;
use recado_store::fixtures::{claimed, rendition};
use tokio::net::TcpListener;

use crate::cloud_api::body;
use crate::cloud_api::client::*;
use crate::cloud_api::tests::link;
use crate::cloud_api::tests::peer::{Peer, answer, json};

const TAKEN: &str = r#"{"messaging_product":"whatsapp","contacts":[{"input":"5511999998888","wa_id":"551199998888"}],
    "messages":[{"id":"wamid.HBgLNTUxMQ==","message_status":"accepted"}]}"#;

fn graph(url: &str) -> Graph {
    Graph::new(url, "v23.0").expect("a good address")
}

fn body(message: &Claimed) -> Vec<u8> {
    let stored = body::read(message).expect("a stored message");
    body::of(message, &stored.content, None).expect("a body")
}

async fn sent(bytes: Vec<u8>) -> SendOutcome {
    let peer = Peer::answering(bytes).await;
    let outcome = graph(&peer.url).send(&link("EAAJB"), claimed().id, body(&claimed())).await;
    assert_eq!(peer.requests().len(), 1, "no call is made twice");
    outcome
}

fn refusal_of(code: i64, more: &str) -> String {
    format!(r#"{{"error":{{"message":"(#{code}) +55 11 99999-8888","type":"OAuthException","code":{code}{more}}}}}"#)
}

#[tokio::test]
async fn an_accepted_message_is_sent() {
    let peer = Peer::answering(json(200, TAKEN)).await;
    let message = Claimed { rendition: Some(rendition("551188887777", true)), ..claimed() };
    let outcome = graph(&format!("{}/graph//", peer.url)).send(&link("EAAJB"), message.id, body(&message)).await;
    let (account, remote_id) = (Some("551199998888".to_owned()), "wamid.HBgLNTUxMQ==".parse().ok());
    assert_eq!(outcome, SendOutcome::Accepted { account, remote_id, rendition: None });
    let request = peer.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("POST /graph/v23.0/106540352242922/messages HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: Bearer EAAJB"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        (&body["to"], &body["contacts"][0]["phones"][0]["wa_id"]),
        (&"5511999998888".into(), &"551188887777".into())
    );
}

#[tokio::test]
async fn an_invalid_account_is_left_out() {
    for contacts in ["", r#""contacts":[],"#, r#""contacts":[{"input":"1"}],"#, r#""contacts":[{"wa_id":"BR.abc"}],"#] {
        let outcome = sent(json(200, &format!(r#"{{{contacts}"messages":[{{"id":"wamid.1"}}]}}"#))).await;
        assert_eq!(
            outcome,
            SendOutcome::Accepted { account: None, remote_id: "wamid.1".parse().ok(), rendition: None },
            "{contacts}"
        );
    }
}

#[tokio::test]
async fn an_error_object_is_a_refusal_whatever_its_status() {
    assert_eq!(sent(json(429, &refusal_of(130_429, ""))).await, SendOutcome::ChannelThrottled);
    assert_eq!(sent(json(400, &refusal_of(4, ""))).await, SendOutcome::ChannelThrottled);
    assert_eq!(sent(json(429, &refusal_of(131_056, ""))).await, SendOutcome::RecipientThrottled);
    let refused = sent(json(400, &refusal_of(131_026, ""))).await;
    assert!(matches!(refused, SendOutcome::PermanentFailure { code: "UNDELIVERABLE", .. }), "{refused:?}");
    let refused = sent(json(200, &refusal_of(131_047, ""))).await;
    assert!(matches!(refused, SendOutcome::PermanentFailure { code: "WINDOW_CLOSED", .. }), "{refused:?}");
    let again = sent(json(500, &refusal_of(131_000, ""))).await;
    assert!(matches!(again, SendOutcome::TemporaryFailure { code: "NETWORK_TROUBLE", .. }), "{again:?}");
    let again = sent(json(400, &refusal_of(9_999, r#","is_transient":true"#))).await;
    assert!(matches!(again, SendOutcome::TemporaryFailure { .. }), "{again:?}");
    for error in [refusal_of(190, r#","error_subcode":463"#), refusal_of(100, r#","error_subcode":33"#)] {
        let refused = sent(json(401, &error)).await;
        assert!(matches!(refused, SendOutcome::ChannelDisabled { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn metas_texts_are_not_kept() {
    let outcome = format!("{:?}", sent(json(400, &refusal_of(131_026, ""))).await);
    assert!(!outcome.contains("99999"), "{outcome}");
}

#[tokio::test]
async fn an_unreadable_answer_is_an_unknown_outcome() {
    let html = "<html><body>502 Bad Gateway</body></html>";
    let moved = b"HTTP/1.1 307 X\r\nlocation: /v23.0/106540352242922/messages\r\ncontent-length: 0\r\n\r\n".to_vec();
    let answers = [
        answer(502, "text/html", html),
        answer(200, "text/html", html),
        json(200, ""),
        json(200, "{}"),
        json(200, r#"{"messages":[]}"#),
        json(200, r#"{"messages":[{"id":""}]}"#),
        json(200, r#"{"messages":[{"id":"a b"}]}"#),
        json(200, r#"{"error":"x"}"#),
        json(500, TAKEN),
        json(500, r#"{"error":{"code":"abc"}}"#),
        moved,
        // Closed at once, in the head, in the body; not HTTP.
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(),
        json(200, TAKEN)[..150].to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
    ];
    for bytes in answers {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(sent(bytes).await, SendOutcome::UnknownOutcome, "{shown}");
    }
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    let peer = Peer::answering(json(200, &format!("{}{}", " ".repeat(64 << 20), TAKEN))).await;
    assert_eq!(
        graph(&peer.url).send(&link("EAAJB"), claimed().id, body(&claimed())).await,
        SendOutcome::UnknownOutcome
    );
    println!("{} bytes were read", peer.written());
    assert!(peer.written() < 32 << 20);
}

#[tokio::test]
async fn a_slow_answer_is_an_unknown_outcome() {
    let peer = Peer::answering(json(200, TAKEN)).await;
    peer.hold();
    let graph = Graph { timeout: Duration::from_millis(300), ..graph(&peer.url) };
    assert_eq!(graph.send(&link("EAAJB"), claimed().id, body(&claimed())).await, SendOutcome::UnknownOutcome);
    peer.until_asked(1).await;
}

#[tokio::test]
async fn a_call_that_could_not_connect_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let graph = graph(&format!("http://{address}"));
    assert_eq!(graph.send(&link("EAAJB"), claimed().id, body(&claimed())).await, SendOutcome::ChannelThrottled);
    assert_eq!(graph.check(&link("EAAJB")).await, Err(CheckError::Later));
}

/// A client with this time limit for connections, with TLS.
fn by_tls(address: std::net::SocketAddr, limit: Duration) -> Graph {
    let base = BaseUrl::parse("url", &format!("https://{address}")).expect("a good address");
    let connections = vec![Connection::new(connector(&base, limit).expect("certificate authorities"))];
    Graph::of(format!("{}/v23.0", base.text), base, connections.into())
}

#[tokio::test]
async fn a_call_without_tls_was_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    // The kernel accepts the connections, and the server does not answer.
    let silent = by_tls(address, Duration::from_millis(300));
    assert_eq!(silent.send(&link("EAAJB"), claimed().id, body(&claimed())).await, SendOutcome::ChannelThrottled);
    let hanging_up = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let broken = by_tls(address, CONNECT);
    assert_eq!(broken.send(&link("EAAJB"), claimed().id, body(&claimed())).await, SendOutcome::ChannelThrottled);
    hanging_up.abort();
}

/// The server resets the call's HTTP/2 stream. Returns whether the call counts as not sent.
async fn reset_by(reason: h2::Reason) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        while let Some(Ok((_request, mut respond))) = connection.accept().await {
            respond.send_reset(reason);
        }
    });
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build(HttpConnector::new());
    let request = Request::post(url).body(Full::<Bytes>::default()).expect("a request");
    let error = client.request(request).await.expect_err("reset");
    server.abort();
    was_not_sent(&error)
}

#[tokio::test]
async fn a_refused_stream_was_not_sent_and_any_other_may_have_been() {
    assert!(reset_by(h2::Reason::REFUSED_STREAM).await);
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::CANCEL, h2::Reason::ENHANCE_YOUR_CALM] {
        assert!(!reset_by(reason).await, "{reason}");
    }
}

#[tokio::test]
async fn a_number_is_checked() {
    let good = r#"{"id":"106540352242922","display_phone_number":"+55 11 3333-4444","verified_name":"Padaria"}"#;
    let peer = Peer::answering(json(200, good)).await;
    let info = NumberInfo { phone: Some("+55 11 3333-4444".to_owned()), name: Some("Padaria".to_owned()) };
    assert_eq!(graph(&peer.url).check(&link("EAAJB")).await, Ok(info));
    let head = "GET /v23.0/106540352242922?fields=id,display_phone_number,verified_name HTTP/1.1\r\n";
    assert!(peer.requests()[0].starts_with(head), "{}", peer.requests()[0]);

    let checked = async |bytes| graph(&Peer::answering(bytes).await.url).check(&link("EAAJB")).await;
    assert_eq!(checked(json(200, r#"{"id":"106540352242922"}"#)).await, Ok(NumberInfo::default()));
    assert_eq!(checked(json(200, r#"{"id":"1"}"#)).await, Err(CheckError::Number));
    for code in [33, 100, 803] {
        assert_eq!(checked(json(400, &refusal_of(code, ""))).await, Err(CheckError::Number), "{code}");
    }
    for code in [0, 10, 190, 200] {
        assert_eq!(checked(json(401, &refusal_of(code, ""))).await, Err(CheckError::Token), "{code}");
    }
    for code in [1, 2, 4, 9_999] {
        assert_eq!(checked(json(400, &refusal_of(code, ""))).await, Err(CheckError::Later), "{code}");
    }
    assert_eq!(checked(answer(502, "text/html", "<html>")).await, Err(CheckError::Later));
}

#[test]
fn a_token_goes_nowhere_in_clear() {
    let error = |url: &str, version: &str| Graph::new(url, version).err().map(|error| error.to_string());
    for good in ["http://127.0.0.1:1", "http://[::1]:1/", "http://localhost:8080/graph/", "https://graph.facebook.com/"]
    {
        assert_eq!(error(good, "v23.0"), None, "{good}");
    }
    for (url, expected) in [
        ("http://graph.facebook.com", "must begin with https://: tokens do not go to graph.facebook.com in clear"),
        ("http://localhost.evil.com", "must begin with https://"),
        ("http://10.0.0.1", "must begin with https://"),
        ("ftp://graph.facebook.com", "must begin with https:// or http://"),
        ("graph.facebook.com", "must begin with https:// or http://"),
        ("https://user@graph.facebook.com", "is a scheme, a host"),
        ("https://graph.facebook.com?a=b", "is a scheme, a host"),
        ("https://graph.facebook.com/#a", "is a scheme, a host"),
        ("https://", "must begin with https://"),
    ] {
        let message = error(url, "v23.0").unwrap_or_default();
        assert!(message.contains(expected), "{url}: {message}");
    }
    for version in ["", "23.0", "v23", "v23.", "v.0", "v23.0/", "v23.0.1", "v2 3.0", "v٢.0", "v12345.0", "V23.0"] {
        assert!(
            error("https://graph.facebook.com", version).is_some_and(|message| message.contains("v23.0")),
            "{version}"
        );
    }
}

/// Only the server knows how many streams it permits. A call that waits for one has not been sent.
#[tokio::test]
async fn a_call_without_a_stream_was_not_sent() {
    let peer = Peer::answering(json(200, TAKEN)).await;
    let connection = Connection::new(connector(&graph(&peer.url).url, CONNECT).expect("a connector"));
    let body = Outgoing::new(b"{}".to_vec());
    let begun = body.begun.clone();
    let request = graph(&peer.url).request(&link("EAAJB"), Method::POST, "/1/messages", body);
    assert!(!begun.load(Ordering::Acquire));
    connection.client.request(request).await.expect("an answer");
    assert!(begun.load(Ordering::Acquire));
}

/// A number has its own connection, and others if that is full. Its calls never wait behind another number's.
#[tokio::test]
async fn calls_beyond_a_connections_limit_use_the_next_connection() {
    let graph = graph("http://127.0.0.1:1");
    let link = link("token");
    let calls: Vec<_> =
        (0..=MAX_CALLS).map(|_| graph.connection(&link, &Method::POST).expect("a connection")).collect();
    assert!(std::ptr::eq(calls[0].0, calls[MAX_CALLS - 1].0) && !std::ptr::eq(calls[0].0, calls[MAX_CALLS].0));
    let check = graph.connection(&link, &Method::GET).expect("a connection");
    assert!(calls.iter().all(|call| !std::ptr::eq(call.0, check.0)), "checks have one of their own");
    drop(calls);
    let all = graph.connections.get().expect("made").iter();
    assert_eq!(all.map(|connection| connection.calls.load(Ordering::Relaxed)).sum::<usize>(), 1);
}
