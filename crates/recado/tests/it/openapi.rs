//! The OpenAPI document: it is generated from the code, it describes the server, and `/docs` shows it from the binary alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use recado_domain::event::NOT_YET;
use serde_json::{Value, json};

use crate::docs::markdown::{collect, root};
use crate::harness::{Home, Server, run};
use crate::isolation::ROUTES;
use crate::v1::ALL_SCOPES;

const COMMITTED: &str = include_str!("../../../../openapi.json");
/// The routes that need no key, and so are not in the table of `isolation.rs`.
const OPEN: [&str; 6] = [
    "GET /health/live",
    "GET /health/ready",
    "GET /v1/callbacks/meta",
    "GET /v1/callbacks/meta/{channelId}",
    "POST /v1/callbacks/meta",
    "POST /v1/callbacks/meta/{channelId}",
];

pub fn document() -> Value {
    serde_json::from_str(COMMITTED).expect("openapi.json is JSON")
}

/// Method, path and operation of each entry of the document.
pub fn operations(document: &Value) -> Vec<(String, &str, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let all = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(|(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    });
    all.collect()
}

/// What a part of the document refers to, or the part itself.
pub fn resolved<'d>(document: &'d Value, part: &'d Value) -> &'d Value {
    match part["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("it is there"),
        None => part,
    }
}

#[test]
fn the_committed_document_matches_the_code() {
    assert!(
        run(&["openapi"]) == COMMITTED,
        "openapi.json is not what the code says. Bring it up to date, then look at what changed:\n\
         \x20   cargo run -- openapi > new.json && mv new.json openapi.json"
    );
}

#[test]
fn every_route_is_described_with_its_scope() {
    let document = document();
    let described: BTreeSet<String> = operations(&document)
        .into_iter()
        .map(|(method, path, operation)| match operation["security"][0]["apiKey"][0].as_str() {
            Some(scope) => format!("{method} {path} {scope}"),
            None => format!("{method} {path}"),
        })
        .collect();
    let routes: BTreeSet<String> = ROUTES
        .iter()
        .map(|route| {
            let mut like = operations(&document).into_iter().filter(|(method, path, _)| {
                let (one, other) = (path.split('/'), route.path.split('/'));
                method == route.method
                    && one.clone().count() == other.clone().count()
                    && one.zip(other).all(|(name, given)| name.starts_with('{') || name == given)
            });
            let path = like.next().map_or(route.path, |(_, path, _)| path);
            format!("{} {path} {}", route.method, route.scope)
        })
        .chain(OPEN.map(str::to_owned))
        .collect();
    assert_eq!(described, routes);
}

#[test]
fn every_error_of_the_manual_is_in_the_document_and_no_other() {
    let manual = include_str!("../../../../docs/api.md");
    let (_, errors) = manual.split_once("\n## Errors\n").expect("the manual has a table of errors");
    let (errors, _) = errors.split_once("\n## ").expect("something follows");
    let rows = errors.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, status, codes, when, _] = cells[..] else { return None };
        (status.parse::<u16>().is_ok() && when != "command line only").then_some((status, codes))
    });
    let named: BTreeSet<String> = rows
        .flat_map(|(status, codes)| codes.split(", ").map(move |code| format!("{status} {}", code.trim_matches('`'))))
        .collect();
    assert_eq!(named, errors_of(&document()));
}

/// Status and code of every error that the document has as an example.
fn errors_of(document: &Value) -> BTreeSet<String> {
    let mut errors = BTreeSet::new();
    let mut note = |status: &str, answer: &Value| {
        for example in answer["content"]["application/json"]["examples"].as_object().into_iter().flatten() {
            let code = example.1["value"]["code"].as_str().expect("an error");
            errors.insert(format!("{status} {code}"));
        }
    };
    let mut used = BTreeSet::new();
    for (_, _, operation) in operations(document) {
        for (status, answer) in operation["responses"].as_object().expect("answers") {
            note(status, resolved(document, answer));
            used.extend(answer["$ref"].as_str().map(|reference| reference.replace("#/components/responses/", "")));
        }
    }
    // The two codes of calls that are no operation.
    for (status, code) in [("404", "NOT_FOUND"), ("405", "METHOD_NOT_ALLOWED")] {
        note(status, &document["components"]["responses"][code]);
        used.insert(code.to_owned());
    }
    for name in document["components"]["responses"].as_object().expect("answers").keys() {
        assert!(used.contains(name) || name.starts_with("webhook."), "no operation answers {name}");
    }
    errors
}

#[test]
fn events_that_nothing_records_are_said_to_be_so() {
    let manual = include_str!("../../../../docs/api.md");
    let row = manual.lines().find(|line| line.contains("not sent by this version.")).expect("the row of the manual");
    let mut sources = Vec::new();
    for of in ["domain", "store", "providers", "gateway", "whatsapp-web"] {
        collect(&root().join("crates").join(of).join("src"), "rs", &mut sources);
    }
    let lists = ["domain/src/event.rs", "openapi/webhooks.rs", "events/samples.rs"];
    sources.retain(|path| !lists.iter().any(|list| path.ends_with(list)));
    let sources: Vec<_> = sources.iter().map(|path| std::fs::read_to_string(path).expect("a source")).collect();
    let document = document();
    for name in NOT_YET {
        assert!(row.contains(&format!("`{name}`")), "{name}");
        let summary = document["webhooks"][name]["post"]["summary"].as_str().expect("a summary");
        assert!(summary.ends_with("Not sent by this version"), "{name}: {summary}");
        assert!(!sources.iter().any(|source| source.contains(&format!("\"{name}\""))), "{name} is recorded");
    }
}

#[test]
fn causes_are_listed_in_the_document_and_the_manual() {
    let (document, manual) = (document(), include_str!("../../../../docs/incoming.md"));
    let schemas = &document["components"]["schemas"];
    let closed = &schemas["ConversationClosedEvent"]["allOf"][1]["properties"]["data"]["properties"]["by"]["enum"];
    let left_out = &schemas["ContactOfPerson"]["properties"]["optOutSource"]["enum"];
    for (listed, expected) in
        [(closed, json!(["API", "IDLE", "MERGE", "CHANNEL"])), (left_out, json!(["API", "KEYWORD", "NETWORK", null]))]
    {
        assert_eq!(*listed, expected);
        for name in expected.as_array().expect("names").iter().filter_map(Value::as_str) {
            assert!(manual.contains(&format!("`{name}`")), "{name}");
        }
    }
}

// --- The pages of the server ---

const FILES: [(&str, &str); 4] = [
    ("/docs", "text/html; charset=utf-8"),
    ("/docs/start.js", "text/javascript; charset=utf-8"),
    ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
    ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
];

#[test]
fn the_page_names_its_own_files_only() {
    let home = Home::init();
    let server = home.serve();
    let document = server.get("/openapi.json", None).expect(200);
    assert_eq!(document.header("Content-Type"), Some("application/json; charset=utf-8"));
    assert!(document.text() == COMMITTED, "another document than the committed one");
    for (path, kind) in FILES {
        let file = server.get(path, None).expect(200);
        assert_eq!(file.header("Content-Type"), Some(kind), "{path}");
        assert_eq!(file.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
        let policy = file.header("Content-Security-Policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{path}: {policy}");
        let tag = file.header("ETag").expect("a tag").to_owned();
        let again = server.call("GET", path, None, &[("If-None-Match", &tag)], None).expect(304);
        assert!(again.body.is_empty(), "{path}");
        let head = server.call("HEAD", path, None, &[], None).expect(200);
        assert_eq!((head.header("ETag"), head.body.len()), (Some(&*tag), 0), "{path}");
        assert_eq!(server.delete(path, None).expect(405).json()["code"], "METHOD_NOT_ALLOWED", "{path}");
    }
    // The page's resources have relative paths: each of them is a file above, or the document.
    let page = server.get("/docs", None).expect(200);
    let known: Vec<_> = FILES.map(|(path, _)| &path[1..]).into_iter().chain(["openapi.json", "data:,"]).collect();
    let mut named = page.text().split(&['"'][..]).skip(1).step_by(2).filter(|value| value.contains(['/', ':', '.']));
    assert!(named.clone().count() >= 4, "{}", page.text());
    assert!(named.all(|value| known.contains(&value) || value.starts_with("width=")), "{}", page.text());
    // The style may contain images, but name none on other hosts.
    let style = gunzip(&server, "/docs/swagger-ui.css");
    for (place, _) in style.match_indices("url(") {
        let named = style[place..].trim_start_matches("url(").trim_start_matches('"');
        assert!(named.starts_with("data:"), "{named:.60}");
    }
    assert!(!style.contains("@import"), "the style loads another");
}

/// The file as a browser reads it.
fn gunzip(server: &Server, path: &str) -> String {
    let output = Command::new("curl").args(["-s", "--noproxy", "*", "--compressed", &server.url(path)]).output();
    String::from_utf8(output.expect("curl runs").stdout).expect("UTF-8")
}

#[test]
fn the_documentation_can_be_turned_off() {
    let home = Home::init();
    let server = home.serve_with(&["--docs", "off"]);
    for path in FILES.map(|(path, _)| path).into_iter().chain(["/openapi.json"]) {
        assert_eq!(server.get(path, None).expect(404).json()["code"], "NOT_FOUND", "{path}");
    }
    let server = Home::init().serve();
    for path in ["/docs/", "/docs/index.html", "/docs/../openapi.json", "/openapi.yaml"] {
        assert_eq!(server.get(path, None).expect(404).json()["code"], "NOT_FOUND", "{path}");
    }
}

// --- The document describes the server ---

/// A program of the environment that `./dev test` installs.
fn python_tool(name: &str) -> Command {
    let folder = std::env::var_os("RECADO_TEST_SCHEMATHESIS").expect("RECADO_TEST_SCHEMATHESIS is set: run ./dev test");
    let mut command = Command::new(PathBuf::from(folder).join("bin").join(name));
    command.env("PYTHONPATH", own("tests/schemathesis")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("no_proxy", "*").env("NO_PROXY", "*");
    // The order of a set of texts depends on it.
    command.env("PYTHONHASHSEED", "0");
    command
}

/// The absolute path of a file of this package. Tests run in its folder.
fn own(path: &str) -> PathBuf {
    Path::new(path).canonicalize().expect("the file is there")
}

#[test]
fn the_document_is_valid_and_so_are_its_examples() {
    let output = python_tool("python")
        .args([own("tests/schemathesis/validate.py"), own("../../openapi.json")])
        .output()
        .expect("python runs");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn schemathesis_finds_nothing() {
    let home = Home::init();
    let args = ["keys", "create", "--name", "schemathesis", "--environment", "test", "--scopes", ALL_SCOPES];
    let made = home.cli(&[&args[..], &["--rate-limit", "unlimited"]].concat());
    let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("no {name}: {made}"));
    // The tool calls without a key or with an invalid one about as often as with a valid one.
    let server = home.serve_sealing(&["--auth-failures", "1000000", "--allow-networks", "127.0.0.1"]);
    // The tool leaves files in its directory.
    let folder = tempfile::tempdir().expect("a temporary directory");
    let output = python_tool("st")
        .arg("--config-file")
        .arg(own("tests/schemathesis/schemathesis.toml"))
        .arg("run")
        .arg(own("../../openapi.json"))
        .args(["--url", &server.url(""), "--header", &format!("Authorization: Bearer {}", text("key"))])
        // A slow machine is no fault of the server.
        .args(["--request-timeout", "60"])
        .env("RECADO_TEST_KEY_ID", text("id"))
        .current_dir(&folder)
        .output()
        .expect("schemathesis runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let cases = stdout.lines().find(|line| line.contains(" generated, ")).expect("the number of cases");
    println!("{}", cases.trim());
    // It called every operation, with a key that was valid to the end, and messages were accepted.
    assert!(stdout.contains(&format!("Tested: {}", operations(&document()).len())), "{stdout}");
    let messages = server.get("/v1/channels/sandbox/messages", Some(text("key"))).expect(200).json();
    assert_ne!(messages["data"], Value::Array(Vec::new()), "no valid call was made");
}
