//! Numbers without a country code, in every part of Recado that reads a number.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Answer, Home, recado};
use crate::v1::{ALL_SCOPES, Stage, card, create_key, text};

/// Numbers as people in Brazil write them, and their digits with the country code. No country has the written digits as a
/// number.
const NATIONAL: [(&str, &str); 3] =
    [("11 98888-7777", "5511988887777"), ("0800 777 1234", "558007771234"), ("(21) 98888-7777", "5521988887777")];
/// The refusal of such a number where there is no default country.
const REFUSAL: &str = "Informe o numero com o codigo do pais (DDI+DDD+NUM).";
/// The same on the command line.
const ENGLISH: &str = "Give the number with its country code (DDI+DDD+NUM).";
const OTHER: &str = "5511977776666";

/// Reads a number in one part of Recado. Returns the digits, or the refusal.
type NumberReader = fn(&Stage, &str) -> Result<String, String>;

const READERS: [(&str, NumberReader); 11] = [
    ("`to` of a card", to),
    ("`phone` of a card", phone),
    ("the filter of messages", filter),
    ("the filter of the sandbox", sandbox_filter),
    ("the route of accounts", account),
    ("a line of a CSV file", csv),
    ("`send contact --to`", cli_to),
    ("`send contact --phone`", cli_phone),
    ("`messages list --to`", cli_filter),
    ("`sandbox messages --to`", cli_sandbox_filter),
    ("`data export --recipient`", cli_export),
];

/// The JSON of an answer, or the text of its first error.
fn json_of(answer: &Answer) -> Result<Value, String> {
    let json = if answer.body.is_empty() { Value::Null } else { answer.json() };
    if answer.status < 300 { Ok(json) } else { Err(text(&json["errors"][0], "message").to_owned()) }
}

/// The JSON that a command prints, or its error text.
fn cli(stage: &Stage, args: &[&str]) -> Result<Value, String> {
    let output = recado().args(args).args(["--data-dir", stage.home.dir()]).output().expect("the binary starts");
    if output.status.success() { Ok(printed(&output)) } else { Err(fault(&String::from_utf8_lossy(&output.stderr))) }
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The text of an error behind the name of its field.
fn fault(error: &str) -> String {
    // With --json it is an object.
    let told: Value = serde_json::from_str(error).unwrap_or_default();
    if let Some(fault) = told["errors"][0]["message"].as_str() {
        return fault.to_owned();
    }
    error.trim().rsplit_once(": ").map_or(error, |(_, fault)| fault).to_owned()
}

/// A text in a URL.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"))
}

/// The recipient of a message on the channel `held`.
fn recipient(stage: &Stage, id: &str) -> String {
    let has = |digits: &&str| {
        let rows = stage.rows(&format!("/v1/channels/held/messages?limit=100&to={}", encoded(&format!("+{digits}"))));
        rows.iter().any(|row| row["id"] == id)
    };
    NATIONAL.map(|(_, digits)| digits).into_iter().find(has).expect("one of the numbers").to_owned()
}

/// The number on the card of a message on the channel `held`.
fn on_card(stage: &Stage, id: &str) -> String {
    let answer = stage.get(&format!("/v1/channels/held/messages/{id}/vcard")).expect(200);
    let card = answer.text();
    card.split_once(";waid=").and_then(|(_, rest)| rest.split_once(':')).expect("an account").0.to_owned()
}

fn send(stage: &Stage, to: &str, phone: &str) -> Result<String, String> {
    let answer = stage.send("held", &[], &json!({"to": to, "name": "Maria", "phone": phone}).to_string());
    json_of(&answer)?;
    Ok(answer.header("X-Message-Id").expect("an id").to_owned())
}

fn to(stage: &Stage, number: &str) -> Result<String, String> {
    Ok(recipient(stage, &send(stage, number, OTHER)?))
}

fn phone(stage: &Stage, number: &str) -> Result<String, String> {
    Ok(on_card(stage, &send(stage, OTHER, number)?))
}

/// The name on the only card in the list.
fn only_name(rows: &Value) -> String {
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    text(&rows[0]["contact"], "name").to_owned()
}

fn filter(stage: &Stage, number: &str) -> Result<String, String> {
    let answer = stage.get(&format!("/v1/channels/listed/messages?to={}", encoded(number)));
    Ok(only_name(&json_of(&answer)?["data"]))
}

fn sandbox_filter(stage: &Stage, number: &str) -> Result<String, String> {
    let answer = stage.get(&format!("/v1/sandbox/messages?to={}", encoded(number)));
    Ok(text(&json_of(&answer)?["data"][0], "to").to_owned())
}

fn account(stage: &Stage, number: &str) -> Result<String, String> {
    let answer = stage.get(&format!("/v1/channels/sandbox/accounts/{}", encoded(number)));
    Ok(text(&json_of(&answer)?["data"], "phone").to_owned())
}

fn csv(stage: &Stage, number: &str) -> Result<String, String> {
    let place = tempfile::tempdir().expect("a directory");
    let (file, results) = (place.path().join("cards.csv"), place.path().join("results.csv"));
    std::fs::write(&file, format!("to,name,phone\n{number},Maria,{OTHER}\n")).expect("a file");
    let [file, results] = [&file, &results].map(|path| path.to_str().expect("UTF-8"));
    let args = ["send", "contact", "--channel", "held", "--csv", file, "--results", results, "--batch", results];
    let output = recado().args(args).args(["--data-dir", stage.home.dir()]).output().expect("the binary starts");
    let table = std::fs::read_to_string(results).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let row = csv::Reader::from_reader(table.as_bytes()).into_records().next().expect("a row").expect("a row");
    match (output.status.code(), &row[1]) {
        (Some(0), "accepted") => Ok(recipient(stage, &row[2])),
        (Some(3), "refused") => Err(fault(&row[4])),
        _ => panic!("{output:?} {row:?}"),
    }
}

fn cli_send(stage: &Stage, to: &str, phone: &str) -> Result<String, String> {
    let args = ["send", "contact", "--channel", "held", "--json", "--name", "Maria", "--to", to, "--phone", phone];
    Ok(text(&cli(stage, &args)?, "id").to_owned())
}

fn cli_to(stage: &Stage, number: &str) -> Result<String, String> {
    Ok(recipient(stage, &cli_send(stage, number, OTHER)?))
}

fn cli_phone(stage: &Stage, number: &str) -> Result<String, String> {
    Ok(on_card(stage, &cli_send(stage, OTHER, number)?))
}

fn cli_filter(stage: &Stage, number: &str) -> Result<String, String> {
    Ok(only_name(&cli(stage, &["messages", "list", "--channel", "listed", "--json", "--to", number])?))
}

fn cli_sandbox_filter(stage: &Stage, number: &str) -> Result<String, String> {
    Ok(text(&cli(stage, &["sandbox", "messages", "--json", "--to", number])?[0], "to").to_owned())
}

fn cli_export(stage: &Stage, number: &str) -> Result<String, String> {
    let numbers = cli(stage, &["data", "export", "--recipient", number])?["numbers"].take();
    Ok(numbers[0].as_str().expect("a number").to_owned())
}

/// Sets the default country of the only institution.
fn set(home: &Home, country: &str) -> Value {
    home.cli(&["institutions", "update", "--default-country", country])
}

#[test]
fn every_call_reads_numbers_by_the_default_country_of_the_institution() {
    let stage = Stage::set();
    for channel in ["held", "listed"] {
        stage.open(channel, &["connect", "pause"]);
    }
    for (_, digits) in NATIONAL {
        stage.accept("listed", &[], &card(digits, digits));
        let sent = stage.accept("sandbox", &[], &card(digits, digits));
        stage.until(&sent, "READ");
    }
    let everywhere = |accepts: bool| {
        for (place, read) in READERS {
            let is_command = place.contains("--") || place.contains("CSV");
            let refusal = if is_command { ENGLISH } else { REFUSAL };
            for (number, digits) in NATIONAL {
                let expected = if accepts { Ok(digits.to_owned()) } else { Err(refusal.to_owned()) };
                assert_eq!(read(&stage, number), expected, "{place}: {number}");
            }
        }
    };
    everywhere(false);
    assert_eq!(set(&stage.home, "BR")["defaultCountry"], "BR");
    everywhere(true);
    // The phone on which a code is typed; a sandbox has none.
    let connect = ["channels", "connect", "sandbox", "--phone", NATIONAL[0].0];
    let refusal = Err("channels of this type are not linked by a phone".to_owned());
    assert_eq!(cli(&stage, &connect), refusal, "the number is read");
    set(&stage.home, "server");
    assert_eq!(cli(&stage, &connect), Err(ENGLISH.to_owned()));
    everywhere(false);
}

/// A number of Portugal; in Brazil it works within its area only.
const LISBON: (&str, &str) = ("912 345 678", "351912345678");

#[test]
fn an_institutions_default_country_is_stored_and_overrides_the_servers() {
    let stage = Stage::with(&["--default-country", "PT"]);
    let read = |stage: &Stage, key: &str, (number, digits): (&str, &str)| {
        let answer = stage.send_with(key, "sandbox", &[], &card(number, "Maria"));
        let sent = json_of(&answer).map(|_| answer.header("X-Message-Id").expect("an id").to_owned());
        sent.map(|id| {
            let list = format!("/v1/channels/sandbox/messages?to={}", encoded(&format!("+{digits}")));
            let rows = stage.server.get(&list, Some(key)).expect(200).json();
            assert_eq!(rows["data"][0]["id"], id, "{number}");
        })
    };
    let brazil = NATIONAL[0];
    let (accepted, refused) = (Ok(()), Err(REFUSAL.to_owned()));
    let of_first = |stage: &Stage| [read(stage, &stage.key, brazil), read(stage, &stage.key, LISBON)];
    assert_eq!(of_first(&stage), [refused.clone(), accepted.clone()]);
    set(&stage.home, "BR");
    assert_eq!(of_first(&stage), [accepted.clone(), refused.clone()]);
    // The same after a crash.
    let stage = stage.crash(&["--default-country", "PT"]);
    assert_eq!(of_first(&stage), [accepted.clone(), refused.clone()]);
    set(&stage.home, "none");
    assert_eq!(of_first(&stage), [refused.clone(), refused.clone()]);
    // The same without a server.
    let Stage { server, key, home } = stage;
    server.kill();
    assert_eq!(set(&home, "server")["defaultCountry"], "server");
    let stage = Stage { server: home.serve_with(&["--default-country", "PT"]), key, home };
    assert_eq!(of_first(&stage), [refused.clone(), accepted.clone()]);

    // Each institution has its own default country.
    let second = stage.home.cli(&["institutions", "create", "--name", "Santos", "--default-country", "BR"]);
    let key = text(&second, "testKey");
    assert_eq!([read(&stage, key, brazil), read(&stage, key, LISBON)], [accepted.clone(), refused.clone()]);
    assert_eq!(of_first(&stage), [refused, accepted]);
    let listed = stage.home.cli(&["institutions", "list"]);
    let countries: Vec<_> = listed.as_array().expect("a list").iter().map(|one| &one["defaultCountry"]).collect();
    assert_eq!(countries, ["server", "BR"]);
    let refused = |args: &[&str]| {
        let output =
            recado().args(["institutions", "update"]).args(args).args(["--data-dir", stage.home.dir()]).output();
        output.expect("the binary starts").status.code()
    };
    assert_eq!(refused(&["--default-country", "BR"]), Some(1), "no institution is named");
    assert_eq!(refused(&["--default-country", "BR", "--institution", "x"]), Some(1), "an unknown institution");
    assert_eq!(refused(&["--default-country", "QQ", "--institution", &stage.home.institution]), Some(2), "no country");
}

/// The erased person must be certain.
#[test]
fn a_number_that_institutions_read_differently_is_ambiguous() {
    let home = Home::init();
    let second = home.cli(&["institutions", "create", "--name", "Santos", "--default-country", "BR"]);
    let key = create_key(&home, "test", ALL_SCOPES, "unlimited");
    let stage = Stage { server: home.serve(), key, home };
    let export = |number: &str, more: &[&str]| {
        Ok(cli(&stage, &[&["data", "export", "--recipient", number], more].concat())?["numbers"][0].clone())
    };
    let institutions = [&stage.home.institution, text(&second, "id")];
    // The number is valid in France and in Brazil.
    let both = "33 98888-7777";
    let several = "The number is not the same for all institutions: give --institution, or the number with + and its country code.";
    let error: String = export(both, &[]).expect_err("it has two meanings");
    assert!(several.ends_with(error.as_str()), "{error}");
    for (institution, digits) in institutions.into_iter().zip(["33988887777", "5533988887777"]) {
        assert_eq!(export(both, &["--institution", institution]), Ok(json!(digits)));
    }
    assert_eq!(export("+33 98888-7777", &[]), Ok(json!("33988887777")));
    // Only one institution can have accepted this number.
    assert_eq!(export(NATIONAL[0].0, &[]), Ok(json!(NATIONAL[0].1)));
    assert_eq!(export(NATIONAL[0].0, &["--institution", institutions[0]]), Err(ENGLISH.to_owned()));
    // A former version accepted this number.
    assert_eq!(export("+235085806727321", &[]), Ok(json!("235085806727321")));
}
