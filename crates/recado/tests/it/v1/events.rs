//! The event stream: pages, long polling, server-sent events, cursors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Home, Server, wait_for};
use crate::v1::{every_scope, on_both_engines};

const CARD: &str = "/v1/channels/sandbox/messages/text";

/// A server whose sandbox records events, a key with every scope, and the cursor behind what was there before.
fn stage() -> (Home, Server, String, String) {
    let home = Home::init();
    let server = home.serve();
    let key = every_scope(&home);
    let cursor = cursor(&server.get("/v1/events", Some(&key)).expect(200));
    (home, server, key, cursor)
}

fn cursor(answer: &Answer) -> String {
    answer.json()["pagination"]["nextCursor"].as_str().expect("a cursor").to_owned()
}

fn send(server: &Server, key: &str, to: &str) -> String {
    let answer = server.post(CARD, key, &json!({"to": to, "content": "Ola", "reference": "pedido-1"})).expect(202);
    answer.header("X-Message-Id").expect("an id").to_owned()
}

fn page(server: &Server, key: &str, query: &str) -> Answer {
    server.get(&format!("/v1/events?{query}"), Some(key)).expect(200)
}

fn names(answer: &Answer) -> Vec<String> {
    let events = answer.json()["data"].as_array().expect("events").clone();
    events.iter().map(|event| event["event"].as_str().expect("a name").to_owned()).collect()
}

/// The first message begins a conversation, which has events too.
const MESSAGES: &str = "events=message.*";

/// All events of messages behind a cursor, when this one is among them.
fn until(server: &Server, key: &str, cursor: &str, last: &str) -> Answer {
    let all = || page(server, key, &format!("cursor={cursor}&{MESSAGES}"));
    wait_for(last, || names(&all()).iter().any(|name| name == last));
    all()
}

#[test]
fn a_message_is_followed_from_the_cursor_on() {
    let (_home, server, key, begin) = stage();
    let id = send(&server, &key, "5511999998888");
    let read = until(&server, &key, &begin, "message.read");
    // Its acceptance is not in the default log.
    assert_eq!(names(&read), ["message.sent", "message.delivered", "message.read"]);
    let events = read.json()["data"].as_array().expect("events").clone();
    let message = server.get(&format!("/v1/channels/sandbox/messages/{id}"), Some(&key)).expect(200).json();
    let (network_id, conversation) = (&message["data"]["networkId"], &message["data"]["conversationId"]);
    assert!(conversation.is_string(), "{message}");
    for (event, status, at) in
        [(&events[0], "SENT", "sentAt"), (&events[1], "DELIVERED", "deliveredAt"), (&events[2], "READ", "readAt")]
    {
        let at = &message["data"][at];
        let data = json!({
            "messageId": id, "networkId": network_id, "conversationId": conversation, "reference": "pedido-1", "type": "text",
            "to": "5511999998888", "account": "5511999998888", "status": status, "at": at, "pricing": null,
        });
        assert_eq!(event["data"], data);
        assert_eq!(
            (&event["createdAt"], &event["environment"], &event["channelId"]),
            (at, &json!("test"), &json!("sandbox"))
        );
        let one = server.get(&format!("/v1/events/{}", event["id"].as_str().expect("an id")), Some(&key)).expect(200);
        assert_eq!(&one.json()["data"], event, "an event is the same on every read");
        assert_eq!(one.text(), format!("{{\"data\":{}}}", serde_json::to_string(event).expect("JSON")));
    }
    // One by one, the cursors lead to the same.
    let (mut place, mut found) = (begin, Vec::new());
    for _ in &events {
        let one = page(&server, &key, &format!("cursor={place}&limit=1&{MESSAGES}"));
        found.extend(one.json()["data"].as_array().expect("events").clone());
        place = cursor(&one);
    }
    assert_eq!(found, events);
    assert_eq!(names(&page(&server, &key, &format!("cursor={place}&{MESSAGES}"))), Vec::<String>::new());
}

#[test]
fn filters_and_scopes_choose_events() {
    let (_home, server, key, begin) = stage();
    send(&server, &key, "5511999998888");
    until(&server, &key, &begin, "message.read");
    let of = |query: &str| names(&page(&server, &key, &format!("cursor={begin}&{query}")));
    assert_eq!(of("events=message.read"), ["message.read"]);
    assert_eq!(of("events=message.sent,message.read&channelId=sandbox"), ["message.sent", "message.read"]);
    assert_eq!(of("events=channel.*"), Vec::<String>::new());
    assert_eq!(of("chatKinds=GROUP"), Vec::<String>::new());
    for bad in
        ["events=message.none", "events=", "chatKinds=X", "limit=0", "limit=501", "wait=31", "cursor=1", "from=never"]
    {
        let answer = server.get(&format!("/v1/events?{bad}"), Some(&key)).expect(400);
        assert_eq!(answer.json()["errors"][0]["field"], bad.split('=').next().expect("a name"), "{bad}");
    }
    assert_eq!(server.get("/v1/events?channelId=none", Some(&key)).status, 404);
    let scoped = json!({"name": "events alone", "permissions": ["events.read", "channels.read"], "rateLimit": 1000});
    let scoped = server.post("/v1/api-keys", &key, &scoped).expect(201).json();
    let scoped = scoped["data"]["key"].as_str().expect("a key");
    assert_eq!(names(&page(&server, scoped, &format!("cursor={begin}"))), Vec::<String>::new());
    server.get("/v1/events?events=message.*", Some(scoped)).expect(403);
    server.get("/v1/events?events=channel.paused", Some(scoped)).expect(200);
}

#[test]
fn the_status_of_a_message_to_a_group_is_an_event_of_a_group() {
    on_both_engines(|stage| {
        let (server, key) = (&stage.server, &stage.key);
        page(server, key, "from=oldest");
        send(server, key, "5511999998888");
        send(server, key, "120363041234567890@g.us");
        let of = |query: &str| page(server, key, &format!("from=oldest&events=message.read{query}")).json();
        let recipients = |query: &str| {
            let events = of(query)["data"].as_array().expect("events").clone();
            events.iter().map(|event| event["data"]["to"].as_str().expect("an address").to_owned()).collect::<Vec<_>>()
        };
        wait_for("both to be read", || recipients("").len() == 2);
        assert_eq!(recipients("&chatKinds=DIRECT"), ["5511999998888"]);
        assert_eq!(recipients("&chatKinds=GROUP"), ["120363041234567890@g.us"]);
    });
}

#[test]
fn a_log_that_is_set_decides_what_is_recorded() {
    let (_home, server, key, begin) = stage();
    let set = |patterns: Value| {
        let body = json!({"eventLog": patterns}).to_string();
        server.call(
            "PUT",
            "/v1/events/settings",
            Some(&key),
            &[("Content-Type", "application/json")],
            Some(body.as_bytes()),
        )
    };
    assert_eq!(set(json!(["message.none"])).status, 400);
    assert_eq!(set(json!([])).expect(200).json()["data"], json!({"eventLog": [], "recording": false}));
    let unseen = send(&server, &key, "5511999998888");
    wait_for("the message to be read", || {
        server.get(&format!("/v1/channels/sandbox/messages/{unseen}"), Some(&key)).json()["data"]["status"] == "READ"
    });
    set(json!(["*"])).expect(200);
    send(&server, &key, "5511999997777");
    let found = until(&server, &key, &begin, "message.read");
    assert_eq!(names(&found), ["message.queued", "message.sent", "message.delivered", "message.read"]);
    let shown = server.get("/v1/events/settings", Some(&key)).expect(200).json();
    assert_eq!(shown["data"], json!({"eventLog": ["*"], "recording": true}));
}

#[test]
fn a_long_poll_waits_for_the_first_event() {
    let (_home, server, key, begin) = stage();
    let started = Instant::now();
    let empty = page(&server, &key, &format!("cursor={begin}&wait=1"));
    assert!(names(&empty).is_empty() && started.elapsed() >= Duration::from_secs(1));
    let polled = std::thread::scope(|scope| {
        let poll = scope.spawn(|| page(&server, &key, &format!("cursor={begin}&wait=30&events=message.sent")));
        send(&server, &key, "5511999998888");
        poll.join().expect("an answer")
    });
    assert_eq!(names(&polled), ["message.sent"]);
}

/// A connection that reads the stream, as a browser does.
pub fn connect(server: &Server, key: &str, query: &str, last: Option<&str>) -> BufReader<TcpStream> {
    let address = server.url("").trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let head = format!(
        "GET /v1/events?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nAccept: text/event-stream\r\n{last}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    BufReader::new(stream)
}

/// The next event: its id, its name, its data.
fn next(reader: &mut BufReader<TcpStream>) -> (String, String, Value) {
    let (mut id, mut name) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).expect("a line"), 0, "the stream ended");
        match line.trim_end().split_once(": ") {
            Some(("id", value)) => value.clone_into(&mut id),
            Some(("event", value)) => value.clone_into(&mut name),
            Some(("data", value)) => return (id, name, serde_json::from_str(value).expect("JSON")),
            _ => {}
        }
    }
}

#[test]
fn a_stream_resumes_behind_the_last_id() {
    let (_home, server, key, begin) = stage();
    let mut first = connect(&server, &key, &format!("cursor={begin}&{MESSAGES}"), None);
    send(&server, &key, "5511999998888");
    let (id, name, data) = next(&mut first);
    assert_eq!((name.as_str(), &data["event"]), ("message.sent", &json!("message.sent")));
    let rest = [next(&mut first), next(&mut first)];
    drop(first);
    // The header goes before the cursor of the address, which the client repeats.
    let mut again = connect(&server, &key, &format!("cursor={begin}&{MESSAGES}"), Some(&id));
    assert_eq!([next(&mut again), next(&mut again)], rest);
    assert_eq!(rest.map(|(_, name, _)| name), ["message.delivered", "message.read"]);
}

/// The position of a connection before its first event.
pub fn begins_at(reader: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).expect("a line"), 0, "the stream ended");
        if let Some(("id", value)) = line.trim_end().split_once(": ") {
            return value.to_owned();
        }
    }
}

/// Whether the answer ends without another event.
fn ends(reader: &mut BufReader<TcpStream>) -> bool {
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).expect("the end");
        // The last chunk is empty.
        if read == 0 || line == "0\r\n" || line.starts_with("data: ") {
            return !line.starts_with("data: ");
        }
    }
}

#[test]
fn a_stream_without_an_event_resumes_where_it_began() {
    let (_home, server, key, _) = stage();
    let mut first = connect(&server, &key, "from=now&events=message.*", None);
    let id = begins_at(&mut first);
    drop(first);
    send(&server, &key, "5511999998888");
    // `from=now` would begin behind these events.
    let mut again = connect(&server, &key, "from=now&events=message.*", Some(&id));
    assert_eq!(next(&mut again).1, "message.sent");
}

#[test]
fn a_stream_and_a_long_poll_end_with_their_key() {
    let (_home, server, key, begin) = stage();
    let new = json!({"name": "events", "permissions": ["events.read", "messages.read"], "rateLimit": 1000});
    let new = server.post("/v1/api-keys", &key, &new).expect(201).json();
    let (id, reads) = (new["data"]["id"].as_str().expect("an id"), new["data"]["key"].as_str().expect("a key"));
    let mut stream = connect(&server, reads, &format!("cursor={begin}"), None);
    begins_at(&mut stream);
    let polled = std::thread::scope(|scope| {
        let poll = scope.spawn(|| server.get(&format!("/v1/events?cursor={begin}&wait=30"), Some(reads)));
        // The poll waits.
        std::thread::sleep(Duration::from_millis(300));
        server.delete(&format!("/v1/api-keys/{id}"), Some(&key)).expect(200);
        poll.join().expect("an answer")
    });
    assert_eq!(polled.status, 401);
    assert!(ends(&mut stream));
}

#[test]
fn a_server_that_stops_waits_for_no_stream() {
    let (_home, server, key, begin) = stage();
    let mut stream = connect(&server, &key, &format!("cursor={begin}&{MESSAGES}"), None);
    begins_at(&mut stream);
    let stopped = Instant::now();
    server.terminate();
    assert!(ends(&mut stream));
    assert_eq!(server.wait().code(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
}

#[test]
fn the_stream_has_what_its_log_names() {
    let (_home, server, key, begin) = stage();
    send(&server, &key, "5511999998888");
    until(&server, &key, &begin, "message.read");
    let body = json!({"eventLog": ["message.delivered"]}).to_string();
    let json = [("Content-Type", "application/json")];
    server.call("PUT", "/v1/events/settings", Some(&key), &json, Some(body.as_bytes())).expect(200);
    // Webhooks can have the others recorded.
    assert_eq!(names(&page(&server, &key, &format!("cursor={begin}"))), ["message.delivered"]);
}

/// Events may be missing behind it, also if none is there now.
#[test]
fn a_cursor_before_the_oldest_event_has_expired() {
    let (home, server, key, begin) = stage();
    page(&server, &key, &format!("cursor={begin}"));
    let store = rusqlite::Connection::open(home.dir.join("recado.db")).expect("the store");
    let sql = "INSERT INTO event_state (n, deleted_until) SELECT 1, 1 + coalesce(max(seq), 0) FROM events";
    assert_eq!(store.execute(sql, []).expect("written"), 1);
    let expired = server.get(&format!("/v1/events?cursor={begin}"), Some(&key)).expect(410).json();
    assert_eq!(expired["code"], "CURSOR_EXPIRED");
    assert!(expired["data"]["oldest"].as_str().is_some_and(|oldest| oldest > &*begin), "{expired}");
}

/// The purge can delete events between the check of a cursor and the read behind it.
#[test]
fn a_page_is_refused_if_earlier_events_were_deleted_meanwhile() {
    let (home, server, key, begin) = stage();
    let mut stream = connect(&server, &key, &format!("cursor={begin}&{MESSAGES}"), None);
    begins_at(&mut stream);
    let store = rusqlite::Connection::open(home.dir.join("recado.db")).expect("the store");
    let sql = "INSERT INTO event_state (n, deleted_until) SELECT 1, 1 + max(seq) FROM events";
    assert_eq!(store.execute(sql, []).expect("written"), 1);
    send(&server, &key, "5511999998888");
    assert!(ends(&mut stream));
}

#[test]
fn an_institution_has_sixteen_readers_at_most() {
    let (_home, server, key, begin) = stage();
    let mut readers: Vec<_> =
        (0..16).map(|_| connect(&server, &key, &format!("cursor={begin}&{MESSAGES}"), None)).collect();
    for reader in &mut readers {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        assert!(line.contains("200"), "{line}");
    }
    server.get("/v1/events", Some(&key)).expect(503);
    drop(readers);
    wait_for("a free connection", || server.get("/v1/events", Some(&key)).status == 200);
}

#[test]
fn a_long_poll_ends_with_its_client() {
    let (_home, server, key, begin) = stage();
    let address = server.url("").trim_start_matches("http://").to_owned();
    let call =
        format!("GET /v1/events?cursor={begin}&wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
    let polls: Vec<_> = (0..16)
        .map(|_| {
            let mut poll = TcpStream::connect(&address).expect("a connection");
            poll.write_all(call.as_bytes()).expect("sent");
            poll
        })
        .collect();
    let full = || server.get("/v1/events", Some(&key)).status == 503;
    wait_for("sixteen readers", full);
    let refused = server.get("/v1/events", Some(&key)).expect(503).json();
    assert_eq!(refused["message"], json!("Limite de leitores do fluxo de eventos atingido."));
    let left = Instant::now();
    drop(polls);
    wait_for("a free place", || !full());
    assert!(left.elapsed() < Duration::from_secs(10), "{:?}", left.elapsed());
    // A client that has closed its own direction alone gets an empty page.
    let mut half = TcpStream::connect(&address).expect("a connection");
    half.write_all(call.as_bytes()).expect("sent");
    half.shutdown(std::net::Shutdown::Write).expect("closed");
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"data\":[]"), "{answer}");
}

#[test]
fn a_cursor_of_another_store_has_expired() {
    let (_home, server, key, begin) = stage();
    send(&server, &key, "5511999998888");
    let end = cursor(&until(&server, &key, &begin, "message.read"));
    let (_other, other, other_key, other_begin) = stage();
    let expired = other.get(&format!("/v1/events?cursor={end}"), Some(&other_key)).expect(410).json();
    assert_eq!((&expired["code"], &expired["message"]), (&json!("CURSOR_EXPIRED"), &json!("Cursor expirado.")));
    let oldest = expired["data"]["oldest"].as_str().expect("a cursor");
    other.get(&format!("/v1/events?cursor={oldest}"), Some(&other_key)).expect(200);
    // The store, and not only the number and the time, is compared.
    let (store, place) = (&end[..16], &other_begin[16..]);
    other.get(&format!("/v1/events?cursor={store}{place}"), Some(&other_key)).expect(410);
    other.get(&format!("/v1/events?cursor={other_begin}"), Some(&other_key)).expect(200);
}

#[test]
fn a_cursor_from_before_a_backup_was_restored_has_expired() {
    let (home, server, key, begin) = stage();
    send(&server, &key, "5511999998888");
    until(&server, &key, &begin, "message.read");
    drop(server);
    // The server ended without a checkpoint, so the log and its record belong to the copy.
    let files = ["recado.db", "recado.db-wal", "recado.db.tail"]
        .map(|name| (home.dir.join(name), home.dir.join(format!("kept.{name}"))));
    for (file, kept) in &files {
        std::fs::copy(file, kept).expect("copied");
    }
    let server = home.serve();
    let second = until_two_more(&server, &key, "5511999997777");
    drop(server);
    std::fs::remove_file(home.dir.join("recado.db-shm")).expect("removed");
    for (file, kept) in &files {
        std::fs::copy(kept, file).expect("restored");
    }
    let server = home.serve();
    // Ahead of the store.
    server.get(&format!("/v1/events?cursor={second}"), Some(&key)).expect(410);
    until_two_more(&server, &key, "5511999996666");
    // The number names another event now.
    server.get(&format!("/v1/events?cursor={second}"), Some(&key)).expect(410);
    assert_eq!(names(&page(&server, &key, &format!("cursor={begin}&{MESSAGES}"))).len(), 6);
}

/// Sends a message; the cursor behind what became of it.
fn until_two_more(server: &Server, key: &str, to: &str) -> String {
    let begin = cursor(&page(server, key, "from=now"));
    send(server, key, to);
    cursor(&until(server, key, &begin, "message.read"))
}
