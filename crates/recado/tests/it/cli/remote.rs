//! Commands on a remote Recado: `--url`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Output, Stdio};

use super::assert_fails;
use crate::harness::{Ended, recado};
use crate::v1::{CARD, Stage, create_key};

const LIST: [&str; 4] = ["messages", "list", "--channel", "sandbox"];

fn run_at(url: &str, key: Option<&str>, args: &[&str]) -> Output {
    let mut command = recado();
    command.args(args).args(["--url", url]);
    key.map(|key| command.env("RECADO_API_KEY", key));
    command.ended()
}

#[test]
fn commands_work_by_http_with_a_key() {
    let stage = Stage::set();
    let url = stage.server.url("");
    let run = |args: &[&str]| run_at(&url, Some(&stage.key), args);
    let card = ["--to", "5511999998888", "--name", "Longe", "--phone", "5511988887777"];
    let sent = run(&[&["send", "contact", "--channel", "sandbox", "--wait"], &card[..]].concat());
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let listed = run(&[&LIST[..], &["--json"]].concat());
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["contact"]["name"], "Longe");
    assert_eq!(run(&["sandbox", "clear"]).status.code(), Some(0));

    // The key comes from a file as editors write it, and the base address ends with a slash.
    let file = stage.home.dir.join("key");
    let by_file = [&LIST[..], &["--api-key-file", file.to_str().expect("UTF-8")]].concat();
    for (before, after) in [("", "\n"), ("", ""), ("\u{feff}", "\r\n"), (" ", " \r\n\r\n")] {
        std::fs::write(&file, format!("{before}{}{after}", stage.key)).expect("a file");
        assert_eq!(run_at(&format!("{url}/"), None, &by_file).status.code(), Some(0), "{before:?} {after:?}");
    }
    // The same by variable.
    assert_eq!(run_at(&url, Some(&format!("\u{feff}{}\n", stage.key)), &LIST).status.code(), Some(0));
}

/// `/v1` is in the paths of the API's page, but not in the address.
#[test]
fn an_address_with_the_api_version_is_reported() {
    let stage = Stage::set();
    for url in ["/v1", "/v1/"] {
        let output = run_at(&stage.server.url(url), Some(&stage.key), &LIST);
        assert_fails(&output, 1, &["--url ends in /v1", "There is no such path."]);
    }
}

#[test]
fn a_missing_wrong_or_refused_key_is_reported_and_never_shown() {
    let stage = Stage::set();
    let url = stage.server.url("");
    assert_fails(&run_at(&url, None, &LIST), 1, &["RECADO_API_KEY", "--api-key-file"]);
    let secret = "hunter2-secret";
    let output = run_at(&url, Some(secret), &LIST);
    assert_fails(&output, 1, &["RECADO_API_KEY", "no API key"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains(secret), "{output:?}");
    let blind = create_key(&stage.home, "test", "messages.send", "unlimited");
    let output = run_at(&url, Some(&blind), &LIST);
    assert_fails(&output, 1, &["lacks the scope"]);
    assert!(!format!("{output:?}").contains(&blind), "{output:?}");
    assert_fails(&run_at(&url, Some(&stage.key), &[&LIST[..], &["--institution", "x"]].concat()), 2, &["--url"]);
}

#[test]
fn an_address_without_a_recado_is_reported() {
    let stage = Stage::set();
    let run = |url: &str| run_at(url, Some(&stage.key), &LIST);
    for url in ["localhost:8080", "ftp://localhost", "http://", "http://x:y@localhost", "http://localhost?x=1"] {
        let output = run(url);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{url}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("URL") || format!("{output:?}").contains("--url"));
    }
    assert_fails(&run("http://127.0.0.1:1"), 4, &["no server answers"]);
    // TLS is used if the URL requires it, and plain HTTP is not accepted instead.
    assert_fails(&run(&format!("https://{}", stage.server.address)), 4, &["no server answers"]);
    // A server that is no Recado.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut request = [0; 4096];
        let read = stream.read(&mut request).expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").expect("it reads");
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    assert_fails(&run(&format!("http://{address}/prefix")), 1, &["is a Recado there?"]);
    let request = stranger.join().expect("no panic");
    assert!(request.starts_with("GET /prefix/v1/channels/sandbox/messages?limit=20 HTTP/1.1\r\n"), "{request}");
}

/// A rate-limited command waits.
#[test]
fn a_limit_is_waited_out() {
    let stage = Stage::set();
    stage.accept("sandbox", &[], CARD);
    let key = create_key(&stage.home, "test", "messages.read", "60");
    for _ in 0..60 {
        stage.server.get("/v1/channels/sandbox/messages", Some(&key));
    }
    stage.server.get("/v1/channels/sandbox/messages", Some(&key)).expect(429);
    assert_eq!(run_at(&stage.server.url(""), Some(&key), &LIST).status.code(), Some(0));
}

const ID: &str = "01a2090a-81ac-7890-bd31-38af75b598c4";
const SEND: [&str; 10] =
    ["send", "contact", "--channel", "sandbox", "--to", "5511999998888", "--name", "Ana", "--phone", "5511988887777"];

/// A server that gives these answers in order, and repeats the last one. Returns its address.
fn fake_server(answers: &[(&str, &str)]) -> String {
    let answers: Vec<_> = answers
        .iter()
        .map(|(head, body)| {
            format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        })
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let last = answers.last().cloned().into_iter().cycle();
        for (answer, stream) in answers.into_iter().chain(last).zip(listener.incoming()) {
            let mut stream = stream.expect("a caller");
            let _ = stream.read(&mut vec![0; 65_536]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn run_with_key(stage: &Stage, answers: &[(&str, &str)], args: &[&str]) -> Output {
    run_at(&fake_server(answers), Some(&stage.key), args)
}

/// An error of a proxy in front of Recado is no refusal, and the key is needed to repeat the call.
#[test]
fn an_error_of_a_proxy_leaves_the_outcome_open() {
    let stage = Stage::set();
    let run = |answers: &[(&str, &str)], args: &[&str]| run_with_key(&stage, answers, args);
    let open = ["not known", "--idempotency-key", "502"];
    assert_fails(&run(&[("502 Bad Gateway", "<html>")], &SEND), 1, &open);
    let own = [&SEND[..], &["--idempotency-key", "mine"]].concat();
    assert_fails(&run(&[("502 Bad Gateway", "<html>")], &own), 4, &["--idempotency-key mine"]);
    let full = run(&[("503 Full", r#"{"message":"Fila cheia.","code":"QUEUE_FULL"}"#)], &SEND);
    assert_fails(&full, 4, &["queue is full"]);
    assert!(!String::from_utf8_lossy(&full.stderr).contains("not known"), "{full:?}");
    // A restart behind a proxy is awaited.
    let message = format!(r#"{{"data":{{"id":"{ID}","status":"DELIVERED"}}}}"#);
    let watch = ["messages", "watch", ID, "--channel", "sandbox"];
    assert_eq!(run(&[("502 x", "<html>"), ("200 OK", &message)], &watch).status.code(), Some(0));
    // An accepted message is named, whatever follows.
    let accepted = format!(r#"{{"data":{{"id":"{ID}","status":"QUEUED"}}}}"#);
    let refused = ("403 Forbidden", r#"{"message":"Permissao insuficiente"}"#);
    let lost = run(&[("202 Accepted", &accepted), refused], &[&SEND[..], &["--wait", "--json"]].concat());
    assert_eq!(lost.status.code(), Some(1), "{lost:?}");
    assert!(String::from_utf8_lossy(&lost.stdout).contains(ID), "{lost:?}");
    assert!(String::from_utf8_lossy(&lost.stderr).contains("--idempotency-key"), "{lost:?}");
}

#[test]
fn answers_of_another_program_are_not_trusted() {
    let stage = Stage::set();
    let run = |answers: &[(&str, &str)], args: &[&str]| run_with_key(&stage, answers, args);
    // An endless list.
    let endless = r#"{"data":[],"pagination":{"nextCursor":"x"}}"#;
    assert_eq!(run(&[("200 OK", endless)], &LIST).status.code(), Some(0));
    // Control sequences for the terminal.
    let evil = run(&[("400 x", "{\"message\":\"a\\u001b]0;b\\u0007\\u009b\\u202ec\"}")], &LIST);
    assert_fails(&evil, 1, &["a\u{fffd}]0;b\u{fffd}\u{fffd}\u{fffd}c"]);
    // A 202 that names no message.
    let file = stage.home.dir.join("cards.csv");
    std::fs::write(&file, "to,name,phone\n5511999998888,Ana,5511988887777\n").expect("a file");
    let csv = ["send", "contact", "--channel", "sandbox", "--csv", file.to_str().expect("UTF-8")];
    for id in ["", "X-Message-Id: =1+1\r\n"] {
        let output = run(&[(&format!("202 Accepted\r\n{id}X: y"), "{}")], &csv);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("line 2: answer 202"), "{output:?}");
    }
    // Only the beginning of the name looks like loopback.
    assert_fails(&run_at("http://127.evil.invalid", Some(&stage.key), &LIST), 4, &["in clear"]);
}

/// A typed value has precedence over a variable.
#[test]
fn a_typed_data_directory_is_the_one() {
    let stage = Stage::set();
    let run = |args: &[&str]| {
        let mut command = recado();
        command.args(LIST).args(args).env("RECADO_URL", "http://127.0.0.1:1").env("RECADO_API_KEY", &stage.key);
        command.ended()
    };
    let here = ["--data-dir", stage.home.dir()];
    assert_eq!(run(&here).status.code(), Some(0));
    assert_eq!(run(&[&here[..], &["--institution", &stage.home.institution]].concat()).status.code(), Some(0));
    assert_fails(&run(&[]), 4, &["127.0.0.1:1"]);
    assert_fails(&run(&["--environment", "test"]), 2, &["RECADO_URL", "--data-dir"]);
    assert_fails(&run_at("http://127.0.0.1:1", None, &[&LIST[..], &here].concat()), 2, &["--data-dir"]);
}

/// If the newest known message was purged, the older ones are not printed again.
#[test]
fn a_purge_is_no_news() {
    let stage = Stage::set();
    let row = |id: &str| format!(r#"{{"id":"{id}","status":"READ","readAt":"2026-11-23T12:00:00.000Z"}}"#);
    let page = |rows: [&str; 2]| format!(r#"{{"data":[{}],"pagination":{{}}}}"#, rows.map(row).join(","));
    let url = fake_server(&[("200 OK", &page(["b", "a"])), ("200 OK", &page(["c", "a"]))]);
    let mut command = recado();
    command.args(["messages", "watch", "--channel", "sandbox", "--url", &url]).env("RECADO_API_KEY", &stage.key);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let line = BufReader::new(child.stdout.take().expect("piped")).lines().next().expect("a line").expect("a line");
    child.kill().and_then(|()| child.wait()).expect("it ends");
    assert!(line.contains("  c  READ"), "{line}");
}
