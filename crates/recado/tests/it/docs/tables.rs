//! Tables that are generated from the code, between two comments of the page. `RECADO_UPDATE_DOCS=1` rewrites them; without
//! it a different table is a failure.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::{Arg, Args, Command};
use recado_domain::api_key::{DEFAULT_RATE_LIMIT, MAX_RATE_LIMIT};
use recado_gateway::api::json::BODY_TIMEOUT;
use recado_gateway::api::pages::PAGE_BYTES;
use recado_gateway::config::Config;
use recado_gateway::events::MAX_CONNECTIONS;
use recado_gateway::intake::ANSWERS;
use recado_gateway::media::{DOWNLOADS, SIZE_LIMIT};
use recado_gateway::server::{HEAD_LIMIT, HEADER_TIMEOUT, HEADERS, WRITE_TIMEOUT};
use recado_store::shares::{CHANGING, LOOKING};
use recado_store::sqlite::WAITING;

use super::markdown::root;
use crate::openapi::{document, operations};

#[test]
fn the_settings_are_those_of_the_code() {
    let mut table = "| Flag | Default | Meaning |\n|---|---|---|\n".to_owned();
    for setting in settings() {
        let (flag, variable) = (setting.get_long().expect("a flag"), setting.get_env().expect("a variable"));
        // The page states this rule, so the table needs no column of variables.
        let by_rule = format!("RECADO_{}", flag.to_uppercase().replace('-', "_"));
        assert_eq!(variable.to_string_lossy(), by_rule);
        let default = Some(default_of(&setting)).filter(|default| !default.is_empty());
        let default = default.map_or("none".to_owned(), |default| format!("`{default}`"));
        table += &format!("| `--{flag}` | {default} | {} |\n", meaning(&setting));
    }
    assert_table("docs/settings.md", "settings", &table);
}

#[test]
fn the_routes_are_those_of_the_document() {
    let document = document();
    let mut routes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (method, path, operation) in operations(&document) {
        let scope = operation["security"][0]["apiKey"][0].as_str();
        let call = scope.map_or_else(|| format!("`{method}`"), |scope| format!("`{method}` `{scope}`"));
        routes.entry(path).or_default().push(call);
    }
    let rows = routes.into_iter().map(|(path, mut calls)| {
        calls.sort();
        format!("| `{path}` | {} |\n", calls.join(", "))
    });
    let table = format!("| Path | Methods and scopes |\n|---|---|\n{}", rows.collect::<String>());
    assert_table("docs/api.md", "routes", &table);
}

#[test]
fn the_limits_are_those_of_the_code() {
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let closed = "connection closed";
    let rows = [
        ("head of a request", format!("{}, {HEADERS} headers", kib(HEAD_LIMIT)), "431, empty body, connection closed"),
        ("time for the head", seconds(HEADER_TIMEOUT), closed),
        ("time for the body", seconds(BODY_TIMEOUT), closed),
        ("time without reading the answer", seconds(WRITE_TIMEOUT), closed),
        (
            "calls a minute with one key, for reading and for the rest each",
            format!("{DEFAULT_RATE_LIMIT} unless the key says 1–{} or none", grouped(MAX_RATE_LIMIT.into())),
            "429 `RATE_LIMIT_EXCEEDED`",
        ),
        (
            "writes of an institution in an environment that run or wait, besides accepted messages",
            grouped(CHANGING as u64),
            "503 `SERVICE_UNAVAILABLE`",
        ),
        ("waiting writes", grouped(WAITING as u64), "503 `SERVICE_UNAVAILABLE`"),
        (
            "reads of an institution in an environment that run or wait",
            format!("{} of calls that only read, {} of the others", grouped(LOOKING as u64), grouped(CHANGING as u64)),
            "503 `SERVICE_UNAVAILABLE`",
        ),
        (
            "connections of an institution that read the event stream",
            MAX_CONNECTIONS.to_string(),
            "503 `SERVICE_UNAVAILABLE`",
        ),
        (
            "a page of messages",
            format!("{} MiB, to the next 50 messages", PAGE_BYTES >> 20),
            "a shorter page with `nextCursor`",
        ),
        (
            "answers over 64 KiB that clients have not read yet",
            format!("{} MiB of an institution, {} MiB of a process", ANSWERS.institution >> 20, ANSWERS.all >> 20),
            "503 `SERVICE_UNAVAILABLE`",
        ),
        ("a received file", format!("{} MiB", SIZE_LIMIT >> 20), "422 `MEDIA_TOO_LARGE`"),
        (
            "downloads of received files at a time",
            format!(
                "{} of a channel, {} of an institution ({} of its test channels), {} of a process ({} of test channels)",
                DOWNLOADS.channel, DOWNLOADS.institution, DOWNLOADS.institution_test, DOWNLOADS.all, DOWNLOADS.all_test
            ),
            "wait; 503 `MEDIA_UNAVAILABLE` after 15 seconds",
        ),
    ];
    let rows = rows.map(|(what, limit, beyond)| format!("| {what} | {limit} | {beyond} |\n"));
    assert_table("docs/api.md", "limits", &format!("| What | Limit | Beyond it |\n|---|---|---|\n{}", rows.concat()));
}

fn settings() -> Vec<Arg> {
    Config::augment_args(Command::new("serve")).get_arguments().cloned().collect()
}

fn default_of(setting: &Arg) -> String {
    setting.get_default_values().iter().map(|value| value.to_string_lossy()).collect()
}

/// The `--help` text of a setting, and of its possible values.
fn meaning(setting: &Arg) -> String {
    let help = setting.get_help().expect("a meaning").to_string();
    let values: Vec<String> = setting
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}` ({})", value.get_name(), lower(&value.get_help().expect("a meaning").to_string())))
        .collect();
    if values.is_empty() { help } else { format!("{help}: {}", values.join(", ")) }
}

fn lower(text: &str) -> String {
    // `JSON` keeps its case.
    let rest = text.get(1..).unwrap_or_default();
    if rest.starts_with(char::is_uppercase) { text.to_owned() } else { text[..1].to_lowercase() + rest }
}

/// 16384 as 16,384.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let from_the_end = |place: usize| digits.len() - place;
    let comma = |place: usize| place > 0 && from_the_end(place).is_multiple_of(3);
    let grouped = digits.chars().enumerate().flat_map(|(place, c)| comma(place).then_some(',').into_iter().chain([c]));
    grouped.collect()
}

/// Compares the table or diagram of that name in a page with the given one, or writes it there.
#[track_caller]
pub fn assert_table(page: &str, name: &str, table: &str) {
    let path = root().join(Path::new(page));
    let text = std::fs::read_to_string(&path).expect("the page");
    let (begin, end) = (format!("<!-- {name}: written from the code -->\n\n"), format!("\n<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page} has no line {begin:?}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{page} has no line {end:?}"));
    if std::env::var_os("RECADO_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).expect("the page can be written");
    } else {
        assert_eq!(
            found, table,
            "{page} is behind the code: RECADO_UPDATE_DOCS=1 ./dev test -E 'test(/^docs::(tables|diagrams)/)'"
        );
    }
}
