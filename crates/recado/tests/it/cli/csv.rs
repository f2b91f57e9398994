//! `recado send contact --csv`.
//!
//! `RECADO_TEST_CSV_LINES` sets how many lines the interrupted run has (2,000).

mod files;
mod results;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{mode, run_in};
use crate::harness::{Ended, Home, recado, wait_for};
use crate::v1::{Stage, create_key, text};

const HEAD: &str = "to,name,phone,email,organization";

struct Batch {
    file: PathBuf,
    results: PathBuf,
}

impl Batch {
    fn new(home: &Home, content: impl AsRef<[u8]>) -> Self {
        let (file, results) = (home.dir.join("cards.csv"), home.dir.join("cards.results.csv"));
        std::fs::write(&file, content).expect("a file");
        Self { file, results }
    }

    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let args = ["send", "contact", "--channel", "sandbox", "--json", "--csv", path(&self.file)];
        [&args[..], more].concat()
    }

    fn run(&self, home: &Home, more: &[&str]) -> Output {
        run_in(home.dir(), &self.args(more))
    }

    /// Runs to the end with this exit code, and returns the summary.
    #[track_caller]
    fn summary(&self, home: &Home, more: &[&str], code: i32) -> Value {
        let output = self.run(home, more);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    fn start(&self, home: &Home, more: &[&str]) -> Child {
        let mut command = recado();
        command.args(self.args(more)).args(["--data-dir", home.dir()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    /// The rows of the result file: line, status, code, reason.
    fn rows(&self) -> Vec<[String; 4]> {
        let text = std::fs::read_to_string(&self.results).expect("a result file");
        let mut reader = csv::ReaderBuilder::new().delimiter(separator(&text)).from_reader(text.as_bytes());
        reader
            .records()
            .map(|row| {
                let row = row.expect("a row");
                [&row[0], &row[1], &row[3], &row[4]].map(str::to_owned)
            })
            .collect()
    }
}

fn separator(text: &str) -> u8 {
    if text.lines().next().unwrap_or_default().contains(';') { b';' } else { b',' }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill runs").success());
}

fn phone(home: &Home) -> Vec<Value> {
    home.cli(&["sandbox", "messages", "--limit", "1000000"]).as_array().expect("a list").clone()
}

/// Cards to different numbers without scenarios. Every hundredth is invalid in one of four ways. Returns the numbers of the
/// invalid lines.
fn cards(count: usize) -> (String, BTreeMap<u64, &'static str>) {
    let (mut text, mut bad) = (format!("{HEAD}\r\n"), BTreeMap::new());
    for number in 0..count {
        let (to, mail) = (format!("55219{number:08}"), "a@example.com");
        let faults = [
            "to: The recipient's number",
            "name: The contact's name",
            "email: The contact's e-mail",
            "the line has 2 values",
        ];
        let fault = (number % 100 == 50).then_some(number / 100 % 4);
        text += &match fault {
            Some(0) => format!("12,Card {number},5511988887777,{mail},\r\n"),
            Some(1) => format!("{to},,5511988887777,{mail},\r\n"),
            Some(2) => format!("{to},Card {number},5511988887777,nope,\r\n"),
            Some(_) => format!("{to},Card {number}\r\n"),
            None => format!("{to},\"Card, {number}\",5511988887777,{mail},\r\n"),
        };
        fault.map(|fault| bad.insert(number as u64 + 2, faults[fault]));
    }
    (text, bad)
}

/// Ctrl-C, `kill -9` and a killed server at random moments: each valid line arrives once, and each invalid one is explained.
#[test]
fn interrupted_at_random_moments_it_sends_each_line_once() {
    let count = std::env::var("RECADO_TEST_CSV_LINES").map_or(2_000, |text| text.parse().expect("a number"));
    let mut stage = Stage::set();
    let (content, bad) = cards(count);
    let batch = Batch::new(&stage.home, content);
    let mut ends = HashMap::<&str, u32>::new();
    for round in 0.. {
        let mut child = batch.start(&stage.home, &["--parallel", "4"]);
        if round == 0 {
            // A command that is still starting ignores Ctrl-C. A command that has recorded an answer handles it.
            let noted = || std::fs::read_to_string(&batch.results).is_ok_and(|text| text.lines().count() > 1);
            wait_for("a line to be answered", || noted() || child.try_wait().is_ok_and(|ended| ended.is_some()));
        }
        let pause = 30 + RandomState::new().hash_one(round) % (100 + count as u64 / 20);
        std::thread::sleep(Duration::from_millis(pause));
        match round % 3 {
            _ if child.try_wait().expect("it can be waited for").is_some() => {}
            0 => signal(&child, "-INT"),
            1 => signal(&child, "-KILL"),
            _ => {
                stage = stage.crash(&[]);
                *ends.entry("server killed").or_default() += 1;
            }
        }
        let output = child.wait_with_output().expect("it ends");
        match output.status.code() {
            Some(130) => *ends.entry("interrupted").or_default() += 1,
            None => *ends.entry("killed").or_default() += 1,
            // The server was killed while it answered the first question of the command.
            Some(4) if round % 3 == 2 => {}
            Some(3) => {
                let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                assert_eq!((&summary["refused"], &summary["remaining"]), (&json!(bad.len()), &json!(0)));
                break;
            }
            _ => panic!("{output:?}"),
        }
    }
    println!("{count} lines, {} bad; {ends:?}", bad.len());
    assert!(ends.len() == 3, "this run shows too little: {ends:?}");

    let rows = batch.rows();
    let refused: BTreeMap<u64, &str> = rows
        .iter()
        .filter(|row| row[1] == "refused")
        .map(|row| (row[0].parse().expect("a number"), &*row[3]))
        .collect();
    assert_eq!(refused.keys().collect::<Vec<_>>(), bad.keys().collect::<Vec<_>>());
    for (line, fault) in &bad {
        assert!(refused[line].contains(fault), "line {line}: {}", refused[line]);
    }
    assert_eq!(rows.len(), count, "a row for each line");
    let good = count - bad.len();
    wait_for("all to be read", || {
        let open = |state: &str| {
            stage.home.cli(&["messages", "list", "--channel", "sandbox", "--limit", "1", "--status", state])
        };
        ["QUEUED", "SENDING", "SENT"].into_iter().all(|state| open(state) == json!([]))
    });
    let shown = phone(&stage.home);
    let numbers: HashSet<_> = shown.iter().map(|card| text(card, "to")).collect();
    assert_eq!((shown.len(), numbers.len()), (good, good), "each once");
}

#[test]
fn a_second_run_sends_only_corrected_lines() {
    let stage = Stage::set();
    // As a spreadsheet in Brazil writes it: a mark, semicolons, another order, an empty row at the end.
    let text = "\u{feff}Name;TO;phone;organization\r\nMaria Ção;5511999990001;5511988887777;\"Loja; Cia\"\r\n\
                ;5511999990002;5511988887777;\r\n;;;\r\nIgual;5511999990003;5511988887777;\r\n\
                Igual;5511999990003;5511988887777;\r\n\"Aberta;5511999990004;5511988887777;\r\nx;5511999990005;5511988887777;\r\n";
    let batch = Batch::new(&stage.home, text);
    let summary = batch.summary(&stage.home, &["--parallel", "1"], 3);
    let expected = json!({"lines": 5, "accepted": 3, "alreadySent": 0, "refused": 2, "remaining": 0, "results": path(&batch.results)});
    assert_eq!(summary, expected);
    let rows = batch.rows();
    assert_eq!(
        rows.iter().map(|row| (&*row[0], &*row[1])).collect::<Vec<_>>(),
        [("2", "accepted"), ("3", "refused"), ("5", "accepted"), ("6", "accepted"), ("7", "refused")]
    );
    assert_eq!((&*rows[1][2], &*rows[1][3]), ("VALIDATION_ERROR", "name: The contact's name is required."));
    assert!(rows[4][2] == "CSV_LINE" && rows[4][3].contains("quote"), "{:?}", rows[4]);
    assert_eq!(mode(&batch.results), 0o600);
    wait_for("three cards", || phone(&stage.home).len() == 3);
    let first = phone(&stage.home).into_iter().find(|card| card["to"] == "5511999990001").expect("the first");
    assert_eq!(
        (&first["contact"]["name"], &first["contact"]["organization"]),
        (&json!("Maria Ção"), &json!("Loja; Cia"))
    );

    // Corrected, and moved to the front.
    let text = "Name;TO;phone;organization\nNovo;5511999990002;5511988887777;\nMaria Ção;5511999990001;5511988887777;\"Loja; Cia\"\n\
                Igual;5511999990003;5511988887777;\nIgual;5511999990003;5511988887777;\n";
    let batch = Batch::new(&stage.home, text);
    let summary = batch.summary(&stage.home, &[], 0);
    assert_eq!((&summary["accepted"], &summary["alreadySent"]), (&json!(1), &json!(3)));
    assert!(batch.rows().iter().all(|row| row[1] == "accepted"));
    wait_for("four cards", || phone(&stage.home).len() == 4);
    // Lines are sent once more only under another name. Without the result file, the keys prevent a second message.
    std::fs::remove_file(&batch.results).expect("it is there");
    assert_eq!(batch.summary(&stage.home, &[], 0)["alreadySent"], 4);
    assert_eq!(
        batch.summary(&stage.home, &["--batch", "again", "--results", path(&stage.home.dir.join("r"))], 0)["accepted"],
        4
    );
    wait_for("eight cards", || phone(&stage.home).len() == 8);
}

/// The terminal is closed, so its output would go nowhere.
#[test]
fn a_closed_terminal_ends_a_run() {
    let stage = Stage::with(&["--backlog-cap", "5"]);
    let batch = Batch::new(&stage.home, cards(20).0);
    stage.act("sandbox", "pause");
    // The test runner may ignore the signal, and the child would inherit that.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_recado"), "send", "contact", "--channel", "sandbox"]);
    command.args(["--csv", path(&batch.file), "--data-dir", stage.home.dir()]).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    stderr.read_line(&mut String::new()).expect("it waits");
    signal(&child, "-HUP");
    wait_for("the run to end", || child.try_wait().expect("it can be waited for").is_some());
    let status = child.wait().expect("it has ended");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(1), "{status:?}");
}

#[test]
fn a_full_queue_and_a_limit_are_waited_out() {
    let stage = Stage::with(&["--backlog-cap", "5", "--sandbox-delay-min", "100ms", "--sandbox-delay-max", "100ms"]);
    let (content, _) = cards(20);
    let batch = Batch::new(&stage.home, content);
    // Full for longer than the run waits for an answer.
    stage.act("sandbox", "pause");
    let mut command = recado();
    command.args(["send", "contact", "--channel", "sandbox", "--patience", "1s", "--csv", path(&batch.file)]);
    command.args(["--data-dir", stage.home.dir()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped")).lines().next().expect("a line").expect("a line");
    assert!(stderr.starts_with("5 of 20 lines") && stderr.contains("waits: The channel's queue is full"), "{stderr}");
    stage.act("sandbox", "resume");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), batch.rows().len()), (Some(0), 20), "{output:?}");
    // Over HTTP, with a key that allows 60 a minute.
    let key = create_key(&stage.home, "test", "messages.send", "60");
    let (content, _) = cards(45);
    let batch = Batch::new(&stage.home, content);
    std::fs::remove_file(&batch.results).expect("it is there");
    for _ in 0..40 {
        stage.server.delete("/v1/channels/sandbox/messages/x", Some(&key));
    }
    let mut command = recado();
    command.args(batch.args(&["--patience", "1s"])).args(["--url", &stage.server.url("")]).env("RECADO_API_KEY", key);
    let output = command.ended();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_run_ends_when_no_line_can_succeed() {
    let stage = Stage::set();
    stage.open("idle", &[]);
    let (content, _) = cards(40);
    let batch = Batch::new(&stage.home, content);
    // An error that concerns every line is no error of a line.
    let output = batch.run(&stage.home, &["--channel", "idle"]);
    assert_eq!(output.status.code(), Some(2), "the channel is given twice: {output:?}");
    stage.act("sandbox", "pause");
    stage.home.cli(&["channels", "create", "--name", "x", "--type", "SANDBOX", "--id", "x"]);
    let args = ["send", "contact", "--channel", "x", "--json", "--csv", path(&batch.file)];
    let output = run_in(stage.home.dir(), &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("The channel is not connected"), "{output:?}");
    assert_eq!(batch.rows(), Vec::<[String; 4]>::new());
    let output = run_in(stage.home.dir(), &["send", "contact", "--channel", "x", "--csv", path(&batch.file)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("stopped at line") && !stderr.contains("Ctrl-C"), "it was not pressed: {stderr}");
    // A reader that has gone does not turn the failure into a success.
    let run = format!("{} {}", env!("CARGO_BIN_EXE_recado"), args.join(" "));
    let script = format!("set -o pipefail; {run} --data-dir {} | true", stage.home.dir());
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("The channel is not connected"), "{output:?}");
    // No server answers.
    let url = stage.server.url("");
    let key = stage.key.clone();
    let Stage { server, home, .. } = stage;
    server.kill();
    let mut command = recado();
    command.args(batch.args(&["--patience", "1s"])).args(["--url", &url]).env("RECADO_API_KEY", key);
    let output = command.ended();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no server answers"), "{output:?}");
    // Without a server the lines are stored, as far as the queue has room.
    let mut command = recado();
    command.args(batch.args(&["--data-dir", home.dir()])).env("RECADO_BACKLOG_CAP", "7");
    let output = command.ended();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("recado serve"), "{output:?}");
    assert_eq!(batch.summary(&home, &[], 0)["accepted"], 33);
}
