//! Commands on a Recado elsewhere: `--url`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;

use super::assert_fails;
use crate::harness::recado;
use crate::v1::{CARD, Stage, create_key};

const LIST: [&str; 4] = ["messages", "list", "--channel", "sandbox"];

fn run_at(url: &str, key: Option<&str>, args: &[&str]) -> Output {
    let mut command = recado();
    command.args(args).args(["--url", url]);
    key.map(|key| command.env("RECADO_API_KEY", key));
    command.output().expect("the binary starts")
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

    // The key by file, and a base address with a slash at its end.
    let file = stage.home.dir.join("key");
    std::fs::write(&file, format!("{}\n", stage.key)).expect("a file");
    let by_file = [&LIST[..], &["--api-key-file", file.to_str().expect("UTF-8")]].concat();
    assert_eq!(run_at(&format!("{url}/"), None, &by_file).status.code(), Some(0));
}

#[test]
fn a_key_that_is_missing_wrong_or_refused_is_told_and_never_shown() {
    let stage = Stage::set();
    let url = stage.server.url("");
    assert_fails(&run_at(&url, None, &LIST), 1, &["RECADO_API_KEY", "--api-key-file"]);
    let secret = "hunter2-secret";
    let output = run_at(&url, Some(secret), &LIST);
    assert_fails(&output, 1, &["RECADO_API_KEY", "no API key"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains(secret), "{output:?}");
    let blind = create_key(&stage.home, "test", "messages.send", "unlimited");
    let output = run_at(&url, Some(&blind), &LIST);
    assert_fails(&output, 1, &["Permissao insuficiente"]);
    assert!(!format!("{output:?}").contains(&blind), "{output:?}");
    assert_fails(&run_at(&url, Some(&stage.key), &[&LIST[..], &["--institution", "x"]].concat()), 2, &["--url"]);
}

#[test]
fn an_address_where_no_recado_is_is_told() {
    let stage = Stage::set();
    let run = |url: &str| run_at(url, Some(&stage.key), &LIST);
    for url in ["localhost:8080", "ftp://localhost", "http://", "http://x:y@localhost", "http://localhost?x=1"] {
        let output = run(url);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{url}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("URL") || format!("{output:?}").contains("--url"));
    }
    assert_fails(&run("http://127.0.0.1:1"), 4, &["no server answers"]);
    // TLS is spoken where it is asked for, and plain HTTP does not pass for it.
    assert_fails(&run(&format!("https://{}", stage.server.address)), 4, &["no server answers"]);
    // Something that is no Recado.
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

/// A limit on the key is waited out.
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
