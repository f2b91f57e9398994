//! The result file: what another run continues, repairs or refuses.

use serde_json::{Value, json};

use super::{Batch, HEAD, cards, path};
use crate::cli::{assert_fails, run_in};
use crate::harness::{Ended, Home, recado};
use crate::v1::text;

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
