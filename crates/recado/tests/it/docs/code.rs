//! Code blocks. Each has a language, and the language decides how the block is tested here; the list is in CONTRIBUTING.md.

use std::process::{Command, Output};

use clap::Parser;
use clap::error::ErrorKind;
use fake_graph::{FakeGraph, Number};
use recado_cli::Cli;
use serde_json::Value;

use super::markdown::{Block, Page, pages, root};
use crate::cloud_api::{NUMBER, VERIFY_TOKEN, serve};
use crate::harness::{Home, Server, recado};
use crate::v1::ALL_SCOPES;

/// Blocks that are shown and not run.
const SHOWN: [&str; 7] = ["caddyfile", "console", "http", "mermaid", "nginx", "text", "toml"];

fn blocks_of(languages: &[&str]) -> Vec<Block> {
    let blocks = pages().into_iter().flat_map(|page| page.blocks);
    let blocks: Vec<Block> = blocks.filter(|block| languages.contains(&&*block.language)).collect();
    assert!(!blocks.is_empty(), "no page has a block of {languages:?}");
    blocks
}

#[test]
fn every_block_has_a_known_language() {
    let known = |language: &str| ["json", "python", "sh"].contains(&language) || SHOWN.contains(&language);
    for block in pages().into_iter().flat_map(|page| page.blocks) {
        assert!(known(&block.language), "{}: a block of {:?}", block.place, block.language);
    }
}

#[test]
fn json_is_json() {
    for block in blocks_of(&["json"]) {
        let parsed = serde_json::from_str::<Value>(&block.text);
        assert!(parsed.is_ok(), "{}: {}", block.place, parsed.expect_err("a fault"));
    }
}

// --- Commands of the binary ---

#[test]
fn commands_are_ones_that_the_binary_knows() {
    let mut known = 0;
    for block in blocks_of(&["console", "sh"]) {
        for words in commands(&block.text) {
            known += 1;
            let parsed = Cli::try_parse_from(&words);
            let refusal = parsed.err().filter(|error| error.kind() != ErrorKind::DisplayHelp);
            assert!(refusal.is_none(), "{}: {words:?}\n{}", block.place, refusal.expect("one"));
        }
    }
    assert!(known > 3, "only {known} commands were found");
}

/// The command lines of `recado` in a block, as words: also behind `sudo`, variables and `ExecStart=`.
fn commands(block: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    for line in block.replace("\\\n", " ").lines() {
        let line = line.trim().strip_prefix("ExecStart=").unwrap_or(line);
        let mut words = words(line).into_iter().peekable();
        let before = |word: &String| word == "sudo" || word.contains('=');
        while let Some(word) = words.next_if(before) {
            if word == "sudo" && words.next_if_eq("-u").is_some() {
                words.next();
            }
        }
        let command: Vec<String> = words.collect();
        if command.first().is_some_and(|word| word.rsplit('/').next() == Some("recado")) {
            commands.push(command);
        }
    }
    commands
}

/// The words of a simple command, until the first one that only a shell understands.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '<' | '&' | ';' | '#') => break,
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn command_lines_are_found_and_split() {
    let found = commands(
        "A=1 sudo -u x /bin/recado keys create --name 'a b' | tee k\nrecado serve \\\n  --log debug # no\nls\n",
    );
    assert_eq!(found[0], ["/bin/recado", "keys", "create", "--name", "a b"]);
    assert_eq!(found[1], ["recado", "serve", "--log", "debug"]);
    assert_eq!(found.len(), 2);
}

// --- Examples that run ---

/// A server, and a directory like that of a reader who followed the README: `data` with its `dev-key` in it. Beside them are
/// files with the values that Meta gives; a server on loopback plays Meta.
struct Reader {
    /// Before the folder, so that the server ends before its files are removed.
    server: Server,
    folder: tempfile::TempDir,
    key: String,
    live_key: String,
    _graph: FakeGraph,
}

impl Reader {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let home = Home::init_in(&folder.path().join("data"));
        let key = |environment| {
            let made = ["keys", "create", "--name", "docs", "--rate-limit", "unlimited", "--scopes", ALL_SCOPES];
            home.cli(&[&made[..], &["--environment", environment]].concat())["key"].as_str().expect("a key").to_owned()
        };
        let (key, live_key) = (key("test"), key("live"));
        std::fs::write(home.dir.join("dev-key"), &key).expect("a file");
        let (access_token, app_secret) = ("EAAJB...", "0123456789abcdef0123456789abcdef");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
        write("access-token", access_token);
        write("verify-token", VERIFY_TOKEN);
        write("app-secret", app_secret);
        // A status of 400 or more fails the command, and with it the block.
        write(".curlrc", "fail\nsilent\nshow-error\nnoproxy = \"*\"\n");
        std::os::unix::fs::symlink(recado().get_program(), folder.path().join("recado")).expect("a link");
        let graph = FakeGraph::start();
        let (access_token, app_secret) = (access_token.to_owned(), Some(app_secret.to_owned()));
        graph.add_number(Number { access_token, app_secret, ..Number::example(NUMBER) });
        let server = serve(&home, &graph);
        graph.send_callbacks_to(Some(server.url("/v1/callbacks/meta")));
        Self { server, folder, key, live_key, _graph: graph }
    }

    /// Runs a block, with address and key replaced.
    fn run(&self, block: &Block) -> Output {
        let text = block.text.replace("127.0.0.1:8080", &self.server.address).replace("oapi_sk_test_...", &self.key);
        let (program, flags): (_, &[&str]) = if block.language == "python" {
            (std::env::var_os("RECADO_TEST_PYTHON").expect("RECADO_TEST_PYTHON is not set: run ./dev test"), &["-c"])
        } else {
            ("bash".into(), &["-eu", "-o", "pipefail", "-c"])
        };
        let mut command = Command::new(program);
        command.args(flags).arg(text);
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").expect("a PATH"));
        command
            .env("PATH", path)
            .env("CURL_HOME", self.folder.path())
            .env("KEY", &self.key)
            .env("LIVE_KEY", &self.live_key)
            .env("NO_PROXY", "*");
        command.current_dir(self.folder.path()).output().expect("it starts")
    }
}

#[test]
fn examples_run_unchanged() {
    let mut run = 0;
    for page in pages() {
        run += run_examples(&page);
    }
    println!("{run} examples were run");
    assert!(run > 3, "only {run} examples were run");
}

/// Runs a page's examples in their order. Returns their number.
fn run_examples(page: &Page) -> usize {
    let examples: Vec<&Block> =
        page.blocks.iter().filter(|block| matches!(&*block.language, "sh" | "python")).collect();
    if examples.is_empty() {
        return 0;
    }
    let reader = Reader::new();
    for block in &examples {
        let output = reader.run(block);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} failed: {}\n{}{}", block.place, block.text, stdout, stderr);
    }
    examples.len()
}

// --- The units for systemd ---

#[test]
fn systemd_understands_the_unit() {
    assert_understood(&[("recado.service", &unit("recado.service"))]);
}

/// A unit that operators install.
fn unit(name: &str) -> String {
    std::fs::read_to_string(root().join("deploy/systemd").join(name)).expect("a unit")
}

#[test]
fn systemd_understands_the_timer_and_its_command() {
    let (service, timer) = (unit("recado-backup.service"), unit("recado-backup.timer"));
    for words in commands(&service) {
        let parsed = Cli::try_parse_from(&words);
        assert!(parsed.is_ok(), "{words:?}: {}", parsed.expect_err("a refusal"));
    }
    assert_understood(&[("recado-backup.service", &service), ("recado-backup.timer", &timer)]);
}

/// The units, each by its name. The first one runs one command.
fn assert_understood(units: &[(&str, &str)]) {
    assert_eq!(commands(units[0].1).len(), 1, "ExecStart");
    let Ok(found) = Command::new("systemd-analyze").arg("--version").output() else {
        println!("there is no systemd here: the unit was not looked at");
        return;
    };
    assert!(found.status.success());
    // The binary has to be at the unit's path; the binary under test is elsewhere.
    let folder = tempfile::tempdir().expect("a temporary directory");
    let binary = recado().get_program().to_string_lossy().into_owned();
    let files = units.iter().map(|(name, unit)| {
        let file = folder.path().join(name);
        std::fs::write(&file, unit.replace("/usr/local/bin/recado", &binary)).expect("a file");
        file
    });
    let files: Vec<_> = files.collect();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&files).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The other lines of the output are about the machine's own units.
    let complaint = stderr.lines().find(|line| units.iter().any(|(name, _)| line.contains(name)));
    assert!(output.status.success() && complaint.is_none(), "{stderr}");
}
