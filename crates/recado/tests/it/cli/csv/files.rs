//! Which files are read, and which are refused.

use std::process::Command;

use serde_json::{Value, json};

use super::{Batch, HEAD, cards, path};
use crate::cli::assert_fails;
use crate::harness::{Home, recado};

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
    assert!(stderr.contains("stopped at line 2") && stderr.contains("Unknown scenario"), "{stderr}");
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
