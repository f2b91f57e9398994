//! The bytes of files that people send: fetched once from Graph, verified, and stored.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fake_graph::{Delivery, FakeGraph, File, FileCalls, Number, Person, Said, Serving};
use serde_json::{Value, json};

use super::{NUMBER, Stage, serve};
use crate::harness::{Answer, wait_for};
use crate::v1::{Refusal, assert_refused};

const UNAVAILABLE: Refusal = (
    503,
    r#"{"message":"A rede nao entregou a midia. Tente novamente em alguns segundos.","code":"MEDIA_UNAVAILABLE"}"#,
);
const TOO_LARGE: Refusal = (422, r#"{"message":"Midia maior que o limite de 100 MiB.","code":"MEDIA_TOO_LARGE"}"#);

/// Bytes that differ at every place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).expect("a byte")).collect()
}

/// Ana sends a picture. Returns the message as the API shows it.
fn receive(stage: &Stage, id: &str, file: File) -> Value {
    let said = Said::image(id, None).with_sha256(&file.sha256());
    stage.graph.put_file(id, file);
    stage.graph.deliver(NUMBER, &Delivery::new().message(&Person::with_phone("5511977776666", "Ana"), &said));
    wait_for("the acknowledgement", || stage.graph.callbacks_waiting() == 0);
    newest(stage)
}

/// The message that came last.
fn newest(stage: &Stage) -> Value {
    let list = stage.server.get("/v1/channels/vendas/messages?direction=INBOUND", Some(&stage.key)).expect(200);
    list.json()["data"][0].clone()
}

fn path(message: &Value) -> &str {
    message["mediaUrl"].as_str().expect("a path")
}

fn get(stage: &Stage, message: &Value) -> Answer {
    stage.server.get(path(message), Some(&stage.key))
}

/// Whether the transfer fails: it breaks off, or it does not begin.
fn fails(stage: &Stage, message: &Value) -> bool {
    match stage.server.try_call("GET", path(message), Some(&stage.key), &[], None) {
        Ok(answer) => {
            assert_refused("a file that does not come", &answer, UNAVAILABLE);
            true
        }
        Err(_) => true,
    }
}

fn state(stage: &Stage) -> String {
    newest(stage)["media"]["state"].as_str().expect("a state").to_owned()
}

/// The names in the directory of files.
fn names(stage: &Stage) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(stage.home.dir.join("media")) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_file_is_fetched_once_and_read_from_the_disk_after_that() {
    let stage = Stage::linked();
    let (file, whole) = (File::new("image/jpeg", bytes(300_000)), bytes(300_000));
    let hash = file.sha256();
    let message = receive(&stage, "1003", file);
    let id = message["media"]["id"].as_str().expect("an id").to_owned();
    assert_eq!((path(&message), &message["media"]["state"]), (&*format!("/v1/media/{id}/content"), &json!("REMOTE")));
    // Asking for the headers alone fetches nothing.
    let head = stage.server.call("HEAD", path(&message), Some(&stage.key), &[], None).expect(200);
    assert_eq!((head.header("Content-Type"), head.header("Content-Length")), (Some("image/jpeg"), None));
    assert_eq!(stage.graph.file_calls("1003"), FileCalls { asked: 0, downloaded: 0 });

    let check = |answer: &Answer, body: &[u8]| {
        assert!(answer.body == body, "other bytes");
        let disposition = format!("attachment; filename=\"{id}.jpg\"");
        for (name, value) in [
            ("Content-Type", "image/jpeg"),
            ("Content-Disposition", &disposition),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "sandbox; default-src 'none'"),
            ("Cache-Control", "private"),
            ("Content-Length", &body.len().to_string()),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
    };
    check(&get(&stage, &message).expect(200), &whole);
    wait_for("STORED", || state(&stage) == "STORED");
    let shown = newest(&stage);
    assert_eq!((&shown["media"]["size"], &shown["media"]["sha256"]), (&json!(300_000), &json!(hash)));
    stage.graph.delete_file("1003");
    stage.graph.put_file("1003", File::new("image/jpeg", "other"));
    let stored = get(&stage, &message).expect(200);
    check(&stored, &whole);
    assert_eq!(stored.header("ETag"), Some(&*format!("\"{hash}\"")));

    let call = |method: &str, headers: &[(&str, &str)]| {
        stage.server.call(method, path(&message), Some(&stage.key), headers, None)
    };
    let part = call("GET", &[("Range", "bytes=100-299")]).expect(206);
    check(&part, &whole[100..300]);
    assert_eq!(part.header("Content-Range"), Some("bytes 100-299/300000"));
    check(&call("GET", &[("Range", "bytes=-5")]).expect(206), &whole[299_995..]);
    check(&call("GET", &[("Range", "bytes=1-2"), ("If-Range", "\"another\"")]).expect(200), &whole);
    let none = call("GET", &[("Range", "bytes=300000-")]);
    assert_refused("no part", &none, (416, r#"{"message":"Intervalo fora da midia.","code":"RANGE_NOT_SATISFIABLE"}"#));
    assert_eq!(none.header("Content-Range"), Some("bytes */300000"));
    let head = call("HEAD", &[]).expect(200);
    assert_eq!((head.header("Content-Length"), head.body.len()), (Some("300000"), 0));
    assert_eq!(stage.graph.file_calls("1003"), FileCalls { asked: 0, downloaded: 0 });
}

#[test]
fn two_readers_share_one_download_and_one_that_leaves_does_not_stop_it() {
    let stage = Stage::linked();
    let slow = || File::new("image/jpeg", bytes(1_000_000)).serving([Serving::Slow(Duration::from_millis(100))]);
    let message = receive(&stage, "1003", slow());
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&stage, &message).expect(200).body)).collect();
        for reader in readers {
            assert!(reader.join().expect("a reader") == bytes(1_000_000), "other bytes");
        }
    });
    assert_eq!(stage.graph.file_calls("1003"), FileCalls { asked: 1, downloaded: 1 });

    let message = receive(&stage, "1004", slow());
    let mut leaving = TcpStream::connect(&stage.server.address).expect("a connection");
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", path(&message), stage.key);
    leaving.write_all(request.as_bytes()).expect("written");
    let mut first = [0; 12];
    leaving.read_exact(&mut first).expect("the head of the answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(leaving);
    assert_eq!(state(&stage), "REMOTE", "this test shows nothing");
    wait_for("STORED", || state(&stage) == "STORED");
    assert!(get(&stage, &message).expect(200).body == bytes(1_000_000), "other bytes");
    assert_eq!(stage.graph.file_calls("1004"), FileCalls { asked: 1, downloaded: 1 });
}

#[test]
fn a_file_that_is_not_found_is_asked_for_again() {
    let stage = Stage::linked();
    // The URL has expired, and another one is good.
    let expired = File::new("image/jpeg", bytes(10)).serving([Serving::Status(404), Serving::Whole]);
    let message = receive(&stage, "1003", expired);
    assert!(get(&stage, &message).expect(200).body == bytes(10), "other bytes");
    assert_eq!(stage.graph.file_calls("1003"), FileCalls { asked: 2, downloaded: 2 });

    // Meta keeps files for a week, so the absence of a newer one is not final.
    for status in [404, 410] {
        let lost = File::new("image/jpeg", bytes(10)).serving([
            Serving::Status(status),
            Serving::Status(status),
            Serving::Whole,
        ]);
        let message = receive(&stage, "1004", lost);
        assert_refused("a lost file", &get(&stage, &message), UNAVAILABLE);
        assert_eq!(
            (state(&stage), stage.graph.file_calls("1004")),
            ("REMOTE".to_owned(), FileCalls { asked: 2, downloaded: 2 })
        );
        assert!(get(&stage, &message).expect(200).body == bytes(10), "other bytes");
    }
    assert_eq!(names(&stage).len(), 3, "{:?}", names(&stage));
}

#[test]
fn nothing_is_stored_but_the_announced_bytes_of_the_right_host() {
    let stage = Stage::linked();
    let other = FakeGraph::start();
    other.add_number(Number::example(NUMBER));
    other.put_file("1003", File::new("image/jpeg", bytes(100_000)));
    let elsewhere = format!("{}/files/1003/1", other.url());
    let good = || File::new("image/jpeg", bytes(100_000));
    for (what, bad) in [
        ("the half", good().serving([Serving::Cut, Serving::Whole])),
        ("more than announced", good().serving([Serving::Announced(100_001), Serving::Whole])),
        ("encoded", good().serving([Serving::Encoded("gzip"), Serving::Whole])),
        ("a redirect", good().serving([Serving::Redirect(elsewhere.clone()), Serving::Whole])),
        ("an error", good().serving([Serving::Status(500), Serving::Whole])),
    ] {
        let message = receive(&stage, "1003", bad);
        assert!(fails(&stage, &message), "{what}");
        assert_eq!((state(&stage), names(&stage)), ("REMOTE".to_owned(), vec![]), "{what}");
        assert!(get(&stage, &message).expect(200).body == bytes(100_000), "{what}");
        std::fs::remove_dir_all(stage.home.dir.join("media")).expect("removed");
    }
    // Wrong bytes of this length come again and again, so they are not fetched by every call.
    let wrong = receive(&stage, "1004", good().serving([Serving::Wrong, Serving::Whole]));
    for call in 0..3 {
        assert!(fails(&stage, &wrong), "{call}");
        let once = FileCalls { asked: 1, downloaded: 1 };
        assert_eq!((state(&stage), names(&stage), stage.graph.file_calls("1004")), ("REMOTE".to_owned(), vec![], once));
    }
    let strange = receive(&stage, "1005", good().at(&elsewhere));
    assert!(fails(&stage, &strange));
    assert_eq!(other.file_calls("1003"), FileCalls { asked: 0, downloaded: 0 }, "the token went to another host");
    let large = receive(&stage, "1006", good().serving([Serving::Announced((100 << 20) + 1)]));
    assert_refused("a large file", &get(&stage, &large), TOO_LARGE);
    let endless = receive(&stage, "1007", good().serving([Serving::Endless]));
    assert!(fails(&stage, &endless), "an endless file");
    wait_for("the end of the download", || names(&stage).is_empty());
    assert_eq!(state(&stage), "REMOTE");
    // The object is unknown, but Meta keeps files for a week: the token may have lost its permission.
    let unknown = receive(&stage, "1008", good());
    stage.graph.delete_file("1008");
    assert!(fails(&stage, &unknown));
    assert_eq!(state(&stage), "REMOTE");
}

#[test]
fn a_network_that_does_not_begin_is_not_waited_for() {
    let stage = Stage::linked();
    let slow = File::new("image/jpeg", bytes(1_000)).serving([Serving::Slow(Duration::from_secs(18))]);
    let message = receive(&stage, "1003", slow);
    let began = Instant::now();
    let answer = get(&stage, &message);
    assert_refused("a slow network", &answer, UNAVAILABLE);
    assert!((14..18).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // The download goes on, and the caller who comes again gets the file.
    wait_for("STORED", || state(&stage) == "STORED");
    assert!(get(&stage, &message).expect(200).body == bytes(1_000), "other bytes");
    assert_eq!(stage.graph.file_calls("1003"), FileCalls { asked: 1, downloaded: 1 });
}

#[test]
fn a_crash_leaves_no_half_file_and_old_files_are_fetched_again() {
    let mut stage = Stage::linked();
    let slow = File::new("image/jpeg", bytes(300_000)).serving([Serving::Stalled, Serving::Whole]);
    let message = receive(&stage, "1003", slow);
    std::thread::scope(|scope| {
        scope.spawn(|| stage.server.try_call("GET", path(&message), Some(&stage.key), &[], None).is_err());
        wait_for("a half file", || names(&stage).iter().any(|name| name.contains(".part")));
        stage.server.signal("KILL");
    });
    stage = stage.crash();
    assert_eq!((state(&stage), names(&stage)), ("REMOTE".to_owned(), vec![]));
    assert!(get(&stage, &message).expect(200).body == bytes(300_000), "other bytes");
    let id = message["media"]["id"].as_str().expect("an id");
    assert_eq!(names(&stage), [id]);

    // Bytes without a row are of a crash between the two. Those that are not read are kept for a time only.
    let stray = "01a2085f-0c22-7d04-8a8e-2b1f3c4d5e6f";
    std::fs::write(stage.home.dir.join("media").join(stray), "x").expect("written");
    let Stage { server, home, graph, key } = stage;
    server.kill();
    let server = serve(&home, &graph);
    let stage = Stage { home, server, graph, key };
    wait_for("the stray file to go", || names(&stage) == [id]);
    assert_eq!(state(&stage), "STORED");
    std::thread::sleep(Duration::from_millis(1_100));
    let Stage { server, home, graph, key } = stage;
    server.kill();
    let server = {
        let mut command = super::command(&home, &graph);
        command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0", "--keep-inbound-media", "1s"]);
        crate::harness::Server::start(command, &home)
    };
    let stage = Stage { home, server, graph, key };
    wait_for("the old file to go", || names(&stage).is_empty());
    assert_eq!(state(&stage), "REMOTE");
    assert!(get(&stage, &message).expect(200).body == bytes(300_000), "other bytes");
}

#[test]
fn an_eager_channel_fetches_at_once_what_is_not_large() {
    let stage = Stage::linked();
    let set = json!({"settings": {"inboundMedia": "eager"}}).to_string();
    let headers = [("Content-Type", "application/json")];
    stage.server.call("PUT", "/v1/channels/vendas", Some(&stage.key), &headers, Some(set.as_bytes())).expect(200);
    let message = receive(&stage, "1003", File::new("image/jpeg", bytes(300_000)));
    wait_for("STORED", || state(&stage) == "STORED");
    stage.graph.delete_file("1003");
    assert!(get(&stage, &message).expect(200).body == bytes(300_000), "other bytes");

    let large = File::new("image/jpeg", bytes(10)).serving([Serving::Announced((16 << 20) + 1), Serving::Whole]);
    let message = receive(&stage, "1004", large);
    wait_for("the try", || stage.graph.file_calls("1004").downloaded == 1);
    assert_eq!(state(&stage), "REMOTE");
    // A caller may still have it.
    wait_for("the end of the try", || {
        let answer = get(&stage, &message);
        answer.status == 200 && answer.body == bytes(10)
    });
}
