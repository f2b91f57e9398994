//! `recado send contact --csv`.
//!
//! `RECADO_TEST_CSV_LINES` sets how many lines the interrupted run has (2,000).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_fails, mode, run_in};
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
        let faults = ["to: O numero", "name: O nome", "email: O email", "the line has 2 values"];
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
    assert_eq!((&*rows[1][2], &*rows[1][3]), ("VALIDATION_ERROR", "name: O nome do contato e obrigatorio."));
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

#[test]
fn an_invalid_file_is_refused_before_anything_is_sent() {
    let home = Home::init();
    let latin =
        [HEAD.as_bytes(), b"\n5511999990001,Ana,5511988887777,,\n5511999990002,Jo\xe3o,5511988887777,,\n"].concat();
    let cases: [(&[u8], &[&str]); 9] = [
        (&latin, &["cards.csv, line 3", "not UTF-8", "Nothing was sent"]),
        (b"\xff\xfet\0o\0", &["line 1", "UTF-16"]),
        (b"", &["no column to, name, phone"]),
        (b"to,name,phone\n", &["no messages"]),
        (
            b"to,nom,phone\n1,2,3\n",
            &["unknown column \"nom\"", "to, name, phone, and optionally email, organization, firstName, lastName"],
        ),
        (b"to,name\n1,2\n", &["no column phone"]),
        (b"to,name,phone,to\n1,2,3,4\n", &["twice"]),
        (b"5511999990001,Ana,5511988887777\n", &["unknown column", "first line names the columns"]),
        (b"to name phone\n1 2 3\n", &["unknown column"]),
    ];
    for (content, words) in cases {
        let batch = Batch::new(&home, content);
        assert_fails(&batch.run(&home, &[]), 1, words);
        assert!(!batch.results.exists());
    }
    let batch = Batch::new(&home, format!("{HEAD}\n5511999990001,Ana,5511988887777,,\n"));
    assert_fails(&batch.run(&home, &["--results", path(&batch.file)]), 1, &["another file"]);
    let other = home.dir.join("other");
    std::fs::write(&other, "somebody's notes\n").expect("a file");
    assert_fails(&batch.run(&home, &["--results", path(&other)]), 1, &["no result file"]);
    assert_eq!(std::fs::read(&other).expect("a file"), b"somebody's notes\n");
    assert_fails(&batch.run(&home, &["--to", "1"]), 2, &["--to"]);
    let scenario = batch.run(&home, &["--scenario", "x"]);
    assert_eq!(scenario.status.code(), Some(1), "{scenario:?}");
    let stderr = String::from_utf8_lossy(&scenario.stderr);
    assert!(stderr.contains("stopped at line 2") && stderr.contains("Cenario"), "{stderr}");
    assert_eq!(home.cli(&["messages", "list", "--channel", "sandbox"]), json!([]));
}

/// Files as spreadsheets and address books write them.
#[test]
fn files_of_spreadsheets_are_read() {
    let home = Home::init();
    let card = "5511999990001;Ana;5511988887777";
    for (what, content, flags) in [
        ("sep", format!("sep=;\r\nto;name;phone\r\n{card}\r\n"), vec![]),
        ("empty columns", format!("to;name;phone;;;\r\n{card};;;\r\n"), vec![]),
        ("short rows", format!("to;name;phone;email;organization\r\n{card}\r\n"), vec![]),
        ("longer rows", format!("to;name;phone\r\n{card};;\r\n"), vec![]),
        ("Portuguese", format!("para;nome;telefone\r\n{card}\r\n"), vec![]),
        ("Google's", format!("to;Name;Phone 1 - Value;Birthday\r\n{card};x\r\n"), vec![]),
        (
            "by hand",
            format!("A quem;name;Celular;Nota\r\n{card};x\r\n"),
            vec!["--column", "to=A quem", "--column", "phone=Celular"],
        ),
        (
            "breaks in a note",
            format!("to;name;Phone 1 - Value;Notes;Birthday\r\n{card};\"Rua A, 1\r\ndisse \"\"não\"\"\r\n\";x\r\n"),
            vec![],
        ),
        ("guarded", "to;name;phone\r\n'+5511999990001;Ana;'+55 11 98888-7777\r\n".to_owned(), vec![]),
        ("parts of a name", format!("to;name;phone;firstName;Sobrenome\r\n{card};Ana;Lima\r\n"), vec![]),
    ] {
        let batch = Batch::new(&home, content);
        let summary = batch.summary(&home, &[&flags[..], &["--batch", what]].concat(), 0);
        assert_eq!((&summary["accepted"], &summary["refused"]), (&json!(1), &json!(0)), "{what}");
        std::fs::remove_file(&batch.results).expect("a result file");
    }
    for open in [format!("{card};\"a\r\n{card};b\r\n"), format!("{card};\"a\r\n{card};\"b\"\r\n")] {
        let batch = Batch::new(&home, format!("to;name;Phone 1 - Value;Notes\r\n{open}"));
        assert_eq!(batch.summary(&home, &["--batch", "open"], 3)["refused"], json!(1), "a quote that swallows a card");
    }
    let batch = Batch::new(&home, format!("to;name;phone;\r\n{card};stray\r\n"));
    assert_eq!(batch.summary(&home, &["--batch", "stray"], 3)["refused"], json!(1), "a value without a column's name");
}

/// The mark stays. Refused lines are corrected in the result file itself and sent from there, alone.
#[test]
fn a_result_file_is_read_as_its_own_input() {
    let home = Home::init();
    let batch = Batch::new(
        &home,
        "\u{feff}to,name,phone,email\r\n+5511999990001,José,+55 11 98888-7777,maria@exemplo\r\n\
         +5511999990002,Ana,+55 11 98888-7777,\r\n",
    );
    assert_eq!(batch.summary(&home, &[], 3)["accepted"], json!(1));
    let text = std::fs::read_to_string(&batch.results).expect("a result file");
    assert!(text.starts_with("\u{feff}line,status,") && text.contains("'+55 11 98888-7777"), "{text}");
    let again = Batch::new(&home, text.replace("maria@exemplo", "maria@exemplo.com"));
    std::fs::remove_file(&batch.results).expect("a result file");
    let summary = again.summary(&home, &["--batch", "mended"], 0);
    assert_eq!((&summary["accepted"], &summary["alreadySent"]), (&json!(1), &json!(1)));
    assert_eq!(home.cli(&["messages", "list", "--channel", "sandbox"]).as_array().map(Vec::len), Some(2));
}

#[test]
fn standard_input_is_continued_by_its_result_file() {
    let home = Home::init();
    let batch = Batch { file: "-".into(), results: home.dir.join("piped.csv") };
    let input = home.dir.join("input");
    let run = |lines: &str, more: &[&str]| {
        std::fs::write(&input, lines).expect("a file");
        let mut command = recado();
        command.args(batch.args(more)).args(["--data-dir", home.dir()]);
        command.stdin(std::fs::File::open(&input).expect("a file")).output().expect("the binary runs")
    };
    let head = "to,name,phone\n5511999990001,Ana,5511988887777\n";
    assert_fails(&run(head, &[]), 2, &["--results"]);
    for (lines, already) in [(head.to_owned(), 0), (format!("{head}5511999990002,Bia,5511988887777\n"), 1)] {
        let output = run(&lines, &["--results", path(&batch.results)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&summary["accepted"], &summary["alreadySent"]), (&json!(1), &json!(already)));
    }
}

/// The batch is the CSV file's name, and for standard input the result file's.
#[test]
fn a_result_file_of_another_batch_is_refused_before_anything_is_sent_twice() {
    let home = Home::init();
    let batch = Batch::new(&home, cards(3).0);
    let results = home.dir.join("r.csv");
    let more = ["--results", path(&results)];
    assert_eq!(batch.summary(&home, &more, 0)["accepted"], 3);
    let whole = std::fs::read(&results).expect("a file");
    let piped = Batch { file: "-".into(), results: results.clone() };
    let run = |more: &[&str]| {
        let mut command = recado();
        command.args(piped.args(&["--results", path(&results)])).args(more).args(["--data-dir", home.dir()]);
        command.stdin(std::fs::File::open(&batch.file).expect("a file")).output().expect("the binary runs")
    };
    assert_fails(&run(&[]), 1, &["r.csv records sent lines", "none of them is in -", "--batch", "--results"]);
    assert_fails(&batch.run(&home, &[&more[..], &["--batch", "x"]].concat()), 1, &["none of them is in", "cards.csv"]);
    assert_eq!(std::fs::read(&results).expect("a file"), whole);
    let output = run(&["--batch", "cards.csv"]);
    let summary: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(summary["alreadySent"], 3, "{output:?}");
    assert_eq!(home.cli(&["messages", "list", "--channel", "sandbox"]).as_array().map(Vec::len), Some(3));
}

/// Earlier versions treated the guard of a result file's cell as a part of the text, and computed the key with it.
#[test]
fn a_guarded_cell_keeps_the_key_that_earlier_versions_made() {
    let home = Home::init();
    let batch = Batch::new(&home, format!("{HEAD}\n5511999990001,'@Loja,5511988887777,,\n"));
    assert_eq!(batch.summary(&home, &[], 0)["accepted"], 1);
    let text = std::fs::read_to_string(&batch.results).expect("a file");
    let key = text.trim_end().rsplit(',').next().expect("a key");
    assert_eq!(key, "19a59ec6a94c4b5f99781d433281fb079e9680178654c47d6b043f9c3477bd9b");
    // A cell that was guarded since then is the same line.
    std::fs::write(&batch.file, format!("{HEAD}\n5511999990002,@Loja,5511988887777,,\n")).expect("a file");
    assert_eq!(batch.summary(&home, &[], 0)["accepted"], 1);
    std::fs::write(&batch.file, format!("{HEAD}\n5511999990002,'@Loja,5511988887777,,\n")).expect("a file");
    assert_eq!(batch.summary(&home, &[], 0)["alreadySent"], 1);
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

/// The remains of a kill, or of two concurrent runs.
#[test]
fn a_torn_result_file_is_repaired_and_only_one_run_writes_it() {
    let home = Home::init();
    let (content, _) = cards(40);
    let batch = Batch::new(&home, content);
    assert_eq!(batch.summary(&home, &[], 0)["accepted"], 40);
    let whole = std::fs::read(&batch.results).expect("a file");
    // Cut at any position: the lost answer is requested again, and the message exists already.
    for cut in [0, 1, 30, 200, 500, whole.len() - 1] {
        std::fs::write(&batch.results, &whole[..cut]).expect("a file");
        let summary = batch.summary(&home, &[], 0);
        assert_eq!((&summary["accepted"], &summary["alreadySent"]), (&json!(0), &json!(40)), "cut at {cut}");
        assert_eq!(batch.rows().len(), 40, "cut at {cut}");
    }
    let text = String::from_utf8(whole).expect("UTF-8");
    std::fs::write(&batch.results, text.replacen("accepted", "acc\"\n\"epted,x", 1)).expect("a file");
    assert_fails(&batch.run(&home, &[]), 1, &["damaged"]);
    std::fs::write(&batch.results, &text).expect("a file");
    let held = std::fs::File::open(&batch.results).expect("a file");
    held.lock().expect("a lock");
    assert_fails(&batch.run(&home, &[]), 1, &["another run"]);
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

/// Lines that were sent to one account were not sent to the other.
#[test]
fn a_result_file_is_of_one_account() {
    let home = Home::init();
    let batch = Batch::new(&home, cards(3).0);
    assert_eq!(batch.summary(&home, &["--institution", &home.institution], 0)["accepted"], 3);
    let whole = std::fs::read(&batch.results).expect("a file");
    let other = home.cli(&["institutions", "create", "--name", "Other"]);
    let other = text(&other, "id");
    assert_fails(&batch.run(&home, &["--institution", other]), 1, &["cards.results.csv", other, "--results"]);
    let mut command = recado();
    command.args(batch.args(&["--url", "http://127.0.0.1:1"])).env("RECADO_API_KEY", &home.test_key);
    assert_fails(&command.ended(), 1, &["http://127.0.0.1:1 oapi_sk_test_", "--results"]);
    assert_eq!(std::fs::read(&batch.results).expect("a file"), whole);
    let results = home.dir.join("other.csv");
    assert_eq!(batch.summary(&home, &["--institution", other, "--results", path(&results)], 0)["accepted"], 3);
}

#[test]
fn another_scenario_is_another_message_and_a_used_key_ends_the_run() {
    let home = Home::init();
    let batch = Batch::new(&home, cards(2).0);
    assert_eq!(batch.summary(&home, &["--scenario", "timeout"], 0)["accepted"], 2);
    assert_eq!(batch.summary(&home, &[], 0)["accepted"], 2);
    // Another caller used the key of line 2. Rows are in the order of the answers.
    let second = Home::init();
    let text = std::fs::read_to_string(&batch.results).expect("a file");
    let row = text.lines().skip(3).find(|row| row.starts_with("2,")).expect("the second run's row");
    let key = row.rsplit(',').next().expect("a key");
    let card = ["--channel", "sandbox", "--to", "5511999998888", "--name", "x", "--phone", "5511988887777"];
    second.cli(&[&["send", "contact", "--idempotency-key", key], &card[..]].concat());
    let output = batch.run(&second, &["--results", path(&second.dir.join("r.csv")), "--parallel", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped at line 2"), "{output:?}");
}

#[test]
fn refused_rows_stay_until_the_next_answer_and_no_cell_is_a_formula() {
    let home = Home::init();
    let batch = Batch::new(&home, format!("{HEAD}\n+5511999990001,=1+1,5511988887777,,\n12,Ana,@1,,\n"));
    assert_eq!(batch.summary(&home, &[], 3)["refused"], 1);
    let text = std::fs::read_to_string(&batch.results).expect("a file");
    assert!(text.contains(",'+5511999990001,'=1+1,") && text.contains(",'@1,"), "{text}");
    let nowhere = ["send", "contact", "--channel", "none", "--parallel", "1", "--csv", path(&batch.file)];
    assert_eq!(run_in(home.dir(), &nowhere).status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&batch.results).expect("a file"), text);
    assert_eq!(batch.summary(&home, &[], 3)["alreadySent"], 1);
}

/// Only the result file itself is written, and only if it is a file.
#[test]
fn a_link_stays_a_link_and_a_pipe_is_refused() {
    let home = Home::init();
    let batch = Batch::new(&home, cards(2).0);
    let [real, link, theirs, pipe] = ["real", "link", "real.new", "pipe"].map(|name| home.dir.join(name));
    std::fs::write(&theirs, "theirs").expect("a file");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    assert_eq!(batch.summary(&home, &["--results", path(&link)], 0)["accepted"], 2);
    assert!(link.symlink_metadata().expect("metadata").is_symlink());
    assert_eq!(std::fs::read_to_string(&real).expect("a file").lines().count(), 3);
    assert_eq!(std::fs::read_to_string(&theirs).expect("it stays"), "theirs");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    assert_fails(&batch.run(&home, &["--results", path(&pipe)]), 1, &["no regular file"]);
}
